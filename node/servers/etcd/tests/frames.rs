//! Calls as frames of HTTP/2 that libraries of clients do not send: with an `:authority` that is none of a URL (also by
//! etcdctl), and without an end.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use common::{PATIENCE, starling, starling_with};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

/// A literal field with a name of the static table (or, at 0, the given one), in HPACK.
fn field(first: u8, name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![first];
    for text in [name, value] {
        if !text.is_empty() {
            field.push(u8::try_from(text.len()).expect("small"));
            field.extend_from_slice(text.as_bytes());
        }
    }
    field
}

/// One frame from the server: type, flags, stream.
fn receive(socket: &mut TcpStream) -> (u8, u8, u8) {
    let mut head = [0; 9];
    socket.read_exact(&mut head).expect("a frame");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).expect("small")];
    socket.read_exact(&mut payload).expect("a payload");
    (head[3], head[4], head[8])
}

/// A connection that has begun.
fn connect(endpoint: &str) -> TcpStream {
    let mut socket = TcpStream::connect(endpoint).expect("connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("sets");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    socket.write_all(&[&preface[..], &frame(SETTINGS, 0, 0, &[])].concat()).expect("sends");
    socket
}

/// The head of a call of `MemberList`.
fn head(stream: u8, authority: &[u8]) -> Vec<u8> {
    let path = "/etcdserverpb.Cluster/MemberList";
    // POST and http are entries of the static table; path and content type are not added to the dynamic one.
    let block = [
        vec![0x83, 0x86],
        field(0x04, "", path),
        authority.to_vec(),
        field(0x00, "content-type", "application/grpc"),
        field(0x00, "te", "trailers"),
    ];
    frame(HEADERS, END_HEADERS, stream, &block.concat())
}

/// A message without fields.
const EMPTY_MESSAGE: [u8; 5] = [0; 5];

/// Calls `MemberList` on a stream of its own, and waits for the end of the answer.
fn call(socket: &mut TcpStream, stream: u8, authority: &[u8]) {
    let request = [head(stream, authority), frame(DATA, END_STREAM, stream, &EMPTY_MESSAGE)];
    socket.write_all(&request.concat()).expect("sends");
    let mut has_data = false;
    loop {
        let (kind, flags, of) = receive(socket);
        if of != stream {
            continue;
        }
        assert_ne!(kind, RST_STREAM, "the call with {:?} is reset", String::from_utf8_lossy(authority));
        has_data |= kind == DATA;
        if kind == HEADERS && flags & END_STREAM != 0 {
            assert!(has_data, "the answer to {:?} has no message", String::from_utf8_lossy(authority));
            return;
        }
    }
}

#[test]
fn a_call_with_any_authority_is_answered() {
    let server = starling();
    let mut socket = connect(&server.endpoint);
    let coded = b"\xff\xa3\x54\x64\x98\x74\x51\xea\x0f\xfd\x84\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f\xff\xe7";
    // By index of the name, coded and added to the table; then that entry; by name, as gRPC's C core sends it; not added.
    call(&mut socket, 1, &[&[0x41, 0x96], &coded[..]].concat());
    call(&mut socket, 3, &[0xbe]);
    call(&mut socket, 5, &field(0x40, ":authority", "http://127.0.0.1:2379"));
    call(&mut socket, 7, &[0xbe]);
    call(&mut socket, 9, &[0xbf]);
    call(&mut socket, 11, &field(0x01, "", "/run/etcd.sock"));
    call(&mut socket, 13, &field(0x41, "", "127.0.0.1:2379"));
}

/// Calls whose requests never end hold no places: those that have all of them make room for the next client.
#[test]
fn calls_without_an_end_keep_nobody_out() {
    let places = 3;
    let server = starling_with(places);
    let authority = field(0x01, "", "127.0.0.1:2379");
    let mut stalled: Vec<TcpStream> = (0..places).map(|_| connect(&server.endpoint)).collect();
    for socket in &mut stalled {
        // An answered call first: the server has accepted the connection.
        call(socket, 1, &authority);
        socket.write_all(&head(3, &authority)).expect("sends");
        socket.write_all(&frame(DATA, 0, 3, &EMPTY_MESSAGE[..2])).expect("sends");
    }
    for _ in 0..places {
        call(&mut connect(&server.endpoint), 1, &authority);
    }
}

#[test]
fn etcdctl_may_name_the_endpoint_as_a_url() {
    let server = starling();
    let endpoint = format!("http://{}", server.endpoint);
    for command in [&["endpoint", "status"][..], &["endpoint", "hashkv"], &["defrag"], &["member", "list"]] {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]).args(command);
        let Ok(output) = etcdctl.output() else {
            println!("etcdctl is not installed (Debian: apt-get install etcd-client): skipped");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {command:?} says {said}");
    }
}

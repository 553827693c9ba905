//! The transports: TCP with Noise and Yamux, QUIC, and names resolved by DNS.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::Either;
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    multiaddr::Protocol,
    noise, quic, tcp, yamux,
};

use socket2::{Domain, Socket, Type};

use crate::{
    admission::{Admission, Admitting},
    slices::Sliced,
};

/// Longest time from the first packet of a connection to its multiplexer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Unread bytes that a peer may send over QUIC on one stream. One chunk of a session fits several times.
const QUIC_STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Unread bytes that a peer may send over QUIC on one connection.
const QUIC_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Streams of one connection, at most: one substream per class, and room for a peer that opens more than it should.
const STREAMS_MAX: usize = 8;

/// Bytes of a TCP connection that the system may hold unsent: a quarter of a second at 512 kbit/s, and enough that a
/// fast link does not wait for the process (the value that HTTP/2 servers use to the same end).
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES_MAX: u32 = 16 << 10;

type Connection = (PeerId, StreamMuxerBox);

/// All transports as one.
pub(crate) fn build(keypair: &Keypair, admission: Arc<Admission>) -> io::Result<Boxed<Connection>> {
    // The system's resolver configuration may be missing or unreadable; a node with plain
    // addresses must run all the same.
    let transport = match dns::tokio::Transport::system(without_names(keypair)?) {
        Ok(transport) => transport,
        Err(error) => {
            tracing::debug!(%error, "no usable resolver configuration: names cannot be dialed");
            let none = dns::ResolverConfig::default();
            dns::tokio::Transport::custom(without_names(keypair)?, none, dns::ResolverOpts::default())
        }
    };
    Ok(Admitting { inner: transport.boxed(), admission }.boxed())
}

fn without_names(keypair: &Keypair) -> io::Result<Boxed<Connection>> {
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_MAX);
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .map(|stream, _| {
            limit_unsent(&stream);
            stream
        })
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(Sliced(yamux))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let mut config = quic::Config::new(keypair);
    config.max_concurrent_stream_limit = STREAMS_MAX as u32;
    config.max_stream_data = QUIC_STREAM_WINDOW_BYTES;
    config.max_connection_data = QUIC_CONNECTION_WINDOW_BYTES;
    let quic = quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let either = tcp.or_transport(quic).map(|either, _| match either {
        Either::Left(connection) | Either::Right(connection) => connection,
    });
    Ok(TransportTimeout::new(either, CONNECT_TIMEOUT).boxed())
}

/// Limits what the system holds of a connection without having sent it: nothing overtakes that.
fn limit_unsent(stream: &tcp::tokio::TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(&stream.0).set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
        tracing::debug!(%error, "cannot limit unsent bytes: urgent messages may wait behind large ones");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = stream;
}

/// Whether the address is a TCP address.
pub(crate) fn is_tcp(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}

/// Fails if another process listens at the address. libp2p shares TCP ports between processes, so it would
/// not notice a second node on the same port.
pub(crate) fn check_is_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    let (kind, port) = match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => (Type::STREAM, port),
        Some(Protocol::Udp(port)) if port != 0 => (Type::DGRAM, port),
        _ => return Ok(()),
    };
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        // As libp2p binds it: 0.0.0.0 may have the same port.
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Connections that have just ended do not hold the port.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if kind == Type::STREAM { socket.listen(1) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_port_is_taken_for_one_protocol_at_a_time() {
        let tcp = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let udp = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        let tcp_port = tcp.local_addr().expect("bound").port();
        let udp_port = udp.local_addr().expect("bound").port();
        let check = |text: String| check_is_free(&text.parse().expect("an address"));
        for taken in [format!("/ip4/0.0.0.0/tcp/{tcp_port}"), format!("/ip4/0.0.0.0/udp/{udp_port}/quic-v1")]
        {
            assert_eq!(check(taken).map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse));
        }
        if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            check(format!("/ip6/::/tcp/{tcp_port}")).expect("IPv6 has its own");
            check(format!("/ip6/::/udp/{udp_port}/quic-v1")).expect("IPv6 has its own");
        }
    }
}

//! gRPC over one HTTP/2 connection, by the frame.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request};
use prost::Message;
use tokio::net::TcpStream;

use crate::Error;

/// Before a message: whether it is compressed (never), and its length.
const PREFIX_BYTES: usize = 5;
/// An answer is small; a longer one is nonsense.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// What a server may send before it is read.
const WINDOW_BYTES: u32 = 4 << 20;

/// Cloning it is cheap; the connection ends with the runtime.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    endpoint: SocketAddr,
}

impl Connection {
    pub async fn open(endpoint: SocketAddr) -> Result<Self, Error> {
        let refused = |error| Error::Connect { endpoint, error };
        let stream = TcpStream::connect(endpoint).await.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        let (requests, connection) = client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await?;
        // Its error reaches every request that is under way.
        tokio::spawn(connection);
        Ok(Self { requests, endpoint })
    }

    /// One question, one answer.
    pub async fn ask<A: Message + Default>(&self, path: &str, question: &impl Message) -> Result<A, Error> {
        let (mut sending, answer) = self.begin(path).await?;
        sending.send_data(framed(question), true)?;
        let mut answers = Answers::of(answer.await?)?;
        let first = answers.next().await?;
        answers.end().await?;
        first.ok_or(Error::Nonsense)
    }

    /// A stream of questions and answers. The first question is part of it: some servers say nothing
    /// before they have it.
    pub async fn stream<A: Message + Default>(
        &self,
        path: &str,
        first: &impl Message,
    ) -> Result<(SendStream<Bytes>, Answers<A>), Error> {
        let (mut sending, answer) = self.begin(path).await?;
        sending.send_data(framed(first), false)?;
        Ok((sending, Answers::of(answer.await?)?))
    }

    async fn begin(&self, path: &str) -> Result<(SendStream<Bytes>, client::ResponseFuture), Error> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/{path}", self.endpoint))
            .header("content-type", HeaderValue::from_static("application/grpc"))
            .header("te", HeaderValue::from_static("trailers"))
            .body(())
            .map_err(|_| Error::Plan("an endpoint that is no part of an address"))?;
        let mut requests = self.requests.clone().ready().await?;
        let (answer, sending) = requests.send_request(request, false)?;
        Ok((sending, answer))
    }
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// Answers of one kind, as they come.
pub struct Answers<A> {
    body: RecvStream,
    /// What has come and is not yet a whole answer.
    held: BytesMut,
    kind: std::marker::PhantomData<fn() -> A>,
}

impl<A: Message + Default> Answers<A> {
    fn of(response: http::Response<RecvStream>) -> Result<Self, Error> {
        // A refusal without an answer has its status among the headers.
        check(response.headers(), false)?;
        Ok(Self { body: response.into_body(), held: BytesMut::new(), kind: std::marker::PhantomData })
    }

    /// None: there are no more.
    pub async fn next(&mut self) -> Result<Option<A>, Error> {
        loop {
            if let Some(answer) = self.whole()? {
                return Ok(Some(answer));
            }
            match self.body.data().await {
                Some(data) => {
                    let data = data?;
                    self.body.flow_control().release_capacity(data.len())?;
                    self.held.extend_from_slice(&data);
                }
                None => return self.end().await.map(|()| None),
            }
        }
    }

    fn whole(&mut self) -> Result<Option<A>, Error> {
        let Some(length) = self.held.get(1..PREFIX_BYTES) else { return Ok(None) };
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        if length > ANSWER_BYTES_MAX {
            return Err(Error::Nonsense);
        }
        if self.held.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.held.advance(PREFIX_BYTES);
        A::decode(self.held.split_to(length)).map(Some).map_err(|_| Error::Nonsense)
    }

    /// Reads the status that ends a call.
    async fn end(&mut self) -> Result<(), Error> {
        match self.body.trailers().await? {
            Some(trailers) => check(&trailers, true),
            None => Err(Error::Nonsense),
        }
    }
}

fn check(headers: &HeaderMap, ended: bool) -> Result<(), Error> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    match text("grpc-status") {
        Some(code) if code != "0" => {
            Err(Error::Refused { code, message: text("grpc-message").unwrap_or_default() })
        }
        None if ended => Err(Error::Nonsense),
        _ => Ok(()),
    }
}

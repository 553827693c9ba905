//! Watches: server-sent events (WHATWG HTML, section 9.2) as a stream of typed events.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, unfold};
use futures::{Stream, StreamExt};
use reqwest::Response;
use serde::de::DeserializeOwned;
use starling_api::{Error, WATCH_KEEP_ALIVE, WatchEvent};
use tokio::time::timeout;

/// Longest line of an event that the client accepts, bytes. The largest value in base64, a whole
/// page of siblings and some room; a guess.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Silence after which a watch ends: two keep-alives did not arrive.
pub(crate) const WATCH_SILENCE: Duration = WATCH_KEEP_ALIVE.saturating_mul(2);

/// The events of one watch, until the node or the caller ends it.
pub struct Watch<E = WatchEvent> {
    url: String,
    body: BoxStream<'static, Result<Vec<u8>, String>>,
    lines: Lines,
    ready: VecDeque<E>,
}

impl<E: DeserializeOwned + Unpin> Watch<E> {
    /// The events of an answer, until nothing of it arrives for this long.
    pub(crate) fn new(url: String, response: Response, silence: Duration) -> Self {
        let body = unfold(Some(response), move |response| async move {
            let mut response = response?;
            match timeout(silence, response.chunk()).await {
                Ok(Ok(chunk)) => chunk.map(|chunk| (Ok(chunk.to_vec()), Some(response))),
                Ok(Err(error)) => Some((Err(error.to_string()), None)),
                Err(_) => Some((Err(format!("the watch was silent for {silence:?}")), None)),
            }
        });
        Self { url, body: body.boxed(), lines: Lines::default(), ready: VecDeque::new() }
    }

    /// The next event; `None` when the node has ended the watch.
    pub async fn next_event(&mut self) -> Option<Result<E, Error>> {
        self.next().await
    }

    fn accept(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let not_understood = |reason: String| Error::not_understood(&self.url, reason);
        for data in self.lines.push(chunk).map_err(not_understood)? {
            let event =
                serde_json::from_str(&data).map_err(|e| not_understood(format!("{e} in event {data}")))?;
            self.ready.push_back(event);
        }
        Ok(())
    }
}

impl<E: DeserializeOwned + Unpin> Stream for Watch<E> {
    type Item = Result<E, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            match ready!(self.body.poll_next_unpin(context)) {
                None => return Poll::Ready(None),
                Some(Err(reason)) => {
                    return Poll::Ready(Some(Err(Error::unreachable(&self.url, reason))));
                }
                Some(Ok(chunk)) => {
                    if let Err(error) = self.accept(&chunk) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }
}

/// Splits a body into lines and hands out the data of whole events. The event's name is in its data
/// as well, so only `data:` lines matter.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
    data: String,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Result<Vec<String>, String> {
        let mut events = Vec::new();
        for piece in chunk.split_inclusive(|&b| b == b'\n') {
            if self.partial.len() + piece.len() > LINE_BYTES_MAX {
                return Err(format!("a line of an event is above {LINE_BYTES_MAX} bytes"));
            }
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = String::from_utf8(std::mem::take(&mut self.partial)).map_err(|e| e.to_string())?;
                self.line(line.trim_end_matches(['\r', '\n']), &mut events);
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str, events: &mut Vec<String>) {
        if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        } else if line.is_empty() && !self.data.is_empty() {
            events.push(std::mem::take(&mut self.data));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use proptest::prelude::*;
    use starling_api::ErrorCode;

    use super::*;

    /// A node that reads the head of the first request, answers with this, and then stops.
    fn node_that_stops(answer: &'static str) -> (String, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let accepting = listener.try_clone().expect("a descriptor is free");
        std::thread::spawn(move || {
            let (mut client, _) = accepting.accept().expect("a client");
            let lines = BufReader::new(client.try_clone().expect("a descriptor is free")).lines();
            lines.map(|line| line.expect("it speaks")).find(String::is_empty).expect("the end of the head");
            client.write_all(answer.as_bytes()).expect("it listens");
            // Until the client closes the connection.
            let _ = std::io::copy(&mut client, &mut std::io::sink());
        });
        (url, listener)
    }

    #[tokio::test]
    async fn a_watch_of_a_node_that_stops_ends() {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let event = "data: {\"event\":\"ready\"}\n\n";
        let (url, _listener) = node_that_stops(Box::leak(format!("{head}{event}").into_boxed_str()));
        let tls = crate::tls::nobody().expect("it needs no file");
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).build().expect("a client");
        let response = client.get(&url).send().await.expect("an answer");
        let mut watch = Watch::<WatchEvent>::new(url, response, Duration::from_millis(200));
        assert!(matches!(watch.next_event().await, Some(Ok(WatchEvent::Ready))));
        let error = watch.next_event().await.expect("an end").expect_err("silence");
        assert_eq!(error.code, ErrorCode::Unreachable);
        assert!(watch.next_event().await.is_none());
    }

    const BODY: &str =
        ": hello\nevent: put\ndata: {\"a\":\ndata: 1}\n\nretry: 5\n\ndata:two\r\n\r\ndata: unfinished\n";

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_body_is_cut(cuts in proptest::collection::vec(0..BODY.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, BODY.len()]);
            cuts.sort_unstable();
            let mut lines = Lines::default();
            let mut events = Vec::new();
            for cut in cuts.windows(2) {
                events.extend(lines.push(&BODY.as_bytes()[cut[0]..cut[1]]).expect("short lines"));
            }
            prop_assert_eq!(events, vec!["{\"a\":\n1}".to_string(), "two".to_string()]);
        }
    }
}

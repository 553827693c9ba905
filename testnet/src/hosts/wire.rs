//! What this program and an agent send each other: a line of JSON each, requests with a number that the answer repeats.

use std::io::{self, BufRead, Read};
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A line may have this many bytes. The longest is the start of a node, with its ticket and settings: a few thousand.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A request to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Of the request.
    pub number: u64,
    /// What is to be done.
    pub request: Request,
}

/// What an agent does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The certificate that its nodes show from now on, and its key, PEM.
    Certify {
        /// The certificate.
        certificate: String,
        /// Its private key.
        key: String,
    },
    /// Starts a node that does not run.
    Start(Start),
    /// Does something to a node.
    Node {
        /// The node's name.
        name: String,
        /// What.
        act: Act,
    },
    /// Which of the agent's processes opened a connection.
    Dialer {
        /// Its end of the connection.
        dialer: SocketAddr,
        /// The other end.
        own: SocketAddr,
    },
}

/// How to start a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The node's name, and that of its data directory in the agent's folder.
    pub name: String,
    /// Whether it is a bootstrap node.
    pub bootstrap: bool,
    /// Where it listens.
    pub address: Ipv4Addr,
    /// The ticket to join with.
    pub join: Option<String>,
    /// Its settings (`STARLING_*`).
    pub environment: Vec<(String, String)>,
}

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// kill -9.
    Kill,
    /// SIGTERM, and its end.
    Leave,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Resume,
    /// It can open no further file.
    Exhaust,
    /// It can again.
    Replenish,
    /// Its data are removed.
    Wipe,
}

/// What an agent sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// First: it takes requests.
    Ready {
        /// Its version.
        version: String,
    },
    /// An answer.
    Answer {
        /// Of the request.
        number: u64,
        /// Why it was not done, if it was not.
        outcome: Outcome,
    },
    /// A node has ended that was not ended by a request.
    Ended {
        /// The node's name.
        name: String,
        /// How it ended, with the end of its log.
        problem: String,
    },
}

/// An answer, or why there is none.
pub type Outcome = Result<Answer, String>;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// A node runs.
    Started(Started),
    /// The process that dialed, if it is one of the agent's.
    Dialed(Option<u32>),
}

/// A node that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its process.
    pub pid: u32,
    /// Where its API answers.
    pub api: String,
    /// Where it listens for peers.
    pub listens: SocketAddr,
    /// From `exec` until its API was listening.
    pub took_ms: u64,
}

/// A message as a line.
pub fn line(message: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(message)? + "\n")
}

/// The next line, as a message; none at the end.
///
/// # Errors
/// What came is no message.
pub fn read<T: for<'a> Deserialize<'a>>(input: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut text = String::new();
    input.take(LINE_BYTES_MAX).read_line(&mut text)?;
    if text.is_empty() {
        return Ok(None);
    }
    let failed = |error| {
        io::Error::other(format!("{error}: {}", text.trim_end().chars().take(200).collect::<String>()))
    };
    serde_json::from_str(&text).map(Some).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_and_what_is_none_is_shown() {
        let ask = Ask { number: 7, request: Request::Node { name: "n01".into(), act: Act::Kill } };
        let text = line(&ask).expect("text") + "Welcome to node1\n";
        let mut input = text.as_bytes();
        assert_eq!(read(&mut input).expect("a request"), Some(ask));
        let problem = read::<Ask>(&mut input).expect_err("a greeting").to_string();
        assert!(problem.contains("Welcome to node1"), "{problem}");
        assert_eq!(read::<Ask>(&mut input).expect("the end"), None);
    }
}

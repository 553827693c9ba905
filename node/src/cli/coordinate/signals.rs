//! Signals to this process.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::cli::failure::Failure;

/// The signals that end a process, and those for a program's own use.
const WATCHED: [Signal; 6] =
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// A receiver of signals. From its creation on they no longer end the process.
pub struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Begins to receive signals.
    pub fn watch() -> io::Result<Self> {
        let watch = |signal: Signal| Ok((signal, unix::signal(SignalKind::from_raw(signal.as_raw()))?));
        WATCHED.into_iter().map(watch).collect::<io::Result<_>>().map(Self)
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The result of an operation that may be cancelled; a signal that asks to end cancels it.
    pub async fn or_end<T>(&mut self, doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            signal = self.end() => Err(Failure::signalled(signal)),
            done = doing => done,
        }
    }

    /// The next signal that asks to end.
    pub async fn end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if signal != Signal::USR1 && signal != Signal::USR2 {
                return signal;
            }
        }
    }
}

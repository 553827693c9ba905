//! Signals that this process is sent.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::cli::failure::Failure;

/// Those that end a process, and those that have a meaning of a program's own.
const WATCHED: [Signal; 6] =
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// From its making on, these signals do not end the process any more: they are told here.
pub struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Begins to take signals.
    pub fn watch() -> io::Result<Self> {
        let watch = |signal: Signal| Ok((signal, unix::signal(SignalKind::from_raw(signal.as_raw()))?));
        WATCHED.into_iter().map(watch).collect::<io::Result<_>>().map(Self)
    }

    /// The next one.
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

    /// What comes of something that may be left undone, unless a signal asks to end.
    pub async fn or_end<T>(&mut self, doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            signal = self.end() => Err(Failure::signalled(signal)),
            done = doing => done,
        }
    }

    /// The next one that asks to end.
    pub async fn end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if signal != Signal::USR1 && signal != Signal::USR2 {
                return signal;
            }
        }
    }
}

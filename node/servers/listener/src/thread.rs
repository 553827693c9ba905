//! A server's thread.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::connections::Stop;

/// A running server: a thread with a runtime of one thread, so that a busy server delays neither gossip
/// nor another server. Dropping it makes the server stop, without waiting for it.
#[derive(Debug)]
pub struct ServerThread {
    name: &'static str,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl ServerThread {
    /// Runs `serve` on a new thread of this name, until it ends. It is given the signal to stop.
    pub fn start<F, S>(name: &'static str, serve: F) -> io::Result<Self>
    where
        F: FnOnce(Stop) -> S + Send + 'static,
        S: Future<Output = io::Result<()>>,
    {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(serve(Stop(stopped)));
        let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self { name, stop, thread: Some(thread) })
    }

    /// Lets requests finish, for a bounded time, and ends the thread.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::error!(%error, server = self.name, "the server stopped early"),
            Some(Err(_)) => tracing::error!(server = self.name, "the server's thread has panicked"),
        }
    }
}

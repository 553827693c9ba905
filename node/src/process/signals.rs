//! The reasons for the process to stop: signals, and the end of standard input.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Completes on SIGINT or SIGTERM. From the call on neither ends the process automatically.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// The end of standard input: the parent process that held the other end has gone.
pub fn stdin_end() -> std::io::Result<impl Future<Output = ()>> {
    let (ended, end) = oneshot::channel::<()>();
    let wait = move || {
        // An error counts as the end.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended);
    };
    std::thread::Builder::new().name("stdin".into()).spawn(wait)?;
    Ok(async move { drop(end.await) })
}

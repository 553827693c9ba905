//! The reasons for the process to stop: signals, and the end of standard input.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Completes on SIGINT or SIGTERM. From the call on neither ends the process automatically, nor does SIGHUP, by which
/// service managers ask daemons to read their configuration again.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = hangup.recv() => {
                    tracing::warn!("SIGHUP: nothing is reloaded; restart the node to change its settings");
                }
            }
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

//! Messages to the service manager that started the process: ready, alive, stopping (`sd_notify(3)`, `sd_watchdog_enabled(3)`).

use std::env::var_os;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use starling_service::Handle;
use tokio::time::{sleep, timeout};

/// The service manager, if it wants messages.
pub struct Manager {
    address: Option<SocketAddr>,
    /// The longest time between two signs of life that it accepts.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names.
    pub fn of_environment() -> Self {
        let socket = var_os("NOTIFY_SOCKET");
        let address = socket.and_then(|name| match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)).ok(),
        });
        let number = |name| var_os(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let usec = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0);
        Self { address, watchdog: usec.map(Duration::from_micros) }
    }

    /// Sends a message. A manager that does not listen is none of the node's business.
    pub fn send(&self, message: &str) {
        if let Some(address) = &self.address {
            let sent =
                UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(message.as_bytes(), address));
            if let Err(error) = sent {
                tracing::debug!(%error, message, "the service manager was not notified");
            }
        }
    }

    /// Sends a sign of life at least twice in the time that the manager accepts, as long as the node's thread answers.
    /// Never completes.
    pub async fn keep_alive(&self, node: &Handle) {
        let Some(pause) = self.watchdog.map(|longest| longest / 4) else {
            return std::future::pending().await;
        };
        loop {
            if let Ok(Ok(_)) = timeout(pause, node.admin().status()).await {
                self.send("WATCHDOG=1");
            }
            sleep(pause).await;
        }
    }
}

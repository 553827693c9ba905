//! Waiting for a state, with a deadline.

use std::time::{Duration, Instant};

/// A state that has not come about by then is a failure. Generous: both cores may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value; its errors say what is missing. Panics at the
/// [`DEADLINE`] with what was still missing then.
pub async fn wait_until<T>(what: &str, mut condition: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(missing) => {
                assert!(began.elapsed() < DEADLINE, "waited {DEADLINE:?} until {what}: {missing}");
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

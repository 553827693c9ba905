//! The overlay of the running nodes, asked of each of them.

use std::time::Duration;

use futures::future;
use tokio::time::{Instant, sleep, timeout};

use super::fleet::{BOOTSTRAP, Fleet, State};
use crate::views::{Place, Snapshot};

/// How often the overlay is looked at: asking for it costs the nodes CPU. A guess.
const POLL: Duration = Duration::from_millis(200);
/// A node that does not answer within this time is left out.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Asks every running replica.
pub async fn snapshot(fleet: &Fleet) -> Snapshot {
    let seats = fleet.seats().into_iter().enumerate().skip(BOOTSTRAP + 1);
    let asked = seats.map(async |(member, seat)| {
        let place = Place {
            id: seat.id,
            name: format!("n{member:02}"),
            region: fleet.region(member),
            ..Place::default()
        };
        match (&seat.client, seat.state) {
            (Some(client), State::Up) => match timeout(ANSWER_DEADLINE, client.peers()).await {
                Ok(Ok(peers)) => place.with(&peers),
                _ => place,
            },
            _ => place,
        }
    });
    Snapshot::of(future::join_all(asked).await)
}

/// Waits until the running nodes are one component; says how long that took. None: not before the
/// deadline.
pub async fn one_component(fleet: &Fleet, deadline: Instant) -> Option<Duration> {
    let began = Instant::now();
    loop {
        let found = snapshot(fleet).await.views();
        if found.components <= 1 {
            return Some(began.elapsed());
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(POLL).await;
    }
}

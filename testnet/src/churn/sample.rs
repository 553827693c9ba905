//! The counters of a run's nodes, asked of all of them once a second.

use futures::future;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::faults::Faults;
use super::fleet::{BOOTSTRAP, Fleet, State};
use super::overlay;
use crate::error::Result;
use crate::samples::{ANSWER_DEADLINE, Answer, Counts, OVERLAY_EVERY, PERIOD, Samples};

/// The measured time begins: what was counted before does not count.
pub async fn begin(fleet: &Fleet) -> Samples {
    Samples::begin(ask(fleet).await)
}

/// Samples until it is dropped, or a process has ended that nobody ended. `on_sample` is called after each sample.
pub async fn run(
    samples: &mut Samples,
    fleet: &Fleet,
    faults: &Faults<'_>,
    on_sample: impl Fn(),
) -> Result<()> {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0.. {
        ticks.tick().await;
        fleet.check()?;
        take(samples, fleet, faults.hinders()).await;
        if count % OVERLAY_EVERY == 0 {
            let components = overlay::snapshot(fleet).await.views().components;
            samples.note("components", components as f64);
        }
        on_sample();
    }
    Ok(())
}

/// Takes one sample.
pub async fn take(samples: &mut Samples, fleet: &Fleet, is_hindered: bool) {
    let answers = ask(fleet).await;
    samples.add(answers, fleet.replicas(State::Up).len(), is_hindered);
}

/// The counters of every running replica.
async fn ask(fleet: &Fleet) -> Vec<Answer> {
    let seats = fleet.seats().into_iter().enumerate().skip(BOOTSTRAP + 1);
    let asked = seats.filter(|(_, seat)| seat.state == State::Up).map(async |(node, seat)| {
        let status = timeout(ANSWER_DEADLINE, seat.client?.status()).await.ok()?.ok()?;
        Some(Answer { node, start: seat.starts, counts: Counts::of(&status) })
    });
    future::join_all(asked).await.into_iter().flatten().collect()
}

//! A worker: it reserves items and runs a command with each.

use std::ffi::OsString;
use std::future::pending;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use rustix::process::Signal;
use serde_json::json;
use starling_api::queue::{BATCH_MAX, Reserved, Standing};
use starling_api::{ErrorCode, Retry, escaped};
use starling_client::{Client, Lease, Lost, Queue, Taker, Turns, Under, WriteFailed};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::args::WorkArgs;
use super::patience;
use crate::cli::Session;
use crate::cli::coordinate::child::{Ended, Running};
use crate::cli::coordinate::held::{AGAIN, give_back, lost};
use crate::cli::coordinate::signals::Signals;
use crate::cli::failure::Failure;
use crate::cli::print::{self, Result};
use crate::cli::value::bytes;

/// The weight of the last item in a worker's rate. An estimate.
const RATE_GAIN: f64 = 0.3;

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// It was acknowledged. The rate of the work, if its cost was stated.
    Done(Option<f64>),
    /// It was returned, and is reserved again.
    Returned,
    /// It was returned, and is a dead letter.
    Dead,
    /// Its reservation has ended: another worker does it.
    Lost,
}

/// The numbers of items by what became of them.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    done: u64,
    returned: u64,
    dead: u64,
    lost: u64,
}

/// A worker with what it was answered: the revision at which the queue was read, and the items that it has reserved.
type Asked = (Taker<Client>, std::result::Result<(u64, Vec<Reserved>), WriteFailed>);

/// The next thing that the worker does.
enum Next<'w> {
    /// It asks for items. This is not dropped: what it reserves would stay reserved.
    Asking(LocalBoxFuture<'w, Asked>),
    /// It waits until something has changed.
    Waiting(Taker<Client>, LocalBoxFuture<'w, ()>),
    /// It has enough to do.
    Busy(Taker<Client>),
}

/// A worker at work.
struct Worker<'w> {
    session: &'w Session,
    args: &'w WorkArgs,
    queue: Queue<Client>,
    lease: i64,
    lost: watch::Receiver<Option<Lost>>,
    running: FuturesUnordered<LocalBoxFuture<'w, std::result::Result<Outcome, Failure>>>,
    tally: Tally,
    rate: Option<f64>,
}

impl Session {
    pub(super) async fn work(&self, args: &WorkArgs) -> Result {
        let mut signals = Signals::watch()?;
        let keyspace = self.strong();
        let granted = async { Ok(Lease::grant(&keyspace, args.for_ms).await?) };
        let mut lease = signals.or_end(granted).await?;
        let (loses, lost) = watch::channel(None);
        let worker = Worker {
            session: self,
            args,
            queue: self.items(&args.name),
            lease: lease.id(),
            lost,
            running: FuturesUnordered::new(),
            tally: Tally::default(),
            rate: None,
        };
        let result = worker.run(&mut lease, &loses, &mut signals).await;
        // Returns what is still reserved, as after a failure.
        give_back(lease).await;
        result
    }
}

impl<'w> Worker<'w> {
    async fn run(
        mut self,
        lease: &mut Lease<Client>,
        loses: &watch::Sender<Option<Lost>>,
        signals: &mut Signals,
    ) -> Result {
        let mut next = Next::Busy(self.queue.taker());
        let (mut signalled, mut is_lost): (Option<Signal>, Option<Lost>) = (None, None);
        loop {
            let ends = signalled.is_some() || is_lost.is_some();
            next = match next {
                Next::Busy(taker) if !ends && self.running.len() < usize::from(self.args.jobs) => {
                    self.ask(taker)
                }
                Next::Waiting(taker, _) if ends => Next::Busy(taker),
                next => next,
            };
            if ends && self.running.is_empty() && !matches!(next, Next::Asking(_)) {
                self.report()?;
                return match (is_lost, signalled) {
                    (Some(why), _) => Err(lost(why, "the reservations")),
                    (None, Some(signal)) => Err(Failure::signalled(signal)),
                    (None, None) => Ok(()),
                };
            }
            tokio::select! {
                biased;
                why = lease.lost(), if is_lost.is_none() => {
                    is_lost = Some(why);
                    loses.send_replace(Some(why));
                }
                signal = signals.end(), if signalled.is_none() => signalled = Some(signal),
                Some(outcome) = self.running.next() => self.count(outcome?),
                came = advance(&mut next) => match came {
                    None => next = retake(next),
                    Some((taker, Ok((revision, items)))) => {
                        if items.is_empty() && self.args.until_empty && self.running.is_empty() {
                            let stats = self.queue.stats().await?;
                            if stats.is_done() {
                                return self.is_done(stats.dead);
                            }
                        }
                        next = if items.is_empty() { self.wait(taker, revision) } else { Next::Busy(taker) };
                        if !ends {
                            let jobs: Vec<_> = items.into_iter().map(|item| self.job(item).boxed_local()).collect();
                            self.running.extend(jobs);
                        }
                    }
                    Some((_, Err(failed))) if failed.error.retry() == Retry::Never => {
                        return Err(failed.error.into());
                    }
                    Some((taker, Err(_))) => next = Next::Waiting(taker, sleep(AGAIN).boxed_local()),
                },
            }
        }
    }

    /// Asks for as many items as commands can be started.
    fn ask(&self, mut taker: Taker<Client>) -> Next<'w> {
        if let Some(rate) = self.rate {
            taker.set_rate(rate);
        }
        let (free, lease) = (usize::from(self.args.jobs) - self.running.len(), self.lease);
        let asking = async move {
            let reserved = taker.reserve(free.min(BATCH_MAX), Under::Lease(lease)).await;
            (taker, reserved)
        };
        Next::Asking(asking.boxed_local())
    }

    /// Waits until an item may be free, or, where the end of the work is waited for, until anything has changed.
    fn wait(&self, taker: Taker<Client>, revision: u64) -> Next<'w> {
        let (queue, until_empty) = (self.queue.clone(), self.args.until_empty);
        let waiting = async move {
            let changed = if until_empty {
                queue.until_changed(revision + 1).await
            } else {
                queue.until_free(revision + 1, &mut Turns::default()).await
            };
            if changed.is_err() {
                sleep(AGAIN).await;
            }
        };
        Next::Waiting(taker, waiting.boxed_local())
    }

    /// Runs the command with an item, and acknowledges or returns it.
    fn job(&self, item: Reserved) -> impl Future<Output = std::result::Result<Outcome, Failure>> + 'w {
        let (args, queue, mut lost) = (self.args, self.queue.clone(), self.lost.clone());
        let variables = self.variables(&item);
        async move {
            // It receives the signals of this process, as a command under a lock does.
            let mut signals = Signals::watch()?;
            let began = Instant::now();
            let mut running = Running::start(&args.command, variables, Some(item.value.0.clone()))?;
            let lost = async {
                match lost.wait_for(Option::is_some).await {
                    Ok(why) => why.unwrap_or(Lost::Ended),
                    Err(_) => pending().await,
                }
            };
            let ended = running.attend(lost, &mut signals, Duration::from_millis(args.grace)).await?;
            let how = patience(args.for_ms);
            let key = escaped(&item.receipt.key.0);
            let result = match ended {
                Ended::Lost(_) => return Ok(Outcome::Lost),
                Ended::Exited(0) => {
                    let spent_ms = began.elapsed().as_secs_f64() * 1000.0;
                    let rate = (item.cost_ms > 0).then(|| item.cost_ms as f64 * 1000.0 / spent_ms.max(1.0));
                    let receipts = std::slice::from_ref(&item.receipt);
                    queue.acknowledge(receipts, Vec::new(), &how).await.map(|_| Outcome::Done(rate))
                }
                // What cannot be run would use up the attempts of every item.
                Ended::Exited(code @ (126 | 127)) => {
                    queue.release(&item.receipt, 0, &how).await?;
                    return Err(Failure::silent(code));
                }
                Ended::Exited(code) => {
                    print::note(format!("{key} is returned: COMMAND has exited with {code}"));
                    let standing = queue.release(&item.receipt, args.retry_after, &how).await;
                    standing.map(|it| if it == Standing::Dead { Outcome::Dead } else { Outcome::Returned })
                }
            };
            match result {
                Err(failed) if failed.error.code == ErrorCode::Conflict => {
                    print::note(format!("{}: it is done again", failed.error.message));
                    Ok(Outcome::Lost)
                }
                result => Ok(result.map_err(|failed| failed.error)?),
            }
        }
    }

    fn variables(&self, item: &Reserved) -> Vec<(String, OsString)> {
        vec![
            ("STARLING_QUEUE_NAME".into(), self.args.name.clone()),
            ("STARLING_QUEUE_KEYSPACE".into(), self.session.keyspace.clone().into()),
            ("STARLING_ITEM_KEY".into(), OsString::from_vec(item.receipt.key.0.clone())),
            ("STARLING_ITEM_ATTEMPTS".into(), item.attempts.to_string().into()),
        ]
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done(rate) => {
                self.tally.done += 1;
                if let Some(now) = rate {
                    self.rate = Some(self.rate.map_or(now, |rate| rate + RATE_GAIN * (now - rate)));
                }
            }
            Outcome::Returned => self.tally.returned += 1,
            Outcome::Dead => self.tally.dead += 1,
            Outcome::Lost => self.tally.lost += 1,
        }
    }

    /// Ends the work: nothing is ready, reserved or delayed any more.
    fn is_done(&self, dead: u64) -> Result {
        self.report()?;
        if dead == 0 {
            return Ok(());
        }
        let letters = print::count(dead, "dead letter");
        let name = escaped(&bytes(&self.args.name));
        let what = format!("everything is done but {letters} of the queue {name}");
        Err(Failure::failed(
            what,
            "`starling queue ls` shows them, and `starling queue retry` tries them again",
        ))
    }

    fn report(&self) -> Result {
        let Tally { done, returned, dead, lost } = self.tally;
        let text = || format!("{done} done, {returned} returned, {dead} became dead letters, {lost} lost");
        self.session.show(&json!({ "done": done, "returned": returned, "dead": dead, "lost": lost }), text)
    }
}

/// What [`Next`] comes to: the answer to a question; `None`: the time to ask again.
async fn advance(next: &mut Next<'_>) -> Option<Asked> {
    match next {
        Next::Asking(asking) => Some(asking.await),
        Next::Waiting(_, waiting) => {
            waiting.await;
            None
        }
        Next::Busy(_) => pending().await,
    }
}

/// The worker that has waited.
fn retake(next: Next<'_>) -> Next<'_> {
    match next {
        Next::Waiting(taker, _) => Next::Busy(taker),
        next => next,
    }
}

//! Independent jobs on several threads: runs of seeds, rows of tables. What they come to is handed over in the order of the
//! jobs, so that it does not depend on how many threads there are.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Threads for jobs, and the processor time that all jobs so far have taken. At most one job per thread runs at a time, and
/// so at most as many simulated worlds exist.
#[derive(Debug)]
pub struct Threads {
    count: NonZeroUsize,
    /// Nanoseconds.
    worked: AtomicU64,
    began: Instant,
    /// Processor time of the thread that made this, at that time.
    serial_before: Duration,
}

/// What the jobs of a program cost, and what more threads could save.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    threads: usize,
    /// Processor time of the jobs.
    work: Duration,
    /// Processor time of the thread that hands out jobs and combines their results: one thread alone can do that.
    serial: Duration,
    wall: Duration,
}

impl Threads {
    /// This many threads; `None`: as many as the machine has cores.
    pub fn new(count: Option<NonZeroUsize>) -> Self {
        let all = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            count: count.unwrap_or_else(all),
            worked: AtomicU64::new(0),
            began: Instant::now(),
            serial_before: processor_time(),
        }
    }

    /// Does a job for each item, and calls `each` with the results, in the order of the items, on this thread. A result that
    /// is early waits for those before it, so results have to be small. Items are taken one at a time, when a thread is free.
    pub fn each<T, R: Send>(
        &self,
        items: impl Iterator<Item = T> + Send,
        job: impl Fn(T) -> R + Sync,
        mut each: impl FnMut(R),
    ) {
        let items = Mutex::new(items.enumerate());
        // The iterator of items is never left half advanced.
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        let (sender, results) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.count.get() {
                let (sender, next, job) = (sender.clone(), &next, &job);
                scope.spawn(move || {
                    while let Some((at, item)) = next() {
                        let _ = sender.send((at, job(item)));
                    }
                    let took = u64::try_from(processor_time().as_nanos()).unwrap_or(u64::MAX);
                    self.worked.fetch_add(took, Ordering::Relaxed);
                });
            }
            drop(sender);
            let (mut early, mut due) = (BTreeMap::new(), 0);
            for (at, result) in results {
                early.insert(at, result);
                while let Some(result) = early.remove(&due) {
                    each(result);
                    due += 1;
                }
            }
        });
    }

    /// The results of a job for each item, in the order of the items.
    pub fn map<T, R: Send>(
        &self,
        items: impl IntoIterator<Item = T, IntoIter: Send>,
        job: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        let mut results = Vec::new();
        self.each(items.into_iter(), job, |result| results.push(result));
        results
    }

    /// What all jobs so far have cost. To be asked on the thread that made this.
    pub fn effort(&self) -> Effort {
        Effort {
            threads: self.count.get(),
            work: Duration::from_nanos(self.worked.load(Ordering::Relaxed)),
            serial: processor_time().saturating_sub(self.serial_before),
            wall: self.began.elapsed(),
        }
    }
}

impl Effort {
    /// How many times faster this was than all of it on one thread, by processor time.
    pub fn speed_up(&self) -> f64 {
        (self.work + self.serial).as_secs_f64() / self.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The share of the processor time that no further thread can take over.
    pub fn serial_share(&self) -> f64 {
        self.serial.as_secs_f64() / (self.work + self.serial).as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The speed-up that so many threads can reach with this serial share: G. M. Amdahl, "Validity of the single processor
    /// approach to achieving large scale computing capabilities", AFIPS 1967.
    pub fn bound(&self) -> f64 {
        let serial = self.serial_share();
        1.0 / (serial + (1.0 - serial) / self.threads as f64)
    }

    /// For people, in one line.
    pub fn line(&self) -> String {
        format!(
            "{} threads: {:.1} s of processor time in {:.1} s, a speed-up of {:.2}; {:.1} % of it is serial, so at most {:.2} \
             (Amdahl)",
            self.threads,
            (self.work + self.serial).as_secs_f64(),
            self.wall.as_secs_f64(),
            self.speed_up(),
            100.0 * self.serial_share(),
            self.bound(),
        )
    }
}

/// The processor time of this thread so far. Unlike elapsed time it does not grow while another program has the core.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn threads(count: usize) -> Threads {
        Threads::new(NonZeroUsize::new(count))
    }

    /// Waits until so many jobs have arrived here: then they run at the same time.
    fn meet(arrived: &AtomicUsize, count: usize) {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < count {
            thread::yield_now();
        }
    }

    #[test]
    fn results_are_in_the_order_of_the_items_whichever_job_ends_first() {
        // The first job ends when all others have been begun.
        let begun = AtomicUsize::new(0);
        let results = threads(3).map(0..20, |item| {
            meet(&begun, if item == 0 { 20 } else { 0 });
            item
        });
        assert_eq!(results, (0..20).collect::<Vec<_>>());
        assert_eq!(threads(1).map(0..20, |item| item), results);
    }

    #[test]
    fn as_many_jobs_run_at_a_time_as_there_are_threads_and_no_more() {
        let (met, running, most) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        threads(3).map(0..30, |_| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            meet(&met, 3);
            running.fetch_sub(1, Ordering::SeqCst);
        });
        assert_eq!(most.into_inner(), 3);
    }

    #[test]
    fn items_are_taken_when_a_thread_is_free() {
        let taken = AtomicUsize::new(0);
        let items = (0..10).map(|_| taken.fetch_add(1, Ordering::SeqCst));
        let job = |item| (item, taken.load(Ordering::SeqCst));
        threads(1).each(items, job, |(item, taken)| assert_eq!(taken, item + 1));
    }

    #[test]
    fn the_bound_is_amdahls() {
        let seconds = Duration::from_secs;
        let effort = Effort { threads: 4, work: seconds(90), serial: seconds(10), wall: seconds(40) };
        assert!((effort.serial_share() - 0.1).abs() < 1e-9 && (effort.speed_up() - 2.5).abs() < 1e-9);
        assert!((effort.bound() - 1.0 / (0.1 + 0.9 / 4.0)).abs() < 1e-9);
        let line = "4 threads: 100.0 s of processor time in 40.0 s, a speed-up of 2.50; 10.0 % of it is serial, so at most 3.08 \
                    (Amdahl)";
        assert_eq!(effort.line(), line);
    }

    #[test]
    fn work_counts_the_processor_time_of_jobs_and_not_their_waiting() {
        let threads = threads(2);
        let busy = |_| {
            let until = processor_time() + Duration::from_millis(20);
            while processor_time() < until {
                std::hint::spin_loop();
            }
        };
        threads.map(0..4, busy);
        let effort = threads.effort();
        assert!(effort.work >= Duration::from_millis(80), "{effort:?}");
    }
}

//! Clients of a queue.

use starling_history::{Checked, QUEUE, QueueAnswer, QueueAsk, Queuer};
use starling_strong::api::{Body, Keys, Request, Write};

use super::actors::{Outcome, Step, Told};

/// Pushes and pops.
pub struct QueueClient {
    pub queuer: Queuer,
}

impl QueueClient {
    pub fn new(number: usize) -> Self {
        Self { queuer: Queuer::new(number as u64) }
    }

    pub fn next(&mut self, draw: u64) -> Step {
        let write = match self.queuer.next(draw) {
            QueueAsk::Push(value) => Write::PutSequential { prefix: QUEUE.to_vec(), value, lease: 0 },
            QueueAsk::Pop => Write::PopFirst { keys: all() },
        };
        Step::Ask { request: Request::Write(write), fence: None, once: false, stale: false }
    }

    pub fn learn(&mut self, outcome: Outcome) -> Checked {
        self.queuer.learn(match outcome.result {
            Told::Answer(answer) => match answer.body {
                Body::Popped { first } => QueueAnswer::Popped(first.map(|kv| kv.value)),
                _ => QueueAnswer::Pushed,
            },
            Told::Refused(_) | Told::Failed => QueueAnswer::Failed,
            Told::Unknown => QueueAnswer::Unknown,
        })
    }
}

fn all() -> Keys {
    Keys::Range { from: QUEUE.to_vec(), to: starling_kv::engine::prefix_end(QUEUE) }
}

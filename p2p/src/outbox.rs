//! The outgoing frames of one connection: a bounded queue per class.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use bytes::{Bytes, BytesMut};
use starling_proto::Class;

use crate::Limits;

/// Bytes of small frames that are sent together, at most: they share one multiplexer frame and one encryption. Yamux
/// splits above 16 KiB anyway.
const COALESCED_BYTES_MAX: usize = 16 << 10;

/// The queues, which the driver fills and the connection's handler drains.
#[derive(Debug)]
pub(crate) struct Outbox(Mutex<State>);

#[derive(Debug)]
struct State {
    queues: [Queue; 4],
    order: Order,
    /// The waker of the task that drains the queues.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    bytes_max: usize,
    /// Whether a frame was dropped since the queue was last empty.
    shed: bool,
}

/// The driver's order for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Keep the connection.
    Keep,
    /// Close this connection, which another one has replaced, if the peer does not.
    CloseLater,
    /// Flush and close. This order is final.
    Close,
}

/// The result of queueing a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The frame is queued.
    Queued,
    /// The queue was full and the frame is dropped: the peer needs the older frames first.
    Shed {
        /// Whether it is the first one since the queue was empty.
        first: bool,
    },
}

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        let bounds = [
            limits.control_queue_bytes_max,
            limits.rumor_queue_bytes_max,
            limits.sync_queue_bytes_max,
            limits.strong_queue_bytes_max,
        ];
        let queues =
            bounds.map(|bytes_max| Queue { frames: VecDeque::new(), bytes: 0, bytes_max, shed: false });
        Self(Mutex::new(State { queues, order: Order::Keep, waker: None }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves no partial change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame. An empty queue accepts any frame, so that a bound below the largest frame slows the link down
    /// and does not block it.
    pub(crate) fn push(&self, class: Class, frame: Bytes) -> Pushed {
        let mut state = self.state();
        let queue = &mut state.queues[class as usize];
        if queue.bytes > 0 && queue.bytes + frame.len() > queue.bytes_max {
            return Pushed::Shed { first: !std::mem::replace(&mut queue.shed, true) };
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        Self::wake(state);
        Pushed::Queued
    }

    /// Sets the order for the connection.
    pub(crate) fn order(&self, order: Order) {
        let mut state = self.state();
        if state.order != Order::Close {
            state.order = order;
        }
        Self::wake(state);
    }

    /// Moves all frames to another outbox. None is dropped: a peer has at most two connections, so that twice the bound
    /// may wait for a moment.
    pub(crate) fn hand_over(&self, to: &Self) {
        let waiting = Class::ALL.map(|class| {
            let mut state = self.state();
            let queue = &mut state.queues[class as usize];
            queue.bytes = 0;
            std::mem::take(&mut queue.frames)
        });
        let mut state = to.state();
        for (queue, frames) in state.queues.iter_mut().zip(waiting) {
            queue.bytes += frames.iter().map(Bytes::len).sum::<usize>();
            queue.frames.extend(frames);
        }
        Self::wake(state);
    }

    fn wake(mut state: MutexGuard<'_, State>) {
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The current order; the task is woken when anything changes.
    pub(crate) fn poll_order(&self, cx: &Context<'_>) -> Order {
        let mut state = self.state();
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        state.order
    }

    /// The next bytes to send: one frame, or several small ones. Calls `count` with each frame's size.
    pub(crate) fn take(&self, class: Class, mut count: impl FnMut(usize)) -> Option<Bytes> {
        let mut state = self.state();
        let queue = &mut state.queues[class as usize];
        let first = queue.pop(&mut count)?;
        let fits = |queue: &Queue, taken: usize| {
            queue.frames.front().is_some_and(|next| taken + next.len() <= COALESCED_BYTES_MAX)
        };
        if !fits(queue, first.len()) {
            return Some(first);
        }
        let mut together = BytesMut::from(first);
        while fits(queue, together.len()) {
            together.extend_from_slice(&queue.pop(&mut count)?);
        }
        Some(together.freeze())
    }
}

impl Queue {
    fn pop(&mut self, count: &mut impl FnMut(usize)) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        self.shed &= !self.frames.is_empty();
        count(frame.len());
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(control_queue_bytes_max: usize) -> Outbox {
        Outbox::new(&Limits { control_queue_bytes_max, ..Limits::default() })
    }

    fn frame(bytes: usize) -> Bytes {
        Bytes::from(vec![7; bytes])
    }

    #[test]
    fn a_full_queue_sheds_and_says_so_once_until_drained() {
        let outbox = outbox(100);
        assert_eq!(outbox.push(Class::Control, frame(60)), Pushed::Queued);
        assert_eq!(outbox.push(Class::Control, frame(60)), Pushed::Shed { first: true });
        assert_eq!(outbox.push(Class::Control, frame(60)), Pushed::Shed { first: false });
        assert_eq!(outbox.push(Class::Rumor, frame(60)), Pushed::Queued, "classes do not share a bound");
        assert_eq!(outbox.take(Class::Control, |_| ()).expect("works").len(), 60);
        assert_eq!(outbox.push(Class::Control, frame(101)), Pushed::Queued, "an empty queue takes any frame");
        assert_eq!(outbox.push(Class::Control, frame(1)), Pushed::Shed { first: true });
    }

    #[test]
    fn what_waits_moves_to_another_connection_after_what_waits_there() {
        let (from, to) = (outbox(100), outbox(100));
        for (outbox, bytes) in [(&from, 90), (&to, 80)] {
            outbox.push(Class::Control, frame(bytes));
        }
        from.hand_over(&to);
        assert!(from.take(Class::Control, |_| ()).is_none());
        assert_eq!(from.push(Class::Control, frame(100)), Pushed::Queued, "nothing counts as waiting");
        let mut sizes = Vec::new();
        to.take(Class::Control, |bytes| sizes.push(bytes));
        assert_eq!(sizes, [80, 90]);
        assert_eq!(to.push(Class::Control, frame(100)), Pushed::Queued, "nothing counts as waiting");
    }

    #[test]
    fn small_frames_leave_together_in_order_and_large_ones_alone() {
        let outbox = outbox(1 << 20);
        for (i, bytes) in [10, 20, COALESCED_BYTES_MAX, 5].into_iter().enumerate() {
            outbox.push(Class::Control, Bytes::from(vec![i as u8; bytes]));
        }
        let mut counted = Vec::new();
        let sizes: Vec<_> = std::iter::from_fn(|| outbox.take(Class::Control, |n| counted.push(n)))
            .map(|b| b.len())
            .collect();
        assert_eq!(sizes, [30, COALESCED_BYTES_MAX, 5]);
        assert_eq!(counted, [10, 20, COALESCED_BYTES_MAX, 5]);
    }
}

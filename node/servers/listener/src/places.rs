//! The places of a server's connections.
//!
//! Anyone who may connect can open connections and send nothing. Such a connection is *idle*: no request of it is in
//! progress. When all places are taken, a new connection takes the place of an idle one: of the address with the most
//! connections, the one that has been idle longest. A client that sends its request at once is therefore served however
//! many silent connections there are. When every place has a request in progress, a few spare places are left, for
//! requests that an operator needs most.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id};

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A process at this address.
    Address(IpAddr),
    /// A process of the node's own user, on the unix socket.
    OwnUser,
}

impl Origin {
    /// Whether it is a process of this machine, as far as its address shows.
    pub fn is_local(self) -> bool {
        match self {
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::OwnUser => true,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::OwnUser => f.write_str("the unix socket"),
        }
    }
}

/// The state of one connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    origin: Origin,
    is_spare: bool,
    state: Mutex<State>,
    /// Notified when the connection becomes idle.
    idle: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    requests: usize,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
}

impl Activity {
    fn new(origin: Origin, is_spare: bool, idle: Arc<Notify>) -> Self {
        let state = Mutex::new(State { requests: 0, idle_since: Instant::now() });
        Self(Arc::new(Shared { origin, is_spare, state, idle }))
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// Whether the connection has a spare place, because all others had requests in progress.
    pub fn is_spare(&self) -> bool {
        self.0.is_spare
    }

    /// Marks a request as in progress until the returned guard is dropped.
    pub fn begin(&self) -> InProgress {
        self.0.lock().requests += 1;
        InProgress(Arc::clone(&self.0))
    }

    /// Since when the connection is idle, if it is.
    fn idle_since(&self) -> Option<Instant> {
        let state = self.0.lock();
        (state.requests == 0).then_some(state.idle_since)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in progress.
#[derive(Debug)]
pub struct InProgress(Arc<Shared>);

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.requests -= 1;
        if state.requests == 0 {
            state.idle_since = Instant::now();
            self.0.idle.notify_one();
        }
    }
}

/// The connections of a socket.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    spare: usize,
    taken: HashMap<Id, (Activity, AbortHandle)>,
    idle: Arc<Notify>,
}

impl Places {
    pub(crate) fn new(max: usize, spare: usize) -> Self {
        Self { max, spare, taken: HashMap::new(), idle: Arc::default() }
    }

    /// Whether a connection can be accepted now.
    pub(crate) fn has_room(&self) -> bool {
        self.taken.len() < self.max + self.spare
            || self.taken.values().any(|(activity, _)| activity.idle_since().is_some())
    }

    /// Notified when a connection becomes idle.
    pub(crate) fn idle(&self) -> Arc<Notify> {
        Arc::clone(&self.idle)
    }

    /// Makes room for a connection from `origin`. Returns its state, and whether an idle connection was closed for it.
    pub(crate) fn enter(&mut self, origin: Origin) -> (Activity, bool) {
        let displaced = if self.ordinary() >= self.max { self.longest_idle() } else { None };
        if let Some((_, connection)) = displaced.and_then(|id| self.taken.remove(&id)) {
            connection.abort();
        }
        // The one that made room may have had a spare place itself.
        let is_spare = self.ordinary() >= self.max;
        (Activity::new(origin, is_spare, Arc::clone(&self.idle)), displaced.is_some())
    }

    /// Connections in places that are not spare.
    fn ordinary(&self) -> usize {
        self.taken.values().filter(|(activity, _)| !activity.is_spare()).count()
    }

    /// Adds the task of a connection that has entered.
    pub(crate) fn add(&mut self, activity: Activity, task: AbortHandle) {
        self.taken.insert(task.id(), (activity, task));
    }

    /// Removes a connection that has ended.
    pub(crate) fn remove(&mut self, id: Id) {
        self.taken.remove(&id);
    }

    /// Of the address with the most connections among those with an idle one, the one that has been idle longest.
    fn longest_idle(&self) -> Option<Id> {
        let mut of_origin: HashMap<Origin, usize> = HashMap::new();
        for (activity, _) in self.taken.values() {
            *of_origin.entry(activity.origin()).or_default() += 1;
        }
        let idle =
            self.taken.iter().filter_map(|(id, (activity, _))| Some((activity, activity.idle_since()?, *id)));
        let longest = idle
            .max_by_key(|(activity, since, _)| (of_origin[&activity.origin()], std::cmp::Reverse(*since)));
        longest.map(|(_, _, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Origin = Origin::Address(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const B: Origin = Origin::Address(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));

    fn connect(places: &mut Places, origin: Origin) -> (Activity, Option<Id>, tokio::task::JoinHandle<()>) {
        let before: Vec<Id> = places.taken.keys().copied().collect();
        let (activity, _) = places.enter(origin);
        let gone = before.into_iter().find(|id| !places.taken.contains_key(id));
        let task = tokio::spawn(std::future::pending());
        places.add(activity.clone(), task.abort_handle());
        (activity, gone, task)
    }

    #[tokio::test]
    async fn the_longest_idle_connection_of_the_busiest_address_makes_room() {
        let mut places = Places::new(4, 0);
        let (_, _, alone) = connect(&mut places, B);
        let (first, _, one) = connect(&mut places, A);
        let (_, _, two) = connect(&mut places, A);
        let (_, _, three) = connect(&mut places, A);
        // The first of A's has just answered a request, so the second has been idle longest.
        drop(first.begin());
        let (_, gone, _four) = connect(&mut places, B);
        assert_eq!(gone, Some(two.id()));
        assert!(two.await.expect_err("it was cut").is_cancelled());
        assert!(!alone.is_finished() && !one.is_finished() && !three.is_finished());
    }

    #[tokio::test]
    async fn a_connection_in_the_place_of_a_spare_one_is_spare() {
        let mut places = Places::new(1, 1);
        let (busy, _, _one) = connect(&mut places, A);
        let _in_progress = busy.begin();
        let (_, _, spare) = connect(&mut places, A);
        let (next, gone, _two) = connect(&mut places, B);
        assert!(gone == Some(spare.id()) && next.is_spare());
    }

    #[tokio::test]
    async fn requests_in_progress_keep_their_places_and_spare_ones_are_marked() {
        let mut places = Places::new(2, 1);
        let busy: Vec<_> = (0..2).map(|_| connect(&mut places, A)).collect();
        let in_progress: Vec<InProgress> = busy.iter().map(|(activity, ..)| activity.begin()).collect();
        let (spare, gone, _task) = connect(&mut places, B);
        assert!(gone.is_none() && spare.is_spare() && !busy[0].0.is_spare());
        let answering = spare.begin();
        assert!(!places.has_room(), "every connection has a request in progress");
        drop(in_progress);
        assert!(places.has_room());
        drop(answering);
    }
}

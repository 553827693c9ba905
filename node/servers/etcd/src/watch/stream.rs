//! The watches of one stream. They share one queue of updates, so that a slow client delays its own watches only.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use starling_etcd_proto::etcdserverpb as pb;
use starling_strong::api::{Event, Revision, WatchUpdate};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::ANSWERS_MAX;
use super::progress::{Progress, Step};
use super::split::split;
use super::watcher::Watcher;
use crate::convert::{events, wire};
use crate::failure;
use crate::keyspace::Keyspace;
use starling_service::{WatchId, WatchUpdates};

/// Updates that a watch may have pending. A guess: enough that a busy watch need not wait, few enough that a client
/// that does not read takes little of the node's memory.
const CREDIT: u32 = 4;
/// Watches on one stream, at most. A guess: far more than a client library opens on one connection.
const WATCHES_MAX: usize = 16_384;
/// Updates that may wait: for each watch its credit, its beginning and its end, and as many again for watches that were
/// lost and begun again. Unused room takes no memory.
const UPDATES_MAX: usize = WATCHES_MAX * 2 * (CREDIT as usize + 2);
/// Bytes of an answer for which one of the places for waiting answers stands. A guess: [`ANSWERS_MAX`] of them fill a frame
/// several times.
const SLOT_BYTES: usize = 16 << 10;
/// How often the clients that asked for it get the progress of their watches, as in etcd.
const NOTIFIED: Duration = Duration::from_secs(10 * 60);
/// How long a lost watch waits before it is begun again.
const LOST: Duration = Duration::from_millis(200);
/// How often in a row a lost watch is begun again before the stream ends: with [`LOST`] seven seconds, etcd's deadline
/// of a request.
const LOST_MAX: u32 = 35;

/// The watches of a stream.
struct Watches {
    keyspace: Keyspace,
    client: Client,
    sender: WatchUpdates,
    watchers: BTreeMap<i64, Watcher>,
    numbers: BTreeMap<WatchId, i64>,
    next_number: i64,
    /// The watch whose creation was not confirmed yet. Clients rely on the order of these answers being that of their
    /// requests.
    creating: Option<i64>,
    progress: Progress,
    /// The highest revision of an answer with events or progress. No progress is below it.
    sent: Revision,
    /// Watches to begin again.
    lost: Vec<i64>,
    resume_at: Option<Instant>,
}

/// Why a stream ends.
enum End {
    /// The client has disconnected.
    Gone,
    Failed(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

type Client = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// Serves the stream to its end, and ends its watches. If it `needs_leader`, it ends with an error when the group has
/// lost its leader.
pub async fn serve(
    keyspace: Keyspace,
    client: Client,
    mut requests: Streaming<pb::WatchRequest>,
    needs_leader: bool,
) {
    let (sender, mut updates) = mpsc::channel(UPDATES_MAX);
    let leader = keyspace.clone();
    let mut lost_leader = std::pin::pin!(async {
        if needs_leader { leader.lost_leader().await } else { std::future::pending().await }
    });
    let mut over = keyspace.caller().over();
    let mut watches = Watches::new(keyspace, client.clone(), sender);
    let mut notified = tokio::time::interval_at(Instant::now() + NOTIFIED, NOTIFIED);
    let ended = loop {
        let step = tokio::select! {
            request = requests.next(), if watches.creating.is_none() => match request {
                Some(Ok(request)) => watches.on_request(request).await,
                Some(Err(_)) | None => Err(End::Gone),
            },
            Some((id, update)) = updates.recv() => watches.on_update(id, update).await,
            () = at(watches.resume_at) => watches.resume().await,
            _ = notified.tick() => watches.notify().await,
            () = client.closed() => Err(End::Gone),
            () = &mut over => Err(End::Failed(Status::unauthenticated(failure::INVALID_TOKEN))),
            () = &mut lost_leader => Err(End::Failed(Status::unavailable(failure::NO_LEADER))),
        };
        if let Err(ended) = step {
            break ended;
        }
    };
    if let End::Failed(status) = ended {
        // A disconnected client gets no error.
        drop(client.send(Err(status)).await);
    }
    watches.end().await;
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

impl Watches {
    fn new(keyspace: Keyspace, client: Client, sender: WatchUpdates) -> Self {
        Self {
            keyspace,
            client,
            sender,
            watchers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next_number: 0,
            creating: None,
            progress: Progress::default(),
            sent: 0,
            lost: Vec::new(),
            resume_at: None,
        }
    }

    async fn end(self) {
        // A stopped node has no watches.
        drop(self.keyspace.end_watches(self.numbers.into_keys().collect()).await);
    }

    async fn on_request(&mut self, request: pb::WatchRequest) -> Result<(), End> {
        use pb::watch_request::RequestUnion;
        match request.request_union {
            Some(RequestUnion::CreateRequest(asked)) => self.create(asked).await,
            Some(RequestUnion::CancelRequest(asked)) => self.cancel(asked.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => self.ask_progress().await,
            None => Ok(()),
        }
    }

    async fn create(&mut self, asked: pb::WatchCreateRequest) -> Result<(), End> {
        let chosen = asked.watch_id;
        if chosen != 0 && self.watchers.contains_key(&chosen) {
            return self.refuse("mvcc: duplicate watch ID provided on the WatchStream").await;
        }
        if self.watchers.len() >= WATCHES_MAX {
            return self.refuse("starling: too many watches on one stream").await;
        }
        let Some(mut watcher) = Watcher::parse(asked) else {
            return self.refuse("mvcc: watcher range is empty").await;
        };
        if !self.keyspace.may_watch(&watcher.watch()) {
            return self.refuse(failure::PERMISSION_DENIED).await;
        }
        match self.keyspace.caller().watch_place() {
            Ok(place) => watcher.place = place,
            Err(error) => return self.refuse(&format!("starling: {}", error.message)).await,
        }
        if chosen == 0 {
            watcher.number = self.draw_number();
        }
        self.creating = Some(watcher.number);
        self.begin(watcher).await
    }

    fn draw_number(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_number) {
            self.next_number += 1;
        }
        self.next_number += 1;
        self.next_number - 1
    }

    async fn begin(&mut self, watcher: Watcher) -> Result<(), End> {
        self.keyspace.watch(watcher.id, watcher.watch(), CREDIT, self.sender.clone()).await?;
        self.numbers.insert(watcher.id, watcher.number);
        self.watchers.insert(watcher.number, watcher);
        Ok(())
    }

    /// Rejects a watch: the answer both creates and cancels it.
    async fn refuse(&mut self, reason: &str) -> Result<(), End> {
        let revision = self.keyspace.status().await?.revision;
        let mut answer = self.answer(-1, revision);
        answer.created = true;
        answer.canceled = true;
        reason.clone_into(&mut answer.cancel_reason);
        self.send(answer).await
    }

    /// Cancels a watch; one that does not exist is ignored, as in etcd.
    async fn cancel(&mut self, number: i64) -> Result<(), End> {
        let Some(watcher) = self.forget(number) else { return Ok(()) };
        self.keyspace.end_watches(vec![watcher.id]).await?;
        let revision = self.keyspace.status().await?.revision;
        let mut answer = self.answer(number, revision);
        answer.canceled = true;
        self.send(answer).await?;
        let step = self.progress.gone(number);
        self.on_progress(step).await
    }

    fn forget(&mut self, number: i64) -> Option<Watcher> {
        let watcher = self.watchers.remove(&number)?;
        self.numbers.remove(&watcher.id);
        self.lost.retain(|lost| *lost != number);
        Some(watcher)
    }

    async fn ask_progress(&mut self) -> Result<(), End> {
        if self.watchers.is_empty() {
            self.sent = self.sent.max(self.keyspace.status().await?.revision);
            let answer = self.answer(-1, self.sent);
            return self.send(answer).await;
        }
        if self.progress.ask(self.watchers.keys().copied()) {
            // A lost watch is asked after it has begun again.
            for watcher in self.watchers.values().filter(|watcher| self.numbers.contains_key(&watcher.id)) {
                self.keyspace.request_progress(watcher.id).await?;
            }
        }
        Ok(())
    }

    /// Requests the progress of the watches whose clients asked to be notified of it.
    async fn notify(&mut self) -> Result<(), End> {
        let notified = self.watchers.values().filter(|watcher| watcher.notify);
        for watcher in notified.filter(|watcher| self.numbers.contains_key(&watcher.id)) {
            self.keyspace.request_progress(watcher.id).await?;
        }
        Ok(())
    }

    async fn on_progress(&mut self, step: Step) -> Result<(), End> {
        let Step::Answer { revision, again } = step else { return Ok(()) };
        if revision == Revision::MAX || revision < self.sent {
            // All watches that were asked have ended by now, or one of them has got events since another one was asked.
            return Box::pin(self.ask_progress()).await;
        }
        self.sent = revision;
        let answer = self.answer(-1, revision);
        self.send(answer).await?;
        if again { Box::pin(self.ask_progress()).await } else { Ok(()) }
    }

    async fn on_update(&mut self, id: WatchId, update: WatchUpdate) -> Result<(), End> {
        // Updates that arrive after a watch was cancelled are dropped.
        let Some(&number) = self.numbers.get(&id) else { return Ok(()) };
        let is_large = update.is_large();
        match update {
            WatchUpdate::Created { revision } => self.on_created(number, revision).await,
            WatchUpdate::Events { revision, events } => {
                self.on_events(number, revision, events).await?;
                self.ask_more(number, is_large).await
            }
            WatchUpdate::Progress { revision } => {
                self.on_reached(number, revision).await?;
                self.ask_more(number, false).await
            }
            WatchUpdate::Compacted { oldest } => self.on_compacted(number, oldest).await,
            WatchUpdate::Lost { .. } => self.on_lost(number),
        }
    }

    /// Grants a watch further updates after its client has received some.
    async fn ask_more(&mut self, number: i64, at_once: bool) -> Result<(), End> {
        let Some(watcher) = self.watchers.get_mut(&number) else { return Ok(()) };
        watcher.taken += 1;
        if watcher.taken < CREDIT / 2 && !at_once {
            return Ok(());
        }
        let credit = std::mem::take(&mut watcher.taken);
        Ok(self.keyspace.allow(watcher.id, credit).await?)
    }

    async fn on_created(&mut self, number: i64, revision: Revision) -> Result<(), End> {
        let Some(watcher) = self.watchers.get_mut(&number) else { return Ok(()) };
        watcher.lost = 0;
        if watcher.next == 0 {
            watcher.next = revision + 1;
        }
        let (id, named) = (watcher.id, watcher.named);
        if self.creating.take_if(|creating| *creating == number).is_some() {
            // The header has the keyspace's revision, and a watch may begin at another one.
            let revision = if named == 0 { revision } else { self.keyspace.status().await?.revision };
            let mut answer = self.answer(number, revision);
            answer.created = true;
            self.send(answer).await?;
        }
        if self.progress.waits_for(number) {
            self.keyspace.request_progress(id).await?;
        }
        Ok(())
    }

    async fn on_events(&mut self, number: i64, revision: Revision, changes: Vec<Event>) -> Result<(), End> {
        let Some(watcher) = self.watchers.get_mut(&number) else { return Ok(()) };
        watcher.next = revision + 1;
        if watcher.is_mute() {
            return Ok(());
        }
        self.sent = self.sent.max(revision);
        let fragment = watcher.fragment;
        let mut answer = self.answer(number, revision);
        answer.events = events(changes);
        if !fragment {
            return self.send(answer).await;
        }
        for part in split(answer) {
            self.send(part).await?;
        }
        Ok(())
    }

    async fn on_reached(&mut self, number: i64, revision: Revision) -> Result<(), End> {
        let Some(watcher) = self.watchers.get_mut(&number) else { return Ok(()) };
        watcher.next = watcher.next.max(revision + 1);
        if self.progress.waits_for(number) {
            let step = self.progress.reached(number, revision);
            return self.on_progress(step).await;
        }
        if watcher.notify {
            self.sent = self.sent.max(revision);
            let answer = self.answer(number, revision);
            self.send(answer).await?;
        }
        Ok(())
    }

    async fn on_compacted(&mut self, number: i64, oldest: Revision) -> Result<(), End> {
        self.forget(number);
        let revision = self.keyspace.status().await?.revision;
        let mut answer = self.answer(number, revision);
        if self.creating.take_if(|creating| *creating == number).is_some() {
            answer.created = true;
            self.send(answer.clone()).await?;
            answer.created = false;
        }
        answer.canceled = true;
        answer.compact_revision = wire(oldest);
        self.send(answer).await?;
        let step = self.progress.gone(number);
        self.on_progress(step).await
    }

    /// Begins a lost watch again after the last event that was sent, without the client's notice.
    fn on_lost(&mut self, number: i64) -> Result<(), End> {
        let Some(watcher) = self.watchers.get_mut(&number) else { return Ok(()) };
        self.numbers.remove(&watcher.id);
        watcher.lost += 1;
        if watcher.lost > LOST_MAX {
            return Err(End::Failed(Status::unavailable(failure::NO_LEADER)));
        }
        self.lost.push(number);
        self.resume_at.get_or_insert_with(|| Instant::now() + LOST);
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), End> {
        self.resume_at = None;
        for number in std::mem::take(&mut self.lost) {
            if let Some(mut watcher) = self.watchers.remove(&number) {
                watcher.id = WatchId::fresh();
                watcher.taken = 0;
                self.begin(watcher).await?;
            }
        }
        Ok(())
    }

    fn answer(&self, number: i64, revision: Revision) -> pb::WatchResponse {
        let header = self.keyspace.header(revision);
        pb::WatchResponse { header, watch_id: number, ..pb::WatchResponse::default() }
    }

    async fn send(&mut self, answer: pb::WatchResponse) -> Result<(), End> {
        // A large answer waits until the others were sent, so that a client that does not read takes little memory.
        let slots = (1 + answer.encoded_len() / SLOT_BYTES).min(ANSWERS_MAX);
        let mut room = self.client.reserve_many(slots).await.map_err(|_| End::Gone)?;
        if let Some(slot) = room.next() {
            slot.send(Ok(answer));
        }
        Ok(())
    }
}

//! The watches of one stream. They share one way for updates, so that a client who is slow to read
//! slows its own watches and nobody else's.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use starling_etcd_proto::etcdserverpb as pb;
use starling_strong::api::{Event, Revision, WatchUpdate};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::progress::{Progress, Step};
use super::split::split;
use super::watcher::Watcher;
use crate::convert::{events, wire};
use crate::failure;
use crate::keyspace::Keyspace;
use starling_service::{WatchId, WatchUpdates};

/// Updates that a watch asks for at once. A guess: enough that a busy watch need not wait for more, few
/// enough that a client who does not read holds little of the node's memory.
const CREDIT: u32 = 4;
/// Watches on one stream. A guess: what a client library puts on one connection, many times over.
const WATCHES_MAX: usize = 16_384;
/// Updates that may wait: of every watch its credit, that it stands, and that it has ended; and as many
/// again of those that were lost and have begun again. Room that nobody uses costs nothing.
const UPDATES_MAX: usize = WATCHES_MAX * 2 * (CREDIT as usize + 2);
/// A watch that was lost is begun again after so long, ...
const LOST: Duration = Duration::from_millis(200);
/// ... so many times in a row, before the stream is ended: together the time etcd gives to a request.
const LOST_MAX: u32 = 35;

/// What is known of them.
struct Watches {
    keyspace: Keyspace,
    client: Client,
    sender: WatchUpdates,
    watchers: BTreeMap<i64, Watcher>,
    numbers: BTreeMap<WatchId, i64>,
    next_number: i64,
    /// The watch that its client does not know to stand. Clients count on the answers coming in the
    /// order of their requests.
    creating: Option<i64>,
    progress: Progress,
    /// Watches to begin again.
    lost: Vec<i64>,
    resume_at: Option<Instant>,
}

/// Why a stream ends.
enum End {
    /// The client has gone.
    Gone,
    Failed(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

type Client = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// Serves the stream to its end, and ends its watches.
pub async fn serve(keyspace: Keyspace, client: Client, mut requests: Streaming<pb::WatchRequest>) {
    let (sender, mut updates) = mpsc::channel(UPDATES_MAX);
    let mut watches = Watches::new(keyspace, client.clone(), sender);
    let ended = loop {
        let step = tokio::select! {
            request = requests.next(), if watches.creating.is_none() => match request {
                Some(Ok(request)) => watches.on_request(request).await,
                Some(Err(_)) | None => Err(End::Gone),
            },
            Some((id, update)) = updates.recv() => watches.on_update(id, update).await,
            () = at(watches.resume_at) => watches.resume().await,
            () = client.closed() => Err(End::Gone),
        };
        if let Err(ended) = step {
            break ended;
        }
    };
    if let End::Failed(status) = ended {
        // A client who has gone needs no error.
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
            lost: Vec::new(),
            resume_at: None,
        }
    }

    async fn end(self) {
        for id in self.numbers.into_keys() {
            // A node that has gone keeps no watches.
            drop(self.keyspace.end_watch(id).await);
        }
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

    /// A watch that is none: created and cancelled in one.
    async fn refuse(&mut self, reason: &str) -> Result<(), End> {
        let revision = self.keyspace.status().await?.revision;
        let mut answer = self.answer(-1, revision);
        answer.created = true;
        answer.canceled = true;
        reason.clone_into(&mut answer.cancel_reason);
        self.send(answer).await
    }

    /// A watch that does not exist is cancelled without a word, as in etcd.
    async fn cancel(&mut self, number: i64) -> Result<(), End> {
        let Some(watcher) = self.forget(number) else { return Ok(()) };
        self.keyspace.end_watch(watcher.id).await?;
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
            let revision = self.keyspace.status().await?.revision;
            let answer = self.answer(-1, revision);
            return self.send(answer).await;
        }
        if self.progress.ask(self.watchers.keys().copied()) {
            // One that is lost is asked when it stands again.
            for watcher in self.watchers.values().filter(|watcher| self.numbers.contains_key(&watcher.id)) {
                self.keyspace.request_progress(watcher.id).await?;
            }
        }
        Ok(())
    }

    async fn on_progress(&mut self, step: Step) -> Result<(), End> {
        let Step::Tell { revision, again } = step else { return Ok(()) };
        if revision != Revision::MAX {
            let answer = self.answer(-1, revision);
            self.send(answer).await?;
        } else if !again {
            // All watches that were asked have ended.
            return Box::pin(self.ask_progress()).await;
        }
        if again { Box::pin(self.ask_progress()).await } else { Ok(()) }
    }

    async fn on_update(&mut self, id: WatchId, update: WatchUpdate) -> Result<(), End> {
        // What comes late, after a watch was cancelled, is for nobody.
        let Some(&number) = self.numbers.get(&id) else { return Ok(()) };
        match update {
            WatchUpdate::Created { revision } => self.on_created(number, revision).await,
            WatchUpdate::Events { revision, events } => {
                self.on_events(number, revision, events).await?;
                self.ask_more(number).await
            }
            WatchUpdate::Progress { revision } => {
                self.on_told(number, revision).await?;
                self.ask_more(number).await
            }
            WatchUpdate::Compacted { oldest } => self.on_compacted(number, oldest).await,
            WatchUpdate::Lost { .. } => self.on_lost(number),
        }
    }

    /// The client has taken an update.
    async fn ask_more(&mut self, number: i64) -> Result<(), End> {
        let Some(watcher) = self.watchers.get_mut(&number) else { return Ok(()) };
        watcher.taken += 1;
        if watcher.taken < CREDIT / 2 {
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
            // The header tells the keyspace's revision, and a watch may begin anywhere.
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

    async fn on_told(&mut self, number: i64, revision: Revision) -> Result<(), End> {
        let Some(watcher) = self.watchers.get_mut(&number) else { return Ok(()) };
        watcher.next = watcher.next.max(revision + 1);
        if self.progress.waits_for(number) {
            let step = self.progress.told(number, revision);
            return self.on_progress(step).await;
        }
        if watcher.notify {
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

    /// The client does not notice: the watch goes on behind what it has been told.
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
        self.client.send(Ok(answer)).await.map_err(|_| End::Gone)
    }
}

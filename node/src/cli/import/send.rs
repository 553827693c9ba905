//! Sending records in groups, each applied as a whole or refused as a whole. The record that a group is refused for is
//! found by halving the group, so that all records before it are in, and none behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use starling_api::strong::{Put, Txn, TxnOp, Write as StrongWrite};
use starling_api::{Batch, Error, ErrorCode, Op, Retry, Write};
use starling_client::{Keyspace, Named, WriteFailed};

use super::super::Session;
use super::super::failure::Failure;
use super::super::print::{self, Result};
use super::args::ImportArgs;
use super::missing::{Missing, check_again, count_existing, count_strong, put_if_absent};
use super::records::{Bad, Item, StrongKey};
use super::{named, sizes};

/// Writes to eventual keyspaces in one request, at most. Estimated: some milliseconds of a node's time.
const BATCH_WRITES: usize = 500;
/// Puts in one transaction of a strong keyspace, at most: etcd's default bound of a transaction.
const TXN_PUTS: usize = 128;
/// A request is sent when its keys and values reach this, bytes. Half of the smallest limit of a request.
const GROUP_BYTES: usize = 512 << 10;
/// How long a group is sent again to a strong keyspace that has no leader for the moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a record takes to be sent.
pub(super) enum Request {
    Eventual(Vec<Write>),
    Put(Put),
    Single(StrongWrite),
}

struct Queued {
    number: u64,
    line: u64,
    request: Request,
    bytes: usize,
}

/// Records that are sent together.
#[derive(Default)]
struct Group {
    queued: Vec<Queued>,
    writes: usize,
    bytes: usize,
    /// Keys of puts: a transaction of a strong keyspace writes each once.
    keys: BTreeSet<Vec<u8>>,
}

impl Group {
    fn fits(&self, queued: &Queued) -> bool {
        let has_room = |writes_max| self.writes < writes_max && self.bytes + queued.bytes <= GROUP_BYTES;
        match (&queued.request, self.queued.last().map(|queued| &queued.request)) {
            (_, None) => true,
            (Request::Single(_), _) | (_, Some(Request::Single(_))) => false,
            (Request::Put(put), _) => has_room(TXN_PUTS) && !self.keys.contains(&put.key),
            (Request::Eventual(_), _) => has_room(BATCH_WRITES),
        }
    }

    fn push(&mut self, queued: Queued) {
        self.writes += queued.writes();
        self.bytes += queued.bytes;
        if let Request::Put(put) = &queued.request {
            self.keys.insert(put.key.clone());
        }
        self.queued.push(queued);
    }
}

/// The result of an import.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Records imported.
    pub records: u64,
    /// Records left out because they were refused.
    pub skipped: u64,
    /// Records left out because their key exists.
    pub existing: u64,
    /// Records left out because their lease has ended since.
    ended: u64,
}

impl Done {
    /// A failure where anything was left out.
    pub fn result(self, args: &ImportArgs) -> Result {
        if self.ended > 0 {
            let keys = print::count(self.ended, "key");
            print::note(format!("left out because their leases have ended since: {keys}"));
        }
        if self.skipped == 0 {
            return Ok(());
        }
        let skipped = print::count(self.skipped, "record");
        if args.dry_run {
            let hint = "their numbers are above; correct them, or import the others with --skip-bad";
            return Err(Failure::failed(format!("the import would refuse {skipped}"), hint));
        }
        let hint = format!(
            "their numbers are above; put them into a file of their own, correct them, and import that \
             ({} stays as it is)",
            args.file.display()
        );
        let verb = if self.skipped == 1 { "was" } else { "were" };
        Err(Failure::failed(format!("{skipped} {verb} left out"), hint))
    }
}

/// An import in progress.
pub struct Importer<'s> {
    session: &'s Session,
    skip_bad: bool,
    dry_run: bool,
    /// Set if only records are written whose key does not exist.
    missing: Option<Missing>,
    /// Whether a keyspace is strong, of those that were asked for.
    strong: BTreeMap<String, bool>,
    /// The strong keyspace of the group; `None`: eventual ones.
    target: Option<String>,
    group: Group,
    /// Leases that this import has granted.
    granted: BTreeSet<i64>,
    done: Done,
}

impl<'s> Importer<'s> {
    pub fn new(session: &'s Session, args: &ImportArgs) -> Self {
        Self {
            session,
            skip_bad: args.skip_bad || args.dry_run,
            dry_run: args.dry_run,
            missing: args.only_missing.then(Missing::default),
            strong: BTreeMap::new(),
            target: None,
            group: Group::default(),
            granted: BTreeSet::new(),
            done: Done::default(),
        }
    }

    /// Adds a record to the group, which is sent before if the record does not fit into it.
    pub async fn add(&mut self, number: u64, line: u64, item: Item) -> Result {
        let keyspace = match &item {
            Item::Writes(writes) if writes.is_empty() => {
                self.done.records += 1;
                return Ok(());
            }
            Item::Writes(writes) => writes[0].keyspace.clone(),
            Item::Key(StrongKey { keyspace, .. }) | Item::Lease { keyspace, .. } => keyspace.clone(),
        };
        let is_strong = self.is_strong(&keyspace).await?;
        let request = match request(item, is_strong) {
            Ok(request) => request,
            Err((reason, hint)) => {
                return self.bad_record(number, &Bad::new(line, reason).with_hint(hint)).await;
            }
        };
        if self.dry_run
            && let Err(reason) = sizes::check(&request, self.missing.is_some())
        {
            return self.bad_record(number, &Bad::new(line, reason)).await;
        }
        let queued = Queued { number, line, bytes: bytes(&request), request };
        let target = is_strong.then_some(keyspace);
        if target != self.target || !self.group.fits(&queued) {
            self.flush().await?;
            self.target = target;
        }
        self.group.push(queued);
        Ok(())
    }

    /// Handles a record that cannot be read: sends what was before it, and fails unless such records are left out.
    pub async fn bad_record(&mut self, number: u64, bad: &Bad) -> Result {
        self.flush().await?;
        self.refuse(number, named(&format!("record {number}"), bad), bad.is_fatal)
    }

    /// Sends what is left.
    pub async fn finish(mut self) -> std::result::Result<Done, Failure> {
        self.flush().await?;
        Ok(self.done)
    }

    fn refuse(&mut self, number: u64, failure: Failure, is_fatal: bool) -> Result {
        if self.skip_bad && !is_fatal {
            print::note(&failure.message);
            self.done.skipped += 1;
            return Ok(());
        }
        Err(with_way_on(failure, number))
    }

    async fn is_strong(&mut self, keyspace: &str) -> std::result::Result<bool, Failure> {
        if let Some(known) = self.strong.get(keyspace) {
            return Ok(*known);
        }
        let found = self.session.client.keyspaces().await?.keyspaces;
        let is_strong = found.iter().any(|found| found.name == keyspace && found.kind != "eventual");
        self.strong.insert(keyspace.to_owned(), is_strong);
        Ok(is_strong)
    }

    async fn flush(&mut self) -> Result {
        let queued = std::mem::take(&mut self.group).queued;
        let mut parts = vec![self.leave_out_existing(queued).await?];
        while let Some(mut part) = parts.pop() {
            let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
            let (first, last) = (first.number, last.number);
            match self.send(&part).await {
                Ok(existing) => {
                    self.done.records += part.len() as u64 - existing;
                    self.done.existing += existing;
                }
                Err(error) if !is_refusal(error.error.code) => return Err(stopped(first, last, error)),
                // It was written after it was looked up.
                Err(error) if part.len() == 1 && error.error.code == ErrorCode::VersionMismatch => {
                    self.done.existing += 1;
                }
                Err(error) if part.len() == 1 => {
                    if self.has_ended(&part[0], &error.error) {
                        self.done.ended += 1;
                        continue;
                    }
                    let failure = of_record(first, part[0].line, error.error);
                    self.refuse(first, failure, false)?;
                }
                Err(_) => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
            }
        }
        Ok(())
    }

    /// Of records for eventual keyspaces those that are to be written.
    async fn leave_out_existing(
        &mut self,
        mut queued: Vec<Queued>,
    ) -> std::result::Result<Vec<Queued>, Failure> {
        let Some(missing) = self.missing.as_mut().filter(|_| self.target.is_none()) else {
            return Ok(queued);
        };
        let records: Vec<&[Write]> = queued.iter().map(Queued::eventual).collect();
        let mut is_missing = missing.of(&self.session.client, &records).await?.into_iter();
        let before = queued.len();
        queued.retain_mut(|record| {
            if let Request::Eventual(writes) = &mut record.request {
                check_again(writes);
            }
            is_missing.next().unwrap_or(true)
        });
        self.done.existing += (before - queued.len()) as u64;
        Ok(queued)
    }

    /// Whether a key is refused because its lease, which this import granted, has ended meanwhile.
    fn has_ended(&self, queued: &Queued, error: &Error) -> bool {
        let lease = match &queued.request {
            Request::Put(put) => put.lease.unwrap_or(0),
            Request::Single(StrongWrite::PutSequential { lease, .. }) => *lease,
            Request::Single(_) | Request::Eventual(_) => 0,
        };
        error.code == ErrorCode::NotFound && self.granted.contains(&lease)
    }

    /// Sends records. Returns how many of them were not written because their key exists. With `--dry-run` it only looks
    /// these up.
    async fn send(&mut self, group: &[Queued]) -> std::result::Result<u64, WriteFailed> {
        let client = &self.session.client;
        if self.dry_run {
            let (Some(keyspace), Some(_)) = (&self.target, &self.missing) else { return Ok(0) };
            let puts = group.iter().filter_map(Queued::put);
            return Ok(count_strong(client, keyspace, puts.map(|put| put.key.clone())).await?);
        }
        let Some(keyspace) = &self.target else {
            let batch = Batch { writes: group.iter().flat_map(Queued::eventual).cloned().collect() };
            client.batch(&batch).await?;
            return Ok(0);
        };
        let write = match &group[0].request {
            Request::Single(write) => write.clone(),
            Request::Put(_) | Request::Eventual(_) => {
                strong_puts(group.iter().filter_map(Queued::put), self.missing.is_some())
            }
        };
        let named = Named { patience: PATIENCE, ..Named::default() };
        let granting = if let StrongWrite::LeaseGrant { id, .. } = &write { Some(*id) } else { None };
        match Keyspace::new(client.clone(), keyspace.clone()).write(write, &named).await {
            // The lease exists.
            Err(failed) if granting.is_some() && failed.error.code == ErrorCode::Conflict => Ok(0),
            Err(failed) => Err(failed),
            Ok(answer) => {
                self.granted.extend(granting);
                Ok(count_existing(&answer.body))
            }
        }
    }
}

impl Queued {
    /// The writes to an eventual keyspace.
    fn eventual(&self) -> &[Write] {
        match &self.request {
            Request::Eventual(writes) => writes,
            Request::Put(_) | Request::Single(_) => &[],
        }
    }

    /// The put to a strong keyspace.
    fn put(&self) -> Option<&Put> {
        if let Request::Put(put) = &self.request { Some(put) } else { None }
    }

    fn writes(&self) -> usize {
        if let Request::Eventual(writes) = &self.request { writes.len() } else { 1 }
    }
}

/// One write of these puts to a strong keyspace; `only_missing`: of each only if its key does not exist.
pub(super) fn strong_puts<'p>(puts: impl Iterator<Item = &'p Put>, only_missing: bool) -> StrongWrite {
    let op = |put: &Put| if only_missing { put_if_absent(put.clone()) } else { TxnOp::Put(put.clone()) };
    StrongWrite::Txn(Txn { then: puts.map(op).collect(), ..Txn::default() })
}

/// The bytes of keys, values and field names.
fn bytes(request: &Request) -> usize {
    match request {
        Request::Eventual(writes) => writes.iter().map(Write::payload_bytes).sum(),
        Request::Put(put) => put.key.len() + put.value.as_ref().map_or(0, Vec::len),
        Request::Single(_) => 0,
    }
}

/// What a record takes in a keyspace of this kind, or why it does not fit there, and what to do.
fn request(item: Item, is_strong: bool) -> std::result::Result<Request, (String, String)> {
    match item {
        Item::Writes(writes) if !is_strong => Ok(Request::Eventual(writes)),
        Item::Writes(mut writes) => match writes.pop() {
            Some(Write { key, op: Op::Put { value }, ttl_ms: None, check: None, .. })
                if writes.is_empty() =>
            {
                Ok(Request::Put(Put::new(key, value.to_vec())))
            }
            _ => Err((
                "a strong keyspace holds plain values only, which live as long as their lease".into(),
                "import into an eventual keyspace: -k names one".into(),
            )),
        },
        Item::Key(StrongKey { keyspace, .. }) | Item::Lease { keyspace, .. } if !is_strong => Err((
            format!("it comes from a strong keyspace, and {keyspace} is not one"),
            format!("`starling keyspace create {keyspace} --strong` makes one; -k names another"),
        )),
        Item::Key(StrongKey { key, value, lease, sequential: false, .. }) => {
            Ok(Request::Put(Put { lease: Some(lease), ..Put::new(key, value) }))
        }
        Item::Key(StrongKey { key: prefix, value, lease, .. }) => {
            Ok(Request::Single(StrongWrite::PutSequential { prefix, value, lease }))
        }
        Item::Lease { id, ttl_ms, .. } => Ok(Request::Single(StrongWrite::LeaseGrant { id, ttl_ms })),
    }
}

/// Whether the node has judged the contents of the records. Otherwise all records behind would fail, too.
fn is_refusal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Invalid
            | ErrorCode::TooLarge
            | ErrorCode::NotFound
            | ErrorCode::TypeMismatch
            | ErrorCode::VersionMismatch
            | ErrorCode::OtherKeyspace
            | ErrorCode::Conflict
            | ErrorCode::Unsendable
    )
}

/// The failure of a group that says nothing about its records.
fn stopped(first: u64, last: u64, failed: WriteFailed) -> Failure {
    let maybe = failed.maybe_applied.is_some() || failed.error.retry() == Retry::IfIdempotent;
    let mut failure = Failure::from(failed.error);
    let (outcome, again) = if maybe {
        let again = "; importing records again is safe for all but counters and items of queues";
        ("may or may not have been imported", again)
    } else {
        (if first == last { "was not imported" } else { "were not imported" }, "")
    };
    let records =
        if first == last { format!("record {first}") } else { format!("records {first} to {last}") };
    failure.message = format!("{records} {outcome}: {}", failure.message);
    failure.hint = format!("{}; go on with --from {first}{again}", failure.hint);
    failure
}

/// The failure of a record that the node has refused.
fn of_record(number: u64, line: u64, error: Error) -> Failure {
    let mut failure = Failure::from(error);
    failure.message = format!("record {number}: {} (line {line})", failure.message);
    failure
}

/// Adds how to go on at a record.
fn with_way_on(mut failure: Failure, number: u64) -> Failure {
    failure.hint = format!(
        "{}; all records before it are imported and none behind it: go on with --from {number}, or leave such records \
         out with --skip-bad",
        failure.hint
    );
    failure
}

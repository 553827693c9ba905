//! The store as the replica of anti-entropy sessions.

use bytes::Bytes;
use starling_kv as kv;
use starling_kv::{Change, Engine, Joined, Store};
use starling_proto::message::{ActorSummary, Leaf, Root, Span};
use starling_proto::sync::{JoinReport, Part, Replica, ReplicaError};
use starling_proto::{ActorGroup, DotRange, DotRanges};

/// A store during one call, with the changes that its joins made.
pub struct StoreReplica<'a, E: Engine> {
    pub store: &'a mut Store<E>,
    pub wall_ms: u64,
    /// Collected for [`crate::Output::Changed`].
    pub changes: Vec<Change>,
    /// The last failure of the storage engine.
    pub failure: Option<String>,
}

impl<'a, E: Engine> StoreReplica<'a, E> {
    pub fn new(store: &'a mut Store<E>, wall_ms: u64) -> Self {
        Self { store, wall_ms, changes: Vec::new(), failure: None }
    }

    fn report(&mut self, joined: Joined) -> JoinReport {
        self.changes.extend(joined.changes);
        JoinReport {
            changed: joined.changed,
            entries: joined.entries,
            suspects: joined.suspects,
            withheld: joined.withheld,
        }
    }

    fn failed(&mut self, error: &kv::Error) -> ReplicaError {
        if matches!(error, kv::Error::Malformed(_)) {
            return ReplicaError::Malformed;
        }
        self.failure = Some(error.to_string());
        ReplicaError::Storage
    }
}

// A row that cannot be read makes a hash or a leaf empty. The ranges then differ, and their exchange reads the row
// again, where the failure is reported.
impl<E: Engine> Replica for StoreReplica<'_, E> {
    fn root(&self) -> Option<Root> {
        self.store.root()
    }

    fn actor_count(&self, group: ActorGroup) -> u64 {
        self.store.actors_in(group)
    }

    fn actors(&self, group: ActorGroup, salt: u64) -> Vec<ActorSummary> {
        let summary = |(actor, max, hash)| ActorSummary { actor, max, hash };
        self.store.actors_of(group, salt).into_iter().map(summary).collect()
    }

    fn digests(&self, group: ActorGroup, salt: u64) -> Vec<(ActorGroup, u64)> {
        self.store.digests(group, salt)
    }

    fn groups(&self, salt: u64) -> Vec<(u8, u64)> {
        self.store.group_hashes(salt)
    }

    fn child_hashes(&self, span: &Span, salt: u64) -> Vec<u32> {
        self.store.child_hashes(span.actor, span.limit, span.level, span.index, salt).unwrap_or_default()
    }

    fn leaf(&self, span: &Span, salt: u64) -> Leaf {
        let leaf = self.store.leaf(span.actor, span.limit, span.index, salt);
        leaf.map_or(Leaf { span: *span, seen: 0, live: 0, hashes: Vec::new() }, |leaf| Leaf {
            span: *span,
            seen: leaf.seen,
            live: leaf.live,
            hashes: leaf.hashes,
        })
    }

    fn missing(&self, range: &DotRange, count_max: usize) -> Vec<DotRange> {
        let mut missing = self.store.missing(&[*range]);
        missing.truncate(count_max);
        missing
    }

    fn gaps(&self, count_max: usize) -> Vec<DotRange> {
        self.store.gaps(count_max)
    }

    fn delta(&self, ranges: &[DotRange], bytes_max: usize) -> Result<(Bytes, Vec<DotRange>), ReplicaError> {
        self.store.restrict(ranges, bytes_max).map_err(|_| ReplicaError::Storage)
    }

    fn live(&self, ranges: &[DotRange], bytes_max: usize) -> Result<Part, ReplicaError> {
        let part = self.store.restrict_to_live(ranges, bytes_max).map_err(|_| ReplicaError::Storage)?;
        Ok(Part { delta: part.delta, dead: part.dead, rest: part.rest })
    }

    fn deaths(&self, ranges: &[DotRange]) -> Bytes {
        kv::deaths(ranges)
    }

    fn dead_among(&self, ranges: &DotRanges) -> Result<Bytes, ReplicaError> {
        self.store.dead_among(&ranges.0).map_err(|_| ReplicaError::Storage)
    }

    fn join(&mut self, delta: &[u8]) -> Result<JoinReport, ReplicaError> {
        let joined = self.store.join(self.wall_ms, delta).map_err(|error| self.failed(&error))?;
        Ok(self.report(joined))
    }

    fn join_part(&mut self, delta: &[u8], withheld_max: usize) -> Result<JoinReport, ReplicaError> {
        let joined = self.store.join_part(self.wall_ms, delta, withheld_max);
        let joined = joined.map_err(|error| self.failed(&error))?;
        Ok(self.report(joined))
    }

    fn mark(&self) -> u64 {
        self.store.mark()
    }

    fn seen_since(&self, mark: u64) -> Option<Vec<DotRange>> {
        self.store.seen_since(mark)
    }
}

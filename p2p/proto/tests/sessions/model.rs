//! A replica as a map from dots to {unseen < live < dead}.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use bytes::Bytes;
use starling_proto::message::{ActorSummary, Leaf, Root, SPAN_FANOUT, SPAN_LEAF, Span};
use starling_proto::sync::{JoinReport, Part, Replica, ReplicaError};
use starling_proto::{ActorGroup, ActorId, DotRange, DotRanges};

pub type Dot = (ActorId, u64);

/// A live entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Entry {
    pub place: u32,
    pub content: Vec<u8>,
}

/// `None` is dead; a dot that is absent is unseen.
pub type States = BTreeMap<Dot, Option<Entry>>;

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub states: States,
    pub places: BTreeMap<u32, BTreeSet<Dot>>,
    /// The dots in the order in which they were seen, since the beginning.
    seen: Vec<Dot>,
    /// Fingerprints are being rebuilt.
    pub rootless: bool,
}

impl Model {
    pub fn new(states: States) -> Self {
        let mut places: BTreeMap<u32, BTreeSet<Dot>> = BTreeMap::new();
        for (dot, entry) in &states {
            if let Some(entry) = entry {
                places.entry(entry.place).or_default().insert(*dot);
            }
        }
        Self { states, places, seen: Vec::new(), rootless: false }
    }

    /// A write of this replica: a new dot that supersedes every live one at its place.
    pub fn write(&mut self, actor: ActorId, place: u32, content: Vec<u8>) -> Dot {
        self.write_and_tell(actor, place, content).0
    }

    /// A write, and the rumor of it.
    pub fn write_and_tell(&mut self, actor: ActorId, place: u32, content: Vec<u8>) -> (Dot, Bytes) {
        let dot = (actor, self.max(actor) + 1);
        let mut items = vec![(dot, Some(Entry { place, content }))];
        items.extend(self.places.remove(&place).unwrap_or_default().into_iter().map(|old| (old, None)));
        self.places.insert(place, [dot].into());
        self.seen.push(dot);
        self.states.extend(items.iter().cloned());
        (dot, encode(&items))
    }

    fn max(&self, actor: ActorId) -> u64 {
        self.dots(&DotRange { actor, first: 0, last: u64::MAX }).next_back().map_or(0, |(dot, _)| dot.1)
    }

    fn dots(&self, range: &DotRange) -> impl DoubleEndedIterator<Item = (&Dot, &Option<Entry>)> {
        self.states.range((range.actor, range.first)..=(range.actor, range.last))
    }

    fn hash(&self, salt: u64, range: &DotRange) -> u64 {
        self.dots(range).fold(0, |sum: u64, (dot, entry)| sum.wrapping_add(point(salt, dot, entry.as_ref())))
    }

    fn join_dot(&mut self, (dot, theirs): &(Dot, Option<Entry>), report: &mut JoinReport) {
        let dot = *dot;
        let ours = self.states.get(&dot);
        let joined = join_states(ours, Some(theirs)).cloned();
        if ours == Some(&joined) {
            return;
        }
        let was_live = matches!(ours, Some(Some(_)));
        if let Some(Some(old)) = ours
            && let Some(dots) = self.places.get_mut(&old.place)
        {
            dots.remove(&dot);
        }
        if let Some(entry) = &joined {
            let dots = self.places.entry(entry.place).or_default();
            if !was_live {
                report.entries += 1;
                let older = dots.iter().filter(|dot| self.states[dot].as_ref() < Some(entry));
                report.suspects.extend(older.map(|d| DotRange { actor: d.0, first: d.1, last: d.1 }));
            }
            dots.insert(dot);
        }
        if ours.is_none() {
            self.seen.push(dot);
        }
        report.changed = true;
        self.states.insert(dot, joined);
    }
}

/// The larger of two states of one dot; of two contents the larger.
fn join_states<'a>(a: Option<&'a Option<Entry>>, b: Option<&'a Option<Entry>>) -> Option<&'a Entry> {
    match (a, b) {
        (Some(Some(a)), Some(Some(b))) => Some(a.max(b)),
        (Some(entry), None) | (None, Some(entry)) => entry.as_ref(),
        _ => None,
    }
}

/// What two replicas must both become.
pub fn join_all(a: &States, b: &States) -> States {
    let dots: BTreeSet<Dot> = a.keys().chain(b.keys()).copied().collect();
    dots.into_iter().map(|dot| (dot, join_states(a.get(&dot), b.get(&dot)).cloned())).collect()
}

/// Whether every dot is at least as far along in `later`.
pub fn is_ahead(later: &States, earlier: &States) -> bool {
    join_all(later, earlier) == *later
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn content_hash(salt: u64, entry: &Entry) -> u64 {
    entry.content.iter().fold(mix(salt ^ u64::from(entry.place)), |hash, byte| mix(hash ^ u64::from(*byte)))
}

fn point(salt: u64, dot: &Dot, entry: Option<&Entry>) -> u64 {
    let actor = u128::from_be_bytes(dot.0.0);
    let name = mix(mix(salt ^ actor as u64 ^ (actor >> 64) as u64) ^ dot.1);
    mix(name ^ entry.map_or(1, |entry| content_hash(salt, entry)))
}

fn wide(hash: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&hash.to_be_bytes());
    bytes
}

impl Replica for Model {
    fn root(&self) -> Option<Root> {
        let sum = |live| {
            let entries = self.states.iter().map(move |(dot, e)| point(7, dot, e.as_ref().filter(|_| live)));
            wide(entries.fold(0, u64::wrapping_add))
        };
        (!self.rootless).then(|| Root { context: sum(false), live: sum(true) })
    }

    fn actor_count(&self, group: ActorGroup) -> u64 {
        self.actors(group, 0).len() as u64
    }

    fn actors(&self, group: ActorGroup, salt: u64) -> Vec<ActorSummary> {
        let mut actors = Vec::new();
        let (first, last) = group.ids().into_inner();
        let mut next = self.states.range((first, 0)..).next().map(|(dot, _)| dot.0);
        while let Some(actor) = next.filter(|actor| *actor <= last) {
            let all = DotRange { actor, first: 0, last: u64::MAX };
            actors.push(ActorSummary { actor, max: self.max(actor), hash: self.hash(salt, &all) });
            let after = (std::ops::Bound::Excluded((actor, u64::MAX)), std::ops::Bound::Unbounded);
            next = self.states.range(after).next().map(|(dot, _)| dot.0);
        }
        actors
    }

    fn digests(&self, group: ActorGroup, salt: u64) -> Vec<(ActorGroup, u64)> {
        let mut digests: Vec<(ActorGroup, u64)> = Vec::new();
        for summary in self.actors(group, salt) {
            let part = group.part_of(summary.actor).expect("is divided");
            match digests.last_mut() {
                Some((last, digest)) if *last == part => *digest = digest.wrapping_add(mix(!summary.hash)),
                _ => digests.push((part, mix(!summary.hash))),
            }
        }
        digests
    }

    fn groups(&self, salt: u64) -> Vec<(u8, u64)> {
        let mut groups: BTreeMap<u8, u64> = BTreeMap::new();
        for summary in self.actors(ActorGroup::All, salt) {
            let hash = groups.entry(summary.actor.0[0]).or_default();
            *hash = hash.wrapping_add(mix(summary.hash));
        }
        groups.into_iter().collect()
    }

    fn child_hashes(&self, span: &Span, salt: u64) -> Vec<u32> {
        let width = u128::from(SPAN_LEAF) * u128::from(SPAN_FANOUT).pow(u32::from(span.level) - 1);
        let first = |i: u64| (u128::from(span.index) * u128::from(SPAN_FANOUT) + u128::from(i)) * width;
        let children = (0..SPAN_FANOUT).filter(|i| first(*i) <= u128::from(span.limit));
        children
            .map(|i| {
                let last = (first(i) + width - 1).min(u128::from(span.limit));
                let range = DotRange { actor: span.actor, first: first(i) as u64, last: last as u64 };
                self.hash(salt, &range) as u32
            })
            .collect()
    }

    fn leaf(&self, span: &Span, salt: u64) -> Leaf {
        let first = span.index * SPAN_LEAF;
        let range = DotRange { actor: span.actor, first, last: (first + (SPAN_LEAF - 1)).min(span.limit) };
        let mut leaf = Leaf { span: *span, seen: 0, live: 0, hashes: Vec::new() };
        for (dot, entry) in self.dots(&range) {
            leaf.seen |= 1 << (dot.1 - first);
            if let Some(entry) = entry {
                leaf.live |= 1 << (dot.1 - first);
                leaf.hashes.push(content_hash(salt, entry) as u32);
            }
        }
        leaf
    }

    fn missing(&self, range: &DotRange, count_max: usize) -> Vec<DotRange> {
        let mut missing = Vec::new();
        let mut first = Some(range.first);
        for (dot, _) in self.dots(range) {
            if first.is_some_and(|first| first < dot.1) {
                missing.extend(first.map(|first| DotRange { first, last: dot.1 - 1, ..*range }));
            }
            first = dot.1.checked_add(1);
        }
        if first.is_some_and(|first| first <= range.last) {
            missing.extend(first.map(|first| DotRange { first, ..*range }));
        }
        missing.truncate(count_max);
        missing
    }

    fn gaps(&self, count_max: usize) -> Vec<DotRange> {
        let actors = self.actors(ActorGroup::All, 0);
        let gaps = actors.iter().flat_map(|summary| {
            self.missing(&DotRange { actor: summary.actor, first: 1, last: summary.max }, count_max)
        });
        gaps.take(count_max).collect()
    }

    fn delta(&self, ranges: &[DotRange], bytes_max: usize) -> Result<(Bytes, Vec<DotRange>), ReplicaError> {
        let mut items = Vec::new();
        let mut bytes = 0;
        for (i, range) in ranges.iter().enumerate() {
            for (dot, entry) in self.dots(range) {
                if bytes >= bytes_max {
                    let mut rest = vec![DotRange { first: dot.1, ..*range }];
                    rest.extend_from_slice(&ranges[i + 1..]);
                    return Ok((encode(&items), rest));
                }
                bytes += 24 + entry.as_ref().map_or(0, |entry| entry.content.len());
                items.push((*dot, entry.clone()));
            }
        }
        Ok((encode(&items), Vec::new()))
    }

    fn live(&self, ranges: &[DotRange], bytes_max: usize) -> Result<Part, ReplicaError> {
        let mut part = Part::default();
        let mut items = Vec::new();
        let mut bytes = 0;
        for (i, range) in ranges.iter().enumerate() {
            for (dot, entry) in self.dots(range) {
                if bytes >= bytes_max {
                    part.rest = vec![DotRange { first: dot.1, ..*range }];
                    part.rest.extend_from_slice(&ranges[i + 1..]);
                    part.delta = encode(&items);
                    return Ok(part);
                }
                match entry {
                    Some(entry) => bytes += 24 + entry.content.len(),
                    None => part.dead.push(DotRange { first: dot.1, last: dot.1, ..*range }),
                }
                items.extend(entry.iter().map(|entry| (*dot, Some(entry.clone()))));
            }
        }
        part.delta = encode(&items);
        Ok(part)
    }

    fn deaths(&self, ranges: &[DotRange]) -> Bytes {
        let dots = ranges.iter().flat_map(|r| (r.first..=r.last).map(|seq| ((r.actor, seq), None)));
        encode(&dots.collect())
    }

    fn dead_among(&self, ranges: &DotRanges) -> Result<Bytes, ReplicaError> {
        let dots = ranges.0.iter().flat_map(|range| self.dots(range));
        Ok(encode(&dots.filter(|(_, e)| e.is_none()).map(|(dot, _)| (*dot, None)).collect()))
    }

    fn join(&mut self, delta: &[u8]) -> Result<JoinReport, ReplicaError> {
        let mut report = JoinReport::default();
        for item in &decode(delta)? {
            self.join_dot(item, &mut report);
        }
        Ok(report)
    }

    /// A model's entries have no time of writing: the larger content counts as the later one.
    fn join_part(&mut self, delta: &[u8], withheld_max: usize) -> Result<JoinReport, ReplicaError> {
        let mut report = JoinReport::default();
        let (entries, dead): (Vec<_>, Vec<_>) =
            decode(delta)?.into_iter().partition(|(_, entry)| entry.is_some());
        for item in &entries {
            self.join_dot(item, &mut report);
        }
        for item in &dead {
            let (dot, range) = (item.0, DotRange { actor: item.0.0, first: item.0.1, last: item.0.1 });
            let is_last = match self.states.get(&dot) {
                Some(None) => continue,
                Some(Some(entry)) => {
                    let others = self.places[&entry.place].iter().filter_map(|dot| self.states[dot].as_ref());
                    others.max() == Some(entry)
                }
                None => true,
            };
            if is_last && report.withheld.len() < withheld_max {
                report.withheld.push(range);
            } else if !is_last || !self.states.contains_key(&dot) {
                self.join_dot(item, &mut report);
            }
        }
        Ok(report)
    }

    fn mark(&self) -> u64 {
        self.seen.len() as u64
    }

    fn seen_since(&self, mark: u64) -> Option<Vec<DotRange>> {
        let dots = self.seen[mark as usize..].iter();
        Some(dots.map(|dot| DotRange { actor: dot.0, first: dot.1, last: dot.1 }).collect())
    }
}

fn decode(delta: &[u8]) -> Result<Vec<(Dot, Option<Entry>)>, ReplicaError> {
    let items = bincode::decode_from_slice(delta, bincode::config::standard());
    Ok(items.map_err(|_| ReplicaError::Malformed)?.0)
}

fn encode(items: &Vec<(Dot, Option<Entry>)>) -> Bytes {
    if items.is_empty() {
        return Bytes::new();
    }
    bincode::encode_to_vec(items, bincode::config::standard()).expect("encodes").into()
}

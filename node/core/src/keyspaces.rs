//! The connection between a node's strong keyspaces and the rest of the node: carries out their effects, and answers
//! their calls.

use std::collections::BTreeSet;

use bytes::Bytes;
use starling_kv::{Batch, Change, Engine, Field, Op, Reader, Write};
use starling_proto::{Message, NodeId, NodeRecord, Role};
use starling_strong::group::GroupId;

use crate::client_urls;
use crate::strong::{CoreCall, Effect, GroupLocation, Known, LOCATIONS, Strong, StrongConfig, StrongInput};
use crate::{Core, Notice, Now, Output, Token};

/// Groups with one name that are read, at most. A guess: more than one is an operator's error.
const GROUPS_MAX: usize = 16;
/// The token of the node's own writes; those of clients count from 0.
const OWN_TOKEN: Token = Token::MAX;

impl<E: Engine> Core<E> {
    /// Opens the strong keyspaces that the engine has; without this call the node can use none. `seed` must be fresh
    /// for every start.
    ///
    /// # Errors
    /// Fails with an error of the engine.
    pub fn open_strong(
        &mut self,
        engine: E,
        config: StrongConfig,
        seed: [u8; 32],
        now: Now,
    ) -> Result<(), starling_kv::Error> {
        let mut strong = Strong::open(engine, self.record.clone(), config, seed, now.mono.0)?;
        strong.set_version(self.data_in_force());
        let kept = strong.asides().map(|(aside, _)| aside.keyspace.clone());
        let keyspaces: Vec<String> =
            strong.groups().map(|(_, keyspace)| keyspace.to_owned()).chain(kept).collect();
        self.strong = Some(strong);
        // The last known locations of the other members.
        for keyspace in keyspaces {
            self.lookup(now, &keyspace);
        }
        self.process_ready(now);
        Ok(())
    }

    /// The strong keyspaces of this node.
    pub fn strong(&self) -> Option<&Strong<E>> {
        self.strong.as_ref()
    }

    /// Whether this node leads a keyspace's group.
    pub fn leads(&self, keyspace: &str) -> bool {
        self.strong.as_ref().is_some_and(|strong| strong.leads(keyspace))
    }

    /// The strong keyspaces of this node, for reads of a replica's own state.
    pub fn strong_mut(&mut self) -> Option<&mut Strong<E>> {
        self.strong.as_mut()
    }

    /// Passes a client's request to the strong keyspaces, with the records of the nodes that it may name.
    pub(crate) fn handle_strong(&mut self, now: Now, input: StrongInput) {
        if let StrongInput::Create { keyspace, .. }
        | StrongInput::Drop { keyspace, .. }
        | StrongInput::Survey { keyspace, .. } = &input
        {
            // Another node may have created it, and no client here has asked for it yet.
            self.lookup(now, keyspace);
        }
        let known = match &input {
            StrongInput::Create { .. }
            | StrongInput::Survey { .. }
            | StrongInput::SetVoters { .. }
            | StrongInput::Vacate { .. }
            | StrongInput::Recover { .. } => self.known(),
            _ => Known::default(),
        };
        if let Some(strong) = &mut self.strong {
            strong.handle_client(now.mono.0, input, &known);
        }
    }

    /// Every replica that this node knows how to reach, those that it is connected to apart from the others.
    fn known(&self) -> Known {
        let is_up = |record: &NodeRecord| {
            let id = &record.id;
            *id == self.record.id || self.links.record(id).is_some() || self.views.is_active(id)
        };
        let (up, others) = self.replicas().into_iter().partition(is_up);
        Known { up, others }
    }

    pub(crate) fn strong_disconnected(&mut self, now: Now, peer: NodeId) {
        if let Some(strong) = &mut self.strong {
            strong.handle_disconnected(now.mono.0, peer);
        }
    }

    /// Every replica that this node knows how to reach, itself included.
    pub fn replicas(&self) -> Vec<NodeRecord> {
        newest_replicas(self.in_sight().chain(&self.healing.remembered()))
    }

    /// This node and those that it has lately been in touch with, as far as they serve a strong keyspace to etcd
    /// clients, each with the URLs.
    pub fn etcd_servers(&self, keyspace: &str) -> Vec<(NodeRecord, Vec<String>)> {
        let with_urls = |record: NodeRecord| {
            let urls = client_urls::decode(&record, keyspace);
            (!urls.is_empty()).then_some((record, urls))
        };
        newest_replicas(self.in_sight()).into_iter().filter_map(with_urls).collect()
    }

    /// The records of this node, of connected ones, and of those in its views.
    fn in_sight(&self) -> impl Iterator<Item = &NodeRecord> {
        let linked = self.links.peers().map(|(_, record)| record);
        let viewed = self.views.active().chain(self.views.passive());
        [&self.record].into_iter().chain(linked).chain(viewed)
    }

    pub(crate) fn on_strong_effect(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Send { to, frame } => {
                let elsewhere = self.younger(&to);
                let to = elsewhere.as_ref().unwrap_or(&to);
                self.send_or_dial(now, to, Message::Strong(frame));
            }
            Effect::Sync(number) => self.outputs.push_back(Output::Sync(number)),
            Effect::Client(output) => self.outputs.push_back(Output::Strong(output)),
            Effect::Notice { keyspace, notice } => {
                self.outputs.push_back(Output::Notice(Notice::Strong { keyspace, notice }));
            }
            Effect::Call(call) => self.on_strong_call(now, call),
        }
    }

    fn on_strong_call(&mut self, now: Now, call: CoreCall) {
        match call {
            CoreCall::FindSpares { group } => {
                // A node that is linked is up.
                let linked = self.links.peers().map(|(_, record)| record.clone());
                let spares = linked.chain(self.views.active().cloned()).collect();
                if let Some(strong) = &mut self.strong {
                    strong.handle_spares(now.mono.0, group, spares);
                }
            }
            CoreCall::Lookup { keyspace } => self.lookup(now, &keyspace),
            CoreCall::LookupFirst { keyspace, from, message } => {
                self.lookup(now, &keyspace);
                if let Some(strong) = &mut self.strong {
                    strong.handle_looked_up(now.mono.0, from, *message);
                }
            }
            CoreCall::Publish { keyspace, group, location } => {
                self.publish_location(now, &keyspace, group, location);
            }
        }
    }

    /// A newer record of a node without a link: it may have come back at another address.
    fn younger(&self, record: &NodeRecord) -> Option<NodeRecord> {
        if self.links.record(&record.id).is_some() {
            return None;
        }
        let mut known = self.views.active().chain(self.views.passive());
        known.find(|it| it.id == record.id && it.supersedes(record)).cloned()
    }

    /// Reads the locations of a strong keyspace from the reserved one.
    fn lookup(&mut self, now: Now, keyspace: &str) {
        self.lookup_those(now, keyspace, |_, _| true);
    }

    /// Reads those of them that are wanted.
    fn lookup_those(
        &mut self,
        now: Now,
        keyspace: &str,
        is_wanted: impl Fn(&Strong<E>, &GroupLocation) -> bool,
    ) {
        let (Some(store), Some(strong)) = (&self.store, &mut self.strong) else { return };
        let mut locations = match published(&store.reader(), now.wall_ms, keyspace) {
            Ok(locations) => locations,
            Err(error) => return self.storage_failed(error.to_string()),
        };
        locations.retain(|location| is_wanted(strong, location));
        if !locations.is_empty() || strong.is_ambiguous(keyspace) {
            strong.handle_locations(now.mono.0, keyspace, locations);
        }
    }

    /// Reads changed locations again, of keyspaces that this node uses, and of groups that it knows to be dropped.
    pub(crate) fn lookup_changed(&mut self, now: Now, changes: &[Change]) {
        let keys: BTreeSet<&[u8]> =
            changes.iter().filter(|it| it.keyspace == LOCATIONS).map(|change| change.key.as_ref()).collect();
        let names = keys.into_iter().filter_map(|key| std::str::from_utf8(key).ok());
        for keyspace in names {
            self.lookup_those(now, keyspace, |strong, location| {
                strong.knows(keyspace) || strong.was_dropped(&location.group)
            });
        }
    }

    fn publish_location(
        &mut self,
        now: Now,
        keyspace: &str,
        group: GroupId,
        location: Option<GroupLocation>,
    ) {
        // Each group has a field of its own, so that a leader changes no location of another group that was
        // created under the same name.
        let op = match location {
            Some(location) => Op::MapPut { fields: vec![Field::new(&group[..], location.encode())] },
            None => Op::MapDelete { names: vec![Bytes::copy_from_slice(&group)] },
        };
        let write = Write { keyspace: LOCATIONS.into(), key: keyspace.into(), op, ttl_ms: None, check: None };
        self.write_own(now, Batch { writes: vec![write] });
    }

    /// A write of the node itself: no client waits for its outcome.
    pub(crate) fn write_own(&mut self, now: Now, batch: Batch) {
        self.handle_writes(now, vec![(OWN_TOKEN, batch)]);
        self.outputs.retain(|output| !matches!(output, Output::Written { token: OWN_TOKEN, .. }));
    }
}

/// What is published of the groups of a keyspace.
pub fn published<E: Engine>(
    reader: &Reader<E>,
    wall_ms: u64,
    keyspace: &str,
) -> Result<Vec<GroupLocation>, starling_kv::Error> {
    let groups = reader.map_entries(wall_ms, LOCATIONS, keyspace.as_bytes(), None, GROUPS_MAX)?.items;
    let values = groups.iter().flat_map(|(_, register)| {
        register.siblings.iter().map(|sibling| &sibling.value).chain([&register.value])
    });
    Ok(values.filter_map(|value| GroupLocation::decode(value).ok()).collect())
}

/// The newest record of each replica, by id.
fn newest_replicas<'a>(records: impl Iterator<Item = &'a NodeRecord>) -> Vec<NodeRecord> {
    let mut all: Vec<NodeRecord> = records.filter(|record| record.role == Role::Replica).cloned().collect();
    all.sort_by_key(|record| (record.id, std::cmp::Reverse((record.incarnation, record.revision))));
    all.dedup_by_key(|record| record.id);
    all
}

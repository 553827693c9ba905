//! The strong side of the node: what it needs of the rest, and what the rest needs of it.

use std::collections::BTreeSet;

use bytes::Bytes;
use starling_kv::{Batch, Change, Engine, Op, Write};
use starling_proto::{Message, NodeId, NodeRecord, Role};
use starling_strong::group::GroupId;

use crate::strong::{HINTS, Hint, Manage, Strong, StrongInput, StrongOutput, Wanted};
use crate::{Core, Notice, Now, Output, Token};

/// Groups of one name that are looked at.
const GROUPS_MAX: usize = 16;
/// Tokens of the node's own writes; clients' are counted from below.
const OWN_TOKEN: Token = Token::MAX;

impl<E: Engine> Core<E> {
    /// Goes on with the strong keyspaces that the engine has; without this the node has none, and
    /// reaches none. A voter that was silent for `replace_ms` is replaced by itself
    /// ([`crate::strong::REPLACE_MS`]; `None`: never). `seed` must be fresh for every start.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_strong(
        &mut self,
        engine: E,
        replace_ms: Option<u64>,
        seed: [u8; 32],
        now: Now,
    ) -> Result<(), starling_kv::Error> {
        let strong = Strong::open(engine, self.record.clone(), replace_ms, seed, now.mono.0)?;
        let keyspaces: Vec<String> = strong.groups().map(|(_, keyspace)| keyspace.to_owned()).collect();
        self.strong = Some(strong);
        // Where the other members were when this node was last here.
        for keyspace in keyspaces {
            self.lookup(now, keyspace);
        }
        self.settle(now);
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

    /// The same, for reads of a group's own state.
    pub fn strong_mut(&mut self) -> Option<&mut Strong<E>> {
        self.strong.as_mut()
    }

    pub(crate) fn strong_input(&mut self, now: Now, input: StrongInput) {
        if let Some(strong) = &mut self.strong {
            strong.handle(now.mono.0, input);
        }
    }

    /// A keyspace on the nodes named, or on some of those that are known.
    pub(crate) fn wanted(&self, keyspace: String, voters: u8, on: &[NodeId], manual: bool) -> Wanted {
        let known = self.replicas();
        let named = !on.is_empty();
        let nodes =
            if named { known.into_iter().filter(|record| on.contains(&record.id)).collect() } else { known };
        Wanted { keyspace, voters, nodes, named, manual }
    }

    pub(crate) fn handle_strong_create(&mut self, now: Now, token: Token, wanted: Wanted) {
        // Somebody may have made it who has never been asked here.
        self.lookup(now, wanted.keyspace.clone());
        self.strong_input(now, StrongInput::Create { token, wanted });
    }

    /// Makes these nodes the voters.
    pub(crate) fn handle_strong_voters(
        &mut self,
        now: Now,
        token: Token,
        keyspace: String,
        nodes: &[NodeId],
    ) {
        let mut known = self.replicas();
        known.retain(|record| nodes.contains(&record.id));
        let change = Manage::Voters(known);
        self.strong_input(now, StrongInput::Manage { token, keyspace, change });
    }

    /// Every replica that this node knows how to reach, itself included.
    pub fn replicas(&self) -> Vec<NodeRecord> {
        let linked = self.links.peers().map(|(_, record)| record);
        let viewed = self.views.active().chain(self.views.passive());
        let remembered = self.healing.remembered();
        let all = [&self.record].into_iter().chain(linked).chain(viewed).chain(&remembered);
        let mut all: Vec<NodeRecord> = all.filter(|record| record.role == Role::Replica).cloned().collect();
        all.sort_by_key(|record| (record.id, std::cmp::Reverse((record.incarnation, record.revision))));
        all.dedup_by_key(|record| record.id);
        all
    }

    /// Carries out what strong keyspaces want; whether there was anything.
    pub(crate) fn drain_strong(&mut self, now: Now) -> bool {
        let mut any = false;
        if let Some(strong) = &mut self.strong {
            strong.settle(now.mono.0);
        }
        while let Some(output) = self.strong.as_mut().and_then(Strong::poll_output) {
            any = true;
            self.on_strong_output(now, output);
        }
        any
    }

    fn on_strong_output(&mut self, now: Now, output: StrongOutput) {
        match output {
            StrongOutput::Send { to, frame } => {
                let elsewhere = self.younger(&to);
                let to = elsewhere.as_ref().unwrap_or(&to);
                self.send_or_dial(now, to, Message::Strong(frame));
            }
            StrongOutput::Sync(number) => self.outputs.push_back(Output::Sync(number)),
            StrongOutput::Answer { token, result } => {
                self.outputs.push_back(Output::StrongAnswer { token, result });
            }
            StrongOutput::Update { token, update } => {
                self.outputs.push_back(Output::StrongUpdate { token, update });
            }
            StrongOutput::Created { token, result } => {
                self.outputs.push_back(Output::StrongCreated { token, result });
            }
            StrongOutput::Managed { token, result } => {
                self.outputs.push_back(Output::StrongManaged { token, result });
            }
            StrongOutput::Status { token, result } => {
                self.outputs.push_back(Output::StrongStatus { token, result });
            }
            StrongOutput::WantNodes { group } => {
                // Those that are linked are there.
                let linked = self.links.peers().map(|(_, record)| record.clone());
                let nodes = linked.chain(self.views.active().cloned()).collect();
                self.strong_input(now, StrongInput::Nodes { group, nodes });
            }
            StrongOutput::Lookup { keyspace } => self.lookup(now, keyspace),
            StrongOutput::Publish { keyspace, group, hint } => {
                self.publish_hint(now, &keyspace, group, hint);
            }
            StrongOutput::Notice { keyspace, notice } => {
                self.outputs.push_back(Output::Notice(Notice::Strong { keyspace, notice }));
            }
        }
    }

    /// A younger record of a node that is not linked: it may have come back somewhere else.
    fn younger(&self, record: &NodeRecord) -> Option<NodeRecord> {
        if self.links.record(&record.id).is_some() {
            return None;
        }
        let mut known = self.views.active().chain(self.views.passive());
        known.find(|it| it.id == record.id && it.supersedes(record)).cloned()
    }

    /// What the reserved keyspace says of a strong one.
    fn lookup(&mut self, now: Now, keyspace: String) {
        let Some(store) = &self.store else { return };
        let found = store.reader().map_entries(now.wall_ms, HINTS, keyspace.as_bytes(), None, GROUPS_MAX);
        let groups = match found {
            Ok(found) => found.items,
            Err(error) => return self.storage_failed(error.to_string()),
        };
        let values = groups.iter().flat_map(|(_, register)| {
            register.siblings.iter().map(|sibling| &sibling.value).chain([&register.value])
        });
        let hints: Vec<Hint> = values.filter_map(|value| Hint::decode(value).ok()).collect();
        if !hints.is_empty() || self.strong.as_ref().is_some_and(|strong| strong.is_ambiguous(&keyspace)) {
            self.strong_input(now, StrongInput::Hints { keyspace, hints });
        }
    }

    /// Looks those keyspaces up again of which something was said elsewhere, if this node has to do with them.
    pub(crate) fn follow_hints(&mut self, now: Now, changes: &[Change]) {
        let said: BTreeSet<&[u8]> =
            changes.iter().filter(|it| it.keyspace == HINTS).map(|change| change.key.as_ref()).collect();
        let names = said.into_iter().filter_map(|key| std::str::from_utf8(key).ok());
        let known = |name: &&str| self.strong.as_ref().is_some_and(|strong| strong.knows(name));
        for keyspace in names.filter(known).map(str::to_owned).collect::<Vec<_>>() {
            self.lookup(now, keyspace);
        }
    }

    fn publish_hint(&mut self, now: Now, keyspace: &str, group: GroupId, hint: Option<Hint>) {
        // Each group has a field of its own: who says where one is, or that it is gone, says nothing of another
        // that was made under the same name.
        let field = Bytes::copy_from_slice(&group);
        let op = match hint {
            Some(hint) => Op::MapPut(vec![(field, hint.encode())]),
            None => Op::MapDelete(vec![field]),
        };
        let write = Write { keyspace: HINTS.into(), key: keyspace.into(), op, ttl_ms: None, check: None };
        self.handle_writes(now, vec![(OWN_TOKEN, Batch { writes: vec![write] })]);
        self.outputs.retain(|output| !matches!(output, Output::Written { token: OWN_TOKEN, .. }));
    }
}

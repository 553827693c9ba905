//! Keyspaces of one name that two sides create while they cannot reach each other, each with clients of its own. Once
//! everything has healed, one of them has the name on every node, by an order of the groups' ids alone; the other one goes on
//! under a name of its own; and each has what it has acknowledged, once.
//!
//! ```text
//!   cut:     side 0 creates NAME, and writes to it          side 1 likewise
//!   healed:  every node is asked for NAME, which is the older one's, and for NAME.aside-DIGITS
//! ```
//! A side whose creation is answered by nobody may have created more than one: nothing is judged then.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::{IndexedRandom, IteratorRandom};
use starling_core::Input;
use starling_core::strong::{CreateError, GroupLocation, StrongInput};
use starling_strong::api::{
    Answer, Body, Failure, Keys, Options, Put, Range, Read, Request, RequestId, Write,
};
use starling_strong::group::GroupId;

use super::{SERVES_AGAIN_US, Strong, Turn};
use crate::measure::{are_equal, components};
use crate::world::World;

/// Clients of each side.
const CLIENTS: usize = 3;
/// Between two attempts to create the keyspace of a side, microseconds.
const CREATE_AGAIN_US: u64 = 1_000_000;
/// Time for one attempt of a request, milliseconds.
const TRY_MS: u64 = 1_500;
/// After this a client gives up on a request, microseconds.
const PATIENCE_US: u64 = 4_000_000;
/// Holds the number of the side.
const WHOSE: &[u8] = b"whose";

/// See the module.
pub(super) struct Rivals {
    name: String,
    /// The number of the cut.
    cut: u32,
    sides: [Side; 2],
    /// Since when everything has healed, microseconds, and what nodes have still to show.
    judged: Option<(u64, BTreeSet<Check>)>,
    /// What is asked for, by token.
    asked: BTreeMap<u64, Check>,
    /// What was last answered instead.
    instead: BTreeMap<Check, String>,
    pub is_over: bool,
    /// Both keyspaces were found as they have to be.
    pub is_decided: bool,
}

/// What has to be shown in the end, of the name or (`true`) of the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    /// The node reads the right keyspace.
    Read(usize, bool),
    /// The keyspace takes a write, through any node.
    Write(bool),
}

impl Check {
    fn is_aside(self) -> bool {
        let (Self::Read(_, is_aside) | Self::Write(is_aside)) = self;
        is_aside
    }
}

#[derive(Default)]
struct Side {
    nodes: Vec<usize>,
    voters: usize,
    /// The creation that is not answered, and the node that was asked.
    creating: Option<(u64, usize)>,
    group: Option<GroupId>,
    /// It may have created other groups.
    is_unclear: bool,
    clients: [Client; CLIENTS],
    /// Keys that were acknowledged; each is written once.
    acknowledged: BTreeSet<Vec<u8>>,
}

#[derive(Default)]
struct Client {
    /// Keys that it has written, or may have.
    count: u64,
    asking: Option<Asking>,
    turn_us: u64,
}

struct Asking {
    token: u64,
    node: Option<usize>,
    since_us: u64,
    /// The key that it writes; `None`: it reads all, and these were acknowledged before.
    key: Result<Vec<u8>, BTreeSet<Vec<u8>>>,
}

/// Which client: of which rivals, of which side.
type At = (usize, usize, usize);

/// The place of a group in the order that decides: that of several members before that of one, then the older one, then the
/// lower id.
fn place(group: &GroupId) -> (bool, &[u8], &GroupId) {
    (group[3] == 1, &group[4..10], group)
}

fn everything() -> Request {
    Request::Read(Read::Range(Range::of(Keys::Range { from: Vec::new(), to: None })))
}

fn put(key: Vec<u8>, side: usize) -> Request {
    let value = Some(side.to_string().into_bytes());
    Request::Write(Write::Put(Put { key, value, lease: Some(0), prev: false }))
}

impl Rivals {
    /// The side whose keyspace has the name, and the other one if it has a keyspace too.
    fn winner(&self) -> Option<(usize, Option<usize>)> {
        let created = (0..2).filter_map(|side| Some((place(self.sides[side].group.as_ref()?), side)));
        let mut created: Vec<_> = created.collect();
        created.sort_unstable();
        Some((created.first()?.1, created.get(1).map(|it| it.1)))
    }

    /// The side whose keyspace a check is about.
    fn side_of(&self, check: Check) -> Option<usize> {
        let (winner, other) = self.winner()?;
        if check.is_aside() { other } else { Some(winner) }
    }

    fn name_of(&self, check: Check) -> Option<String> {
        let side = self.side_of(check).filter(|_| check.is_aside());
        let Some(side) = side else { return Some(self.name.clone()) };
        let digits = self.sides[side].group.as_ref()?[12..].iter().map(|byte| format!("{byte:02x}"));
        Some(format!("{}.aside-{}", self.name, digits.collect::<String>()))
    }

    /// Whether all that was read may be in the keyspace of a side that had acknowledged this before.
    fn check(&self, side: usize, answer: &Answer, acknowledged: &BTreeSet<Vec<u8>>) -> Result<(), String> {
        let Body::Range(found) = &answer.body else { return Err(format!("a read is answered {answer:?}")) };
        let keys: BTreeSet<&Vec<u8>> = found.kvs.iter().map(|kv| &kv.key).collect();
        let show = |key: &[u8]| key.escape_ascii().to_string();
        if let Some(lost) = acknowledged.iter().find(|key| !keys.contains(key)) {
            return Err(format!("{} was acknowledged, and is not there", show(lost)));
        }
        if let Some(kv) = found.kvs.iter().find(|kv| kv.version != 1) {
            return Err(format!("{} was written {} times", show(&kv.key), kv.version));
        }
        let others = &self.sides[1 - side].acknowledged;
        let own = &self.sides[side].acknowledged;
        match found.kvs.iter().find(|kv| others.contains(&kv.key) && !own.contains(&kv.key)) {
            Some(kv) => Err(format!("{} was acknowledged by the other one", show(&kv.key))),
            None => Ok(()),
        }
    }
}

/// The side whose keyspace was read, as it says.
fn whose(answer: &Answer) -> Option<usize> {
    let Body::Range(found) = &answer.body else { return None };
    let value = found.kvs.iter().find(|kv| kv.key == WHOSE).map(|kv| kv.value.clone())?;
    String::from_utf8(value).ok()?.parse().ok()
}

impl Strong {
    /// Two sides have just been cut from each other.
    pub(crate) fn begin_rivals(&mut self, world: &mut World, cut: u32, sides: [Vec<usize>; 2]) {
        let number = self.rivals.len();
        let sides = sides.map(|nodes| {
            let live = nodes.iter().filter(|node| world.is_up(**node) && world.nodes[**node].is_replica());
            let voters = if live.count() >= 3 && self.below(2) == 0 { 3 } else { 1 };
            Side { nodes, voters, ..Side::default() }
        });
        for side in 0..2 {
            let after_us = self.below(CREATE_AGAIN_US);
            self.plan(world.now_us() + after_us, Turn::CreateRival(number, side));
        }
        self.rivals.push(Rivals {
            name: format!("stock{number}"),
            cut,
            sides,
            judged: None,
            asked: BTreeMap::new(),
            instead: BTreeMap::new(),
            is_over: false,
            is_decided: false,
        });
    }

    /// How many pairs of keyspaces of one name were found as they have to be in the end.
    pub fn decided_rivals(&self) -> u64 {
        self.rivals.iter().filter(|rivals| rivals.is_decided).count() as u64
    }

    /// A side creates its keyspace.
    pub(super) fn create_rival(&mut self, world: &mut World, number: usize, side: usize) {
        let token = self.token();
        let Rivals { name, cut, sides, .. } = &mut self.rivals[number];
        let side_of = &mut sides[side];
        if !world.has_cut(*cut) || side_of.group.is_some() || side_of.is_unclear {
            return;
        }
        let is_live = |node: &&usize| world.is_up(**node) && world.nodes[**node].is_replica();
        let live: Vec<usize> = side_of.nodes.iter().filter(is_live).copied().collect();
        let on: Vec<usize> = live.sample(&mut self.rng, side_of.voters).copied().collect();
        let Some(creator) = on.first().copied() else {
            return self.plan(world.now_us() + CREATE_AGAIN_US, Turn::CreateRival(number, side));
        };
        side_of.creating = Some((token, creator));
        let (keyspace, voters) = (name.clone(), on.len() as u8);
        let on = on.into_iter().map(|node| world.nodes[node].record.id).collect();
        world.ask(creator, Input::Strong(StrongInput::Create { token, keyspace, voters, on, manual: false }));
    }

    /// Whether this is the outcome of the creation of a rival.
    pub(super) fn on_rival_created(
        &mut self,
        world: &World,
        token: u64,
        result: &Result<GroupLocation, CreateError>,
    ) -> bool {
        let all = (0..self.rivals.len()).flat_map(|number| [(number, 0), (number, 1)]);
        let is_awaited = |(number, side): &(usize, usize)| {
            self.rivals[*number].sides[*side].creating.is_some_and(|(awaited, _)| awaited == token)
        };
        let Some((number, side)) = all.into_iter().find(is_awaited) else { return false };
        let side_of = &mut self.rivals[number].sides[side];
        side_of.creating = None;
        match result {
            Ok(location) => {
                side_of.group = Some(location.group);
                self.plan_rival(world, (number, side, 0), world.now_us() + 1);
            }
            // Members that were not reached may have created it.
            Err(CreateError::Refused { .. }) => side_of.is_unclear = true,
            Err(_) => self.plan(world.now_us() + CREATE_AGAIN_US, Turn::CreateRival(number, side)),
        }
        true
    }

    fn plan_rival(&mut self, world: &World, at: At, at_us: u64) {
        let (number, side, client) = at;
        let at_us = at_us.max(world.now_us());
        self.rivals[number].sides[side].clients[client].turn_us = at_us;
        self.plan(at_us, Turn::Rival(number, side, client));
    }

    /// It is a client's turn: it asks something new, or again.
    pub(super) fn act_as_rival(&mut self, world: &mut World, at: At) {
        let (number, side, client) = at;
        let (now_us, draw, token) = (world.now_us(), self.below(4), self.token());
        let Rivals { name, cut, sides, .. } = &mut self.rivals[number];
        let Side { nodes, clients, acknowledged, .. } = &mut sides[side];
        let Client { count, asking, turn_us } = &mut clients[client];
        if *turn_us != now_us {
            return;
        }
        if !world.has_cut(*cut) {
            // What it has asked may be done by either.
            *asking = None;
            return;
        }
        let is_naming = |asking: &Asking| asking.key.as_ref().is_ok_and(|key| key == WHOSE);
        asking.take_if(|it| now_us >= it.since_us + PATIENCE_US && !is_naming(it));
        let asking = asking.get_or_insert_with(|| {
            let key = if acknowledged.is_empty() {
                Ok(WHOSE.to_vec())
            } else if draw > 0 {
                *count += 1;
                Ok(format!("{side}/{client}/{count:06}").into_bytes())
            } else {
                Err(acknowledged.clone())
            };
            Asking { token, node: None, since_us: now_us, key }
        });
        asking.token = token;
        asking.node = nodes
            .iter()
            .copied()
            .filter(|node| world.is_up(*node) && world.nodes[*node].is_replica())
            .choose(&mut self.rng);
        let (node, keyspace) = (asking.node, name.clone());
        let (id, request) = match &asking.key {
            Ok(key) => {
                let name = 1 << 32 | number << 16 | side << 8 | client;
                let client = RequestId::draw(1, name as u128);
                // The first one is the name.
                let seq = if key == WHOSE { 1 } else { *count + 1 };
                (Some(RequestId { client, seq, answered_below: 0 }), put(key.clone(), side))
            }
            Err(_) => (None, everything()),
        };
        self.plan_rival(world, at, now_us + (TRY_MS + 100) * 1_000);
        if let Some(node) = node {
            let options = Options { timeout_ms: TRY_MS, stale: false, id, fence: None };
            world.ask(node, Input::Strong(StrongInput::Request { token, keyspace, request, options }));
        }
    }

    /// A request of a client of a rival is answered, or one of those that judge them.
    pub(super) fn on_rival_answer(&mut self, world: &World, token: u64, result: Result<Answer, Failure>) {
        let is_asked = |rivals: &Rivals| rivals.asked.contains_key(&token);
        if let Some(number) = self.rivals.iter().position(is_asked) {
            return self.on_checked(number, token, &result);
        }
        let all = self.rivals.iter().enumerate().flat_map(|(number, rivals)| {
            let sides = rivals.sides.iter().enumerate();
            let clients =
                sides.flat_map(|(side, it)| it.clients.iter().enumerate().map(move |it| (side, it)));
            clients.map(move |(side, (client, it))| ((number, side, client), it))
        });
        let is_awaited = |client: &Client| client.asking.as_ref().is_some_and(|asking| asking.token == token);
        let Some(at) = all.into_iter().find(|(_, client)| is_awaited(client)).map(|it| it.0) else { return };
        let pause_us = 1 + self.below(150_000);
        self.plan_rival(world, at, world.now_us() + pause_us);
        let (number, side, client) = at;
        let rivals = &mut self.rivals[number];
        if !world.has_cut(rivals.cut) {
            return;
        }
        let asking = &mut rivals.sides[side].clients[client].asking;
        let answer = match result {
            Ok(answer) => answer,
            Err(Failure::Refused(refusal)) => {
                return self.broken.push(("rivals", format!("side {side} was refused: {refusal}")));
            }
            Err(_) => return,
        };
        let Some(Asking { key, .. }) = asking.take() else { return };
        match key {
            Ok(key) => {
                let is_named = key == WHOSE;
                rivals.sides[side].acknowledged.insert(key);
                for other in (1..CLIENTS).filter(|_| is_named) {
                    self.plan_rival(world, (number, side, other), world.now_us() + 1);
                }
            }
            Err(acknowledged) => {
                if let Err(what) = rivals.check(side, &answer, &acknowledged) {
                    self.broken.push(("rivals", format!("side {side}, while it was alone: {what}")));
                }
            }
        }
    }

    /// A node has gone with what it was asked.
    pub(super) fn on_rivals_down(&mut self, world: &World, node: usize) {
        let mut again = Vec::new();
        for (number, rivals) in self.rivals.iter_mut().enumerate() {
            for (side, it) in rivals.sides.iter_mut().enumerate() {
                it.is_unclear |= it.creating.take_if(|(_, creator)| *creator == node).is_some();
                let asks = |client: &Client| client.asking.as_ref().is_some_and(|it| it.node == Some(node));
                let clients = it.clients.iter().enumerate().filter(|(_, client)| asks(client));
                again.extend(clients.map(|(client, _)| (number, side, client)));
            }
        }
        for at in again {
            let pause_us = 1 + self.below(150_000);
            self.plan_rival(world, at, world.now_us() + pause_us);
        }
    }

    /// Everything has healed: the nodes have to agree.
    pub(super) fn judge_rivals(&mut self, world: &World) {
        let replicas = world.nodes.iter().enumerate().filter(|(_, node)| node.is_up() && node.is_replica());
        let replicas: Vec<usize> = replicas.map(|(index, _)| index).collect();
        for (number, rivals) in self.rivals.iter_mut().enumerate() {
            let is_clear = |side: &Side| {
                !side.is_unclear
                    && side.creating.is_none()
                    && side.group.is_some() != side.acknowledged.is_empty()
            };
            let Some((_, other)) = rivals.winner().filter(|_| rivals.sides.iter().all(is_clear)) else {
                rivals.is_over = true;
                continue;
            };
            let kinds = [false, true].into_iter().filter(|is_aside| !is_aside || other.is_some());
            let checks = kinds.flat_map(|is_aside| {
                let reads = replicas.iter().map(move |node| Check::Read(*node, is_aside));
                reads.chain([Check::Write(is_aside)])
            });
            rivals.judged = Some((world.now_us(), checks.collect()));
            self.planned.push((world.now_us() + 1, Turn::JudgeRivals(number)));
        }
    }

    /// Asks for all that has not been shown.
    pub(super) fn check_rivals(&mut self, world: &mut World, number: usize) {
        let has_majority = |strong: &Self, world: &mut World, side: usize| {
            let Side { group, voters, .. } = &strong.rivals[number].sides[side];
            group.is_some_and(|group| {
                let members = world.members_of(group);
                super::have_majority(world, members, *voters)
            })
        };
        let Some((winner, other)) = self.rivals[number].winner() else { return };
        let is_one = are_equal(world) && components(world) <= 1;
        // Nodes that have not caught up do not know which data version is in force.
        let wins = !is_one || (world.decides_names() && has_majority(self, world, winner));
        let goes_on = !is_one || other.is_some_and(|other| has_majority(self, world, other));
        let Some((since_us, left)) = &mut self.rivals[number].judged else { return };
        if !is_one {
            // Parts that have lost each other may take long to meet.
            *since_us = world.now_us();
        }
        // Without a majority nobody confirms that the name is its own, and before data version 3 nobody asks.
        left.retain(|check| match check {
            Check::Read(node, is_aside) => world.is_up(*node) && (goes_on || !is_aside),
            Check::Write(is_aside) => goes_on || !is_aside,
        });
        let (since_us, left) = (*since_us, left.clone());
        if left.is_empty() || !wins {
            let rivals = &mut self.rivals[number];
            (rivals.is_over, rivals.is_decided) = (true, wins && other.is_some());
            return;
        }
        if world.now_us() >= since_us + SERVES_AGAIN_US {
            self.rivals[number].is_over = true;
            let instead = &self.rivals[number].instead;
            let show =
                |check| format!("{check:?}: {}", instead.get(&check).map_or("no answer", String::as_str));
            let left: Vec<String> = left.into_iter().map(show).collect();
            return self.broken.push(("rivals", format!("not as they have to be: {}", left.join("; "))));
        }
        self.rivals[number].asked.clear();
        // A node that has not changed yet would write to the other one.
        let reads = left.iter().any(|check| matches!(check, Check::Read(..)));
        for check in left.into_iter().filter(|check| matches!(check, Check::Read(..)) == reads) {
            let token = self.token();
            let rivals = &mut self.rivals[number];
            let (Some(keyspace), Some(side)) = (rivals.name_of(check), rivals.side_of(check)) else {
                continue;
            };
            rivals.asked.insert(token, check);
            let (node, request) = match check {
                Check::Read(node, _) => (Some(node), everything()),
                Check::Write(_) => (self.pick(world, false), put(b"end".to_vec(), side)),
            };
            let id = matches!(check, Check::Write(_)).then(|| {
                let client = RequestId::draw(1, (2 << 32 | number << 8 | side) as u128);
                RequestId { client, seq: 1, answered_below: 0 }
            });
            if let Some(node) = node {
                let options = Options { timeout_ms: TRY_MS, stale: false, id, fence: None };
                world.ask(node, Input::Strong(StrongInput::Request { token, keyspace, request, options }));
            }
        }
        self.plan(world.now_us() + (TRY_MS + 100) * 1_000, Turn::JudgeRivals(number));
    }

    fn on_checked(&mut self, number: usize, token: u64, result: &Result<Answer, Failure>) {
        let rivals = &mut self.rivals[number];
        let Some(check) = rivals.asked.remove(&token) else { return };
        let Some(side) = rivals.side_of(check) else { return };
        let answer = match result {
            Ok(answer) => answer,
            Err(failure) => return drop(rivals.instead.insert(check, failure.to_string())),
        };
        if matches!(check, Check::Read(..)) {
            let found = whose(answer);
            if found != Some(side) {
                let what = format!("the keyspace of side {found:?}, not of {side}");
                return drop(rivals.instead.insert(check, what));
            }
            if let Err(what) = rivals.check(side, answer, &rivals.sides[side].acknowledged) {
                self.broken.push(("rivals", format!("side {side}, in the end, {check:?}: {what}")));
            }
        }
        if let Some((_, left)) = &mut self.rivals[number].judged {
            left.remove(&check);
        }
    }
}

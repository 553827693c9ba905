//! The keys of a queue.
//!
//! ```text
//! NAME/PRIORITY/NUMBER               an item that can be reserved
//! NAME/of/TENANT/PRIORITY/NUMBER     the same, in a queue that serves its tenants in turn
//! NAME/later/DUE/PRIORITY/NUMBER     an item that was pushed or returned with a delay
//! NAME/dead/PRIORITY/NUMBER          a dead letter
//! NAME/about/...                     what is known of the item NAME/...; absent: nothing but its key
//! NAME/claim/...                     a worker has the item NAME/..., as long as the claim's lease lasts
//! NAME/hold/...                      the item NAME/... is delayed, as long as the hold's lease lasts
//! NAME/rules                         the rules; absent: the defaults
//! NAME/turn                          the tenant that was served last
//! NAME/rate/LEASE                    how fast a worker is
//! NAME/unique/ID                     the key of the item that was pushed with this id
//! NAME/popped/ID                     the item that the pop with this request id took
//! ```
//!
//! Priorities have five digits, so that the order of the keys is that of priorities, then of numbers. A number is a
//! revision in 20 digits. An item with nothing but a value and a priority is one key, under the revision of its write
//! ([`Write::PutSequential`](crate::api::Write)). An item that needs more is one transaction, in which no key can have the
//! revision of the write: its number is a revision that the client has read before, and more to make it unique. Its
//! write is later, and a push that begins after another has ended reads a later revision than that one's number.

use crate::api::{Keys, LeaseId};
use crate::line;

/// Which of an item's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The item itself.
    Item,
    /// A worker's claim on it.
    Claim,
    /// The hold of its delay.
    Hold,
    /// What is known of it.
    About,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Item, Self::Claim, Self::Hold, Self::About];

    fn text(self) -> &'static str {
        match self {
            Self::Item => "",
            Self::Claim => "claim/",
            Self::Hold => "hold/",
            Self::About => "about/",
        }
    }
}

/// A part of the queue in which items stand in their own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// By priority and number.
    Ready,
    /// By the tenant, then by priority and number.
    Tenants,
    /// By the end of their delay.
    Later,
    /// Dead letters.
    Dead,
}

impl Area {
    /// Those from which items are reserved.
    pub const LIVE: [Self; 3] = [Self::Ready, Self::Tenants, Self::Later];

    /// What the places of its items begin with, and what is behind all of them.
    fn bounds(self) -> (&'static str, &'static str) {
        match self {
            Self::Ready => ("0", ":"),
            Self::Tenants => ("of/", "of0"),
            Self::Later => ("later/", "later0"),
            Self::Dead => ("dead/", "dead0"),
        }
    }
}

/// What the place of an item says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Where it stands.
    pub area: Area,
    /// The tenant whose turn it needs; empty where tenants have none.
    pub tenant: &'a str,
    /// Lower ones are first.
    pub priority: u16,
    /// The order of its push.
    pub number: &'a str,
}

/// The names of the keys of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueKeys {
    name: Vec<u8>,
}

impl QueueKeys {
    /// Those of the queue of this name. Names must not nest, as a and a/1 do.
    pub fn new(name: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into() }
    }

    fn with(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = [&self.name[..], b"/"].concat();
        for part in parts {
            key.extend_from_slice(part);
        }
        key
    }

    /// What all keys of the queue begin with.
    pub fn prefix(&self) -> Vec<u8> {
        self.with(&[])
    }

    /// What the keys of plain items of this priority begin with.
    pub fn sequential(&self, priority: u16) -> Vec<u8> {
        self.with(&[format!("{priority:05}/").as_bytes()])
    }

    /// The key of an item whose number begins with a revision that was read before, and ends with `unique`.
    pub(super) fn numbered(&self, place: &str, priority: u16, revision: u64, unique: &str) -> Vec<u8> {
        self.with(&[place.as_bytes(), format!("{priority:05}/{revision:020}-{unique}").as_bytes()])
    }

    /// The key of an item that leaves its place: it keeps its priority and number.
    pub(super) fn moved(&self, to: &str, place: &Place<'_>) -> Vec<u8> {
        self.with(&[to.as_bytes(), format!("{:05}/{}", place.priority, place.number).as_bytes()])
    }

    /// The place of an item: its key without the queue's name. `None`: it is no key of the queue.
    pub(super) fn place_of<'k>(&self, part: Part, key: &'k [u8]) -> Option<&'k [u8]> {
        key.strip_prefix(&self.name[..])?.strip_prefix(b"/")?.strip_prefix(part.text().as_bytes())
    }

    /// What the key of an item says of it; `None`: it is no item's.
    pub fn place<'k>(&self, key: &'k [u8]) -> Option<Place<'k>> {
        let place = std::str::from_utf8(self.place_of(Part::Item, key)?).ok()?;
        let (before, number) = place.rsplit_once('/')?;
        let (before, priority) = before.rsplit_once('/').unwrap_or(("", before));
        let (area, tenant) = match before.split_once('/') {
            None if before.is_empty() => (Area::Ready, ""),
            None if before == "dead" => (Area::Dead, ""),
            Some(("of", tenant)) => (Area::Tenants, tenant),
            Some(("later", _)) => (Area::Later, ""),
            _ => return None,
        };
        Some(Place { area, tenant, priority: priority.parse().ok()?, number })
    }

    /// The key at a place.
    pub(super) fn at(&self, part: Part, place: &[u8]) -> Vec<u8> {
        self.with(&[part.text().as_bytes(), place])
    }

    /// The key that stands beside the item with this key.
    pub(super) fn beside(&self, part: Part, item: &[u8]) -> Vec<u8> {
        self.at(part, self.place_of(Part::Item, item).unwrap_or_default())
    }

    /// The keys of an area, from one place up to and without another; `None`: to its ends.
    pub(super) fn range(&self, part: Part, area: Area, from: Option<&[u8]>, to: Option<&[u8]>) -> Keys {
        let (first, behind) = area.bounds();
        let key = |place: &[u8]| self.at(part, place);
        Keys::Range {
            from: key(from.unwrap_or(first.as_bytes())),
            to: Some(key(to.unwrap_or(behind.as_bytes()))),
        }
    }

    /// The place behind all items of a tenant.
    pub(super) fn after_tenant(tenant: &str) -> Vec<u8> {
        format!("of/{tenant}0").into_bytes()
    }

    /// The place of a tenant's items.
    pub(super) fn of_tenant(tenant: &str) -> String {
        format!("of/{tenant}/")
    }

    /// The place of items whose delay ends at this time, milliseconds since 1970.
    pub(super) fn later(due_ms: u64) -> String {
        format!("later/{due_ms:015}/")
    }

    /// The key of the rules.
    pub fn rules(&self) -> Vec<u8> {
        self.with(&[b"rules"])
    }

    pub(super) fn turn(&self) -> Vec<u8> {
        self.with(&[b"turn"])
    }

    pub(super) fn rate(&self, lease: LeaseId) -> Vec<u8> {
        self.with(&[b"rate/", line::hex(lease).as_bytes()])
    }

    pub(super) fn rates(&self) -> Keys {
        Keys::prefix(self.with(&[b"rate/"]))
    }

    pub(super) fn unique(&self, id: &[u8]) -> Vec<u8> {
        self.with(&[b"unique/", id])
    }

    /// The key of the item that the pop with this request id took.
    pub fn popped(&self, request_id: u128) -> Vec<u8> {
        self.with(&[format!("popped/{request_id:032x}").as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_is_that_of_priorities_then_of_numbers() {
        let keys = QueueKeys::new("q");
        let plain = |priority, revision: u64| {
            [&keys.sequential(priority)[..], format!("{revision:020}").as_bytes()].concat()
        };
        let order = [
            plain(0, 70),
            plain(0, 100),
            plain(9, 3),
            keys.numbered("", 9, 3, "a"),
            keys.numbered("", 9, 3, "b"),
            plain(9, 4),
            plain(1000, 1),
            plain(u16::MAX, 9),
        ];
        assert!(order.is_sorted());
        let Keys::Range { from, to: Some(to) } = keys.range(Part::Item, Area::Ready, None, None) else {
            panic!("a range with an end")
        };
        assert!(order.iter().all(|key| *key >= from && *key < to));
        for other in ["q/rules", "q/claim/00009/1", "q/later/000000000000001/00009/1", "q/of/a/00009/1"] {
            assert!(!(from.as_slice()..to.as_slice()).contains(&other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_place_of_an_item_says_what_it_is() {
        let keys = QueueKeys::new("a/b");
        let place = |key: &str| {
            let key = format!("a/b/{key}").into_bytes();
            let found = keys.place(&key)?;
            Some((found.area, found.tenant.to_owned(), found.priority, found.number.to_owned()))
        };
        let is = |area, tenant: &str, priority| Some((area, tenant.into(), priority, "7".into()));
        assert_eq!(place("00010/7"), is(Area::Ready, "", 10));
        assert_eq!(place("of/ann/00010/7"), is(Area::Tenants, "ann", 10));
        assert_eq!(place("later/000000000000099/01000/7"), is(Area::Later, "", 1000));
        assert_eq!(place("dead/01000/7"), is(Area::Dead, "", 1000));
        for none in ["rules", "claim/00010/7", "lock/1f", "about/of/ann/00010/7", "00010"] {
            assert_eq!(place(none), None, "{none}");
        }
        assert_eq!(keys.place(b"other/00010/7"), None);
    }
}

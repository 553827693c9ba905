//! Operations, and what each needs.

use starling_types::eventual::{self, Check, Op};
use starling_types::strong::{Compare, Fence, Keys, LeaseId, Put, Read, Request, Txn, TxnOp, Write};

use crate::Verb;

/// Something that a caller wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// Read keys of an eventual keyspace.
    Read {
        /// The keyspace.
        keyspace: &'a str,
        /// The keys.
        keys: &'a Keys,
    },
    /// Watch keys of a keyspace of either kind.
    Watch {
        /// The keyspace.
        keyspace: &'a str,
        /// The keys.
        keys: &'a Keys,
    },
    /// One write to an eventual keyspace.
    Write(&'a eventual::Write),
    /// A request to a strong keyspace.
    Request {
        /// The keyspace.
        keyspace: &'a str,
        /// The request.
        request: &'a Request,
        /// The lock that has to be held.
        fence: Option<&'a Fence>,
    },
    /// Learn whether there is a keyspace of this name.
    Discover {
        /// The keyspace.
        keyspace: &'a str,
    },
    /// Create, drop or change a keyspace itself.
    Manage {
        /// The keyspace.
        keyspace: &'a str,
    },
    /// Administer the node or its network.
    Administer,
}

/// Some keys of a keyspace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span<'a> {
    /// None: the verb is needed somewhere in the keyspace.
    Nothing,
    /// This one.
    Key(&'a [u8]),
    /// All that begin so.
    Prefix(&'a [u8]),
    /// From a key up to and without another one, or to the last key.
    Range(&'a [u8], Option<&'a [u8]>),
}

impl Span<'_> {
    /// Every key.
    pub const ALL: Self = Self::Prefix(b"");
}

impl<'a> From<&'a Keys> for Span<'a> {
    fn from(keys: &'a Keys) -> Self {
        match keys {
            Keys::One(key) => Self::Key(key),
            Keys::Range { from, to } => Self::Range(from, to.as_deref()),
        }
    }
}

/// One thing that an operation needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need<'a> {
    /// A verb on all of these keys of the operation's keyspace.
    Keys(Verb, Span<'a>),
    /// Any grant on the operation's keyspace.
    Grant,
    /// That this lease is one of the caller's.
    Lease(LeaseId),
}

impl<'a> Operation<'a> {
    /// The keyspace; `None`: it concerns the node as a whole.
    pub(crate) fn keyspace(&self) -> Option<&'a str> {
        match self {
            Self::Read { keyspace, .. }
            | Self::Watch { keyspace, .. }
            | Self::Request { keyspace, .. }
            | Self::Discover { keyspace }
            | Self::Manage { keyspace } => Some(keyspace),
            Self::Write(write) => Some(&write.keyspace),
            Self::Administer => None,
        }
    }

    /// Everything that it needs. Both branches of a transaction count, whichever will be carried out.
    pub(crate) fn needs(&self) -> Vec<Need<'a>> {
        let mut needs = Needs(Vec::new());
        match self {
            Self::Read { keys, .. } => needs.add(Verb::Read, *keys),
            Self::Watch { keys, .. } => needs.add(Verb::Watch, *keys),
            Self::Write(write) => needs.of_eventual(write),
            Self::Request { request, fence, .. } => {
                if let Some(fence) = fence {
                    needs.add(Verb::Read, Span::Prefix(&fence.lock));
                }
                needs.of_request(request);
            }
            Self::Discover { .. } => needs.0.push(Need::Grant),
            Self::Manage { .. } | Self::Administer => needs.add(Verb::Admin, Span::ALL),
        }
        needs.0
    }
}

struct Needs<'a>(Vec<Need<'a>>);

impl<'a> Needs<'a> {
    fn add(&mut self, verb: Verb, keys: impl Into<Span<'a>>) {
        self.0.push(Need::Keys(verb, keys.into()));
    }

    fn of_eventual(&mut self, write: &'a eventual::Write) {
        let key = Span::Key(&write.key);
        match &write.op {
            Op::Put { .. }
            | Op::SetAdd { .. }
            | Op::SetRemove { .. }
            | Op::MapPut { .. }
            | Op::MapDelete { .. }
            | Op::Flag { .. } => self.add(Verb::Write, key),
            // The outcome is what the key holds now.
            Op::Incr { .. } | Op::Max { .. } | Op::Min { .. } => {
                self.add(Verb::Write, key);
                self.add(Verb::Read, key);
            }
            Op::Delete => self.add(Verb::Delete, key),
            Op::DeletePrefix => self.add(Verb::Delete, Span::Prefix(&write.key)),
        }
        match write.check {
            Some(Check::Absent | Check::Version(_)) => self.add(Verb::Read, key),
            Some(Check::Concurrent) | None => {}
        }
    }

    fn of_request(&mut self, request: &'a Request) {
        match request {
            Request::Read(Read::Range(range)) => self.add(Verb::Read, &range.keys),
            Request::Read(Read::Txn(txn)) | Request::Write(Write::Txn(txn)) => self.of_txn(txn),
            Request::Read(Read::Leases) => self.add(Verb::Lock, Span::ALL),
            Request::Read(Read::Hash) => self.add(Verb::Read, Span::ALL),
            Request::Write(Write::Put(put)) => self.of_put(put),
            Request::Write(Write::PutSequential { prefix, lease, .. }) => {
                self.add(Verb::Write, Span::Prefix(prefix));
                self.of_attachment(Span::Prefix(prefix), *lease);
            }
            Request::Write(Write::Delete(delete)) => self.of_delete(&delete.keys, delete.prev),
            Request::Write(Write::PopFirst { keys }) => self.of_delete(keys, true),
            Request::Write(Write::Compact { .. }) => self.add(Verb::Admin, Span::ALL),
            // A lease whose id the state machine draws is nobody's yet.
            Request::Write(Write::LeaseGrant { id: 0, .. }) => self.add(Verb::Lock, Span::Nothing),
            Request::Write(Write::LeaseGrant { id, .. } | Write::LeaseRevoke { id })
            | Request::KeepAlive { id }
            | Request::TimeToLive { id, .. } => {
                self.add(Verb::Lock, Span::Nothing);
                self.0.push(Need::Lease(*id));
            }
        }
    }

    fn of_txn(&mut self, txn: &'a Txn) {
        for Compare { keys, .. } in &txn.compare {
            self.add(Verb::Read, keys);
        }
        for op in txn.then.iter().chain(&txn.otherwise) {
            match op {
                TxnOp::Range(range) => self.add(Verb::Read, &range.keys),
                TxnOp::Put(put) => self.of_put(put),
                TxnOp::Delete(delete) => self.of_delete(&delete.keys, delete.prev),
                TxnOp::Txn(txn) => self.of_txn(txn),
            }
        }
    }

    fn of_put(&mut self, put: &'a Put) {
        let key = Span::Key(&put.key);
        self.add(Verb::Write, key);
        if put.prev {
            self.add(Verb::Read, key);
        }
        self.of_attachment(key, put.lease.unwrap_or(0));
    }

    fn of_delete(&mut self, keys: &'a Keys, returned: bool) {
        self.add(Verb::Delete, keys);
        if returned {
            self.add(Verb::Read, keys);
        }
    }

    /// Keys that end with a lease, unless it is 0.
    fn of_attachment(&mut self, keys: Span<'a>, lease: LeaseId) {
        if lease != 0 {
            self.add(Verb::Lock, keys);
            self.0.push(Need::Lease(lease));
        }
    }
}

//! What the driver tells the node, and what the node tells the driver.

use starling_kv::{Batch, Change, Outcome, WriteError};
use starling_proto::message::Description;
use starling_proto::{Class, Message, Millis, NodeId, NodeRecord};

use crate::strong::{StrongInput, StrongOutput};

/// One instant on both clocks of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: timers and failure detection.
    pub mono: Millis,
    /// Milliseconds since the Unix epoch: timestamps of writes, expiry, clock comparison.
    pub wall_ms: u64,
}

/// Names one client request between the driver and the node; echoed, never interpreted.
pub type Token = u64;

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// Several that came at once: what follows from them follows together, so that requests to one group
    /// share an entry's way through its log.
    Batch(Vec<Input>),
    /// `poll_timeout` has been reached.
    Timeout,
    /// A link is up and its peer has proved the network's secret. `dialed` is the address when this
    /// side dialed a bare one ([`Output::DialAddress`]).
    Connected {
        /// Who.
        peer: NodeId,
        /// Its verified record.
        record: NodeRecord,
        /// The bare address this side dialed, if it did.
        dialed: Option<String>,
    },
    /// A link is gone.
    Disconnected {
        /// Who.
        peer: NodeId,
    },
    /// A dial failed.
    Unreachable {
        /// Who was dialed, if it was known.
        peer: Option<NodeId>,
        /// The bare address that was dialed, if it was one.
        address: Option<String>,
    },
    /// The queue of this class to this peer was full: messages were dropped.
    Shed {
        /// To whom.
        peer: NodeId,
        /// Which class.
        class: Class,
    },
    /// A decoded and verified message.
    Message {
        /// From whom.
        peer: NodeId,
        /// What.
        message: Message,
    },
    /// Writes of clients, committed together as one group.
    Write(Vec<(Token, Batch)>),
    /// Addresses where somebody of this network may listen (tickets, seeds, DNS, mDNS).
    Contact(Vec<String>),
    /// Visit every node of the overlay.
    Crawl(Token),
    /// A client's request to a strong keyspace, or about one.
    Strong(StrongInput),
    /// The engine was synced after [`Output::Sync`] with this number came out.
    Synced(u64),
    /// Our own listening addresses changed; the record is already signed.
    RecordChanged(NodeRecord),
    /// The process is about to stop: tell the neighbours.
    Leave,
}

/// What the node wants done.
#[derive(Debug)]
pub enum Output {
    /// Connect to this node.
    Dial(NodeRecord),
    /// Connect to whoever listens there.
    DialAddress(String),
    /// Queue a message, encoded once for all its receivers; never blocks.
    Send {
        /// To whom; links to them are up.
        to: Vec<NodeId>,
        /// What.
        message: Message,
    },
    /// Close a link after what is queued for it.
    Close {
        /// Whose.
        peer: NodeId,
        /// For the log.
        reason: &'static str,
    },
    /// The outcome of one client's batch. Applied to the store, not yet synced.
    Written {
        /// Which request.
        token: Token,
        /// One outcome per write, or why the batch changed nothing.
        result: Result<Vec<Outcome>, WriteFailure>,
    },
    /// Keys whose visible state may have changed, by a client here or by a peer.
    Changed(Vec<Change>),
    /// The peers to keep on disk, replacing those kept before.
    Remember(Vec<NodeRecord>),
    /// No neighbour is left or was ever found: look for contacts (seeds, DNS, mDNS).
    NeedContacts,
    /// A crawl has finished.
    Crawled {
        /// Which request.
        token: Token,
        /// The nodes that answered, this one first.
        nodes: Vec<Description>,
        /// Nodes that were named by others and did not answer.
        unreachable: Vec<NodeRecord>,
    },
    /// Sync the engine and say [`Input::Synced`] with this number. The next one comes after that. Where
    /// it fails, nothing is to be said: the groups here then promise nothing any more.
    Sync(u64),
    /// The outcome of an [`Input::Strong`], or an update of a watch.
    Strong(StrongOutput),
    /// For the log and its counters.
    Notice(Notice),
}

/// Why a batch changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum WriteFailure {
    /// The batch itself was refused.
    #[error(transparent)]
    Refused(#[from] WriteError),
    /// The storage engine failed; nothing was changed.
    #[error(transparent)]
    Storage(starling_kv::Error),
    /// A version of data is needed that the network's operator has not switched on.
    #[error("this needs data version {needed}, and version {in_force} is in force in the network")]
    DataVersion {
        /// What the batch needs.
        needed: u16,
        /// What is in force.
        in_force: u16,
    },
    /// This node is a bootstrap seed.
    #[error("this node keeps no data; write through a replica")]
    NoStore,
}

/// Something an operator may want to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A peer entered the active view.
    NeighborUp(NodeId),
    /// A peer left the active view.
    NeighborDown(NodeId, &'static str),
    /// A neighbour was silent for too long.
    Suspected {
        /// Who.
        peer: NodeId,
        /// Milliseconds without a sign of life.
        silent_ms: u64,
    },
    /// An anti-entropy session ended.
    SessionFinished {
        /// With whom.
        peer: NodeId,
        /// Whether the replicas were equal at its start.
        equal: bool,
        /// Milliseconds it took.
        took_ms: u64,
        /// Bytes of the deltas it exchanged, both ways.
        bytes: u64,
    },
    /// A peer sent something that could not be joined.
    BadDelta(NodeId),
    /// The storage engine failed while joining what a peer sent; the dots stay unseen and repair
    /// will bring them again.
    StorageFailed(String),
    /// Another process uses this node's identity.
    IdentityConflict {
        /// When that process started, milliseconds since the Unix epoch.
        incarnation: u64,
    },
    /// A strong keyspace on this node.
    Strong {
        /// Which.
        keyspace: String,
        /// What.
        notice: starling_strong::group::Notice,
    },
    /// The version of data in force in the network is one that this program does not know.
    DataVersionAhead {
        /// What is in force.
        in_force: u16,
        /// The newest that this program reads.
        newest: u16,
    },
    /// This node's clock disagrees with its peers' by so much that it expires nothing.
    ClockOff {
        /// Median of the peers' clocks minus ours, milliseconds.
        offset_ms: i64,
    },
}

//! Bugs planted on purpose, to see whether the invariants of the simulator notice them. The code that
//! misbehaves stands where a mistake would, in the crates themselves, and is compiled only with
//! `RUSTFLAGS="--cfg planted"`: not a feature, because features are unified over a build.
//!
//! Which bug is on belongs to the thread, so that tests on several threads do not disturb each other.

mod hunt;

use std::cell::Cell;

pub use hunt::missed;

/// A mistake somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Two intervals that leave one number out are joined to one.
    IntervalOffByOne,
    /// An entry from the future is refused, and its dot claimed all the same.
    RefusedEntryClaimed,
    /// What a delta says to be dead is left alive.
    DeletionIgnored,
    /// Of a delta's context only the dots of its entries are joined.
    ContextNotJoined,
    /// A timestamp far in the future moves the local clock.
    FutureTimestampBelieved,
    /// Timestamps of others do not move the local clock at all.
    ClockNotAdvanced,
    /// A refused batch leaves behind what it did before it was refused.
    RefusedBatchKept,
    /// Now and then a write is acknowledged and told to others, and not stored.
    AcknowledgedBeforeStored,
    /// A restarted process goes on under its former actor, after the last dot on its disk.
    ActorReused,
    /// Of two live dots of one actor in a counter both count.
    CounterFieldsSummed,
    /// A dot that dies stays in the fingerprints.
    FingerprintKept,
    /// A delta that has no room for more entries claims their dots.
    RestrictionClaimsRest,
    /// The context of one actor is not read again after a restart.
    ContextLostOnRestart,
    /// Entries expire by a clock that disagrees with all others.
    ExpiryOnSkewedClock,
    /// Sessions bring what lives and not what died.
    DeletionsNotRepaired,
    /// Sessions bring what died before what replaced it.
    DeathsBeforeEntries,
    /// At the end of a session the peer's context is claimed as a whole.
    WholeContextClaimed,
    /// Lost neighbours and silent peers are not asked after.
    HealingOff,
    /// The last eager link is pruned like any other, and nothing is grafted.
    NothingGrafted,
    /// Who makes room for another does not tell the neighbour that it sends away.
    DisconnectNotSent,
    /// A rumor whose own dots are known is not joined.
    KnownRumorsFiltered,
    /// The dissemination does not hear that a neighbour is gone.
    LinkDownNotTold,
    /// The cache of rumors does not forget.
    CacheUnbounded,
    /// A write is committed and not told to anybody.
    WriteNotTold,
    /// Of a peer's bytes only whole frames count as signs of life.
    OnlyWholeFramesCount,
    /// A member of a group says to have what is not synced yet.
    AcknowledgedBeforeSync,
    /// Whom a member voted for is not read again after a restart.
    VoteForgotten,
    /// A leader answers reads without asking whether it still leads.
    ReadWithoutQuorum,
    /// A follower answers reads without asking its leader what is committed.
    FollowerDoesNotAsk,
    /// A read counts the log of one member as if it were those of most.
    TailsOfTooFew,
    /// The last entry that was applied is applied again after a restart.
    AppliedTwice,
    /// Voters are changed from one entry to the next, without a majority of both.
    JointPhaseSkipped,
    /// A voter forgets after a restart that a change of voters before the last one in its log is committed.
    CommitForgotten,
    /// A voter that was put back from an older copy votes as if it had never acknowledged more.
    PromisesForgotten,
    /// Entries are removed from the log before what they have changed is durable.
    LogCutBeforeFlush,
    /// The end of a journal that was never durable is taken for damage.
    TornEndTakenForDamage,
    /// Keeping a lease alive does not prolong it.
    LeaseEndsEarly,
    /// What a named write was answered is not remembered.
    SessionForgotten,
    /// A watch that falls behind goes on after what waited for it.
    WatchSkips,
    /// A portion of a read counts rows and not their bytes.
    PortionWithoutBytes,
    /// A delete reads all of what it deletes.
    DeadBodiesRead,
    /// All entries that have expired are removed in one step.
    ExpiryInOneStep,
    /// A process goes on in its groups although another one with its identity has started later.
    EarlierNotWithdrawn,
    /// The starts of peers are not remembered: what a former process of an identity says for its members counts, and it is not
    /// notified of the later one.
    StartsForgotten,
    /// Of several keyspaces of one name a node uses the one that it has learned of first.
    RivalByArrival,
    /// A member believes the number of a member that a message of Raft has, whoever sends it.
    StrangersBelieved,
    /// A node that is no member ends a replica by saying that its keyspace was dropped.
    DropBelieved,
    /// An item of a queue is acknowledged by a worker whose reservation has ended.
    AcknowledgedWithoutClaim,
    /// A link to a node that is revoked stays, and new ones are accepted.
    RevokedAdmitted,
    /// Statements of the authority go to no other node, but in handshakes.
    StatementsNotPassedOn,
}

impl Bug {
    /// Those of strong keyspaces, which their own simulated world has to catch.
    pub const STRONG: [Self; 15] = [
        Self::AcknowledgedBeforeSync,
        Self::VoteForgotten,
        Self::ReadWithoutQuorum,
        Self::FollowerDoesNotAsk,
        Self::TailsOfTooFew,
        Self::AppliedTwice,
        Self::JointPhaseSkipped,
        Self::CommitForgotten,
        Self::PromisesForgotten,
        Self::LogCutBeforeFlush,
        Self::TornEndTakenForDamage,
        Self::LeaseEndsEarly,
        Self::SessionForgotten,
        Self::WatchSkips,
        Self::PortionWithoutBytes,
    ];

    /// Those of work queues.
    pub const QUEUES: [Self; 1] = [Self::AcknowledgedWithoutClaim];

    /// Those of two processes with one identity.
    pub const DOUBLES: [Self; 2] = [Self::EarlierNotWithdrawn, Self::StartsForgotten];

    /// Those of several keyspaces of one name.
    pub const RIVALS: [Self; 1] = [Self::RivalByArrival];

    /// Those of nodes that send a group's members what only members may.
    pub const STRANGERS: [Self; 2] = [Self::StrangersBelieved, Self::DropBelieved];

    /// Those of nodes that the authority has revoked.
    pub const REVOKED: [Self; 2] = [Self::RevokedAdmitted, Self::StatementsNotPassedOn];

    /// Those that make a step of a node too long.
    pub const STEPS: [Self; 2] = [Self::DeadBodiesRead, Self::ExpiryInOneStep];

    /// Those that take a lost node in the middle of a large session.
    pub const SESSIONS: [Self; 1] = [Self::DeathsBeforeEntries];

    /// Those of everything else.
    pub const EVENTUAL: [Self; 24] = [
        Self::IntervalOffByOne,
        Self::RefusedEntryClaimed,
        Self::DeletionIgnored,
        Self::ContextNotJoined,
        Self::FutureTimestampBelieved,
        Self::ClockNotAdvanced,
        Self::RefusedBatchKept,
        Self::AcknowledgedBeforeStored,
        Self::ActorReused,
        Self::CounterFieldsSummed,
        Self::FingerprintKept,
        Self::RestrictionClaimsRest,
        Self::ContextLostOnRestart,
        Self::ExpiryOnSkewedClock,
        Self::DeletionsNotRepaired,
        Self::WholeContextClaimed,
        Self::HealingOff,
        Self::NothingGrafted,
        Self::DisconnectNotSent,
        Self::KnownRumorsFiltered,
        Self::LinkDownNotTold,
        Self::CacheUnbounded,
        Self::WriteNotTold,
        Self::OnlyWholeFramesCount,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug in what runs on this thread, instead of any other; `None`: all is well.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted on this thread.
pub fn on(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// A delta (format version 1) that claims `first..=last` of an actor to be dead.
pub fn dead(actor: [u8; 16], first: u64, last: u64) -> Vec<u8> {
    let mut delta = vec![1, 1];
    delta.extend(actor);
    delta.push(1);
    for mut number in [first - 1, last - first, 0] {
        while number >= 0x80 {
            delta.push(number as u8 | 0x80);
            number >>= 7;
        }
        delta.push(number as u8);
    }
    delta
}

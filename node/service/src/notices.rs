//! What the node noticed, as log lines.

use starling_core::Notice;
use starling_proto::NodeId;
use starling_proto::trust::Claim;
use starling_strong::group::{Asked, Notice as StrongNotice};
use tracing::{debug, error, info, warn};

/// Logs a notice at the level of what an operator has to do about it.
pub fn log(notice: &Notice) {
    match notice {
        Notice::NeighborUp(peer) => info!(?peer, "new neighbour"),
        Notice::NeighborDown(peer, reason) => info!(?peer, reason, "neighbour gone"),
        Notice::Suspected { peer, silent_ms } => warn!(?peer, silent_ms, "neighbour is silent: disconnected"),
        Notice::SessionFinished { peer, equal: true, took_ms, .. } => {
            debug!(?peer, took_ms, "replicas are equal");
        }
        Notice::SessionFinished { peer, took_ms, bytes, .. } => {
            debug!(?peer, took_ms, bytes, "replicas repaired");
        }
        Notice::BadDelta(peer) => warn!(?peer, "sent a delta that cannot be decoded: disconnected"),
        Notice::StorageFailed(reason) => {
            error!(%reason, "storage failed: reads continue, writes are rejected until it works again");
        }
        Notice::IdentityConflict { incarnation } => {
            error!(incarnation, "another process uses this node's identity: was the data directory copied?");
        }
        Notice::AuthorityAdopted(authority) => {
            info!(?authority, "this node follows the authority of the network");
        }
        Notice::Stated { claim, me } => log_claim(claim, *me),
        Notice::PeerDoubled(peer) => {
            error!(
                ?peer,
                "two processes use the identity of this peer: was its data directory or machine copied?"
            );
        }
        Notice::Strong { keyspace, notice } => log_strong(keyspace, notice),
        Notice::DataVersionAhead { in_force, newest } => {
            warn!(
                in_force,
                newest,
                "the network's data version is newer than this program: data that it cannot read is kept and \
                 forwarded; upgrade this node"
            );
        }
        Notice::ClockOff { offset_ms } => {
            warn!(
                offset_ms,
                "this machine's clock differs from its peers': nothing expires on this node until it is corrected"
            );
        }
    }
}

fn log_claim(claim: &Claim, me: NodeId) {
    match claim {
        Claim::Required => info!("nodes accept only peers with a certificate from now on"),
        Claim::Issuer { node, is_granted: true, .. } => info!(?node, "a node gives certificates"),
        Claim::Issuer { node, is_granted: false, .. } => {
            info!(?node, "a node gives no certificates any more");
        }
        Claim::Revoked { node } if *node == me => {
            error!("the network's authority has revoked this node: no other node accepts it");
        }
        Claim::Revoked { node } => {
            warn!(?node, "the network's authority has revoked a node: it is cut off");
        }
        Claim::Successor { key, .. } => {
            warn!(?key, "another key signs for the network's authority, too");
        }
        Claim::Retired { key } => {
            warn!(?key, "a key of the network's authority, and those before it, count no longer");
        }
    }
}

fn log_strong(keyspace: &str, notice: &StrongNotice) {
    match notice {
        StrongNotice::Leader { term, node: Some(node) } => {
            info!(keyspace, term, leader = NodeId(*node).short(), "the strong keyspace has a leader");
        }
        StrongNotice::Leader { term, node: None } => info!(keyspace, term, "no leader is known"),
        StrongNotice::Impossible { from, what } => {
            warn!(keyspace, from = NodeId(*from).short(), what, "a member sent an invalid message: dropped");
        }
        StrongNotice::ChangeRefused(index) => warn!(keyspace, index, "a change of members was rejected"),
        StrongNotice::Disagreement(index) => {
            error!(keyspace, index, "the replicas differ, and no majority of them agrees");
        }
        StrongNotice::NotOpened(reason) => {
            error!(keyspace, %reason, "the replica on this node does not open; the other members continue without it");
        }
        StrongNotice::RolledBack { acknowledged, found } => {
            error!(
                keyspace,
                acknowledged,
                found,
                "the replica on this node lacks entries that it had acknowledged: an older copy of the data was restored, \
                 or the disk loses writes; the leader sends them again"
            );
        }
        StrongNotice::MemberRolledBack { node, acknowledged, found } => {
            error!(
                keyspace,
                node = NodeId(*node).short(),
                acknowledged,
                found,
                "a member came back without entries that it had acknowledged: this node sends them again"
            );
        }
        StrongNotice::Rival => {
            warn!(
                keyspace,
                "a younger keyspace of this name was created apart from it: that one gets another name"
            );
        }
        StrongNotice::GaveWay { name } => {
            warn!(
                keyspace,
                name,
                "an older keyspace of this name was created apart from it: this one keeps its data under another name; \
                 export what the older one lacks, then drop it"
            );
        }
        StrongNotice::Asked { by, what } => {
            let by = NodeId(*by).short();
            match what {
                Asked::Create => {
                    info!(keyspace, by, "a node has created a replica of a new strong keyspace here");
                }
                Asked::Drop => warn!(keyspace, by, "a node asks for the strong keyspace to be dropped"),
                Asked::Voters(nodes) => {
                    let voters = nodes.iter().map(|node| NodeId(*node).short()).collect::<Vec<_>>().join(" ");
                    info!(keyspace, by, voters, "a node asks for other voters");
                }
                Asked::Transfer(to) => {
                    info!(keyspace, by, to = NodeId(*to).short(), "a node asks for another leader");
                }
                Asked::Recover => {
                    warn!(keyspace, "the operator of this node asks for its replica to be the only member");
                }
            }
        }
        StrongNotice::Dropped => {
            warn!(keyspace, "the strong keyspace was dropped");
        }
        StrongNotice::KeptAside { keep_ms } => {
            warn!(
                keyspace,
                keep_ms,
                "this node is not a member of the strong keyspace any more: its replica is kept for a while"
            );
        }
        StrongNotice::AsideRemoved { reason } => {
            warn!(keyspace, reason, "the replica that was kept after its removal is deleted");
        }
        StrongNotice::AsideInTheWay => {
            error!(
                keyspace,
                "this node cannot join the strong keyspace again while it keeps a removed replica that may have writes \
                 which the keyspace lacks: `starling keyspace discard` deletes it"
            );
        }
        StrongNotice::Stopped(reason) => {
            error!(keyspace, %reason, "the replica on this node has stopped; the other members continue without it");
        }
    }
}

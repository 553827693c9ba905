//! The authority of a simulated network. Certificates are not required in it, and signatures are the driver's part.

use starling_core::Input;
use starling_proto::NodeId;
use starling_proto::trust::{Claim, Statement, Trust};

use super::World;

/// The key of the authority.
const AUTHORITY: NodeId = NodeId([0xaa; 32]);

impl World {
    /// The operator of a node revokes another one.
    pub fn revoke(&mut self, node: usize, by: usize) {
        self.revoked.push(node);
        let claim = Claim::Revoked { node: self.nodes[node].record.id };
        let statement = Statement { authority: AUTHORITY, serial: 1, claim, signature: Vec::new() };
        let statements = vec![statement];
        self.give(by, Input::Statements { from: None, authority: AUTHORITY, statements });
    }

    /// Ends the processes of all revoked nodes, for good.
    pub fn end_revoked(&mut self) {
        if let Some(mut witness) = self.witness.take() {
            witness.look_at_revoked(self);
            self.witness = Some(witness);
        }
        for node in std::mem::take(&mut self.revoked) {
            if self.nodes[node].is_up() {
                self.kill(node);
            }
            self.nodes[node].is_retired = true;
        }
    }

    /// Nodes with a link to this one.
    pub fn links_to(&self, node: usize) -> usize {
        let id = self.nodes[node].record.id;
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        others.filter(|(_, other)| other.core.as_ref().is_some_and(|core| core.is_linked(&id))).count()
    }

    /// The statements that a node has; `None` while it is down.
    pub fn trust_of(&self, node: usize) -> Option<&Trust> {
        self.nodes[node].core.as_ref().map(|core| core.trust().as_ref())
    }

    /// One side of the handshake's exchange of statements.
    pub(super) fn show(&mut self, from: usize, to: usize) {
        let Some(trust) = self.trust_of(from) else { return };
        let Some(authority) = trust.authority() else { return };
        let statements = trust.statements().cloned().collect();
        let from = Some(self.nodes[from].record.id);
        self.give(to, Input::Statements { from, authority, statements });
    }
}

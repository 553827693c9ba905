//! The end of this node's part in all groups: another process with its identity acts for its members.

use starling_kv::Engine;
use starling_strong::group::Group;

use super::Replicas;

impl<E: Engine> Replicas<E> {
    /// Whether no replica takes part in its group any more.
    pub fn has_withdrawn(&self) -> bool {
        self.has_withdrawn
    }

    /// Lets no replica take part in its group any more. Returns whether one did.
    pub fn withdraw(&mut self) -> bool {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::EarlierNotWithdrawn) {
            return false;
        }
        if std::mem::replace(&mut self.has_withdrawn, true) {
            return false;
        }
        for (group, replica) in &mut self.open {
            replica.group.withdraw();
            self.ready.insert(*group);
        }
        true
    }

    /// Lets a replica that opens not take part, if the others do not.
    pub(super) fn withdraw_if_due(&self, group: &mut Group<E>) {
        if self.has_withdrawn {
            group.withdraw();
        }
    }
}

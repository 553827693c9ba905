//! Invariants over all members, and their status as text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use starling_strong::group::Notice;

use super::{World, actors, index, watchers};

impl World {
    /// Every replica that is up has applied the same entries to the same state.
    pub fn assert_equal(&mut self) {
        let states: BTreeSet<_> = self
            .nodes
            .iter_mut()
            .filter(|node| !node.is_lost)
            .filter_map(|node| node.group.as_mut())
            .map(|group| (group.machine().applied(), group.machine().hash(), group.machine().revision()))
            .collect();
        assert_eq!(states.len(), 1, "replicas differ: {states:?}\n{}", self.picture());
    }

    /// Clients are served again; once they have stopped, replicas are equal, and what clients were told is linearizable.
    pub fn assert_recovered(&mut self) {
        let before = self.clients.acknowledged;
        self.run_till("writes in the end", |world| world.clients.acknowledged > before + 20);
        self.clients.stop = true;
        self.run_for(10_000);
        self.assert_equal();
        self.assert_linearizable();
    }

    /// Compacted rows and those of dropped restorations are removed from every disk.
    pub fn assert_tidy(&mut self) {
        for (node, it) in self.nodes.iter_mut().enumerate() {
            let Some(group) = &mut it.group else { continue };
            let (bytes, counted) = (group.machine().bytes(), it.disk.strong_bytes());
            assert_eq!(bytes, counted, "bytes that node {node} says to hold, and holds");
            assert!(group.poll_work().is_none(), "node {node} has work to do");
        }
    }

    /// How often each kind of fault had an effect.
    pub fn reached(&self) -> Vec<(&'static str, u64)> {
        let stopped = |(_, notice): &&(usize, Notice)| matches!(notice, Notice::Stopped(_));
        let mut reached = vec![
            ("disks that broke", self.notices.iter().filter(stopped).count() as u64),
            ("elections", self.leaders.len() as u64),
            ("contested elections", self.candidates.values().filter(|who| who.len() > 1).count() as u64),
            ("voters betrayed", self.betrayed.0),
            ("changes betrayed", self.betrayed.1),
            ("members lost", self.lost),
        ];
        reached.extend(actors::reached(self));
        reached.extend(watchers::reached(self));
        reached
    }

    /// The status of every member, as text.
    pub fn picture(&self) -> String {
        let mut text = String::new();
        for (node, it) in self.nodes.iter().enumerate() {
            let Some(group) = &it.group else {
                let (member, is_lost) = (it.member, it.is_lost);
                writeln!(text, "node {node}: member {member:?}, down {}, lost {is_lost}", it.is_down)
                    .expect("memory");
                continue;
            };
            let status = group.status(self.clock(node));
            let leader = status.leader.as_ref().map(index);
            writeln!(
                text,
                "node {node}: member {}, term {}, leader {leader:?}, log {}..{}, committed {}, applied {}, \
                 changing {}, stopped {:?}",
                group.member(),
                status.term,
                status.base_index,
                status.last_index,
                status.commit_index,
                status.applied_index,
                status.is_changing,
                status.stopped,
            )
            .expect("memory");
            for member in &status.members {
                writeln!(
                    text,
                    "    {} on {}, votes {}, matched {:?}, restoring {}, silent {:?}",
                    member.member,
                    index(&member.node),
                    member.is_voter,
                    member.matched,
                    member.is_restoring,
                    member.silent_ms,
                )
                .expect("memory");
            }
        }
        text
    }
}

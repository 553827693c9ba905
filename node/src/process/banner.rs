//! The announcement of a started node on standard output.

use std::io::{IsTerminal, Write};

use starling_service::hide_tickets;

/// The contents of the announcement.
pub struct Banner<'a> {
    /// Whether the data directory is new.
    pub is_first_run: bool,
    /// What it is: a node, or a seed.
    pub what: &'a str,
    /// Chosen by the operator.
    pub name: &'a str,
    /// The first digits of the node's id.
    pub id: &'a str,
    /// Where peers reach it.
    pub listen: &'a [String],
    /// Where its API listens, a URL or `unix:PATH`.
    pub api: &'a str,
    /// The URLs where etcd clients are served, and which keyspace.
    pub etcd: &'a [(String, String)],
    /// Whether it looks for peers, and has found none yet.
    pub seeks_peers: bool,
    /// Whether only this machine can join with the ticket.
    pub is_local: bool,
    /// Its data directory.
    pub data_dir: &'a str,
    /// The key of the network's authority, on the run that made it.
    pub authority_key: Option<&'a str>,
    /// A join ticket; `None` on a node that cannot invite others.
    pub ticket: Option<&'a str>,
}

impl Banner<'_> {
    /// Prints it, the ticket only to a terminal: other outputs end in logs, which more people read. Errors are ignored:
    /// standard output may be closed.
    pub fn print(&self) {
        let output = std::io::stdout();
        let text = self.text(output.is_terminal());
        let _ = output.lock().write_all(text.as_bytes());
    }

    fn text(&self, with_ticket: bool) -> String {
        let mut lines = vec![
            format!("Starling {} {} ({}) is up", self.what, self.name, self.id),
            format!("  API     {}", self.api),
            format!("  peers   {}", self.listen.join("\n          ")),
        ];
        lines.extend(self.etcd.iter().map(|(at, keyspace)| format!("  etcd    {at} ({keyspace})")));
        if self.seeks_peers {
            lines.push("  joining its network: `starling status` shows whether a peer has been found".into());
        }
        if self.is_first_run {
            lines.push(format!("  data    {}", self.data_dir));
        }
        if let Some(key) = self.authority_key {
            lines.push(format!("  key     {key}"));
            lines.push(
                "          of the network's authority, which can cut nodes off: keep it and a copy of it on other machines".into(),
            );
        }
        if let Some(ticket) = self.ticket.filter(|_| self.is_first_run) {
            let who = if self.is_local {
                "Other nodes on this machine join with this ticket (treat it as a password). No other machine can reach it: \
                 --listen or --external names an address:"
            } else {
                "Another machine joins with this ticket (treat it as a password):"
            };
            lines.extend([String::new(), who.to_owned()]);
            lines.push(if with_ticket {
                format!("  starling up --join {ticket}")
            } else {
                format!("  starling up --join {}    (`starling ticket` prints it)", hide_tickets(ticket))
            });
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_run_shows_the_ticket_and_only_to_a_terminal() {
        let listen = ["/ip4/10.0.0.1/tcp/7400".to_owned()];
        let mut banner = Banner {
            is_first_run: true,
            what: "node",
            name: "n1",
            id: "0a0b0c0d",
            listen: &listen,
            api: "http://127.0.0.1:7401",
            etcd: &[("http://127.0.0.1:2379".into(), "orders".into())],
            seeks_peers: true,
            is_local: false,
            data_dir: "/data",
            authority_key: Some("/data/authority.key"),
            ticket: Some("starling1xyz"),
        };
        assert!(banner.text(true).contains("starling up --join starling1xyz"));
        assert!(banner.text(true).contains("Another machine joins"));
        assert!(banner.text(false).contains("--join starling1***  "), "it would end in a log");
        assert!(banner.text(true).contains("key     /data/authority.key\n"));
        assert!(banner.text(true).contains("joining its network"), "no peer has been found yet");
        banner.seeks_peers = false;
        assert!(!banner.text(true).contains("joining its network"));
        banner.is_local = true;
        assert!(!banner.text(true).contains("Another machine joins"));
        banner.is_first_run = false;
        assert!(!banner.text(true).contains("starling1xyz"));
        assert!(banner.text(true).contains("http://127.0.0.1:7401"));
        assert!(banner.text(true).contains("http://127.0.0.1:2379 (orders)"));
    }
}

//! The network that a node belongs to, and the nodes that it may contact to join.

use std::net::SocketAddr;

use starling_bootstrap::{NetworkFile, Ticket, TicketAuthority};
use starling_p2p::{Network, peer_id};
use starling_proto::NodeRecord;
use zeroize::Zeroizing;

use super::data_dir::DataDir;
use super::report::hex;
use super::start_error::StartError;

/// Characters of a wrong ticket that an error shows: enough to recognize it, too few to be a secret.
const SHOWN_CHARS: usize = 16;

/// A node's network, and where to look for it.
pub struct Membership {
    file: NetworkFile,
    is_saved: bool,
    /// Multiaddresses from tickets and the configuration.
    pub addresses: Vec<String>,
    /// Names to look up, as `/dnsaddr/...`.
    pub names: Vec<String>,
    /// Whether the data directory is new.
    pub is_first_run: bool,
    /// Whether this run has made the network.
    pub is_new_network: bool,
    /// The authorities that tickets name, in the order of the tickets.
    pub authorities: Vec<TicketAuthority>,
}

impl Membership {
    /// The network of the data directory; on the first run that of the ticket, or a new one, which is saved at once:
    /// a store must not exist without it. With a ticket and the data of an earlier run nothing is saved before
    /// [`Membership::save`], because the store has to confirm that it belongs to the ticket's network.
    pub fn load_or_adopt(dir: &DataDir, join: &[String]) -> Result<Self, StartError> {
        let Sorted { tickets, mut addresses, names } = sort(join)?;
        let known = NetworkFile::load(&dir.network())?;
        let is_first_run = known.is_none();
        let remains = dir.remains();
        let is_new_network = is_first_run && tickets.is_empty();
        if let Some(beside) = remains.clone().filter(|_| is_new_network) {
            return Err(StartError::NetworkLost { path: dir.network(), beside });
        }
        let mut file = match (known, tickets.first(), addresses.first().or(names.first())) {
            (Some(file), _, _) => file,
            (None, Some(ticket), _) => {
                NetworkFile { id: ticket.network, secrets: vec![ticket.secret.clone()] }
            }
            (None, None, Some(address)) => return Err(StartError::NoTicket { address: address.clone() }),
            (None, None, None) => NetworkFile::generate(),
        };
        if let Some(other) = tickets.iter().find(|ticket| ticket.network != file.id) {
            let path = dir.path().to_owned();
            return Err(StartError::OtherNetwork { path, ours: hex(&file.id), theirs: hex(&other.network) });
        }
        let mut is_saved = !is_first_run;
        for ticket in &tickets {
            is_saved &= !adopt_secret(&mut file, &ticket.secret);
        }
        let authorities = tickets.iter().filter_map(|ticket| ticket.authority.clone()).collect();
        addresses.extend(tickets.into_iter().flat_map(|ticket| ticket.addresses));
        let mut membership =
            Self { file, is_saved, addresses, names, is_first_run, is_new_network, authorities };
        if remains.is_none() {
            membership.save(dir)?;
        }
        Ok(membership)
    }

    /// Writes the network's file if it is new or has changed.
    pub fn save(&mut self, dir: &DataDir) -> Result<(), StartError> {
        if !self.is_saved {
            self.file.save(&dir.network())?;
            self.is_saved = true;
        }
        Ok(())
    }

    /// Names the network.
    pub fn network_id(&self) -> [u8; 16] {
        self.file.id
    }

    /// What peers must prove.
    pub fn network(&self) -> Network {
        Network { id: self.file.id, secrets: self.file.secrets.clone() }
    }

    /// Whether other nodes were configured to join.
    pub fn has_contacts(&self) -> bool {
        !self.addresses.is_empty() || !self.names.is_empty()
    }

    /// Makes tickets that lead to the node of a record.
    pub fn ticket_maker(&self) -> impl Fn(&NodeRecord, Option<TicketAuthority>) -> String + Send + use<> {
        let (network, secret) = (self.file.id, self.file.secrets[0].clone());
        move |record, authority| {
            let peer = format!("/p2p/{}", peer_id(&record.id));
            let addresses = record.addresses.iter().map(|address| format!("{address}{peer}")).collect();
            Ticket { network, secret: secret.clone(), addresses, authority }.to_string()
        }
    }
}

/// Adds a secret that the file does not have, in place of the older one: two are valid while the network changes from
/// one to the other. Returns whether the file changed.
fn adopt_secret(file: &mut NetworkFile, secret: &Zeroizing<[u8; 32]>) -> bool {
    if file.secrets.contains(secret) {
        return false;
    }
    file.secrets.insert(0, secret.clone());
    file.secrets.truncate(starling_p2p::SECRETS_MAX);
    true
}

/// What `join` lists, by kind.
#[derive(Default)]
struct Sorted {
    tickets: Vec<Ticket>,
    addresses: Vec<String>,
    names: Vec<String>,
}

/// `/...` is a multiaddress, HOST:PORT an address, a bare host name is to be looked up, anything else must be a ticket.
fn sort(join: &[String]) -> Result<Sorted, StartError> {
    let mut sorted = Sorted::default();
    for item in join {
        if item.starts_with("/dnsaddr/") {
            sorted.names.push(item.clone());
        } else if item.starts_with('/') {
            sorted.addresses.push(item.clone());
        } else if let Some(address) = host_and_port(item) {
            sorted.addresses.push(address);
        } else if item.contains('.') {
            sorted.names.push(format!("/dnsaddr/{item}"));
        } else {
            let given = || item.chars().take(SHOWN_CHARS).collect();
            let ticket = item.parse().map_err(|reason| StartError::Ticket { given: given(), reason })?;
            sorted.tickets.push(ticket);
        }
    }
    Ok(sorted)
}

/// The multiaddress of HOST:PORT.
fn host_and_port(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        let kind = if address.is_ipv4() { "ip4" } else { "ip6" };
        return Some(format!("/{kind}/{}/tcp/{}", address.ip(), address.port()));
    }
    let (host, port) = text.split_once(':')?;
    let port: u16 = port.parse().ok()?;
    let is_host =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_host.then(|| format!("/dns/{host}/tcp/{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(network: u8, secret: u8) -> Ticket {
        Ticket {
            network: [network; 16],
            secret: [secret; 32].into(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            authority: None,
        }
    }

    fn load(dir: &DataDir, join: &[String]) -> Result<Membership, StartError> {
        Membership::load_or_adopt(dir, join)
    }

    #[test]
    fn a_new_directory_makes_a_network_once() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        let first = load(&dir, &[]).expect("made");
        let again = load(&dir, &[]).expect("loaded");
        assert!(first.is_first_run && !again.is_first_run);
        assert!(first.is_new_network && !again.is_new_network);
        assert_eq!(first.network_id(), again.network_id());
        assert_eq!(first.network().secrets, again.network().secrets);
    }

    #[test]
    fn a_ticket_is_adopted_and_another_network_refused() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        let joined = load(&dir, &[ticket(1, 1).to_string()]).expect("adopted");
        assert_eq!(joined.network_id(), [1; 16]);
        assert_eq!(joined.addresses, ["/ip4/127.0.0.1/tcp/1"]);
        assert!(matches!(load(&dir, &[ticket(2, 1).to_string()]), Err(StartError::OtherNetwork { .. })));
        let rotated = load(&dir, &[ticket(1, 2).to_string()]).expect("rotated");
        assert_eq!(rotated.network().secrets, [[2; 32], [1; 32]].map(Zeroizing::new));
        let kept = load(&dir, &["/ip4/127.0.0.1/tcp/2".into()]).expect("loaded");
        assert_eq!(kept.network().secrets, [[2; 32], [1; 32]].map(Zeroizing::new));
    }

    #[test]
    fn a_lost_file_is_replaced_only_by_a_ticket_that_the_store_has_confirmed() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        std::fs::create_dir(dir.store()).expect("made");
        std::fs::write(dir.store().join("CURRENT"), b"").expect("written");
        let error = load(&dir, &[]).err().expect("refused");
        assert!(matches!(error, StartError::NetworkLost { .. }), "{error}");
        assert!(error.hint().contains("--join TICKET"), "{}", error.hint());
        let mut joined = load(&dir, &[ticket(1, 1).to_string()]).expect("adopted");
        assert!(!dir.network().exists(), "the store may belong to another network");
        joined.save(&dir).expect("saved");
        assert_eq!(load(&dir, &[]).expect("loaded").network_id(), [1; 16]);
    }

    #[test]
    fn an_address_alone_does_not_let_a_new_node_in() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        let address = "/ip4/127.0.0.1/tcp/1".to_owned();
        assert!(matches!(load(&dir, &[address]), Err(StartError::NoTicket { .. })));
        assert!(matches!(load(&dir, &["starling1broken".into()]), Err(StartError::Ticket { .. })));
        assert!(load(&dir, &[]).expect("nothing was made before").is_first_run);
    }

    #[test]
    fn what_is_joined_is_told_apart() {
        let join = [
            "/ip4/127.0.0.1/tcp/1",
            "/dnsaddr/a.example.org",
            "b.example.org",
            &ticket(1, 1).to_string(),
            "192.0.2.1:7400",
            "[2001:db8::1]:7400",
            "seed.example.org:7400",
            "seed:7400",
        ];
        let sorted = sort(&join.map(Into::into)).expect("valid");
        let addresses = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.0.2.1/tcp/7400",
            "/ip6/2001:db8::1/tcp/7400",
            "/dns/seed.example.org/tcp/7400",
            "/dns/seed/tcp/7400",
        ];
        assert_eq!(sorted.addresses, addresses);
        for wrong in ["seed:", ":7400", "seed:70000", "a b:1"] {
            assert!(sort(&[wrong.into()]).is_err(), "{wrong}");
        }
        assert_eq!(sorted.names, ["/dnsaddr/a.example.org", "/dnsaddr/b.example.org"]);
        assert_eq!(sorted.tickets, [ticket(1, 1)]);
    }
}

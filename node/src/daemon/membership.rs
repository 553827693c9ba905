//! Which network a node belongs to, and whom it may ask to get in.

use starling_p2p::{Network, peer_id};
use starling_proto::NodeRecord;

use super::data_dir::DataDir;
use super::error::DaemonError;
use super::report::hex;
use super::standin::{NetworkFile, Ticket};

/// What every ticket begins with.
const TICKET_PREFIX: &str = "starling1";
/// Most addresses in a ticket: it should still fit on a line or two.
const TICKET_ADDRESSES_MAX: usize = 4;
/// Characters of a wrong ticket that an error shows: enough to recognize it, too few to be a secret.
const SHOWN_CHARS: usize = 16;

/// A node's network, and where to look for it.
pub struct Membership {
    file: NetworkFile,
    /// Multiaddresses and names from tickets and the configuration.
    pub seeds: Vec<String>,
    /// Whether the data directory is new.
    pub is_first_run: bool,
}

impl Membership {
    /// The network of the data directory; on the first run that of the ticket, or a new one.
    pub fn load_or_adopt(dir: &DataDir, join: &[String]) -> Result<Self, DaemonError> {
        let (tickets, mut seeds) = sort(join)?;
        let known = NetworkFile::load(&dir.network())?;
        let is_first_run = known.is_none();
        let mut file = match (known, tickets.first(), seeds.first()) {
            (Some(file), _, _) => file,
            (None, Some(ticket), _) => NetworkFile { id: ticket.network, secrets: vec![ticket.secret] },
            (None, None, Some(address)) => return Err(DaemonError::NoTicket { address: address.clone() }),
            (None, None, None) => NetworkFile { id: rand::random(), secrets: vec![rand::random()] },
        };
        if let Some(other) = tickets.iter().find(|ticket| ticket.network != file.id) {
            let path = dir.path().to_owned();
            return Err(DaemonError::OtherNetwork { path, ours: hex(&file.id), theirs: hex(&other.network) });
        }
        let mut changed = is_first_run;
        for ticket in &tickets {
            changed |= adopt_secret(&mut file, ticket.secret);
        }
        if changed {
            file.save(&dir.network())?;
        }
        seeds.extend(tickets.into_iter().flat_map(|ticket| ticket.addresses));
        Ok(Self { file, seeds, is_first_run })
    }

    /// Names the network.
    pub fn network_id(&self) -> [u8; 16] {
        self.file.id
    }

    /// What peers must prove.
    pub fn network(&self) -> Network {
        Network { id: self.file.id, secrets: self.file.secrets.clone() }
    }

    /// Makes tickets that lead to the node of a record.
    pub fn ticket_maker(&self) -> impl Fn(&NodeRecord) -> String + Send + use<> {
        let (network, secret) = (self.file.id, self.file.secrets[0]);
        move |record| {
            let peer = peer_id(&record.id).map(|peer| format!("/p2p/{peer}")).unwrap_or_default();
            let addresses = record.addresses.iter().take(TICKET_ADDRESSES_MAX);
            let addresses = addresses.map(|address| format!("{address}{peer}")).collect();
            Ticket { network, secret, addresses }.to_string()
        }
    }
}

/// A secret that the file does not hold replaces the older one: two are valid while the network
/// changes from one to the other. Whether anything changed.
fn adopt_secret(file: &mut NetworkFile, secret: [u8; 32]) -> bool {
    if file.secrets.contains(&secret) {
        return false;
    }
    file.secrets.insert(0, secret);
    file.secrets.truncate(starling_p2p::SECRETS_MAX);
    true
}

/// Tickets, and everything else as addresses: `/...` multiaddresses, and names to be looked up in
/// the DNS as `dnsaddr`.
fn sort(join: &[String]) -> Result<(Vec<Ticket>, Vec<String>), DaemonError> {
    let (mut tickets, mut seeds) = (Vec::new(), Vec::new());
    for item in join {
        if item.starts_with('/') {
            seeds.push(item.clone());
        } else if item.starts_with(TICKET_PREFIX) || !item.contains('.') {
            tickets.push(item.parse().map_err(|reason| DaemonError::Ticket {
                given: item.chars().take(SHOWN_CHARS).collect(),
                reason,
            })?);
        } else {
            seeds.push(format!("/dnsaddr/{item}"));
        }
    }
    Ok((tickets, seeds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(network: u8, secret: u8) -> Ticket {
        Ticket { network: [network; 16], secret: [secret; 32], addresses: vec!["/ip4/127.0.0.1/tcp/1".into()] }
    }

    fn load(dir: &DataDir, join: &[String]) -> Result<Membership, DaemonError> {
        Membership::load_or_adopt(dir, join)
    }

    #[test]
    fn a_new_directory_makes_a_network_once() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        let first = load(&dir, &[]).expect("made");
        let again = load(&dir, &[]).expect("loaded");
        assert!(first.is_first_run && !again.is_first_run);
        assert_eq!(first.network_id(), again.network_id());
        assert_eq!(first.network().secrets, again.network().secrets);
    }

    #[test]
    fn a_ticket_is_adopted_and_another_network_refused() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        let joined = load(&dir, &[ticket(1, 1).to_string()]).expect("adopted");
        assert_eq!(joined.network_id(), [1; 16]);
        assert_eq!(joined.seeds, ["/ip4/127.0.0.1/tcp/1"]);
        assert!(matches!(load(&dir, &[ticket(2, 1).to_string()]), Err(DaemonError::OtherNetwork { .. })));
        let rotated = load(&dir, &[ticket(1, 2).to_string()]).expect("rotated");
        assert_eq!(rotated.network().secrets, [[2; 32], [1; 32]]);
        let kept = load(&dir, &["/ip4/127.0.0.1/tcp/2".into()]).expect("loaded");
        assert_eq!(kept.network().secrets, [[2; 32], [1; 32]]);
    }

    #[test]
    fn an_address_alone_does_not_let_a_new_node_in() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        let address = "/ip4/127.0.0.1/tcp/1".to_owned();
        assert!(matches!(load(&dir, &[address]), Err(DaemonError::NoTicket { .. })));
        assert!(matches!(load(&dir, &["starling1broken".into()]), Err(DaemonError::Ticket { .. })));
        assert!(load(&dir, &[]).expect("nothing was made before").is_first_run);
    }
}

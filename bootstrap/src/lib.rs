//! How a node finds its first peers and its way back: join tickets, seed lists, DNS, mDNS and
//! remembered peers. Yields addresses and plain data; connecting is the caller's business.

mod dns;
mod file;
mod finder;
mod mdns;
mod network;
mod remembered;
mod ticket;

pub use dns::NAME_BYTES_MAX;
pub use finder::{Finder, FinderConfig, ROUND_ADDRESSES_MAX};
pub use mdns::{Mdns, MdnsError};
pub use network::{NetworkFile, NetworkFileError};
pub use remembered::{PEERS_MAX, Peer, load_peers, save_peers};
pub use ticket::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, Ticket, TicketError};

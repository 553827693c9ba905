//! Discovery of a node's first peers, and of its network after a restart: join tickets, seed lists, DNS, mDNS and
//! remembered peers. This crate returns addresses and plain data; the caller connects.

mod dns;
mod file;
mod finder;
mod mdns;
mod network;
mod remembered;
mod ticket;

pub use dns::NAME_BYTES_MAX;
pub use file::replace as replace_file;
pub use finder::{Finder, FinderConfig, ROUND_ADDRESSES_MAX};
pub use mdns::{Mdns, MdnsError};
pub use network::{NetworkFile, NetworkFileError};
pub use remembered::{PEERS_MAX, Peer, load_peers, save_peers};
pub use ticket::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, INVITATION_BYTES_MAX, Ticket, TicketAuthority, TicketError,
    hide_tickets,
};

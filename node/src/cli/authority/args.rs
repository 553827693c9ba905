//! Arguments of the commands on the network's authority.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use starling_api::trust::TicketSpec;

use crate::cli::value::parse_duration_ms;

/// Arguments of `ticket`. Limits need an authority, and a node that is an issuer.
#[derive(Debug, Args)]
pub struct TicketArgs {
    /// Nodes that each issuer lets in by it, 1 to 100000 [default: any number]
    #[arg(long, value_name = "N")]
    pub uses: Option<u64>,
    /// How long it is valid, like 1h or 7d, a second to ten years [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub expires: Option<u64>,
    /// For a bootstrap seed
    #[arg(long)]
    pub seed: bool,
}

impl TicketArgs {
    /// As the API takes it.
    pub fn spec(&self) -> TicketSpec {
        TicketSpec { uses: self.uses, expires_ms: self.expires, seed: self.seed }
    }
}

/// The file with the authority's key.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// File with the authority's key. It stays on this machine
    #[arg(long, value_name = "FILE", env = "STARLING_AUTHORITY_KEY")]
    pub key: PathBuf,
}

/// Commands of `authority`.
#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// Make the authority of a network that has none, with the node asked as its first issuer, which then gives every node a
    /// certificate
    Init {
        /// File for its key; it must not exist
        #[arg(long, value_name = "FILE", default_value = "authority.key", env = "STARLING_AUTHORITY_KEY")]
        key: PathBuf,
    },
    /// Show the authority, its issuers and the node's certificate
    Show,
    /// Have nodes accept only peers with a certificate, permanently. Refused while a node has none or does not answer
    Require {
        /// The authority's key.
        #[command(flatten)]
        key: KeyArgs,
        /// Even so: such nodes are cut off until they join again with a ticket of an issuer
        #[arg(long)]
        force: bool,
    },
    /// Make another key of the authority, which takes over: both count until the older one is retired
    Rotate {
        /// The present key.
        #[command(flatten)]
        key: KeyArgs,
        /// File for the other key; it must not exist
        #[arg(long, value_name = "FILE")]
        new_key: PathBuf,
    },
    /// Have a key, lost or stolen or replaced, count no longer, permanently. A key that came from it has to sign that, and
    /// first signs all that the retired one has stated. Refused while a node does not answer or lacks statements
    Retire {
        /// The first digits of the key that is retired
        old: String,
        /// The key that remains.
        #[command(flatten)]
        key: KeyArgs,
        /// Even so: such nodes follow when they meet one that has. What the retired key has stated and they alone know is lost
        #[arg(long)]
        force: bool,
    },
}

/// Commands of `issuer`.
#[derive(Debug, Subcommand)]
pub enum IssuerCommand {
    /// Make a node an issuer, or state its present addresses
    Add {
        /// Its name, or the first digits of its id
        node: String,
        /// The authority's key.
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Make a node an issuer no longer: nodes with a certificate of it get one of another issuer. If its key is in wrong
    /// hands, `member revoke` it instead
    Rm {
        /// Its name, or the first digits of its id
        node: String,
        /// The authority's key.
        #[command(flatten)]
        key: KeyArgs,
        /// Also while no other issuer answers: until one does, no certificate is renewed and no node joins
        #[arg(long)]
        force: bool,
    },
}

/// Commands of `member`.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// List the nodes with their certificates, and whether they have the statements of the node asked
    Ls,
    /// Cut a node off for good: no node accepts its key again. Certificates that it gave as an issuer are invalid, and their
    /// nodes have to join again with tickets of another issuer
    Revoke {
        /// Its name, the first digits of its id, or the whole id of a node that no other remembers
        node: String,
        /// The authority's key.
        #[command(flatten)]
        key: KeyArgs,
        /// Without asking
        #[arg(long)]
        yes: bool,
        /// Also an issuer while no other one answers: until one does, no certificate is renewed and no node joins
        #[arg(long)]
        force: bool,
    },
}

//! The tree of commands and their arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::authority::args::{AuthorityCommand, IssuerCommand, MemberCommand, TicketArgs};
use super::coordinate::args::{ElectCommand, LeaseCommand, LockArgs, WriteArgs, parse_lease};
use super::coordinate::queue::args::{AFTER_QUEUE, QueueCommand};
use super::import::args::ImportArgs;
use super::token::TokenCommand;
use super::value::{parse_duration_ms, parse_precondition, parse_voters};
use starling_api::Precondition;

/// The text of `--help` after the commands.
const AFTER_HELP: &str = "\
A value is used as it is; @FILE reads a file, - or nothing reads standard input, @@x means @x.
Write -- before keys and values that begin with a dash.

Exit codes:
  0  done
  1  error
  2  the command line is wrong
  3  there is no such key or keyspace
  4  conflict: the version check failed, the key holds another type, another client holds the lock
  5  the node cannot be reached, or does not answer in time
  6  a write to a strong keyspace, or one whose sync failed, may or may not have been applied
  7  a lock, a leadership, a session or a lease was lost: what ran under it was stopped
Commands that run another one exit with its code.";

/// Starling: a peer-to-peer key-value store. Every node serves reads and writes; there is no master.
#[derive(Debug, Parser)]
#[command(name = "starling", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// Arguments of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Arguments of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Address of the node's API: commands connect to it, in TLS with https://, or to a socket with unix:PATH [default:
    /// `STARLING_API`, else the socket api.sock in the default data directory if a node listens there, else
    /// 127.0.0.1:7401]; `up` and `bootstrap` listen on it, beside their socket, or with off on that alone [default: the
    /// setting `api.listen`]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub api: Option<String>,
    /// Token that the node's API asks for
    #[arg(long, global = true, value_name = "TOKEN", env = "STARLING_API_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Authorities of the nodes whose --api begins with https://, in PEM [default: those of the system]
    #[arg(long, global = true, value_name = "FILE", env = "STARLING_CACERT")]
    pub cacert: Option<PathBuf>,
    /// Certificate to show to nodes that ask for one, in PEM
    #[arg(long, global = true, value_name = "FILE", env = "STARLING_CERT", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// Private key of --cert, in PEM
    #[arg(long, global = true, value_name = "FILE", env = "STARLING_CERT_KEY", requires = "cert")]
    pub cert_key: Option<PathBuf>,
    /// How long the node may be silent before the command ends with exit code 5 or 6 [default: `STARLING_TIMEOUT`,
    /// else 6s]; for `lock` and `elect campaign`: how long to wait for the other clients [default: for ever]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration_ms)]
    pub timeout: Option<u64>,
    /// Keyspace [default: "default"]; eventual:NAME names the eventual keys that a strong keyspace of this name hides
    #[arg(short, long, global = true, value_name = "NAME", env = "STARLING_KEYSPACE")]
    pub keyspace: Option<String>,
    /// How to print [default: table; raw where one value is printed, and not to a terminal]
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    pub output: Option<Output>,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text and tables; bytes that are not text are escaped.
    Table,
    /// The API's answer as JSON.
    Json,
    /// Exact bytes: a single value alone, lists with one item per line.
    Raw,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a node
    Up(NodeArgs),
    /// Start a bootstrap seed: it helps nodes to find each other and keeps no data
    Bootstrap(NodeArgs),

    /// Set a value
    Put(PutArgs),
    /// Read a key of any type
    Get(GetArgs),
    /// Delete keys, whatever they hold
    Del(DelArgs),
    /// List keys
    Ls(LsArgs),
    /// Print changes as they happen, until interrupted
    Watch(WatchArgs),
    /// Run a transaction in a strong keyspace: compare, then
    Txn {
        /// As JSON: {"compare": [...], "then": [...], "otherwise": [...]}; standard input if left out
        #[arg(value_name = "@FILE|JSON")]
        txn: Option<OsString>,
        /// Options of the write.
        #[command(flatten)]
        write: WriteArgs,
    },
    /// List keyspaces
    Keyspaces,
    /// Create and change strong keyspaces: linearizable, on 1, 3, 5 or 7 nodes, used through any node
    #[command(subcommand)]
    Keyspace(KeyspaceCommand),

    /// Hold a lock of a strong keyspace while a command runs, or until interrupted
    Lock(LockArgs),
    /// Elections in a strong keyspace: one candidate leads
    #[command(subcommand)]
    Elect(ElectCommand),
    /// Work queues in a strong keyspace: an item comes back unless it is acknowledged
    #[command(subcommand, after_help = AFTER_QUEUE)]
    Queue(QueueCommand),
    /// Leases of a strong keyspace: their keys are deleted when they expire
    #[command(subcommand)]
    Lease(LeaseCommand),

    /// Add to a counter and print its sum
    Incr {
        /// The key
        key: OsString,
        /// How much; may be negative
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Raise a max register to at least N and print the greatest integer written
    Max {
        /// The key
        key: OsString,
        /// The integer
        #[arg(allow_negative_numbers = true)]
        n: i64,
    },
    /// Lower a min register to at most N and print the least integer written
    Min {
        /// The key
        key: OsString,
        /// The integer
        #[arg(allow_negative_numbers = true)]
        n: i64,
    },
    /// Add members to a set
    Sadd(MembersArgs),
    /// Remove members from a set
    Srem(MembersArgs),
    /// List the members of a set
    Smembers {
        /// The key
        key: OsString,
    },
    /// Set fields of a map
    Hset {
        /// The key
        key: OsString,
        /// FIELD VALUE, once or more
        #[arg(required = true, num_args = 2.., value_names = ["FIELD", "VALUE"], allow_negative_numbers = true)]
        pairs: Vec<OsString>,
    },
    /// Read one field of a map
    Hget {
        /// The key
        key: OsString,
        /// The field
        field: OsString,
    },
    /// Delete fields of a map
    Hdel {
        /// The key
        key: OsString,
        /// The fields
        #[arg(required = true)]
        fields: Vec<OsString>,
    },
    /// Read all fields of a map
    Hgetall {
        /// The key
        key: OsString,
    },
    /// Read or set a flag (of concurrent changes, "enable" wins)
    #[command(subcommand)]
    Flag(FlagCommand),

    /// Read many keys from NDJSON or CSV. A record that is refused is named, and nothing behind it is imported
    Import(ImportArgs),
    /// Write what a keyspace holds as NDJSON, to be imported again
    Export {
        /// Only keys that begin with this
        #[arg(default_value = "")]
        prefix: OsString,
    },

    /// Show the status of the node
    Status,
    /// Show the peers that the node knows: views, suspicion, traffic
    Peers,
    /// List all nodes of the network, and draw the topology
    Nodes {
        /// Print the topology for Graphviz (`starling nodes --dot | dot -Tsvg`)
        #[arg(long, conflicts_with = "output")]
        dot: bool,
    },
    /// Show the progress of an upgrade of the network, and finish it
    #[command(subcommand)]
    Upgrade(UpgradeCommand),
    /// Check what is stored: every row of eventual keyspaces and of strong replicas, and whether each of these opens. A
    /// running node also names the strong keyspaces that have no leader
    Doctor {
        /// Check a stopped node's data directory instead of asking a running node
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Print the effective configuration and where each value comes from
    Config {
        /// Arguments as for `up`.
        #[command(flatten)]
        node: NodeArgs,
        /// Ask the running node for its configuration
        #[arg(long)]
        running: bool,
        /// Print the reference of all settings as Markdown
        #[arg(long, conflicts_with = "running")]
        reference: bool,
    },
    /// Print a join ticket: the one string another node needs
    Ticket(TicketArgs),
    /// The network's authority, whose key says who gives certificates and who is cut off
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// The nodes that give certificates to others
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// The members of the network and their certificates
    #[command(subcommand)]
    Member(MemberCommand),
    /// Tokens of clients: what each may do with which keys, on every node
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make the node leave the network for good and stop. Where it is a voter of a strong keyspace, another node takes its
    /// place first, within a minute; if none can, the node stays (exit code 4). A node that is to come back is stopped by
    /// ending its process (SIGTERM) instead
    Leave {
        /// Leave at once, also as the last issuer that answers, and keep the votes: the keyspaces have to do without them until `keyspace voters remove` or
        /// `replace`, or until they are replaced automatically (setting `strong.replace_ms`). Refused where the node is the
        /// only voter of a keyspace, which `keyspace drop` deletes
        #[arg(long)]
        force: bool,
    },
    /// Print shell completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a new request id, for a write that is to be applied once however often it is sent
    RequestId,
    /// Print the version
    Version,
}

/// Arguments of `up` and `bootstrap`: the settings people change most.
#[derive(Clone, Debug, Default, Args)]
pub struct NodeArgs {
    /// Directory for identity, secret, peers and data
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Configuration file [default: starling.toml in the data directory]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the node for display [default: the host's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Label of the node, as zone=a, once or more
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Address where peers connect, once or more; port 0 lets the system choose
    #[arg(long, value_name = "MULTIADDR")]
    pub listen: Vec<String>,
    /// Address announced to peers instead of the listening ones, once or more
    #[arg(long, value_name = "MULTIADDR")]
    pub external: Vec<String>,
    /// How to find the network, once or more: a ticket, a file with tickets, standard input, or an address. The list of
    /// processes does not show a ticket that is given here
    #[arg(long, value_name = "TICKET|@FILE|-|ADDRESS", allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub join: Vec<String>,
    /// Serve a strong keyspace to etcd clients, once or more
    #[arg(long, value_name = "ADDRESS=KEYSPACE")]
    pub etcd: Vec<String>,
    /// Look for peers on the local network, and be found there
    #[arg(long)]
    pub mdns: bool,
    /// When a write is on the disk
    #[arg(long, value_name = "always|everysec|no")]
    pub durability: Option<String>,
    /// What to log, like "debug" or "warn,starling=info"
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Any other setting, once or more (`starling config --reference` lists them)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Stop when standard input ends, whose other end the process that started the node holds
    #[arg(long)]
    pub exit_with_parent: bool,
}

/// Commands of `upgrade`.
#[derive(Debug, Subcommand)]
pub enum UpgradeCommand {
    /// Show for every node which versions its software speaks and reads
    Status,
    /// Switch the newest version of data on, permanently: older software cannot read all data afterwards
    Finalize {
        /// Even if a node cannot read it or does not answer: such a node keeps and forwards the data that it
        /// cannot read, and does not show it to its clients
        #[arg(long)]
        force: bool,
    },
}

/// Arguments of `put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The key
    pub key: OsString,
    /// The value; standard input if left out
    #[arg(allow_negative_numbers = true)]
    pub value: Option<OsString>,
    /// Time until it expires, like 500ms, 10s, 5m, 2h, 7d; with --ephemeral, the time of the session's lease
    /// [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub ttl: Option<u64>,
    /// Write only if the key has this version; "none": only if it holds nothing
    #[arg(long, value_name = "VERSION|none", value_parser = parse_precondition, default_value = "any", hide_default_value = true)]
    pub if_version: Precondition,
    /// Write only if the key holds nothing
    #[arg(long, conflicts_with = "if_version")]
    pub if_absent: bool,
    /// Strong keyspaces: the lease that the key is attached to, in hexadecimal (`starling lease grant` prints it)
    #[arg(long, value_name = "ID", value_parser = parse_lease, allow_hyphen_values = true)]
    pub lease: Option<i64>,
    /// Strong keyspaces: KEY is only a prefix; 20 digits follow that increase with every write. Prints the key
    #[arg(long, conflicts_with_all = ["if_version", "if_absent"])]
    pub sequential: bool,
    /// Strong keyspaces: keep the key while COMMAND runs, or until interrupted; it is deleted with this process
    #[arg(long, conflicts_with = "lease", requires = "value")]
    pub ephemeral: bool,
    /// With --ephemeral: time for COMMAND to end after the session was lost (exit code 7)
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, default_value = "5s")]
    pub grace: u64,
    /// Options of the write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// With --ephemeral: run while the key exists, with `STARLING_KEY` and `STARLING_LEASE` in its environment
    #[arg(value_name = "COMMAND", trailing_var_arg = true, requires = "ephemeral")]
    pub command: Vec<OsString>,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The key
    pub key: OsString,
    /// Show all values that were written concurrently
    #[arg(long)]
    pub siblings: bool,
    /// Strong keyspaces: read this node's replica, which may be behind, and print how old it is
    #[arg(long)]
    pub stale: bool,
    /// Strong keyspaces: read at an older revision
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<u64>,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only keys that begin with this
    #[arg(default_value = "")]
    pub prefix: OsString,
    /// Strong keyspaces: print every change from this revision on
    #[arg(long, value_name = "REVISION")]
    pub from_revision: Option<u64>,
}

/// Commands of `keyspace`.
#[derive(Debug, Subcommand)]
pub enum KeyspaceCommand {
    /// Create a strong keyspace
    Create {
        /// Its name: 1 to 64 characters of a-z 0-9 _ . -
        name: String,
        /// Linearizable, with one order of all operations; eventual keyspaces need not be created
        #[arg(long)]
        strong: bool,
        /// Number of voters: 1, 3, 5 or 7, chosen for spread and uptime
        #[arg(long, default_value_t = starling_api::strong::VOTERS_DEFAULT, conflicts_with = "on", value_parser = parse_voters)]
        voters: u8,
        /// The voters' nodes, by name or by the first digits of their id
        #[arg(long, value_name = "NODE,...", value_delimiter = ',')]
        on: Vec<String>,
        /// Replace lost voters by hand only (`keyspace voters replace`)
        #[arg(long)]
        manual: bool,
    },
    /// List keyspaces
    Ls,
    /// Show the status of a strong keyspace
    Info {
        /// Its name
        name: String,
    },
    /// Transfer the leadership of a strong keyspace to a voter, and wait until it leads (exit code 4: it has not taken over)
    TransferLeader {
        /// Its name
        name: String,
        /// The node, by name or by the first digits of its id
        node: String,
    },
    /// Change the voters of a strong keyspace, which stays available
    #[command(subcommand)]
    Voters(VotersCommand),
    /// Discard the history of a strong keyspace: superseded values and deleted keys. Leaders do so automatically
    /// (settings strong.history_*). That frees the keyspace's quota; the disk gets the space back as later writes let the
    /// storage engine merge its files
    Compact {
        /// Its name
        name: String,
        /// Keep what is read at this revision or later; the latest revision if left out
        #[arg(long)]
        revision: Option<u64>,
    },
    /// Remove a strong keyspace with all its data. Without a leader its voters remove it once they have one again: the node
    /// that was asked repeats it, and again after a start of its own
    Drop {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List the replicas of a strong keyspace on all nodes that can be reached, with the ends of their logs; closed and
    /// removed ones, too
    Replicas {
        /// Its name
        name: String,
    },
    /// Delete the replicas of a strong keyspace that were removed from it and that this node keeps (settings
    /// strong.aside_*; exit code 3: it keeps none). One that may have writes which the keyspace lacks has to be deleted
    /// before this node can be a voter of it again
    Discard {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Unsafe recovery after a loss of quorum: continue with one replica of a strong keyspace. Refused while this node, or
    /// another one with a replica, hears a leader or a majority of the voters, and for 10 s after; and where another
    /// replica within reach has a longer log. Replicas that come back later are kept on their nodes for a while
    Recover {
        /// Its name
        name: String,
        /// Make this node's replica the only member. What the lost voters had acknowledged and it does not have is lost
        #[arg(long)]
        force_new_group: bool,
        /// Go on although another replica within reach has up to this many log entries that this node's one lacks: they
        /// are lost
        #[arg(long, value_name = "ENTRIES", default_value_t = 0)]
        accept_loss: u64,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Commands of `keyspace voters`.
#[derive(Debug, Subcommand)]
pub enum VotersCommand {
    /// Add a voter (exit code 4: it is one already, or its node declines)
    Add {
        /// The keyspace
        name: String,
        /// The node, by name or by the first digits of its id
        node: String,
    },
    /// Remove a voter
    Remove {
        /// The keyspace
        name: String,
        /// The node, by name or by the first digits of its id
        node: String,
    },
    /// Replace a voter
    Replace {
        /// The keyspace
        name: String,
        /// The node of the old voter
        node: String,
        /// The node of the new voter
        by: String,
    },
    /// End a change that is under way: the voters stay as they are (exit code 3: no node is being made a voter)
    Cancel {
        /// The keyspace
        name: String,
    },
}

/// Arguments of `del`.
#[derive(Debug, Args)]
pub struct DelArgs {
    /// The keys
    #[arg(required = true)]
    pub keys: Vec<OsString>,
    /// Delete every key that begins with one of these
    #[arg(long, conflicts_with = "if_version")]
    pub prefix: bool,
    /// Delete only if the key has this version
    #[arg(long, value_name = "VERSION", value_parser = parse_precondition, default_value = "any", hide_default_value = true)]
    pub if_version: Precondition,
    /// Options of the write.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only keys that begin with this
    #[arg(default_value = "")]
    pub prefix: OsString,
    /// Only keys from this one on
    #[arg(long, value_name = "KEY")]
    pub start: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    pub end: Option<OsString>,
    /// Number of keys, at most [default: all]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// List the values too
    #[arg(long, short)]
    pub values: bool,
    /// Strong keyspaces: list from this node's replica, which may be behind
    #[arg(long)]
    pub stale: bool,
}

/// Arguments of `sadd` and `srem`.
#[derive(Debug, Args)]
pub struct MembersArgs {
    /// The key
    pub key: OsString,
    /// The members
    #[arg(required = true, allow_negative_numbers = true)]
    pub members: Vec<OsString>,
}

/// Commands of `flag`.
#[derive(Debug, Subcommand)]
pub enum FlagCommand {
    /// Print whether it is on
    Get {
        /// The key
        key: OsString,
    },
    /// Turn it on
    Enable {
        /// The key
        key: OsString,
    },
    /// Turn it off
    Disable {
        /// The key
        key: OsString,
    },
}

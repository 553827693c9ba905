//! Arguments of the commands on locks, elections, queues and leases.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use starling_api::Blob;
use starling_api::strong::Fence;

use crate::cli::value::parse_duration_ms;

/// What `lock --help` says after the arguments.
const AFTER_LOCK: &str = "\
The environment of COMMAND says STARLING_LOCK_NAME, STARLING_LOCK_KEY, STARLING_LOCK_TOKEN and
STARLING_LOCK_KEYSPACE. The token grows with each holder: `put`, `del` and `txn` with
  --fence \"$STARLING_LOCK_NAME:$STARLING_LOCK_TOKEN\"
are refused (exit code 4) once the lock is not held with this token any more. COMMAND has a process
group of its own: signals are passed on to it, and it cannot read from a terminal.

Locks are etcd's: `etcdctl lock` and clients of etcd wait in the same line. Names must not nest, as
a and a/b do.

Exit codes: COMMAND's own (128 + N if signal N ended it, 126 or 127 if it cannot be started), and
  0        without COMMAND: interrupted, and the lock given back
  4        not one's turn within --timeout
  7        the lock was lost: COMMAND was told (SIGTERM), and killed with its process group after
           --grace if it had not ended
  128 + N  signal N came while waiting in line
Others are those of `starling --help`.";

/// What `elect campaign --help` says after the arguments.
const AFTER_CAMPAIGN: &str = "\
The environment of COMMAND says STARLING_ELECTION_NAME, STARLING_ELECTION_KEY,
STARLING_ELECTION_TOKEN and STARLING_ELECTION_KEYSPACE. The token fences as that of a lock does:
--fence NAME:TOKEN refuses the writes of leaders of before. Signals and exit codes are those of `starling lock`.

Elections are etcd's: `etcdctl elect` and clients of etcd stand in the same election.";

/// How something is waited for and held.
#[derive(Clone, Debug, Args)]
pub struct HoldArgs {
    /// Without a sign of life for so long, it is lost; at least 1s
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, default_value = "10s")]
    pub ttl: u64,
    /// When it is lost, COMMAND has so long to end
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, default_value = "5s")]
    pub grace: u64,
    /// Give up if it is not one's turn within this time [default: wait for ever]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub timeout: Option<u64>,
    /// Run while it is held; without it, it is held until interrupted (Ctrl-C)
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `lock`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true,
    disable_help_subcommand = true, after_help = AFTER_LOCK,
    override_usage = "starling lock [OPTIONS] NAME [-- COMMAND [ARGS]...]\n       starling lock ls [NAME]")]
pub struct LockArgs {
    /// Instead of taking it.
    #[command(subcommand)]
    pub list: Option<LockCommand>,
    /// The lock
    #[arg(required = true)]
    pub name: Option<OsString>,
    /// How it is held.
    #[command(flatten)]
    pub hold: HoldArgs,
}

/// What to do with locks but taking them.
#[derive(Debug, Subcommand)]
pub enum LockCommand {
    /// Who holds a lock and who waits in its line, with tokens, leases and the time these have left
    Ls {
        /// The lock [default: all in the keyspace]
        name: Option<OsString>,
    },
}

/// What to do with elections.
#[derive(Debug, Subcommand)]
pub enum ElectCommand {
    /// Stand for election, and lead while a command runs or until interrupted
    #[command(after_help = AFTER_CAMPAIGN,
        override_usage = "starling elect campaign [OPTIONS] NAME VALUE [-- COMMAND [ARGS]...]")]
    Campaign(CampaignArgs),
    /// Follow who leads, until interrupted
    Observe {
        /// The election
        name: OsString,
    },
    /// Print who leads (exit code 3: nobody does)
    Leader {
        /// The election
        name: OsString,
    },
    /// Take a leadership or a candidacy away: whoever has it loses it (exit code 3: there is none)
    Resign(ResignArgs),
}

/// Arguments of `elect campaign`.
#[derive(Debug, Args)]
pub struct CampaignArgs {
    /// The election
    pub name: OsString,
    /// What observers see of the one who leads, like an address
    pub value: OsString,
    /// How it is held.
    #[command(flatten)]
    pub hold: HoldArgs,
}

/// Arguments of `elect resign`.
#[derive(Debug, Args)]
pub struct ResignArgs {
    /// The election
    pub name: OsString,
    /// Whose: the key that `campaign` printed
    #[arg(long, required_unless_present = "lease", conflicts_with = "lease")]
    pub key: Option<OsString>,
    /// Whose: the lease
    #[arg(long, value_name = "ID", value_parser = parse_lease, allow_hyphen_values = true)]
    pub lease: Option<i64>,
}

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Append an item; prints its key
    Push(PushArgs),
    /// Take the first item and print it: exactly one taker gets it (exit code 3: there is none)
    Pop(PopArgs),
    /// List the items, the next one to be taken first
    Ls {
        /// The queue
        name: OsString,
    },
    /// Print how many items there are
    Len {
        /// The queue
        name: OsString,
    },
}

/// The priority of an item that has none given.
const PRIORITY_DEFAULT: u16 = 1000;

/// Arguments of `queue push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The queue: its items' keys are NAME/PRIORITY/NUMBER. Names must not nest (a, a/1)
    pub name: OsString,
    /// The item; standard input if left out
    #[arg(allow_negative_numbers = true)]
    pub value: Option<OsString>,
    /// 0 is taken first, 65535 last; those of one priority in the order in which they were written
    #[arg(long, value_name = "N", default_value_t = PRIORITY_DEFAULT)]
    pub priority: u16,
    /// How it is written.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// How long to wait for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it comes.
    ForEver,
    /// So many milliseconds.
    Ms(u64),
}

/// What stands for [`Wait::ForEver`].
const FOR_EVER: &str = "for-ever";

/// Arguments of `queue pop`.
#[derive(Debug, Args)]
pub struct PopArgs {
    /// The queue
    pub name: OsString,
    /// If there is none, wait for one; for so long, or for ever
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = FOR_EVER,
        value_parser = parse_wait)]
    pub wait: Option<Wait>,
    /// How it is taken.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// What to do with leases. Their ids are hexadecimal, as etcd prints them.
#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// Make a lease; prints its id
    Grant {
        /// How long it lasts without being kept alive, like 10s; at least 1s
        #[arg(value_name = "TIME", value_parser = parse_duration_ms)]
        ttl: u64,
    },
    /// End a lease, and delete the keys that go with it
    Revoke {
        /// The lease
        #[arg(value_parser = parse_lease, allow_hyphen_values = true)]
        id: i64,
    },
    /// Keep a lease alive until interrupted (exit code 7: it has ended)
    KeepAlive {
        /// The lease
        #[arg(value_parser = parse_lease, allow_hyphen_values = true)]
        id: i64,
        /// Only once
        #[arg(long)]
        once: bool,
    },
    /// How long it lasts, how long it has left, and the keys that go with it
    Info {
        /// The lease
        #[arg(value_parser = parse_lease, allow_hyphen_values = true)]
        id: i64,
    },
    /// List the leases
    Ls,
}

/// How a strong keyspace is written to.
#[derive(Clone, Debug, Default, Args)]
pub struct WriteArgs {
    /// Strong keyspaces: under this name the write is applied once, however often it is sent (1 to 32
    /// hexadecimal digits)
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Strong keyspaces: only while this lock is held with this token (exit code 4: it is not any more)
    #[arg(long, value_name = "LOCK:TOKEN", value_parser = parse_fence)]
    pub fence: Option<Fence>,
}

impl WriteArgs {
    /// Whether anything was given that only strong keyspaces understand.
    pub fn is_given(&self) -> bool {
        self.request_id.is_some() || self.fence.is_some()
    }
}

fn parse_wait(text: &str) -> Result<Wait, String> {
    if text == FOR_EVER { Ok(Wait::ForEver) } else { parse_duration_ms(text).map(Wait::Ms) }
}

/// A lease in hexadecimal.
pub fn parse_lease(text: &str) -> Result<i64, String> {
    match i64::from_str_radix(text, 16) {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a lease: write it in hexadecimal, as it was printed")),
        Ok(id) => Ok(id),
    }
}

/// A lock and the token of its holder. The name may have colons.
fn parse_fence(text: &str) -> Result<Fence, String> {
    let wrong = || format!("{text:?} is not LOCK:TOKEN: write the lock's name, a colon and the token");
    let (lock, token) = text.rsplit_once(':').ok_or_else(wrong)?;
    let token = token.parse().map_err(|_| wrong())?;
    Ok(Fence { lock: Blob::from(lock), token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_hexadecimal_with_or_without_zeros_in_front() {
        assert_eq!(parse_lease("694d81417acb4754"), Ok(0x694d_8141_7acb_4754));
        assert_eq!(parse_lease("00000000000000ab"), Ok(0xab));
        assert_eq!(parse_lease("-1f"), Ok(-0x1f));
        for wrong in ["", "0", "xyz", "10s", "8000000000000000"] {
            assert!(parse_lease(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fence_is_a_name_and_a_number() {
        assert_eq!(parse_fence("a:b:7"), Ok(Fence { lock: Blob::from("a:b"), token: 7 }));
        for wrong in ["", "a", "a:", "a:b", "7"] {
            assert!(parse_fence(wrong).is_err(), "{wrong}");
        }
    }
}

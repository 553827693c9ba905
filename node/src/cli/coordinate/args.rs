//! Arguments of the commands on locks, elections and leases.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use starling_api::strong::Fence;

use crate::cli::value::parse_duration_ms;

/// The text of `lock --help` after the arguments.
const AFTER_LOCK: &str = "\
The environment of COMMAND has STARLING_LOCK_NAME, STARLING_LOCK_KEY, STARLING_LOCK_TOKEN and
STARLING_LOCK_KEYSPACE. The token increases with each holder: `put`, `del` and `txn` with
  --fence \"$STARLING_LOCK_NAME:$STARLING_LOCK_TOKEN\"
are rejected (exit code 4) once the lock is no longer held with this token. COMMAND has a process
group of its own: signals are passed on to it, and it cannot read from a terminal. It is killed with
this process (kill -9), but its own children are not.

Locks are laid out as etcd's: `etcdctl lock` and clients of etcd wait in the same queue. Names must
not nest, as a and a/b do, and no other key may begin with a lock's name and a slash: clients wait for
it as for an earlier client, or fail at once (exit code 4) if no lease ends it. `lock ls` shows it.

Exit codes: COMMAND's own (128 + N if signal N ended it, 126 or 127 if it cannot be started), and
  0        without COMMAND: interrupted, and the lock released
  4        other clients held the lock, or were before this one, for all of --timeout
  5        the node, or a leader of the keyspace, did not answer within --timeout
  7        the lock was lost: COMMAND got SIGTERM, and was killed with its process group after
           --grace if it had not ended
  128 + N  signal N arrived while waiting
Others are those of `starling --help`.";

/// The text of `elect campaign --help` after the arguments.
const AFTER_CAMPAIGN: &str = "\
The environment of COMMAND has STARLING_ELECTION_NAME, STARLING_ELECTION_KEY,
STARLING_ELECTION_TOKEN and STARLING_ELECTION_KEYSPACE. The token fences as that of a lock does:
--fence NAME:TOKEN rejects writes of earlier leaders. Signals and exit codes are those of `starling lock`.

Elections are laid out as etcd's: `etcdctl elect` and clients of etcd are candidates in the same election.";

/// Options of acquiring and holding something.
#[derive(Clone, Debug, Args)]
pub struct HoldArgs {
    /// Time of its lease: without a renewal for this time it is lost; at least 1s
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, default_value = "10s")]
    pub ttl: u64,
    /// Time for COMMAND to end after it was lost
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, default_value = "5s")]
    pub grace: u64,
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
    /// The subcommand, if there is one.
    #[command(subcommand)]
    pub list: Option<LockCommand>,
    /// The lock
    #[arg(required = true)]
    pub name: Option<OsString>,
    /// Options of holding it.
    #[command(flatten)]
    pub hold: HoldArgs,
}

/// Subcommands of `lock`.
#[derive(Debug, Subcommand)]
pub enum LockCommand {
    /// List the holder of a lock and the clients that wait for it, with tokens, leases and the time left of these
    Ls {
        /// The lock [default: all in the keyspace]
        name: Option<OsString>,
    },
}

/// Commands of `elect`.
#[derive(Debug, Subcommand)]
pub enum ElectCommand {
    /// Campaign, then lead while a command runs or until interrupted
    #[command(after_help = AFTER_CAMPAIGN,
        override_usage = "starling elect campaign [OPTIONS] NAME VALUE [-- COMMAND [ARGS]...]")]
    Campaign(CampaignArgs),
    /// Print the leaders as they change, until interrupted
    Observe {
        /// The election
        name: OsString,
    },
    /// Print the leader (exit code 3: there is none)
    Leader {
        /// The election
        name: OsString,
    },
    /// End a leadership or a candidacy, of any client (exit code 3: there is none)
    Resign(ResignArgs),
}

/// Arguments of `elect campaign`.
#[derive(Debug, Args)]
pub struct CampaignArgs {
    /// The election
    pub name: OsString,
    /// The value that observers see while this candidate leads, like an address
    pub value: OsString,
    /// Options of holding it.
    #[command(flatten)]
    pub hold: HoldArgs,
}

/// Arguments of `elect resign`.
#[derive(Debug, Args)]
pub struct ResignArgs {
    /// The election
    pub name: OsString,
    /// The candidate's key, as `campaign` and `elect leader` print it; this or --lease is needed
    #[arg(long, required_unless_present = "lease", conflicts_with = "lease")]
    pub key: Option<OsString>,
    /// The candidate's lease
    #[arg(long, value_name = "ID", value_parser = parse_lease, allow_hyphen_values = true)]
    pub lease: Option<i64>,
}

/// How long to wait for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it comes.
    ForEver,
    /// For this many milliseconds.
    Ms(u64),
}

/// The text for [`Wait::ForEver`].
pub const FOR_EVER: &str = "for-ever";

/// Commands of `lease`. Ids are hexadecimal, as etcd prints them.
#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// Grant a lease; prints its id
    Grant {
        /// Time until it expires without a renewal, like 10s; at least 1s
        #[arg(value_name = "TIME", value_parser = parse_duration_ms)]
        ttl: u64,
    },
    /// Revoke a lease, and delete its keys
    Revoke {
        /// The lease
        #[arg(value_parser = parse_lease, allow_hyphen_values = true)]
        id: i64,
    },
    /// Renew a lease until interrupted (exit code 7: it has expired)
    KeepAlive {
        /// The lease
        #[arg(value_parser = parse_lease, allow_hyphen_values = true)]
        id: i64,
        /// Only once
        #[arg(long)]
        once: bool,
    },
    /// Show its whole time, the time left and its keys
    Info {
        /// The lease
        #[arg(value_parser = parse_lease, allow_hyphen_values = true)]
        id: i64,
    },
    /// List the leases
    Ls,
}

/// Options of writes to a strong keyspace.
#[derive(Clone, Debug, Default, Args)]
pub struct WriteArgs {
    /// Strong keyspaces: request id, with which the write is applied once even if it is sent repeatedly (a UUID of
    /// version 7, as `starling request-id` prints it)
    #[arg(long, value_name = "ID", value_parser = parse_request_id)]
    pub request_id: Option<u128>,
    /// Strong keyspaces: write only while this lock is held with this token (exit code 4: it is not)
    #[arg(long, value_name = "LOCK:TOKEN", value_parser = parse_fence)]
    pub fence: Option<Fence>,
}

impl WriteArgs {
    /// Whether an option was given that only strong keyspaces support.
    pub fn is_given(&self) -> bool {
        self.request_id.is_some() || self.fence.is_some()
    }
}

/// A time, or [`FOR_EVER`].
pub fn parse_wait(text: &str) -> Result<Wait, String> {
    if text == FOR_EVER { Ok(Wait::ForEver) } else { parse_duration_ms(text).map(Wait::Ms) }
}

/// A lease in hexadecimal.
pub fn parse_lease(text: &str) -> Result<i64, String> {
    match i64::from_str_radix(text, 16) {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a lease: write it in hexadecimal, as it was printed")),
        Ok(id) => Ok(id),
    }
}

/// A request id: a UUID, with or without hyphens.
fn parse_request_id(text: &str) -> Result<u128, String> {
    u128::from_str_radix(&text.replace('-', ""), 16).map_err(|_| {
        format!(
            "{text:?} is not a request id, a UUID of 32 hexadecimal digits: `starling request-id` prints one"
        )
    })
}

/// A lock and the token of its holder. The name may have colons.
fn parse_fence(text: &str) -> Result<Fence, String> {
    let wrong = || format!("{text:?} is not LOCK:TOKEN: write the lock's name, a colon and the token");
    let (lock, token) = text.rsplit_once(':').ok_or_else(wrong)?;
    let token = token.parse().map_err(|_| wrong())?;
    Ok(Fence { lock: lock.into(), token })
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
    fn a_request_id_is_a_uuid() {
        let id = Ok(0x0199_b0e5_5e00_7abc_8def_0123_4567_89ab);
        assert_eq!(parse_request_id("0199b0e5-5e00-7abc-8def-0123456789AB"), id);
        assert_eq!(parse_request_id("0199b0e55e007abc8def0123456789ab"), id);
        for wrong in ["", "xyz", &"f".repeat(33)] {
            let error = parse_request_id(wrong).expect_err("refused");
            assert!(error.contains("32 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn a_fence_is_a_name_and_a_number() {
        assert_eq!(parse_fence("a:b:7"), Ok(Fence { lock: b"a:b".to_vec(), token: 7 }));
        for wrong in ["", "a", "a:", "a:b", "7"] {
            assert!(parse_fence(wrong).is_err(), "{wrong}");
        }
    }
}

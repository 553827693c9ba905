//! Arguments of the commands on queues.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Args, Subcommand, ValueEnum};
use starling_api::queue::{BATCH_MAX, Order, PRIORITY_DEFAULT, Receipt};
use starling_strong::line::hex;

use crate::cli::coordinate::args::{FOR_EVER, Wait, WriteArgs, parse_lease, parse_wait};
use crate::cli::value::parse_duration_ms;

/// The text of `queue --help` after the commands.
pub const AFTER_QUEUE: &str = "\
An item is reserved by one worker at a time, for a time that a touch begins again, until the worker
acknowledges it. An item of a worker that dies is reserved again: it is delivered at least once. What
`ack --then` writes is written once. docs/queues.md has the whole story.";

/// The text of `queue work --help` after the arguments.
const AFTER_WORK: &str = "\
COMMAND gets the item on its standard input. Its environment has STARLING_QUEUE_NAME,
STARLING_QUEUE_KEYSPACE, STARLING_ITEM_KEY and STARLING_ITEM_ATTEMPTS. If it exits with 0 the item is
acknowledged; otherwise it is returned, and reserved again after --retry-after. The reservations last as
long as this process lives and reaches the keyspace. If they are lost, COMMAND gets SIGTERM, and is
killed with its process group after --grace.

Exit codes:
  0        with --until-empty: everything is done
  1        with --until-empty: the rest are dead letters
  7        the reservations were lost; their items are reserved again
  126, 127 COMMAND has ended so, as one that cannot be run does
  128 + N  signal N arrived, and the items under way were acknowledged or returned
Others are those of `starling --help`.";

/// Commands of `queue`.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Append an item; prints its key
    Push(PushArgs),
    /// Take the first item: print it and delete it (exit code 3: there is none)
    Pop(PopArgs),
    /// Reserve the next items; prints their receipts (exit code 3: there is none)
    Reserve(ReserveArgs),
    /// Acknowledge reserved items, which deletes them (exit code 4: a reservation has ended, and nothing was changed)
    Ack(AckArgs),
    /// Return reserved items (exit code 4: a reservation has ended)
    Nack(NackArgs),
    /// Begin the time of a reservation again (exit code 4: it has ended)
    Touch {
        /// The queue
        name: OsString,
        /// The receipt that `reserve` printed
        #[arg(value_parser = receipt_parser())]
        receipt: Receipt,
    },
    /// Reserve items and run a command with each
    #[command(after_help = AFTER_WORK,
        override_usage = "starling queue work [OPTIONS] NAME -- COMMAND [ARGS]...")]
    Work(WorkArgs),
    /// Show the items that would be reserved next
    Peek {
        /// The queue
        name: OsString,
        /// Items, at most
        #[arg(long, value_name = "N", default_value_t = 1)]
        max: u16,
    },
    /// List the items: ready ones, the first one first, then dead letters, delayed ones and those of tenants
    Ls {
        /// The queue
        name: OsString,
    },
    /// Print how many items can be reserved
    Len {
        /// The queue
        name: OsString,
    },
    /// Count the items that are ready, reserved, delayed and dead, and show the rules
    Stats {
        /// The queue
        name: OsString,
    },
    /// Set the order and the number of attempts of a queue
    Rules(RulesArgs),
    /// Make dead letters items again that were never reserved; prints how many
    Retry {
        /// The queue
        name: OsString,
        /// Their keys, as `ls` shows them [default: all]
        keys: Vec<OsString>,
    },
}

/// Arguments of `queue push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The queue: its items' keys are NAME/PRIORITY/NUMBER. Names must not nest (a, a/1)
    pub name: OsString,
    /// The item; standard input if left out
    #[arg(allow_negative_numbers = true)]
    pub value: Option<OsString>,
    /// Priority: 0 is taken first, 65535 last; equal ones in the order in which they were written
    #[arg(long, value_name = "N", default_value_t = PRIORITY_DEFAULT)]
    pub priority: u16,
    /// Push each line of standard input as an item
    #[arg(long, conflicts_with_all = ["value", "unique", "request_id"])]
    pub lines: bool,
    /// How long the work is expected to take, for the orders `shortest` and `longest`
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub cost: Option<u64>,
    /// Whom it is for, for the order `tenants`
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub tenant: String,
    /// Keep it back for this time, at least 1s
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub delay: Option<u64>,
    /// Push nothing if an item with this id was pushed within the last --unique-for
    #[arg(long, value_name = "ID", conflicts_with = "request_id")]
    pub unique: Option<OsString>,
    /// How long the id is remembered, at least 1s
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, default_value = "5m")]
    pub unique_for: u64,
    /// Options of the write.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// How long to wait for an item.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Wait for an item if there is none, for this time or without end
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = FOR_EVER,
        value_parser = parse_wait)]
    pub wait: Option<Wait>,
}

/// Arguments of `queue pop`.
#[derive(Debug, Args)]
pub struct PopArgs {
    /// The queue
    pub name: OsString,
    /// How long to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Options of the write.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// Arguments of `queue reserve`.
#[derive(Debug, Args)]
pub struct ReserveArgs {
    /// The queue
    pub name: OsString,
    /// Time of the reservation: without an acknowledgement or a touch it ends, and the items are reserved again; at least 1s
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration_ms, default_value = "30s")]
    pub for_ms: u64,
    /// Items, at most
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=BATCH_MAX as i64))]
    pub max: u16,
    /// How long to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Arguments of `queue ack`.
#[derive(Debug, Args)]
pub struct AckArgs {
    /// The queue
    pub name: OsString,
    /// The receipts that `reserve` printed: all are acknowledged, or none
    #[arg(required = true, value_parser = receipt_parser())]
    pub receipts: Vec<Receipt>,
    /// Writes of the same transaction, applied once: operations in JSON like [{"op":"put","key":"a","value":"b"}], @FILE,
    /// or - for standard input
    #[arg(long, value_name = "JSON")]
    pub then: Option<OsString>,
    /// Options of the write.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// Arguments of `queue nack`.
#[derive(Debug, Args)]
pub struct NackArgs {
    /// The queue
    pub name: OsString,
    /// The receipts that `reserve` printed
    #[arg(required = true, value_parser = receipt_parser())]
    pub receipts: Vec<Receipt>,
    /// Keep them back for this time, at least 1s
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub delay: Option<u64>,
}

/// Arguments of `queue work`.
#[derive(Clone, Debug, Args)]
pub struct WorkArgs {
    /// The queue
    pub name: OsString,
    /// Commands that run at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
    /// Time of the reservations: without a sign of life from this process they end after it; at least 1s
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration_ms, default_value = "30s")]
    pub for_ms: u64,
    /// Time before an item is reserved again whose COMMAND has failed, at least 1s
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, default_value = "10s")]
    pub retry_after: u64,
    /// Time for COMMAND to end after the reservations were lost
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, default_value = "5s")]
    pub grace: u64,
    /// End when nothing is ready, reserved or delayed any more, by any worker
    #[arg(long)]
    pub until_empty: bool,
    /// Run with each item
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `queue rules`.
#[derive(Debug, Args)]
pub struct RulesArgs {
    /// The queue
    pub name: OsString,
    /// The order in which items of one priority are reserved
    #[arg(long, value_enum)]
    pub order: Option<OrderArg>,
    /// Order `shortest`: an item of cost c waits for no item that is pushed c / SHARE later; 0: it may wait for ever
    #[arg(long, value_name = "SHARE")]
    pub ageing: Option<f64>,
    /// Reservations of an item before it becomes a dead letter; 0: no bound
    #[arg(long, value_name = "N")]
    pub attempts: Option<u32>,
}

/// An order, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OrderArg {
    /// First come, first served
    Arrival,
    /// The shortest first, by --cost, with ageing
    Shortest,
    /// The longest first, to the fastest worker
    Longest,
    /// In turn over the tenants
    Tenants,
}

impl From<OrderArg> for Order {
    fn from(order: OrderArg) -> Self {
        match order {
            OrderArg::Arrival => Self::Arrival,
            OrderArg::Shortest => Self::Shortest,
            OrderArg::Longest => Self::Longest,
            OrderArg::Tenants => Self::Tenants,
        }
    }
}

/// A receipt as it is printed: token, lease and key.
pub fn receipt_text(receipt: &Receipt) -> Vec<u8> {
    let Receipt { key, token, lease } = receipt;
    [format!("{token}:{}:", hex(*lease)).as_bytes(), &key.0].concat()
}

fn receipt_parser() -> impl clap::builder::TypedValueParser<Value = Receipt> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|text| parse_receipt(&text.into_vec()))
}

fn parse_receipt(text: &[u8]) -> Result<Receipt, String> {
    let shown = std::ffi::OsStr::from_bytes(text).display();
    let wrong = || format!("{shown} is not a receipt: write it as `queue reserve` printed it");
    let mut parts = text.splitn(3, |byte| *byte == b':');
    let mut part = || parts.next().ok_or_else(wrong);
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| wrong());
    let token = number(part()?)?.parse().map_err(|_| wrong())?;
    let lease = parse_lease(&number(part()?)?).map_err(|_| wrong())?;
    Ok(Receipt { token, lease, key: part()?.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_parsed_as_it_is_printed() {
        for lease in [0x1f, -0x1f] {
            let receipt = Receipt { key: b"a:b/01000/7"[..].into(), token: 42, lease };
            assert_eq!(parse_receipt(&receipt_text(&receipt)), Ok(receipt));
        }
        for wrong in ["", "42", "42:1f", "x:1f:a/01000/7", "42:x:a/01000/7"] {
            assert!(parse_receipt(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}

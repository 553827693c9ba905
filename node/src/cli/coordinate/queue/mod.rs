//! Queues.

pub mod args;
mod work;

use std::ffi::{OsStr, OsString};
use std::io::BufRead;
use std::time::Duration;

use serde_json::json;
use starling_api::queue::{BATCH_MAX, Listed, NewItem, QueueStats, Reserved, Rules, Standing};
use starling_api::strong::{KeyValue, TxnOp};
use starling_api::{Blob, Retry, escaped};
use starling_client::{Client, Named, Queue, Taker, Turns, Under};
use tokio::time::{sleep, timeout};

use super::args::{Wait, WriteArgs};
use super::held::AGAIN;
use super::line::{LAST_LOOK, late, unanswered};
use super::signals::Signals;
use crate::cli::Session;
use crate::cli::args::Output;
use crate::cli::failure::Failure;
use crate::cli::print::{self, Result};
use crate::cli::value::{bytes, read_value};
use args::{AckArgs, NackArgs, PopArgs, PushArgs, QueueCommand, ReserveArgs, RulesArgs, receipt_text};

/// What is waited for, or why it did not come.
type Taken<T> = std::result::Result<T, Failure>;

impl Session {
    pub(in crate::cli) async fn queue(&self, command: QueueCommand) -> Result {
        let run = async |strong: &Self| match command {
            QueueCommand::Push(args) => strong.push(args).await,
            QueueCommand::Pop(args) => strong.pop(&args).await,
            QueueCommand::Reserve(args) => strong.reserve(&args).await,
            QueueCommand::Ack(args) => strong.acknowledge(&args).await,
            QueueCommand::Nack(args) => strong.return_items(&args).await,
            QueueCommand::Touch { name, receipt } => {
                let left_ms = strong.items(&name).touch(&receipt).await?;
                strong.show(&json!({ "ms": left_ms }), || print::duration(left_ms))
            }
            QueueCommand::Work(args) => strong.work(&args).await,
            QueueCommand::Peek { name, max } => {
                strong.show_items(&strong.items(&name).peek(max.into()).await?)
            }
            QueueCommand::Ls { name } => strong.show_items(&strong.items(&name).list().await?),
            QueueCommand::Len { name } => {
                let count = strong.items(&name).len().await?;
                strong.show(&json!({ "items": count }), || count.to_string())
            }
            QueueCommand::Stats { name } => strong.show_stats(&strong.items(&name).stats().await?),
            QueueCommand::Rules(args) => strong.set_rules(&args).await,
            QueueCommand::Retry { name, keys } => strong.revive(&name, &keys).await,
        };
        self.need_strong("queues", run).await
    }

    fn items(&self, name: &OsStr) -> Queue<Client> {
        Queue::new(self.strong(), bytes(name))
    }

    /// How writes are sent that are not sent again by a later command.
    fn named(&self, args: &WriteArgs) -> Named {
        Named { request_id: args.request_id, fence: args.fence.clone(), patience: self.silence }
    }

    fn show(&self, value: &serde_json::Value, text: impl Fn() -> String) -> Result {
        match self.output {
            Output::Json => print::json(value),
            _ => print::line(text()),
        }
    }

    async fn push(&self, args: PushArgs) -> Result {
        let (queue, how) = (self.items(&args.name), self.named(&args.write));
        let item = NewItem {
            priority: args.priority,
            cost_ms: args.cost.unwrap_or(0),
            tenant: args.tenant,
            delay_ms: args.delay.unwrap_or(0),
            unique: args.unique.as_deref().map(|id| Blob(bytes(id))),
            unique_ms: args.unique_for,
            ..NewItem::new("")
        };
        if args.lines {
            return self.push_lines(&queue, &item, &how).await;
        }
        let value = read_value(args.value.as_deref())?.into();
        let pushed = queue.push(NewItem { value, ..item }, &how).await?;
        if pushed.duplicate && self.output != Output::Json {
            print::note("nothing was pushed: this is the item that was pushed with the id before");
        }
        match self.output {
            Output::Json => print::json(&pushed),
            Output::Raw => print::raw_line(&pushed.key.0),
            Output::Table => print::line(pushed.key.escaped()),
        }
    }

    /// Pushes the lines of standard input, in their order, batch by batch.
    async fn push_lines(&self, queue: &Queue<Client>, like: &NewItem, how: &Named) -> Result {
        let mut lines = std::io::stdin().lock().split(b'\n');
        let mut count = 0;
        loop {
            let batch: Vec<Vec<u8>> = lines.by_ref().take(BATCH_MAX).collect::<std::io::Result<_>>()?;
            if batch.is_empty() {
                return self.show(&json!({ "pushed": count }), || count.to_string());
            }
            let item = |value: Vec<u8>| NewItem { value: value.into(), ..like.clone() };
            count += queue.push_all(batch.into_iter().map(item).collect(), how).await?.len();
        }
    }

    async fn pop(&self, args: &PopArgs) -> Result {
        let mut taker = self.items(&args.name).taker();
        let how = self.named(&args.write);
        let pop = async |taker: &mut Taker<Client>| Ok(taker.pop(&how).await?);
        let item = self.wait_for(&args.name, &mut taker, args.wait.wait, pop).await?;
        self.show_item(&item)
    }

    async fn reserve(&self, args: &ReserveArgs) -> Result {
        let mut taker = self.items(&args.name).taker();
        let (max, under) = (args.max.into(), Under::New(args.for_ms));
        let reserve = async |taker: &mut Taker<Client>| {
            let (revision, items) = taker.reserve(max, under).await?;
            Ok((revision, Some(items).filter(|items| !items.is_empty())))
        };
        let items = self.wait_for(&args.name, &mut taker, args.wait.wait, reserve).await?;
        self.show_reserved(&items)
    }

    /// What `take` takes, which returns a revision and `None` if there is nothing; waits for it if that is asked for.
    async fn wait_for<T>(
        &self,
        name: &OsStr,
        taker: &mut Taker<Client>,
        wait: Option<Wait>,
        take: impl AsyncFn(&mut Taker<Client>) -> Taken<(u64, Option<T>)>,
    ) -> Taken<T> {
        // What is under way when a signal arrives is completed, and its item is printed.
        let mut signals = Signals::watch()?;
        let give_up = late(match wait {
            Some(Wait::Ms(ms)) => Some(ms),
            Some(Wait::ForEver) | None => None,
        });
        tokio::pin!(give_up);
        let mut turns = Turns::default();
        let none = || {
            let what = format!("the queue {} has no item that can be taken", escaped(&bytes(name)));
            Failure::nothing(what, "--wait waits for an item; `starling queue stats` counts the others")
        };
        loop {
            let (revision, item) = take(taker).await?;
            match item {
                Some(item) => return Ok(item),
                None if wait.is_none() => return Err(none()),
                None => {}
            }
            let queue = taker.queue();
            tokio::select! {
                biased;
                signal = signals.end() => return Err(Failure::signalled(signal)),
                () = &mut give_up => {
                    // A queue that nobody can read is not known to be empty.
                    return Err(match timeout(LAST_LOOK, queue.len()).await {
                        Ok(Ok(_)) => none(),
                        Ok(Err(error)) => unanswered(&error.message),
                        Err(_) => unanswered("no answer"),
                    });
                }
                freed = queue.until_free(revision + 1, &mut turns) => match freed {
                    Err(error) if error.retry() == Retry::Never => return Err(error.into()),
                    Err(_) => sleep(AGAIN).await,
                    Ok(()) => {}
                },
            }
        }
    }

    fn show_item(&self, item: &KeyValue) -> Result {
        match self.output {
            Output::Json => print::json(item),
            output => print::value(output, &item.value),
        }
    }

    fn show_reserved(&self, items: &[Reserved]) -> Result {
        match self.output {
            Output::Json => items.iter().try_for_each(|it| {
                let mut shown = json!(it);
                shown["receipt"] = json!(Blob(receipt_text(&it.receipt)));
                print::json(&shown)
            }),
            Output::Raw => items.iter().try_for_each(|it| {
                print::raw_line(&[&receipt_text(&it.receipt)[..], b"\t", &it.value.0].concat())
            }),
            Output::Table => {
                let row = |it: &Reserved| {
                    let receipt = escaped(&receipt_text(&it.receipt));
                    [receipt, it.attempts.to_string(), it.value.escaped()]
                };
                print::table(["RECEIPT", "ATTEMPT", "VALUE"], items.iter().map(row))
            }
        }
    }

    async fn acknowledge(&self, args: &AckArgs) -> Result {
        let effects: Vec<TxnOp> = match &args.then {
            None => Vec::new(),
            Some(then) => serde_json::from_slice(&read_value(Some(then))?).map_err(|error| {
                let hint = r#"write them like [{"op":"put","key":"a","value":"b"}]"#;
                Failure::usage(format!("these are no operations: {error}"), hint)
            })?,
        };
        let how = self.named(&args.write);
        let outcomes = self.items(&args.name).acknowledge(&args.receipts, effects, &how).await?;
        let count = args.receipts.len();
        self.show(&json!({ "acknowledged": count, "results": outcomes }), || count.to_string())
    }

    async fn return_items(&self, args: &NackArgs) -> Result {
        let queue = self.items(&args.name);
        let how = Named { patience: self.silence, ..Named::default() };
        for receipt in &args.receipts {
            let standing = queue.release(receipt, args.delay.unwrap_or(0), &how).await?;
            let key = &receipt.key;
            self.show(&json!({ "key": key, "standing": standing }), || stands(standing).into())?;
        }
        Ok(())
    }

    fn show_items(&self, items: &[Listed]) -> Result {
        match self.output {
            Output::Json => items.iter().try_for_each(print::json),
            Output::Raw => items.iter().try_for_each(|it| print::raw_line(&it.value.0)),
            Output::Table => {
                let row = |it: &Listed| {
                    let (attempts, priority) = (it.attempts.to_string(), it.priority.to_string());
                    let standing = stands(it.standing).to_owned();
                    [standing, attempts, priority, it.key.escaped(), it.value.escaped()]
                };
                print::table(["STANDING", "ATTEMPTS", "PRIORITY", "KEY", "VALUE"], items.iter().map(row))
            }
        }
    }

    fn show_stats(&self, stats: &QueueStats) -> Result {
        if self.output == Output::Json {
            return print::json(stats);
        }
        let Rules { order, ageing, attempts } = stats.rules;
        let order = serde_json::to_value(order).unwrap_or_default();
        let bound = if attempts == 0 { "no bound".into() } else { attempts.to_string() };
        print::pairs([
            ("ready", stats.ready.to_string()),
            ("reserved", stats.reserved.to_string()),
            ("delayed", stats.delayed.to_string()),
            ("dead", stats.dead.to_string()),
            ("order", order.as_str().unwrap_or_default().into()),
            ("ageing", ageing.to_string()),
            ("attempts", bound),
        ])
    }

    async fn set_rules(&self, args: &RulesArgs) -> Result {
        let queue = self.items(&args.name);
        let mut rules = queue.stats().await?.rules;
        rules.order = args.order.map_or(rules.order, Into::into);
        rules.ageing = args.ageing.unwrap_or(rules.ageing);
        rules.attempts = args.attempts.unwrap_or(rules.attempts);
        let how = Named { patience: self.silence, ..Named::default() };
        queue.set_rules(&rules, &how).await?;
        self.show_stats(&queue.stats().await?)
    }

    async fn revive(&self, name: &OsStr, keys: &[OsString]) -> Result {
        let queue = self.items(name);
        let how = Named { patience: self.silence, ..Named::default() };
        let dead: Vec<Blob> = if keys.is_empty() {
            let dead = |it: &Listed| it.standing == Standing::Dead;
            queue.list().await?.into_iter().filter(dead).map(|it| it.key).collect()
        } else {
            keys.iter().map(|key| Blob(bytes(key))).collect()
        };
        let (mut count, mut missing) = (0, None);
        for key in dead {
            if queue.revive(&key, &how).await? {
                count += 1;
            } else {
                missing = missing.or(Some(key));
            }
        }
        self.show(&json!({ "revived": count }), || count.to_string())?;
        match missing.filter(|_| !keys.is_empty()) {
            Some(key) => Err(Failure::nothing(
                format!("{} is no dead letter of the queue", key.escaped()),
                "`starling queue ls` shows their keys",
            )),
            None => Ok(()),
        }
    }
}

fn stands(standing: Standing) -> &'static str {
    match standing {
        Standing::Ready => "ready",
        Standing::Reserved => "reserved",
        Standing::Delayed => "delayed",
        Standing::Dead => "dead",
    }
}

/// Time within which the outcome of an item that a worker has done has to be known: after it the reservation has ended
/// anyhow.
fn patience(for_ms: u64) -> Named {
    Named { patience: Duration::from_millis(for_ms), ..Named::default() }
}

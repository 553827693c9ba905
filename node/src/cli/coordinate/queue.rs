//! Queues: keys `name/<priority>/<number>`, of which the first is taken. Priority and number have a fixed
//! number of digits, so the order of the keys is that of priorities, then of writes.

use std::time::Duration;

use serde_json::json;
use starling_api::Blob;
use starling_api::strong::{Get, KeyValue, Keys, StrongCall, StrongEvent, StrongRequest, StrongResult};
use tokio::time::sleep;

use super::args::{PopArgs, PushArgs, QueueCommand, Wait};
use super::line::late;
use super::signals::Signals;
use super::tenure::AGAIN;
use crate::cli::Session;
use crate::cli::args::Output;
use crate::cli::failure::Failure;
use crate::cli::print::{self, Result};
use crate::cli::strong::{How, unexpected};
use crate::cli::value::{bytes, read_value};

/// How long to find out what came of a pop before its taker is told that it is not known.
const POP_PATIENCE: Duration = Duration::from_secs(10);

/// What an item's key begins with.
fn prefix(name: &[u8], priority: u16) -> Vec<u8> {
    [name, format!("/{priority:05}/").as_bytes()].concat()
}

/// The keys of a queue: those whose priority begins with a digit.
fn items(name: &[u8]) -> Keys {
    let (from, to) = ([name, b"/0"].concat(), [name, b"/:"].concat());
    Keys::Range { from: Blob(from), to: Some(Blob(to)) }
}

/// The priority that a key of this queue says.
fn priority(name: &[u8], key: &[u8]) -> Option<u16> {
    let rest = key.strip_prefix(name)?.strip_prefix(b"/")?;
    let digits = rest.split(|byte| *byte == b'/').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Session {
    pub(in crate::cli) async fn queue(&self, command: QueueCommand) -> Result {
        self.need_strong("queues").await?;
        match command {
            QueueCommand::Push(args) => self.push(&args).await,
            QueueCommand::Pop(args) => self.pop(args).await,
            QueueCommand::Ls { name } => self.list_items(&bytes(&name)).await,
            QueueCommand::Len { name } => self.count_items(&bytes(&name)).await,
        }
    }

    async fn push(&self, args: &PushArgs) -> Result {
        let prefix = Blob(prefix(&bytes(&args.name), args.priority));
        let value = Blob(read_value(args.value.as_deref())?);
        let made = self.write_sequential(prefix, value, 0, &How::of(&args.write)).await?;
        self.show_made(&made)
    }

    async fn pop(&self, args: PopArgs) -> Result {
        let name = bytes(&args.name);
        // A pop under way when a signal comes is carried out, and what it took is printed.
        let mut signals = Signals::watch()?;
        let give_up = late(match args.wait {
            Some(Wait::Ms(ms)) => Some(ms),
            Some(Wait::ForEver) | None => None,
        });
        tokio::pin!(give_up);
        let mut request_id = args.write.request_id;
        let none = || {
            let what = format!("the queue {} holds nothing", Blob(name.clone()).escaped());
            Failure::nothing(what, "--wait waits for an item; `starling queue push` makes one")
        };
        loop {
            let id = request_id.take();
            let how = How { name: id.as_deref(), fence: args.write.fence.as_ref(), patience: POP_PATIENCE };
            let answer = self.write(StrongRequest::PopFirst { keys: items(&name) }, &how).await?;
            match answer.result {
                StrongResult::Popped { first: Some(first) } => return self.show_item(&first),
                StrongResult::Popped { first: None } if args.wait.is_none() => return Err(none()),
                StrongResult::Popped { first: None } => {}
                other => return Err(unexpected(&other)),
            }
            tokio::select! {
                biased;
                signal = signals.end() => return Err(Failure::signalled(signal)),
                () = &mut give_up => return Err(none()),
                pushed = self.until_pushed(&name, answer.revision + 1) => match pushed {
                    Err(failure) if !failure.is_passing() => return Err(failure),
                    Err(_) => sleep(AGAIN).await,
                    Ok(()) => {}
                },
            }
        }
    }

    /// Returns once something was pushed at this revision or later, or the watch has ended.
    async fn until_pushed(&self, name: &[u8], from: u64) -> Result {
        let mut watch = self.client.watch_strong(&self.keyspace, &[name, b"/"].concat(), from).await?;
        while let Some(event) = watch.next_event().await {
            match event? {
                StrongEvent::Put { kv } if priority(name, &kv.key.0).is_some() => return Ok(()),
                StrongEvent::Compacted { .. } | StrongEvent::Lost { .. } => break,
                StrongEvent::Ready { .. } | StrongEvent::Put { .. } | StrongEvent::Delete { .. } => {}
            }
        }
        sleep(AGAIN).await;
        Ok(())
    }

    fn show_item(&self, item: &KeyValue) -> Result {
        match self.output {
            Output::Json => print::json(item),
            output => print::value(output, &item.value),
        }
    }

    async fn list_items(&self, name: &[u8]) -> Result {
        let mut kvs = self.everything(&[name, b"/"].concat()).await?.1;
        kvs.retain(|kv| priority(name, &kv.key.0).is_some());
        match self.output {
            Output::Json => kvs.iter().try_for_each(print::json),
            Output::Raw => kvs.iter().try_for_each(|kv| print::raw_line(&kv.value.0)),
            Output::Table => {
                let priority = |kv: &KeyValue| priority(name, &kv.key.0).unwrap_or_default().to_string();
                let row = |kv: &KeyValue| [priority(kv), kv.key.escaped(), kv.value.escaped()];
                print::table(["PRIORITY", "KEY", "VALUE"], kvs.iter().map(row))
            }
        }
    }

    async fn count_items(&self, name: &[u8]) -> Result {
        let get = Get { count_only: true, ..Get::of(items(name)) };
        let call: StrongCall = StrongRequest::Get(get).into();
        let count = match self.client.ask(&self.keyspace, &call).await?.result {
            StrongResult::Found(found) => found.count,
            other => return Err(unexpected(&other)),
        };
        match self.output {
            Output::Json => print::json(&json!({ "items": count })),
            _ => print::line(count.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_priorities_then_of_writes() {
        let key =
            |priority, revision: u64| [prefix(b"q", priority), format!("{revision:020}").into()].concat();
        let order = [key(0, 70), key(0, 100), key(9, 3), key(10, 2), key(1000, 1), key(u16::MAX, 9)];
        assert!(order.is_sorted());
        let Keys::Range { from, to } = items(b"q") else { panic!("a range") };
        let to = to.expect("it has an end");
        assert!(order.iter().all(|key| *key >= from.0 && *key < to.0));
        assert_eq!(priority(b"q", &key(10, 2)), Some(10));
        assert_eq!(priority(b"q", b"q/lock/1f"), None);
        assert_eq!(priority(b"q", b"other/00010/1"), None);
    }
}

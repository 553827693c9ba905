//! Queues.

use serde_json::json;
use starling_api::strong::KeyValue;
use starling_api::{Blob, Retry, escaped};
use starling_client::{Client, Named, Queue, Turns};
use tokio::time::{sleep, timeout};

use super::args::{PopArgs, PushArgs, QueueCommand, Wait};
use super::held::AGAIN;
use super::line::{LAST_LOOK, late, unanswered};
use super::signals::Signals;
use crate::cli::Session;
use crate::cli::args::Output;
use crate::cli::failure::Failure;
use crate::cli::print::{self, Result};
use crate::cli::strong::How;
use crate::cli::value::{bytes, read_value};

impl Session {
    pub(in crate::cli) async fn queue(&self, command: QueueCommand) -> Result {
        let run = async |strong: &Self| match command {
            QueueCommand::Push(args) => strong.push(&args).await,
            QueueCommand::Pop(args) => strong.pop(args).await,
            QueueCommand::Ls { name } => strong.list_items(&bytes(&name)).await,
            QueueCommand::Len { name } => strong.count_items(&bytes(&name)).await,
        };
        self.need_strong("queues", run).await
    }

    async fn push(&self, args: &PushArgs) -> Result {
        let prefix = Blob(self.items(&bytes(&args.name)).prefix(args.priority));
        let value = Blob(read_value(args.value.as_deref())?);
        let made = self.write_sequential(prefix, value, 0, &How::of(&args.write)).await?;
        self.show_made(&made)
    }

    fn items(&self, name: &[u8]) -> Queue<Client> {
        Queue::new(self.strong(), name)
    }

    async fn pop(&self, args: PopArgs) -> Result {
        let name = bytes(&args.name);
        let queue = self.items(&name);
        // A pop under way when a signal arrives is completed, and its item is printed.
        let mut signals = Signals::watch()?;
        let give_up = late(match args.wait {
            Some(Wait::Ms(ms)) => Some(ms),
            Some(Wait::ForEver) | None => None,
        });
        tokio::pin!(give_up);
        let mut request_id = args.write.request_id;
        let mut turns = Turns::default();
        let none = || {
            let what = format!("the queue {} holds nothing", escaped(&name));
            Failure::nothing(what, "--wait waits for an item; `starling queue push` makes one")
        };
        loop {
            let id = request_id.take();
            let how = Named { request_id: id, fence: args.write.fence.clone(), patience: self.silence };
            let (revision, item) = queue.pop(&how).await?;
            match item {
                Some(item) => return self.show_item(&item),
                None if args.wait.is_none() => return Err(none()),
                None => {}
            }
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
                pushed = queue.until_pushed(revision + 1, &mut turns) => match pushed {
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

    async fn list_items(&self, name: &[u8]) -> Result {
        let mut kvs = self.everything(&[name, b"/"].concat()).await?.1;
        let queue = self.items(name);
        kvs.retain(|kv| queue.priority(&kv.key).is_some());
        match self.output {
            Output::Json => kvs.iter().try_for_each(print::json),
            Output::Raw => kvs.iter().try_for_each(|kv| print::raw_line(&kv.value)),
            Output::Table => {
                let priority = |kv: &KeyValue| queue.priority(&kv.key).unwrap_or_default().to_string();
                let row = |kv: &KeyValue| [priority(kv), escaped(&kv.key), escaped(&kv.value)];
                print::table(["PRIORITY", "KEY", "VALUE"], kvs.iter().map(row))
            }
        }
    }

    async fn count_items(&self, name: &[u8]) -> Result {
        let count = self.items(name).len().await?;
        match self.output {
            Output::Json => print::json(&json!({ "items": count })),
            _ => print::line(count.to_string()),
        }
    }
}

//! Commands on keys of any type: put, get, del, ls, watch, keyspaces.

use serde_json::json;
use starling_api::{Blob, Data, Entry, ErrorCode, KeyInfo, PAGE_KEYS_MAX, Precondition, Range, WatchEvent};

use super::Session;
use super::args::{DelArgs, GetArgs, LsArgs, Output, PutArgs, WatchArgs};
use super::failure::Failure;
use super::print::{self, Result};
use super::value::{bytes, read_value};

/// Whether a condition names a version as eventual keyspaces have them: those of strong ones are numbers.
fn is_eventual_version(condition: &Precondition) -> bool {
    matches!(condition, Precondition::Version(version) if version.parse::<u64>().is_err())
}

impl Session {
    pub(super) async fn put(&self, args: PutArgs) -> Result {
        let is_strong_only =
            args.lease.is_some() || args.write.is_given() || args.sequential || args.ephemeral;
        let what = "--lease, --sequential, --ephemeral, --fence and --request-id";
        self.refuse_strong_only(is_strong_only && !self.keyspace_given, what)?;
        let value = Blob(read_value(args.value.as_deref())?);
        let is_eventual = !is_strong_only && (args.ttl.is_some() || is_eventual_version(&args.if_version));
        let put_strong = async |session: &Self| session.put_strong(&args, value.clone()).await;
        if !is_eventual && self.if_strong(put_strong).await?.is_some() {
            return Ok(());
        }
        self.refuse_strong_only(is_strong_only, what)?;
        let condition = if args.if_absent { &Precondition::Absent } else { &args.if_version };
        let (key, bytes) = (bytes(&args.key), value.0.clone());
        let version = match self.client.put(&self.keyspace, &key, bytes, args.ttl, condition).await {
            Ok(version) => version,
            // The command for strong keyspaces reports the arguments that they do not support.
            Err(error) if error.code == ErrorCode::OtherKeyspace => return put_strong(self).await,
            Err(error) => return Err(error.into()),
        };
        match self.output {
            Output::Json => print::json(&json!({ "version": version })),
            _ => print::line(version),
        }
    }

    /// Rejects flags that only strong keyspaces support.
    pub(super) fn refuse_strong_only(&self, given: bool, what: &str) -> Result {
        if !given {
            return Ok(());
        }
        let hint = if self.keyspace_given {
            format!("`starling keyspace create {} --strong` makes one", self.keyspace)
        } else {
            "name one with -k; `starling keyspace create NAME --strong` makes one".into()
        };
        Err(Failure::usage(format!("{what} need a strong keyspace, and {} is not one", self.keyspace), hint))
    }

    pub(super) async fn get(&self, args: &GetArgs) -> Result {
        if self.if_strong(async |strong| strong.get_strong(args).await).await?.is_some() {
            return Ok(());
        }
        self.refuse_strong_only(args.stale || args.revision.is_some(), "--stale and --revision")?;
        let siblings = args.siblings;
        let name = Blob(bytes(&args.key));
        if self.output == Output::Raw && !siblings {
            let found = self.client.get_raw(&self.keyspace, &name.0).await?;
            return print::raw(&found.ok_or_else(|| Failure::not_found(&name.escaped()))?.bytes);
        }
        let found = self.client.get_entry(&self.keyspace, &name.0).await?;
        let entry = found.ok_or_else(|| Failure::not_found(&name.escaped()))?;
        if self.output == Output::Json {
            return print::json(&entry);
        }
        show_entry(&entry, siblings, self.output)
    }

    pub(super) async fn delete(&self, args: DelArgs) -> Result {
        let is_eventual = is_eventual_version(&args.if_version);
        let delete_strong = async |session: &Self| session.delete_strong(&args).await;
        if !is_eventual && self.if_strong(delete_strong).await?.is_some() {
            return Ok(());
        }
        self.refuse_strong_only(args.write.is_given(), "named and fenced writes")?;
        let mut places = 0;
        let mut missing = None;
        for key in &args.keys {
            let key = bytes(key);
            let deleted = if args.prefix {
                self.client.delete_prefix(&self.keyspace, &key).await
            } else {
                self.client.delete(&self.keyspace, &key, &args.if_version).await
            };
            let deleted = match deleted {
                Err(error) if error.code == ErrorCode::OtherKeyspace => {
                    return delete_strong(self).await;
                }
                deleted => deleted?,
            };
            if deleted == 0 && missing.is_none() {
                missing = Some(Blob(key).escaped());
            }
            places += deleted;
        }
        match self.output {
            Output::Json => print::json(&json!({ "deleted": places }))?,
            _ => print::line(places.to_string())?,
        }
        missing.map_or(Ok(()), |key| Err(Failure::not_found(&key)))
    }

    pub(super) async fn list(&self, args: LsArgs) -> Result {
        if self.if_strong(async |strong| strong.list_strong(&args).await).await?.is_some() {
            return Ok(());
        }
        self.refuse_strong_only(args.stale, "stale reads")?;
        let mut left = args.limit.unwrap_or(usize::MAX);
        let mut range = Range {
            prefix: Blob(bytes(&args.prefix)),
            start: args.start.as_deref().map(|key| Blob(bytes(key))),
            end: args.end.as_deref().map(|key| Blob(bytes(key))),
            after: None,
            limit: None,
            values: args.values,
        };
        while left > 0 {
            range.limit = Some(left.min(PAGE_KEYS_MAX));
            let page = self.client.list(&self.keyspace, &range).await?;
            left = left.saturating_sub(page.keys.len());
            self.show_page(&page.keys, args.values)?;
            if page.keys.is_empty() && range.after.is_none() {
                return self.keyspace_exists().await;
            }
            range.after = page.next;
            if range.after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// A keyspace exists while it holds a key. One that was named and holds none is likely misspelled.
    pub(super) async fn keyspace_exists(&self) -> Result {
        if !self.keyspace_given {
            return Ok(());
        }
        let found = self.client.keyspaces().await?.keyspaces;
        if found.iter().any(|keyspace| keyspace.name == self.keyspace) {
            return Ok(());
        }
        Err(Failure::no_keyspace(&self.keyspace))
    }

    fn show_page(&self, keys: &[KeyInfo], values: bool) -> Result {
        match self.output {
            Output::Raw => keys.iter().try_for_each(|info| print::raw_line(&info.key.0)),
            Output::Json => keys.iter().try_for_each(print::json),
            Output::Table if keys.is_empty() => Ok(()),
            Output::Table if values => {
                let rows = keys.iter().map(|info| {
                    let held: Vec<_> = info.data.iter().map(print::summary).collect();
                    [info.key.escaped(), types(info), held.join(" | ")]
                });
                print::table(["KEY", "TYPE", "VALUE"], rows)
            }
            Output::Table => {
                print::table(["KEY", "TYPE"], keys.iter().map(|info| [info.key.escaped(), types(info)]))
            }
        }
    }

    pub(super) async fn watch(&self, args: &WatchArgs) -> Result {
        if self.if_strong(async |strong| strong.watch_strong(args).await).await?.is_some() {
            return Ok(());
        }
        self.refuse_strong_only(args.from_revision.is_some(), "watches from a revision")?;
        let mut watch = self.client.watch(&self.keyspace, &bytes(&args.prefix)).await?;
        while let Some(event) = watch.next_event().await {
            let event = event?;
            if let WatchEvent::Lagged { hint } = &event {
                return Err(Failure::failed("the watch has ended: changes may have been left out", hint));
            }
            match self.output {
                Output::Json => print::json(&event)?,
                Output::Table => show_event(&event)?,
                Output::Raw => {
                    if let WatchEvent::Put(Entry { data: Data::Register(register), .. }) = &event {
                        print::raw_line(&register.value.0)?;
                    }
                }
            }
        }
        Err(Failure::failed(
            "the node has ended the watch",
            "check the node (`starling status`), then watch again",
        ))
    }

    pub(super) async fn keyspaces(&self) -> Result {
        let found = self.client.keyspaces().await?;
        match self.output {
            Output::Json => print::json(&found),
            _ => found.keyspaces.iter().try_for_each(|keyspace| print::line(&keyspace.name)),
        }
    }
}

fn types(info: &KeyInfo) -> String {
    info.types.iter().map(|t| t.name()).collect::<Vec<_>>().join("+")
}

fn show_event(event: &WatchEvent) -> Result {
    match event {
        WatchEvent::Put(entry) => {
            print::line(format!("put     {}  {}", entry.key.escaped(), print::summary(&entry.data)))
        }
        WatchEvent::Delete { key, .. } => print::line(format!("delete  {}", key.escaped())),
        WatchEvent::Ready => {
            print::waiting("waiting for changes; Ctrl-C ends the watch");
            Ok(())
        }
        WatchEvent::Lagged { .. } => Ok(()),
    }
}

/// Prints the value, and notes about it on standard error.
fn show_entry(entry: &Entry, siblings: bool, output: Output) -> Result {
    if !entry.also.is_empty() {
        let others: Vec<_> = entry.also.iter().map(|data| data.kind().name()).collect();
        let (shown, others) = (entry.data.kind().name(), others.join(", "));
        print::note(format!(
            "written concurrently as several types: shown is the {shown}; also: {others} (--output json shows all)"
        ));
    }
    match &entry.data {
        Data::Register(register) if siblings && !register.siblings.is_empty() => match output {
            Output::Raw => register.siblings.iter().try_for_each(|sibling| print::raw_line(&sibling.value.0)),
            _ => print::table(
                ["WRITTEN (MS)", "VALUE"],
                register.siblings.iter().map(|s| [s.written_ms.to_string(), s.value.escaped()]),
            ),
        },
        Data::Register(register) => {
            if register.siblings.len() > 1 {
                let count = register.siblings.len();
                print::note(format!(
                    "one of {count} values written concurrently (--siblings shows all; a put replaces them)"
                ));
            }
            print::value(output, &register.value.0)
        }
        other => print::line(print::summary(other)),
    }
}

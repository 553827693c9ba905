//! Commands on counters, sets, maps and flags.

use std::ffi::{OsStr, OsString};

use serde_json::json;
use starling_api::{Blob, Count, Field, MapUpdate, Members, Op};

use super::Session;
use super::args::{FlagCommand, MembersArgs, Output};
use super::failure::Failure;
use super::print::{self, Result};
use super::value::{bytes, read_value};

fn blobs(arguments: &[OsString]) -> Vec<Blob> {
    arguments.iter().map(|argument| Blob(bytes(argument))).collect()
}

fn missing(key: &OsStr) -> Failure {
    Failure::not_found(&Blob(bytes(key)).escaped())
}

impl Session {
    /// Applies one operation, and prints the number that the key holds then.
    pub(super) async fn apply(&self, key: &OsStr, op: Op) -> Result {
        let outcome = self.client.apply(&self.keyspace, &bytes(key), &op, None).await?;
        let Some(number) = outcome.number() else { return Ok(()) };
        match self.output {
            Output::Json => print::json(&json!({ "value": Count(number) })),
            _ => print::line(number.to_string()),
        }
    }

    pub(super) async fn add_members(&self, args: &MembersArgs) -> Result {
        let members = Members { add: blobs(&args.members), remove: Vec::new() };
        self.show_changed(self.client.update_set(&self.keyspace, &bytes(&args.key), &members).await?)
    }

    pub(super) async fn remove_members(&self, args: &MembersArgs) -> Result {
        let members = Members { add: Vec::new(), remove: blobs(&args.members) };
        self.show_changed(self.client.update_set(&self.keyspace, &bytes(&args.key), &members).await?)
    }

    pub(super) async fn members(&self, key: &OsStr) -> Result {
        let mut after = None;
        loop {
            let page = self.client.members(&self.keyspace, &bytes(key), after.as_ref()).await?;
            let page = page.ok_or_else(|| missing(key))?;
            match self.output {
                Output::Json => page.members.iter().try_for_each(print::json)?,
                Output::Table => page.members.iter().try_for_each(|member| print::line(member.escaped()))?,
                Output::Raw => page.members.iter().try_for_each(|member| print::raw_line(&member.0))?,
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    pub(super) async fn set_fields(&self, key: &OsStr, pairs: &[OsString]) -> Result {
        let (pairs, odd) = pairs.as_chunks::<2>();
        if let [name] = odd {
            let what = format!("the field {} has no value", Blob(bytes(name)).escaped());
            return Err(Failure::usage(what, "starling hset KEY FIELD VALUE [FIELD VALUE]..."));
        }
        let put = pairs
            .iter()
            .map(|[name, value]| Ok(Field { name: Blob(bytes(name)), value: Blob(read_value(Some(value))?) }))
            .collect::<std::result::Result<_, Failure>>()?;
        let update = MapUpdate { put, delete: Vec::new() };
        self.show_changed(self.client.update_map(&self.keyspace, &bytes(key), &update).await?)
    }

    pub(super) async fn field(&self, key: &OsStr, field: &OsStr) -> Result {
        let found = self.client.field(&self.keyspace, &bytes(key), &bytes(field)).await?;
        let register = found.ok_or_else(|| {
            Failure::not_found(&format!("{} {}", Blob(bytes(key)).escaped(), Blob(bytes(field)).escaped()))
        })?;
        match self.output {
            Output::Json => print::json(&register),
            output => print::value(output, &register.value.0),
        }
    }

    pub(super) async fn delete_fields(&self, key: &OsStr, fields: &[OsString]) -> Result {
        let update = MapUpdate { put: Vec::new(), delete: blobs(fields) };
        self.show_changed(self.client.update_map(&self.keyspace, &bytes(key), &update).await?)
    }

    pub(super) async fn fields(&self, key: &OsStr) -> Result {
        let mut after = None;
        loop {
            let page = self.client.fields(&self.keyspace, &bytes(key), after.as_ref()).await?;
            let page = page.ok_or_else(|| missing(key))?;
            match self.output {
                Output::Json => page.fields.iter().try_for_each(print::json)?,
                Output::Table => {
                    let rows = page.fields.iter().map(|field| [field.name.escaped(), field.value.escaped()]);
                    print::table(["FIELD", "VALUE"], rows)?;
                }
                Output::Raw => page.fields.iter().try_for_each(|field| {
                    print::raw_line(&[&field.name.0[..], b"\t", &field.value.0].concat())
                })?,
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    pub(super) async fn flag(&self, command: FlagCommand) -> Result {
        match command {
            FlagCommand::Enable { key } => {
                Ok(self.client.set_flag(&self.keyspace, &bytes(&key), true).await?)
            }
            FlagCommand::Disable { key } => {
                Ok(self.client.set_flag(&self.keyspace, &bytes(&key), false).await?)
            }
            FlagCommand::Get { key } => {
                let enabled =
                    self.client.flag(&self.keyspace, &bytes(&key)).await?.ok_or_else(|| missing(&key))?;
                match self.output {
                    Output::Json => print::json(&json!({ "enabled": enabled })),
                    _ => print::line(if enabled { "on" } else { "off" }),
                }
            }
        }
    }

    fn show_changed(&self, fields: u64) -> Result {
        match self.output {
            Output::Json => print::json(&json!({ "changed": fields })),
            _ => print::line(fields.to_string()),
        }
    }
}

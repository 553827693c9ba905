//! Commands on tokens of clients.

use std::io::Read;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use starling_api::token::{NewToken, TokenInfo};
use starling_service::{Capability, wall_ms};

use super::Session;
use super::args::Output;
use super::failure::Failure;
use super::print::{self, Result, size, span};
use super::value::parse_duration_ms;

/// Bytes that `show` reads, at most: more than a token has.
const TOKEN_BYTES_MAX: u64 = 16 << 10;
/// Digits of an id that tables show: so many may stand for it.
const DIGITS: usize = 8;

/// Arguments of `token add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Whom it is for: its name in lists and in the audit log. Tokens of one name share their leases; etcd clients log in with
    /// the name, and the token as the password
    name: String,
    /// What it grants, once or more: verbs with commas between them (read, write, delete, watch, lock, admin, or data for all
    /// but admin), a keyspace (* at its end: all that begin so), and what keys begin with [all keys]
    #[arg(long = "grant", required = true, value_name = "VERBS:KEYSPACE[:PREFIX]")]
    grants: Vec<String>,
    /// How long it is valid, like 12h or 90d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_duration_ms)]
    expires: u64,
    /// Requests a second that each node takes, at most [default: any number]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    requests: u32,
    /// Bytes a second of requests and answers on each node, at most [default: any number]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    bytes: u64,
}

/// Commands of `token`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  starling token add web --grant read,watch:config --grant data:orders:eu/
  starling token add worker --grant data:jobs --requests 500 --expires 12h
  starling token add deploy --grant admin:jobs
  STARLING_API_TOKEN=TOKEN starling get -k config greeting
  etcdctl --user worker:TOKEN get --prefix tasks/")]
pub enum TokenCommand {
    /// Make a token and print it. The node asked must be an issuer of the network's authority
    Add(AddArgs),
    /// List the tokens that the network's issuers have recorded and that have not expired
    Ls,
    /// Revoke a token: every node refuses it once it has learned that, a few network hops later
    Revoke {
        /// Its id, or the first eight digits or more of it
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
    },
    /// Show what a token on standard input grants. No node is asked
    Show,
}

impl Session {
    pub(super) async fn token(&self, command: TokenCommand) -> Result {
        match command {
            TokenCommand::Add(args) => self.add_token(args).await,
            TokenCommand::Ls => self.list_tokens().await,
            TokenCommand::Revoke { id } => {
                let info = self.client.revoke_token(&id).await?;
                if self.output == Output::Json {
                    return print::json(&info);
                }
                print::note(format!("the token {} is revoked", called(&info)));
                Ok(())
            }
            TokenCommand::Show => self.show_token(),
        }
    }

    async fn add_token(&self, args: AddArgs) -> Result {
        let AddArgs { name, grants, expires, requests, bytes } = args;
        let new = NewToken { name, grants, expires_ms: expires, requests_s: requests, bytes_s: bytes };
        let made = self.client.add_token(&new).await?;
        if self.output == Output::Json {
            return print::json(&made);
        }
        print::note(format!(
            "the token {}, valid for {}: treat it as a password, no node keeps it",
            called(&made.info),
            span(made.info.not_after_ms.saturating_sub(wall_ms()))
        ));
        print::line(made.token)
    }

    async fn list_tokens(&self) -> Result {
        let found = self.client.tokens().await?;
        if self.output == Output::Json {
            return print::json(&found);
        }
        if found.more {
            print::note("there are more tokens than are listed");
        }
        print::table(HEADER, found.tokens.iter().map(row))
    }

    fn show_token(&self) -> Result {
        let mut text = String::new();
        std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(|error| {
            Failure::failed(format!("standard input: {error}"), "starling token show < FILE")
        })?;
        let token = Capability::from_text(text.trim()).map_err(|error| {
            Failure::failed(
                format!("what standard input has is not valid: {error}"),
                "starling token show < FILE",
            )
        })?;
        let info = starling_service::token_info(&token);
        if self.output == Output::Json {
            return print::json(&info);
        }
        print::note("its signature and its revocation are checked by nodes only");
        print::table(HEADER, [row(&info)])
    }
}

const HEADER: [&str; 6] = ["ID", "NAME", "VALID", "REQUESTS/S", "BYTES/S", "GRANTS"];

fn row(info: &TokenInfo) -> [String; 6] {
    let valid = match info.not_after_ms.checked_sub(wall_ms()) {
        _ if info.revoked => "revoked".into(),
        Some(left) => format!("for {}", span(left)),
        None => "expired".into(),
    };
    let or_any = |limit: u64, shown: String| if limit == 0 { "any".into() } else { shown };
    [
        info.id.chars().take(DIGITS).collect(),
        info.name.clone(),
        valid,
        or_any(info.requests_s.into(), info.requests_s.to_string()),
        or_any(info.bytes_s, size(info.bytes_s)),
        info.grants.join(" "),
    ]
}

/// The name and the first digits of the id.
fn called(info: &TokenInfo) -> String {
    let digits: String = info.id.chars().take(DIGITS).collect();
    if info.name.is_empty() { digits } else { format!("{} ({digits})", info.name) }
}

//! Commands on the network's authority, its issuers, and the members that they have certified. The authority's key stays on
//! the machine where the command runs: nodes receive what it has signed.

pub mod args;

use std::path::Path;
use std::time::{Duration, SystemTime};

use starling_api::admin::{Node, Nodes};
use starling_api::trust::{Statements, Trust};
use starling_service::AuthorityKey;

use self::args::{AuthorityCommand, IssuerCommand, MemberCommand, TicketArgs};
use super::Session;
use super::admin::short;
use super::args::Output;
use super::failure::Failure;
use super::keyspace::confirm;
use super::print::{self, Result};

/// Time between two looks at which nodes have a statement. A guess: a crawl takes a few round trips.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Such looks, at most: statements take a few round trips to all nodes.
const LOOKS_MAX: u32 = 10;

type Outcome<T> = std::result::Result<T, Failure>;

impl Session {
    pub(super) async fn authority(&self, command: AuthorityCommand) -> Result {
        match command {
            AuthorityCommand::Init { key } => self.init_authority(&key).await,
            AuthorityCommand::Show => self.show_trust().await,
            AuthorityCommand::Require { key, force } => self.require(&key.key, force).await,
        }
    }

    async fn init_authority(&self, path: &Path) -> Result {
        let trust = self.client.trust().await?;
        if let Some(authority) = trust.authority {
            let message = format!("this network follows the authority {} already", short(&authority));
            return Err(Failure::held(message, "nothing was changed: `starling authority show` shows it"));
        }
        let me = self.client.status().await?;
        let key = AuthorityKey::create(path).map_err(|error| {
            Failure::failed(error.to_string(), "name a file that does not exist with --key FILE")
        })?;
        let issuer = key.issuer(&me.id, &me.listen, true, now_ms()).ok_or_else(|| no_id(&me.id))?;
        self.state(vec![issuer]).await?;
        let path = path.display();
        print::note(format!(
            "{path} is the key of the network's authority: keep it and a copy of it offline"
        ));
        print::note(format!("{} is its first issuer, and gives every node a certificate now", me.name));
        print::note(format!(
            "next:  starling member ls  until all have one;  starling issuer add NODE --key {path}  for a second issuer;  \
             starling authority require --key {path}"
        ));
        Ok(())
    }

    async fn require(&self, path: &Path, force: bool) -> Result {
        let key = self.key(path).await?;
        let found = self.client.nodes().await?;
        let trust = self.client.trust().await?;
        let mut without: Vec<&str> =
            found.nodes.iter().filter(|it| !is_certified(it, &trust)).map(name).collect();
        without.extend(found.unreachable.iter().filter(|node| !node.left).map(|node| node.name.as_str()));
        if !without.is_empty() && !force {
            let message =
                format!("these nodes have no certificate, or do not answer: {}", without.join(", "));
            let hint = "nothing was changed: start or upgrade them, or cut them off with --force";
            return Err(Failure::held(message, hint));
        }
        self.state(vec![key.require(serial(&trust))]).await?;
        print::note(
            "nodes accept only peers with a certificate now: new ones join with  starling ticket  of an issuer",
        );
        Ok(())
    }

    pub(super) async fn issuer(&self, command: IssuerCommand) -> Result {
        let (IssuerCommand::Add { node, key } | IssuerCommand::Rm { node, key }) = &command;
        let key = self.key(&key.key).await?;
        let (trust, found) = (self.client.trust().await?, self.client.nodes().await?);
        let id = find(&found, node)?;
        let is_granted = matches!(command, IssuerCommand::Add { .. });
        if !is_granted {
            require_other_issuer(&trust, &id, node)?;
        }
        let addresses =
            found.nodes.iter().find(|it| it.id == id).map(|it| &it.addresses[..]).unwrap_or_default();
        let statement = key.issuer(&id, addresses, is_granted, serial(&trust)).ok_or_else(|| no_id(node))?;
        self.state(vec![statement]).await
    }

    pub(super) async fn member(&self, command: MemberCommand) -> Result {
        match command {
            MemberCommand::Ls => self.list_members().await,
            MemberCommand::Revoke { node, key, yes } => {
                let key = self.key(&key.key).await?;
                let found = self.client.nodes().await?;
                let id = find(&found, &node)?;
                let called = found.nodes.iter().find(|it| it.id == id).map_or(node.as_str(), name);
                let trust = self.client.trust().await?;
                require_other_issuer(&trust, &id, called)?;
                let issued = if trust.issuers.iter().any(|issuer| issuer.id == id) {
                    " It is an issuer: nodes with a certificate of it have to join again with a ticket of another one."
                } else {
                    ""
                };
                let warning =
                    format!("This cuts {called} ({}) off from the network for good.{issued}", short(&id));
                confirm(&warning, called, yes)?;
                let statement = key.revoke(&id, serial(&trust)).ok_or_else(|| no_id(&node))?;
                self.state(vec![statement]).await?;
                print::note(
                    "its votes in strong keyspaces stay: `starling keyspace ls` shows silent voters, and `starling keyspace \
                     voters replace` lets another node vote",
                );
                Ok(())
            }
        }
    }

    async fn show_trust(&self) -> Result {
        let trust = self.client.trust().await?;
        if self.output == Output::Json {
            return print::json(&trust);
        }
        let Some(authority) = &trust.authority else {
            return print::line("this network has no authority: every node with the ticket is a member");
        };
        let ids = |all: &mut dyn Iterator<Item = &String>| {
            let all: Vec<String> = all.map(|id| short(id)).collect();
            if all.is_empty() { "-".to_owned() } else { all.join(", ") }
        };
        let certificate = match &trust.certificate {
            _ if trust.is_issuer => "not needed: it is an issuer".to_owned(),
            Some(it) => format!("by {}, {}", short(&it.issuer), until(it.not_after_ms)),
            None => "none".to_owned(),
        };
        print::pairs([
            ("authority", authority.clone()),
            ("certificates", if trust.required { "required".into() } else { "not required yet".to_owned() }),
            ("issuers", ids(&mut trust.issuers.iter().map(|issuer| &issuer.id))),
            ("revoked", ids(&mut trust.revoked.iter())),
            ("this node's", certificate),
        ])
    }

    async fn list_members(&self) -> Result {
        let (trust, found) = (self.client.trust().await?, self.client.nodes().await?);
        if self.output == Output::Json {
            return print::json(&found);
        }
        let row = |node: &Node| {
            let standing = node.standing.as_ref();
            let certificate = if trust.issuers.iter().any(|issuer| issuer.id == node.id) {
                "issuer".to_owned()
            } else {
                standing.and_then(|it| it.not_after_ms).map_or_else(|| "none".into(), until)
            };
            let statements = match standing {
                None => "none",
                Some(it) if it.digest == trust.digest => "all",
                Some(_) => "others",
            };
            [short(&node.id), node.name.clone(), node.role.clone(), certificate, statements.to_owned()]
        };
        let silent = found.unreachable.iter().map(|node| {
            let certificate = if trust.revoked.contains(&node.id) { "revoked" } else { "-" };
            [short(&node.id), node.name.clone(), node.state().into(), certificate.into(), "-".into()]
        });
        let header = ["ID", "NAME", "ROLE", "CERTIFICATE", "STATEMENTS"];
        print::table(header, found.nodes.iter().map(row).chain(silent))
    }

    pub(super) async fn ticket(&self, args: &TicketArgs) -> Result {
        let ticket = self.client.ticket(args.spec()).await?;
        if self.output == Output::Json { print::json(&ticket) } else { print::line(ticket.ticket) }
    }

    /// The key in the file, if the network follows it.
    async fn key(&self, path: &Path) -> Outcome<AuthorityKey> {
        let hint = "name the file that `starling authority init` has written with --key FILE";
        let key = AuthorityKey::load(path).map_err(|error| Failure::failed(error.to_string(), hint))?;
        match self.client.trust().await?.authority {
            Some(authority) if authority == key.id() => Ok(key),
            Some(authority) => {
                let message = format!(
                    "{} is not the key of the network's authority: it is {}, and the network follows {}",
                    path.display(),
                    short(&key.id()),
                    short(&authority)
                );
                Err(Failure::usage(message, hint))
            }
            None => Err(Failure::usage("this network has no authority", "make one: starling authority init")),
        }
    }

    /// Passes statements to the node, and reports how many nodes have them.
    async fn state(&self, statements: Vec<String>) -> Result {
        let trust = self.client.state(&Statements { statements }).await?;
        let mut found = self.client.nodes().await?;
        let have = |found: &Nodes| {
            let has = |node: &&Node| node.standing.as_ref().is_some_and(|it| it.digest == trust.digest);
            found.nodes.iter().filter(has).count()
        };
        for _ in 0..LOOKS_MAX {
            if have(&found) == found.nodes.len() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            found = self.client.nodes().await?;
        }
        let silent =
            found.unreachable.iter().filter(|it| !it.left && !trust.revoked.contains(&it.id)).count();
        let (have, all) = (have(&found), found.nodes.len());
        let later = if silent > 0 {
            format!("; {silent} more do not answer and learn it later")
        } else {
            String::new()
        };
        print::note(format!("{have} of the {all} nodes that answer have it{later}"));
        Ok(())
    }
}

fn name(node: &Node) -> &str {
    &node.name
}

fn is_certified(node: &Node, trust: &Trust) -> bool {
    trust.issuers.iter().any(|issuer| issuer.id == node.id)
        || node.standing.as_ref().and_then(|it| it.not_after_ms).is_some_and(|until| until > now_ms())
}

/// The id of the one node with this name, these first digits of its id, or, of one that does not answer, this id.
fn find(found: &Nodes, node: &str) -> Outcome<String> {
    let answer = found.nodes.iter().map(|it| (&it.id, &it.name));
    let all = answer.chain(found.unreachable.iter().map(|it| (&it.id, &it.name)));
    let is_called = |id: &str, name: &str| name == node || (node.len() >= 4 && id.starts_with(node));
    let mut ids: Vec<&String> = all.filter(|(id, name)| is_called(id, name)).map(|(id, _)| id).collect();
    ids.dedup();
    match ids[..] {
        [id] => Ok(id.clone()),
        [] if node.len() == 64 => Ok(node.to_owned()),
        [] => Err(no_id(node)),
        _ => Err(Failure::usage(
            format!("several nodes are called {node}"),
            "name the node by its id: `starling nodes` lists them",
        )),
    }
}

fn no_id(node: &str) -> Failure {
    Failure::nothing(
        format!("no node is called {node}"),
        "`starling nodes` lists them; a node that no other remembers is named by its whole id",
    )
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Fails if the node is the only issuer: without one no certificate is renewed.
fn require_other_issuer(trust: &Trust, id: &str, called: &str) -> Outcome<()> {
    if !trust.issuers.iter().all(|issuer| issuer.id == id) {
        return Ok(());
    }
    let message = format!("{called} is the only issuer: without one, all nodes lose their certificates");
    Err(Failure::held(message, "nothing was changed: starling issuer add  makes another node one first"))
}

/// Later than that of every statement before, also if the clock of a machine was wrong.
fn serial(trust: &Trust) -> u64 {
    now_ms().max(trust.serial.saturating_add(1))
}

fn until(not_after_ms: u64) -> String {
    match not_after_ms.checked_sub(now_ms()) {
        Some(left) => format!("for {}", print::span(left)),
        None => "expired".into(),
    }
}

//! Commands on the network's authority, its issuers, and the members that they have certified. The authority's key stays on
//! the machine where the command runs: nodes receive what it has signed.

pub mod args;
mod keys;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use starling_api::admin::{Node, Nodes, Unreachable};
use starling_api::trust::{Statements, TicketSpec, Trust};
use starling_service::{AuthorityKey, IdentityError, wall_ms};

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
/// Statements in a request, at most: of the largest ones half of what a node reads.
const STATEMENTS_AT_ONCE: usize = 20;

type Outcome<T> = std::result::Result<T, Failure>;

impl Session {
    pub(super) async fn authority(&self, command: AuthorityCommand) -> Result {
        match command {
            AuthorityCommand::Init { key } => self.init_authority(&key).await,
            AuthorityCommand::Show => self.show_trust().await,
            AuthorityCommand::Require { key, force } => self.require(&key.key, force).await,
            AuthorityCommand::Rotate { key, new_key } => self.rotate(&key.key, &new_key).await,
            AuthorityCommand::Retire { old, key, force } => self.retire(&old, &key.key, force).await,
        }
    }

    async fn init_authority(&self, path: &Path) -> Result {
        let (trust, me) = (self.client.trust().await?, self.client.status().await?);
        if let Some(authority) = trust.authority {
            let message = format!("this network follows the authority {} already", short(&authority));
            return Err(Failure::held(message, "nothing was changed: `starling authority show` shows it"));
        }
        if !me.joined {
            let message = format!("{} has no peer, and its network may have an authority", me.name);
            return Err(Failure::held(
                message,
                "nothing was changed: `starling doctor` says why it has none",
            ));
        }
        let key = create(path, "--key")?;
        let issuer = key.issuer(&me.id, &me.listen, true, wall_ms()).ok_or_else(|| no_id(&me.id))?;
        let path = path.display();
        let done = format!("{} is the first issuer, and gives every node a certificate now", me.name);
        self.publish(vec![issuer], &done, &[], |trust| trust.is_issuer).await.inspect_err(|_| {
            print::note(format!(
                "{path} is the key of no authority yet: remove it, unless you keep this one of two"
            ));
        })?;
        print::note(format!(
            "{path} is the key of the network's authority: keep it and a copy of it offline"
        ));
        print::note(format!(
            "next:  starling member ls  until all have one;  starling issuer add NODE --key {path}  for a second issuer;  \
             starling authority require --key {path}"
        ));
        Ok(())
    }

    async fn require(&self, path: &Path, force: bool) -> Result {
        let (key, trust) = self.key(path).await?;
        if trust.required {
            return self.unchanged("certificates are required already", &trust);
        }
        let found = self.client.nodes().await?;
        let without = found.nodes.iter().filter(|it| !is_certified(it, &trust)).map(|it| (&it.id, &it.name));
        let silent = found.unreachable.iter().filter(|node| !node.left).map(|it| (&it.id, &it.name));
        let (ids, names): (Vec<&str>, Vec<&str>) =
            without.chain(silent).map(|(id, name)| (id.as_str(), name.as_str())).unzip();
        if !names.is_empty() && !force {
            let message = format!("these nodes have no certificate, or do not answer: {}", names.join(", "));
            let hint = "nothing was changed: start or upgrade them, or cut them off with --force";
            return Err(Failure::held(message, hint));
        }
        let done = "nodes accept only peers with a certificate now";
        self.publish(vec![key.require(serial(&trust))], done, &ids, |trust| trust.required).await?;
        print::note(
            "new nodes, and those that were stopped all the while, join with  starling ticket  of an issuer",
        );
        Ok(())
    }

    pub(super) async fn issuer(&self, command: IssuerCommand) -> Result {
        let (IssuerCommand::Add { node, key } | IssuerCommand::Rm { node, key, .. }) = &command;
        let (key, trust) = self.key(&key.key).await?;
        let found = self.client.nodes().await?;
        let id = find(&found, &trust, node)?;
        let called = called(&found, &id);
        let known = trust.issuers.iter().find(|issuer| issuer.id == id);
        let answers = found.nodes.iter().find(|it| it.id == id);
        // Of one that does not answer, the addresses that are known stay.
        let addresses = answers.map(|it| &it.addresses).or(known.map(|it| &it.addresses));
        let addresses = addresses.cloned().unwrap_or_default();
        let (is_granted, done) = match command {
            IssuerCommand::Add { .. } if trust.revoked.contains(&id) => {
                let message = format!("{called} is revoked, and cannot be an issuer");
                return Err(Failure::held(message, "nothing was changed: name another node"));
            }
            IssuerCommand::Add { .. } if answers.is_some_and(|it| it.role == "seed") => {
                let message = format!("{called} is a seed, and nodes cannot join through its ticket alone");
                return Err(Failure::held(message, "nothing was changed: make a replica an issuer"));
            }
            IssuerCommand::Add { .. } if known.is_some_and(|it| it.addresses == addresses) => {
                return self.unchanged(&format!("{called} is an issuer already, at these addresses"), &trust);
            }
            IssuerCommand::Add { .. } => (true, format!("{called} is an issuer now")),
            IssuerCommand::Rm { .. } if known.is_none() => {
                let hint = "nothing was changed: `starling authority show` lists the issuers";
                return Err(Failure::nothing(format!("{called} is no issuer"), hint));
            }
            IssuerCommand::Rm { force, .. } => {
                require_other_issuer(&trust, &found, &id, force)?;
                (false, format!("{called} is an issuer no longer"))
            }
        };
        let statement = key.issuer(&id, &addresses, is_granted, serial(&trust)).ok_or_else(|| no_id(node))?;
        self.publish(vec![statement], &done, &[], |trust| trust.has_issuer(&id) == is_granted).await
    }

    pub(super) async fn member(&self, command: MemberCommand) -> Result {
        match command {
            MemberCommand::Ls => self.list_members().await,
            MemberCommand::Revoke { node, key, yes, force } => self.revoke(&node, &key.key, yes, force).await,
        }
    }

    async fn revoke(&self, node: &str, key: &Path, yes: bool, force: bool) -> Result {
        let (key, trust) = self.key(key).await?;
        let found = self.client.nodes().await?;
        let id = find(&found, &trust, node)?;
        let called = called(&found, &id);
        if trust.revoked.contains(&id) {
            return self.unchanged(&format!("{called} is revoked already"), &trust);
        }
        require_other_issuer(&trust, &found, &id, force)?;
        let is_of_it = |node: &&Node| {
            let given_by = node.standing.as_ref().and_then(|it| it.issuer.as_ref());
            !trust.has_issuer(&node.id) && given_by == Some(&id)
        };
        let victims: Vec<&Node> = found.nodes.iter().filter(is_of_it).collect();
        let issued = if victims.is_empty() || !trust.required {
            String::new()
        } else {
            format!(
                " It has given the certificates of {}, which become invalid: these nodes have to join again with a ticket of \
                 another issuer. `starling issuer rm` first gives them other ones.",
                victims.iter().copied().map(name).collect::<Vec<_>>().join(", ")
            )
        };
        let warning = format!("This cuts {called} ({id}) off from the network for good.{issued}");
        if yes {
            print::note(&warning);
        }
        confirm(&warning, node, yes)?;
        let statement = key.revoke(&id, serial(&trust)).ok_or_else(|| no_id(node))?;
        let cut_off: Vec<&str> =
            if trust.required { victims.iter().map(|it| it.id.as_str()).collect() } else { Vec::new() };
        let done = format!("{called} is revoked");
        self.publish(vec![statement], &done, &cut_off, |trust| trust.revoked.contains(&id)).await?;
        print::note(
            "its votes in strong keyspaces stay: `starling keyspace ls` shows silent voters, and `starling keyspace \
             voters replace` lets another node vote",
        );
        Ok(())
    }

    /// Reports that a command has nothing to do.
    fn unchanged(&self, what: &str, trust: &Trust) -> Result {
        print::note(format!("{what}: nothing was changed"));
        if self.output == Output::Json { print::json(trust) } else { Ok(()) }
    }

    async fn show_trust(&self) -> Result {
        let trust = self.client.trust().await?;
        if self.output == Output::Json {
            return print::json(&trust);
        }
        let me = self.client.status().await?;
        if !me.joined {
            print::note("this node has no peer: what its network has stated may not have reached it");
        }
        let Some(authority) = &trust.authority else {
            return print::line(if me.joined {
                "this network has no authority: every node with the ticket is a member"
            } else {
                "no authority is known here"
            });
        };
        let ids = |all: &mut dyn Iterator<Item = &String>| {
            let all: Vec<String> = all.map(|id| short(id)).collect();
            if all.is_empty() { "-".to_owned() } else { all.join(", ") }
        };
        let certificate = match &trust.certificate {
            _ if trust.revoked.contains(&me.id) => "revoked".to_owned(),
            _ if trust.is_issuer => "not needed: it is an issuer".to_owned(),
            Some(it) if trust.revoked.contains(&it.issuer) => {
                format!("invalid: its issuer {} is revoked", short(&it.issuer))
            }
            Some(it) => format!("by {}, {}", short(&it.issuer), until(it.not_after_ms)),
            None => "none".to_owned(),
        };
        let others = trust.keys.iter().filter(|key| key.id != *authority).map(|key| &key.id);
        print::pairs([
            ("authority", authority.clone()),
            ("other keys", ids(&mut others.into_iter())),
            ("retired keys", ids(&mut trust.former_keys.iter())),
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
        let answered = found.nodes.iter().map(|node| member_row(node, &trust));
        let silent = found.unreachable.iter().map(|node| {
            let certificate = if trust.has_issuer(&node.id) { "issuer" } else { "-" };
            let certificate = if trust.revoked.contains(&node.id) { "revoked" } else { certificate };
            [short(&node.id), node.name.clone(), node.state().into(), certificate.into(), "-".into()]
        });
        let unseen = |id: &String, certificate: &str| {
            let is_listed = all_nodes(&found).any(|(other, _)| other == id);
            let row = [short(id), "-".into(), "not seen".into(), certificate.into(), "-".into()];
            (!is_listed).then_some(row)
        };
        let away = trust.issuers.iter().filter_map(|issuer| unseen(&issuer.id, "issuer"));
        let lost = trust.revoked.iter().filter_map(|id| unseen(id, "revoked"));
        let header = ["ID", "NAME", "ROLE", "CERTIFICATE", "STATEMENTS"];
        print::table(header, answered.chain(silent).chain(away).chain(lost))
    }

    pub(super) async fn ticket(&self, args: &TicketArgs) -> Result {
        let spec = args.spec();
        let ticket = self.client.ticket(spec).await?;
        if spec != TicketSpec::default() && !self.client.trust().await?.required {
            print::note("its limits count once certificates are required: starling authority require");
        }
        if self.output == Output::Json { print::json(&ticket) } else { print::line(ticket.ticket) }
    }

    /// The key in the file, if the network follows it, and what the node knows.
    async fn key(&self, path: &Path) -> Outcome<(AuthorityKey, Trust)> {
        let hint = "name the file that `starling authority init` has written with --key FILE";
        let key = AuthorityKey::load(path).map_err(|error| Failure::failed(key_error(path, &error), hint))?;
        let (trust, me) = (self.client.trust().await?, self.client.status().await?);
        if trust.revoked.contains(&me.id) {
            let message = format!("{} is revoked: no other node would learn it", me.name);
            return Err(Failure::held(message, "nothing was changed: ask another node, with --api"));
        }
        match &trust.authority {
            Some(_) if trust.has_key(&key.id()) => Ok((key, trust)),
            Some(_) if trust.is_authority(&key.id()) => {
                let message = format!("{} is retired: what it signs counts no longer", path.display());
                Err(Failure::usage(message, "name the file of a key that `starling authority show` lists"))
            }
            Some(authority) => {
                let message = format!(
                    "{} is not the key of the network's authority: it is {}, and the network follows {}",
                    path.display(),
                    short(&key.id()),
                    short(authority)
                );
                Err(Failure::usage(message, hint))
            }
            None => Err(Failure::usage("this network has no authority", "make one: starling authority init")),
        }
    }

    /// Passes statements to the node, checks that they count there, and reports how many nodes have them. They cut these nodes
    /// off, beside the revoked ones.
    async fn publish(
        &self,
        statements: Vec<String>,
        done: &str,
        cut_off: &[&str],
        is_done: impl Fn(&Trust) -> bool,
    ) -> Result {
        let mut trust = Trust::default();
        for some in statements.chunks(STATEMENTS_AT_ONCE) {
            trust = self.client.add_statements(&Statements { statements: some.to_vec() }).await?;
        }
        if !is_done(&trust) {
            let message = "the node has not taken the statement: another one about the same node counts";
            return Err(Failure::failed(message, "`starling authority show` shows what counts; try again"));
        }
        let crawl = async || -> Outcome<Nodes> {
            let mut found = self.client.nodes().await?;
            found.unreachable.retain(|node| !node.left && !trust.revoked.contains(&node.id));
            Ok(found)
        };
        let mut found = crawl().await?;
        let is_equal = |node: &&Node| node.standing.as_ref().is_some_and(|it| it.digest == trust.digest);
        for _ in 0..LOOKS_MAX {
            if found.nodes.iter().all(|node| is_equal(&node)) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            found = crawl().await?;
        }
        let is_other =
            |node: &&Node| node.standing.as_ref().is_some_and(|it| !trust.is_authority(&it.authority));
        let others: Vec<&str> = found.nodes.iter().filter(is_other).map(name).collect();
        if !others.is_empty() {
            let message = format!("{done}; but these nodes follow another authority: {}", others.join(", "));
            let hint = "remove the file `trust` of the nodes with the wrong one, and start them with --join and a new ticket";
            return Err(Failure::failed(message, hint));
        }
        let (have, all) = (found.nodes.iter().filter(is_equal).count(), found.nodes.len());
        let (cut, silent): (Vec<&Unreachable>, Vec<&Unreachable>) =
            found.unreachable.iter().partition(|it| cut_off.contains(&it.id.as_str()));
        let cut: Vec<&str> = cut.iter().map(|it| it.name.as_str()).collect();
        let cut = (!cut.is_empty()).then(|| format!("; cut off until they join again: {}", cut.join(", ")));
        let silent =
            (!silent.is_empty()).then(|| format!("; {} more do not answer and learn it later", silent.len()));
        let later: String = cut.into_iter().chain(silent).collect();
        print::note(format!("{done}: {have} of the {all} nodes that answer have it{later}"));
        if self.output == Output::Json { print::json(&trust) } else { Ok(()) }
    }
}

fn name(node: &Node) -> &str {
    &node.name
}

/// Ids and names of all nodes that a crawl has found, whether they answered or not.
fn all_nodes(found: &Nodes) -> impl Iterator<Item = (&String, &str)> {
    let answered = found.nodes.iter().map(|it| (&it.id, it.name.as_str()));
    answered.chain(found.unreachable.iter().map(|it| (&it.id, it.name.as_str())))
}

fn member_row(node: &Node, trust: &Trust) -> [String; 5] {
    let standing = node.standing.as_ref();
    let certificate = match standing.and_then(|it| it.not_after_ms) {
        _ if trust.revoked.contains(&node.id) => "revoked".to_owned(),
        _ if trust.has_issuer(&node.id) => "issuer".to_owned(),
        Some(not_after_ms) => until(not_after_ms),
        None => "none".to_owned(),
    };
    let statements = match standing {
        None => "none",
        Some(it) if !trust.is_authority(&it.authority) => "of another authority",
        Some(it) if it.digest == trust.digest => "all",
        Some(_) => "others",
    };
    [short(&node.id), node.name.clone(), node.role.clone(), certificate, statements.to_owned()]
}

fn is_certified(node: &Node, trust: &Trust) -> bool {
    trust.has_issuer(&node.id)
        || node.standing.as_ref().and_then(|it| it.not_after_ms).is_some_and(|until| until > wall_ms())
}

/// The id of the node with this id, the one with this name, or the one with these first digits of its id. A node that does
/// not answer is found if it is an issuer; any other one by its whole id.
fn find(found: &Nodes, trust: &Trust, node: &str) -> Outcome<String> {
    let issuers = trust.issuers.iter().map(|it| (&it.id, ""));
    let all: Vec<(&String, &str)> = all_nodes(found).chain(issuers).collect();
    let is_id = |node: &str| node.len() == 64 && node.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id(node) {
        if !all.iter().any(|(id, _)| *id == node) {
            print::note("no node that answers knows this id: make sure that it is right");
        }
        return Ok(node.to_owned());
    }
    let is_called = |(id, name): &&(&String, &str)| {
        !node.is_empty() && *name == node || node.len() >= 4 && id.starts_with(node)
    };
    let ids: BTreeSet<&String> = all.iter().filter(is_called).map(|(id, _)| *id).collect();
    match ids.first() {
        Some(id) if ids.len() == 1 => Ok((*id).clone()),
        Some(_) => Err(Failure::usage(
            format!("several nodes are called {node}"),
            "name the node by its id: `starling nodes` lists them",
        )),
        None => Err(no_id(node)),
    }
}

/// The name of a node, or the first digits of its id.
fn called(found: &Nodes, id: &str) -> String {
    all_nodes(found).find(|(other, _)| *other == id).map_or_else(|| short(id), |(_, name)| name.to_owned())
}

/// Makes a key in a file that does not exist; the flag names it.
fn create(path: &Path, flag: &str) -> Outcome<AuthorityKey> {
    AuthorityKey::create(path).map_err(|error| {
        Failure::failed(key_error(path, &error), format!("name a file that does not exist with {flag} FILE"))
    })
}

fn key_error(path: &Path, error: &IdentityError) -> String {
    match error {
        IdentityError::Io { source, .. } => format!("the key {}: {source}", path.display()),
        IdentityError::Malformed { what, .. } => {
            format!("{} is not the key of an authority: {what}", path.display())
        }
    }
}

fn no_id(node: &str) -> Failure {
    Failure::nothing(
        format!("no node is called {node}"),
        "`starling nodes` lists them; of one that does not answer give the whole id, or the first digits of an issuer's",
    )
}

/// Fails if the node is the only issuer, or, unless forced, the only one that answers: without one no certificate is renewed.
fn require_other_issuer(trust: &Trust, found: &Nodes, id: &str, force: bool) -> Outcome<()> {
    let others: Vec<&str> =
        trust.issuers.iter().map(|issuer| issuer.id.as_str()).filter(|other| *other != id).collect();
    let is_issuer = trust.has_issuer(id);
    if is_issuer && others.is_empty() {
        let called = called(found, id);
        let message = format!("{called} is the only issuer: without one, all nodes lose their certificates");
        return Err(Failure::held(
            message,
            "nothing was changed: starling issuer add  makes another node one first",
        ));
    }
    if !is_issuer || force || found.nodes.iter().any(|node| others.contains(&node.id.as_str())) {
        return Ok(());
    }
    let silent: Vec<String> = others.iter().map(|id| called(found, id)).collect();
    let message = format!(
        "no issuer other than {} answers (not {}): until one does, no certificate is renewed and no node joins",
        called(found, id),
        silent.join(", ")
    );
    let hint = "nothing was changed: start one, make another node one with  starling issuer add,  or repeat with --force";
    Err(Failure::held(message, hint))
}

/// Later than that of every statement before, also if the clock of a machine was wrong.
fn serial(trust: &Trust) -> u64 {
    wall_ms().max(trust.serial.saturating_add(1))
}

fn until(not_after_ms: u64) -> String {
    match not_after_ms.checked_sub(wall_ms()) {
        Some(left) => format!("for {}", print::span(left)),
        None => "expired".into(),
    }
}

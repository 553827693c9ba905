//! Commands on the authority's keys: another one takes over, and an older one counts no longer.

use std::path::Path;

use starling_api::admin::Node;
use starling_api::trust::{AuthorityKey, Trust};

use super::super::Session;
use super::super::admin::short;
use super::super::failure::Failure;
use super::super::print::{self, Result};
use super::{Outcome, create, name, serial};

impl Session {
    pub(super) async fn rotate(&self, path: &Path, new_path: &Path) -> Result {
        let (key, trust) = self.key(path).await?;
        let new = create(new_path, "--new-key")?;
        let new_path = new_path.display();
        let done = format!("{} signs for the authority, too", short(&new.id()));
        let statement = key.succeed(&new, serial(&trust));
        self.publish(vec![statement], &done, &[], |trust| trust.has_key(&new.id())).await.inspect_err(
            |_| {
                print::note(format!("remove {new_path}, unless `starling authority show` lists its key"));
            },
        )?;
        print::note(format!(
            "{new_path} is the other key: keep it and a copy of it offline, apart from the first"
        ));
        let old = short(&key.id());
        print::note(format!(
            "next, when all nodes have it, or when the first key is lost:  starling authority retire {old} --key {new_path}"
        ));
        Ok(())
    }

    pub(super) async fn retire(&self, old: &str, path: &Path, force: bool) -> Result {
        let (key, trust) = self.key(path).await?;
        let old = find_key(&trust, old)?;
        let (called, me) = (short(old), key.id());
        if !trust.descends(&me, old) {
            let message = format!("{} did not come from {called}, and cannot retire it", short(&me));
            let hint = "nothing was changed: make another key from the older one, with  starling authority rotate,  and retire \
                        the older one with that";
            return Err(Failure::held(message, hint));
        }
        let found = self.client.nodes().await?;
        let is_behind = |node: &&Node| node.standing.as_ref().is_none_or(|it| it.digest != trust.digest);
        let mut behind: Vec<&str> = found.nodes.iter().filter(is_behind).map(name).collect();
        let is_expected = |id: &String| !trust.revoked.contains(id);
        let silent = found.unreachable.iter().filter(|node| !node.left && is_expected(&node.id));
        behind.extend(silent.map(|node| node.name.as_str()));
        if !behind.is_empty() && !force {
            let message = format!("these nodes lack statements, or do not answer: {}", behind.join(", "));
            let hint = "nothing was changed: start them, or repeat with --force; they follow when they meet another node";
            return Err(Failure::held(message, hint));
        }
        let dropped: Vec<String> =
            trust.keys.iter().filter(|it| !stays(&trust, it, old, &me)).map(|it| short(&it.id)).collect();
        let restated = key.restate(&self.client.statements().await?.statements, serial(&trust));
        if !restated.is_empty() {
            let done = format!("{} has signed {} statements again", short(&me), restated.len());
            self.publish(restated, &done, &[], |_| true).await?;
        }
        let statement = key.retire(old, serial(&trust)).ok_or_else(|| no_key(old))?;
        let done = format!("{} count no longer", dropped.join(", "));
        self.publish(vec![statement], &done, &[], |trust| !trust.has_key(old) && trust.has_key(&me)).await?;
        print::note("tickets that name a retired key still work; its file can be removed");
        Ok(())
    }
}

/// Whether a key still counts once `by` has retired `old`.
fn stays(trust: &Trust, key: &AuthorityKey, old: &str, by: &str) -> bool {
    // The one after the retired key from which `by` came is the oldest one then.
    let is_root =
        |it: &&AuthorityKey| it.after.as_deref() == Some(old) && (it.id == by || trust.descends(by, &it.id));
    let root = trust.keys.iter().find(is_root);
    root.is_some_and(|root| key.id == root.id || trust.descends(&key.id, &root.id))
}

/// The key of the authority with these first digits.
fn find_key<'a>(trust: &'a Trust, digits: &str) -> Outcome<&'a str> {
    let is_meant = |key: &&AuthorityKey| digits.len() >= 4 && key.id.starts_with(digits);
    let mut found = trust.keys.iter().filter(is_meant);
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(&key.id),
        (Some(_), Some(_)) => {
            let message = format!("several keys begin with {digits}");
            Err(Failure::usage(message, "write more digits: `starling authority show --output json` has all"))
        }
        (None, _) => Err(no_key(digits)),
    }
}

fn no_key(digits: &str) -> Failure {
    let message = format!("no key of the authority begins with {digits}");
    Failure::nothing(message, "`starling authority show` lists them: write four digits or more")
}

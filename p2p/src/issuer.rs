//! Certificates that this node gives, and the count of invitations that were used.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use data_encoding::HEXLOWER;
use starling_proto::{
    NodeId, Role,
    trust::{Certificate, Invitation, Rejection, Request, Signed, Trust},
};

use crate::{Identity, identity::verify_signed};

/// Signs certificates and invitations with the node's key, while the authority has made the node an issuer.
#[derive(Debug)]
pub struct Issuer {
    identity: Identity,
    /// How long a certificate is valid, milliseconds.
    lifetime_ms: u64,
    uses: Mutex<Uses>,
}

/// The nodes that have used each limited invitation. In the file a line for each: id, expiry, node.
#[derive(Debug)]
struct Uses {
    path: PathBuf,
    nodes: BTreeMap<[u8; 16], BTreeSet<NodeId>>,
}

/// A dialer that needs a certificate.
pub(crate) struct Applicant<'a> {
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    pub(crate) certificate: Option<&'a Certificate>,
    pub(crate) request: &'a Request,
}

impl Issuer {
    /// Reads the uses of earlier runs from the file, and drops those of invitations that have expired.
    pub fn open(identity: Identity, path: &Path, lifetime_ms: u64, wall_ms: u64) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        // A line that cannot be read is the torn end of a crash: the certificate was not given.
        let current = || text.lines().filter_map(parse_use).filter(|(_, expiry, _)| *expiry >= wall_ms);
        let mut uses = Uses { path: path.to_owned(), nodes: BTreeMap::new() };
        if current().count() != text.lines().count() {
            let beside = path.with_extension("new");
            let mut file = private(fs::OpenOptions::new().create(true).truncate(true)).open(&beside)?;
            current().try_for_each(|(id, expiry, node)| file.write_all(&line(&id, expiry, &node)))?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
        }
        for (id, _, node) in current() {
            uses.nodes.entry(id).or_default().insert(node);
        }
        Ok(Self { identity, lifetime_ms, uses: Mutex::new(uses) })
    }

    /// Makes an invitation.
    pub fn invite(&self, role: Role, uses: u32, not_after_ms: u64) -> Invitation {
        let issuer = self.identity.node_id();
        let id = rand::random();
        let mut invitation = Invitation { id, role, uses, not_after_ms, issuer, signature: Vec::new() };
        invitation.signature = self.sign(&invitation);
        invitation
    }

    /// The signature of this node's key over a value of which it is the signer.
    pub fn sign(&self, value: &impl Signed) -> Vec<u8> {
        self.identity.sign_bytes(&value.signing_bytes())
    }

    /// Gives a certificate, or says why not. Waits for the disk if the invitation has limited uses.
    pub(crate) fn issue(
        &self,
        applicant: &Applicant<'_>,
        trust: &Trust,
        wall_ms: u64,
    ) -> Result<Certificate, Rejection> {
        let Applicant { node, role, certificate, request } = applicant;
        let issuer = self.identity.node_id();
        if !trust.is_issuer(&issuer) {
            return Err(Rejection::NoIssuer);
        }
        let shown = certificate.ok_or(Rejection::NoCertificate);
        let is_renewed = shown.and_then(|certificate| trust.check_signed(node, *role, certificate));
        match request {
            // Before certificates are required, the network's secret is what makes a member.
            _ if !trust.is_required() => {}
            // An issuer has no certificate before it is one no longer, whatever its first ticket was.
            _ if trust.was_issuer(node) || is_renewed.is_ok() => {}
            Request::Renewal => is_renewed?,
            Request::Invited(invitation) => {
                if !verify_signed(invitation) {
                    return Err(Rejection::Invalid);
                }
                trust.check_invitation(invitation, *role, wall_ms)?;
                self.count_use(invitation, *node)?;
            }
        }
        let not_after_ms = wall_ms.saturating_add(self.lifetime_ms);
        let (node, role, signature) = (*node, *role, Vec::new());
        let mut given = Certificate { node, role, issued_ms: wall_ms, not_after_ms, issuer, signature };
        given.signature = self.sign(&given);
        Ok(given)
    }

    /// Counts a use, on the disk before in memory. A node that asks again counts once.
    fn count_use(&self, invitation: &Invitation, node: NodeId) -> Result<(), Rejection> {
        if invitation.uses == 0 {
            return Ok(());
        }
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let known = uses.nodes.get(&invitation.id);
        if known.is_some_and(|nodes| nodes.contains(&node)) {
            return Ok(());
        }
        if known.is_some_and(|nodes| nodes.len() >= invitation.uses as usize) {
            return Err(Rejection::Used);
        }
        let line = line(&invitation.id, invitation.not_after_ms, &node);
        let written = private(fs::OpenOptions::new().create(true).append(true))
            .open(&uses.path)
            .and_then(|mut file| file.write_all(&line).and_then(|()| file.sync_all()));
        if let Err(error) = written {
            tracing::error!(%error, path = %uses.path.display(), "a use of an invitation cannot be recorded: refused");
            return Err(Rejection::NoIssuer);
        }
        uses.nodes.entry(invitation.id).or_default().insert(node);
        Ok(())
    }
}

fn private(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    options.write(true).mode(0o600)
}

fn line(id: &[u8; 16], expiry: u64, node: &NodeId) -> Vec<u8> {
    format!("{} {expiry} {}\n", HEXLOWER.encode(id), HEXLOWER.encode(&node.0)).into_bytes()
}

fn parse_use(line: &str) -> Option<([u8; 16], u64, NodeId)> {
    let mut fields = line.split(' ');
    let id = parse_hex(fields.next()?)?;
    let expiry = fields.next()?.parse().ok()?;
    Some((id, expiry, NodeId(parse_hex(fields.next()?)?)))
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_kept_until_their_invitation_expires_and_a_torn_line_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("invitations");
        let kept = || fs::read_to_string(&path).expect("is there").lines().count();
        let open = |wall_ms| Issuer::open(Identity::generate(), &path, 1, wall_ms).expect("opens");
        let issuer = open(0);
        let made = issuer.invite(Role::Replica, 1, 0);
        let invitation = |id: u8, not_after_ms| Invitation { not_after_ms, id: [id; 16], ..made.clone() };
        assert!(!path.exists(), "an issuer of unlimited tickets writes nothing");
        let (early, late) = (invitation(1, 10), invitation(2, 20));
        for it in [&early, &late] {
            assert_eq!(issuer.count_use(it, NodeId([1; 32])), Ok(()));
            assert_eq!(issuer.count_use(it, NodeId([1; 32])), Ok(()), "it asks again");
            assert_eq!(issuer.count_use(it, NodeId([2; 32])), Err(Rejection::Used));
        }
        assert_eq!(kept(), 2);
        let torn = fs::read_to_string(&path).expect("is there") + "0202 20 ";
        fs::write(&path, torn).expect("writes");
        assert_eq!(open(10).count_use(&late, NodeId([2; 32])), Err(Rejection::Used));
        assert_eq!(kept(), 2);
        assert_eq!(open(11).count_use(&early, NodeId([2; 32])), Ok(()), "it has been forgotten");
        assert_eq!(kept(), 2);
        fs::remove_file(&path).expect("removes");
        fs::create_dir(&path).expect("is in the way");
        assert_eq!(issuer.count_use(&invitation(3, 10), NodeId([1; 32])), Err(Rejection::NoIssuer));
    }
}

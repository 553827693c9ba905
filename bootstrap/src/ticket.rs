//! Join tickets: everything that another machine needs to join a network, as one string.
//!
//! ```text
//! starling1  prefix with the version; 2 in a network with an authority
//! ...        base32 (RFC 4648, lower case, no padding) of:
//!            u16  length of everything after it, most significant byte first
//!            16   id of the network
//!            32   secret of the network
//!            u8   number of addresses, then each: u8 length, text
//!            32   version 2: key of the authority
//!            u8   version 2: length of the invitation, or 0; then the invitation
//!            4    checksum: first bytes of blake3 over everything before it
//! ```

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use thiserror::Error;
use zeroize::Zeroizing;

/// Addresses in a ticket, at most.
pub const ADDRESSES_MAX: usize = 4;
/// Longest address in a ticket, bytes of its text form.
pub const ADDRESS_BYTES_MAX: usize = 255;

const PREFIX: &str = "starling";
/// The version of a ticket without an authority, and with one. Version 2 is made only where it is needed, so that older
/// programs read the others.
const VERSIONS: [&str; 2] = ["1", "2"];
/// Longest invitation, bytes.
pub const INVITATION_BYTES_MAX: usize = 255;
const CHECKSUM_BYTES: usize = 4;
const FIXED_BYTES: usize = 16 + 32 + 1 + CHECKSUM_BYTES;
/// Longest text that is parsed, bytes: a little more than the largest ticket.
const TEXT_BYTES_MAX: usize = 2560;

/// A join ticket. Any node that has it can join the network: it is as secret as a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Id of the network.
    pub network: [u8; 16],
    /// Secret of the network.
    pub secret: Zeroizing<[u8; 32]>,
    /// Multiaddresses of nodes through which to join, with `/p2p/` where the node is known.
    /// Printing keeps the first [`ADDRESSES_MAX`] that are at most [`ADDRESS_BYTES_MAX`] long.
    pub addresses: Vec<String>,
    /// The authority of the network, if it has one.
    pub authority: Option<TicketAuthority>,
}

/// The part of a ticket about certificates.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketAuthority {
    /// The authority's public key.
    pub key: [u8; 32],
    /// What an issuer gives a certificate for, as the node encodes it; empty without one. At most
    /// [`INVITATION_BYTES_MAX`].
    pub invitation: Zeroizing<Vec<u8>>,
}

/// A text with `***` in place of what follows the first characters of each join ticket in it, for settings and logs.
pub fn hide_tickets(text: &str) -> String {
    let mut parts = text.split(PREFIX);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(PREFIX);
        let Some(version) = VERSIONS.into_iter().find(|version| part.starts_with(version)) else {
            shown.push_str(part);
            continue;
        };
        let part = &part[version.len()..];
        let rest = part.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        let secret = if rest.len() < part.len() { "***" } else { "" };
        shown.extend([version, secret, rest]);
    }
    shown
}

impl fmt::Debug for Ticket {
    /// Does not print the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Why a text is not a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TicketError {
    /// It does not begin as a ticket.
    #[error("not a join ticket: a ticket begins with `starling1` or `starling2`")]
    NotATicket,
    /// It is of another version.
    #[error(
        "join ticket of version {0}, this program reads versions 1 and 2: use the same version of starling on both machines"
    )]
    Version(String),
    /// A character that no ticket contains.
    #[error("join ticket has an illegal character at position {0}: copy it again")]
    Character(usize),
    /// Its end is missing.
    #[error("join ticket is incomplete: copy all of it")]
    Truncated,
    /// Something follows its end.
    #[error("join ticket has something after its end: copy the ticket only")]
    TooLong,
    /// Some characters are not those that were printed.
    #[error("join ticket is damaged (its checksum does not match): copy it again")]
    Checksum,
    /// Its checksum is correct, but its contents are not.
    #[error("join ticket is malformed: make a new one with `starling ticket`")]
    Malformed,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |address: &&String| is_address(address);
        let addresses: Vec<_> = self.addresses.iter().filter(fits).take(ADDRESSES_MAX).collect();
        let mut body = Zeroizing::new([&self.network[..], &*self.secret, &[addresses.len() as u8]].concat());
        for address in addresses {
            body.push(address.len() as u8);
            body.extend_from_slice(address.as_bytes());
        }
        if let Some(TicketAuthority { key, invitation }) = &self.authority {
            let invitation = if invitation.len() <= INVITATION_BYTES_MAX { &invitation[..] } else { &[] };
            body.extend_from_slice(key);
            body.push(invitation.len() as u8);
            body.extend_from_slice(invitation);
        }
        let version = VERSIONS[usize::from(self.authority.is_some())];
        let length = (body.len() + CHECKSUM_BYTES) as u16;
        let mut bytes = Zeroizing::new([&length.to_be_bytes()[..], &body].concat());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        write!(f, "{PREFIX}{version}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Parses a ticket. White space around the text is ignored.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let (version, encoded) = strip_version(text)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(TicketError::TooLong);
        }
        let bytes = decode(encoded, text.len() - encoded.len())?;
        let (length, rest) = bytes.split_first_chunk().ok_or(TicketError::Truncated)?;
        match rest.len().cmp(&usize::from(u16::from_be_bytes(*length))) {
            std::cmp::Ordering::Less => return Err(TicketError::Truncated),
            std::cmp::Ordering::Greater => return Err(TicketError::TooLong),
            std::cmp::Ordering::Equal => {}
        }
        let (checked, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TicketError::Truncated)?;
        if checksum(checked) != *sum {
            return Err(TicketError::Checksum);
        }
        let body = &rest[..rest.len() - CHECKSUM_BYTES.min(rest.len())];
        parse_body(body, version == VERSIONS[1]).ok_or(TicketError::Malformed)
    }
}

/// The version, and the text after it.
fn strip_version(text: &str) -> Result<(&'static str, &str), TicketError> {
    let versioned = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
    let strip = |version| Some((version, versioned.strip_prefix(version)?));
    match VERSIONS.into_iter().find_map(strip) {
        Some(stripped) => Ok(stripped),
        None => match versioned.chars().next() {
            Some(version) if version.is_ascii_digit() => Err(TicketError::Version(version.to_string())),
            _ => Err(TicketError::NotATicket),
        },
    }
}

/// Decodes base32. Errors count characters from 1 and from the beginning of the ticket; `before` precede `encoded`.
fn decode(encoded: &str, before: usize) -> Result<Zeroizing<Vec<u8>>, TicketError> {
    let is_legal = |c: char| c.is_ascii_lowercase() || matches!(c, '2'..='7');
    if let Some(at) = encoded.chars().position(|c| !is_legal(c)) {
        return Err(TicketError::Character(before + at + 1));
    }
    // The remaining failures, an impossible number of characters or stray bits in the last one, both mean that the
    // end is missing.
    let encoded = Zeroizing::new(encoded.to_ascii_uppercase());
    BASE32_NOPAD.decode(encoded.as_bytes()).map(Zeroizing::new).map_err(|_| TicketError::Truncated)
}

fn parse_body(body: &[u8], has_authority: bool) -> Option<Ticket> {
    let (network, body) = body.split_first_chunk()?;
    let (secret, body) = body.split_first_chunk()?;
    let (count, mut body) = body.split_first()?;
    let mut addresses = Vec::new();
    for _ in 0..*count {
        let (length, rest) = body.split_first()?;
        let (address, rest) = rest.split_at_checked(usize::from(*length))?;
        addresses.push(String::from_utf8(address.to_vec()).ok().filter(|a| is_address(a))?);
        body = rest;
    }
    let mut authority = None;
    if has_authority {
        let (key, rest) = body.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (invitation, rest) = rest.split_at_checked(usize::from(*length))?;
        authority = Some(TicketAuthority { key: *key, invitation: invitation.to_vec().into() });
        body = rest;
    }
    let is_whole = body.is_empty() && addresses.len() <= ADDRESSES_MAX;
    is_whole.then_some(Ticket { network: *network, secret: Zeroizing::new(*secret), addresses, authority })
}

fn is_address(address: &str) -> bool {
    address.len() <= ADDRESS_BYTES_MAX
        && address.starts_with('/')
        && address.bytes().all(|b| b.is_ascii_graphic())
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(bytes);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

const _: () = assert!(
    (FIXED_BYTES + ADDRESSES_MAX * (1 + ADDRESS_BYTES_MAX) + 33 + INVITATION_BYTES_MAX) * 8 / 5 + 16
        < TEXT_BYTES_MAX
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tickets_in_a_text_are_hidden_and_nothing_else_is() {
        let text = r#"["starling1abc", "/dns/starling1.example/tcp/1", "starling1"] starling1q2"#;
        let hidden = r#"["starling1***", "/dns/starling1.example/tcp/1", "starling1"] starling1***"#;
        assert_eq!(hide_tickets(text), hidden);
        assert_eq!(hide_tickets("a starling2abc,starling3"), "a starling2***,starling3");
        assert_eq!(hide_tickets("db.example.org"), "db.example.org");
    }

    fn tickets() -> impl Strategy<Value = Ticket> {
        let addresses = prop::collection::vec("/[!-~]{0,254}", 0..=ADDRESSES_MAX);
        let invitation = prop::collection::vec(any::<u8>(), 0..=INVITATION_BYTES_MAX);
        let authority = prop::option::of((any::<[u8; 32]>(), invitation));
        (any::<[u8; 16]>(), any::<[u8; 32]>(), addresses, authority).prop_map(
            |(network, secret, addresses, authority)| {
                let trust =
                    |(key, invitation): (_, Vec<u8>)| TicketAuthority { key, invitation: invitation.into() };
                Ticket { network, secret: secret.into(), addresses, authority: authority.map(trust) }
            },
        )
    }

    fn example() -> Ticket {
        let addresses = vec!["/ip4/192.0.2.1/tcp/7400".into()];
        Ticket { network: [1; 16], secret: [2; 32].into(), addresses, authority: None }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses(ticket in tickets()) {
            prop_assert_eq!(format!(" {ticket}\n").parse::<Ticket>(), Ok(ticket));
        }

        #[test]
        fn a_ticket_cut_short_says_so(ticket in tickets(), cut in 1_usize..400) {
            let text = ticket.to_string();
            let left = text.len().saturating_sub(cut).max(PREFIX.len() + 1);
            prop_assert_eq!(text[..left].parse::<Ticket>(), Err(TicketError::Truncated));
        }

        #[test]
        fn a_changed_character_never_passes(ticket in tickets(), at in any::<prop::sample::Index>(), to in "[a-z2-7]") {
            let mut text = ticket.to_string();
            let at = PREFIX.len() + 1 + at.index(text.len() - PREFIX.len() - 1);
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert!(text.parse::<Ticket>().is_err());
        }

        #[test]
        fn no_text_panics(text in ".*", tail in "[a-z2-7]*") {
            prop_assert!(text.parse::<Ticket>().is_err());
            let whole = format!("starling1{tail}");
            prop_assert!(whole.parse::<Ticket>().is_err());
        }
    }

    #[test]
    fn errors_tell_what_is_wrong() {
        let text = example().to_string();
        let parse = |text: &str| text.parse::<Ticket>().expect_err("not a ticket");
        assert_eq!(parse(""), TicketError::NotATicket);
        assert_eq!(parse("starling"), TicketError::NotATicket);
        assert_eq!(parse("/ip4/192.0.2.1/tcp/7400"), TicketError::NotATicket);
        assert_eq!(parse(&text.replacen('1', "3", 1)), TicketError::Version("3".into()));
        assert_eq!(parse(&text.replacen("starling1", "starling1!", 1)), TicketError::Character(10));
        assert_eq!(parse(&text.replacen("starling1", "starling1é", 1)), TicketError::Character(10));
        assert_eq!(parse(&text.to_uppercase()), TicketError::NotATicket);
        assert_eq!(parse(&format!("{text}aaaaaaaa")), TicketError::TooLong);
        assert_eq!(parse(&format!("{text}{}", "a".repeat(1 << 20))), TicketError::TooLong);
    }

    #[test]
    fn addresses_that_do_not_fit_are_left_out() {
        let mut ticket = example();
        ticket.addresses = (0..9).map(|n| format!("/ip4/192.0.2.{n}/tcp/7400")).collect();
        ticket.addresses[1] = format!("/{}", "x".repeat(ADDRESS_BYTES_MAX));
        ticket.addresses[2] = "not an address".into();
        let parsed: Ticket = ticket.to_string().parse().expect("parses");
        assert_eq!(parsed.addresses, [0, 3, 4, 5].map(|n| ticket.addresses[n].clone()));
    }

    #[test]
    fn a_ticket_is_the_same_in_every_release() {
        let text = concat!(
            "starling1abgqcaibaeaqcaibaeaqcaibaeaqcaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaels62",
            "lqgqxtcojsfyyc4mrogexxiy3qf43timbqs4xv6da"
        );
        assert_eq!(example().to_string(), text);
        assert_eq!(text.parse(), Ok(example()));
        let authority = Some(TicketAuthority { key: [3; 32], invitation: vec![4; 5].into() });
        let invites = Ticket { authority, ..example() };
        let text = concat!(
            "starling2abzqcaibaeaqcaibaeaqcaibaeaqcaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaels62",
            "lqgqxtcojsfyyc4mrogexxiy3qf43timbqambqgaydambqgaydambqgaydambqgaydambqgaydambqgaydambqkbaeaqcajhnppeaq"
        );
        assert_eq!(invites.to_string(), text);
        assert_eq!(text.parse(), Ok(invites));
    }

    #[test]
    fn the_secret_is_not_shown_by_accident() {
        assert!(!format!("{:?}", example()).contains("2, 2"));
    }
}

//! Seeds by name: TXT records `dnsaddr=<multiaddress>` of `_dnsaddr.<name>` (the multiformats
//! dnsaddr convention), which may point to further names.

use std::{collections::BTreeSet, time::Duration};

use hickory_resolver::{TokioResolver, proto::rr::RData};

/// Longest name that is looked up, bytes (RFC 1035, section 2.3.4).
pub const NAME_BYTES_MAX: usize = 253;
/// Names in a chain of names that point to names, at most. A guess: one for the operator, one for a provider.
const DEPTH_MAX: usize = 3;
/// Names looked up in one search, at most.
const LOOKUPS_MAX: usize = 16;
/// Addresses taken from one search, at most.
const ADDRESSES_MAX: usize = 64;
/// Longest time of one search, for all names together.
const TIMEOUT: Duration = Duration::from_secs(5);
const RECORD_PREFIX: &str = "dnsaddr=";
const NAME_PREFIX: &str = "/dnsaddr/";

/// The addresses of the names. Names that cannot be resolved are logged and left out.
pub(crate) async fn resolve(names: &[String]) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let resolver = match TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build) {
        Ok(resolver) => resolver,
        Err(error) => {
            tracing::warn!(%error, "no usable DNS configuration: names of seeds cannot be looked up");
            return Vec::new();
        }
    };
    let mut search = Search::new(names);
    let following = search.follow(async |name| texts(&resolver, name).await);
    if tokio::time::timeout(TIMEOUT, following).await.is_err() {
        tracing::warn!("DNS answers too slowly: some names of seeds were not looked up");
    }
    search.addresses.into_iter().collect()
}

async fn texts(resolver: &TokioResolver, name: &str) -> Vec<String> {
    match resolver.txt_lookup(format!("_dnsaddr.{name}.")).await {
        Ok(lookup) => {
            let texts = lookup.answers().iter().filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
                _ => None,
            });
            texts.collect()
        }
        Err(error) => {
            tracing::warn!(name, %error, "name of a seed cannot be looked up");
            Vec::new()
        }
    }
}

/// The names still to look up and the addresses found, so that a search that times out keeps
/// what it has found.
struct Search {
    wanted: Vec<(String, usize)>,
    seen: BTreeSet<String>,
    addresses: BTreeSet<String>,
}

impl Search {
    fn new(names: &[String]) -> Self {
        // The last name is looked up first.
        let wanted = names.iter().rev().filter_map(|name| Some((parse_name(name)?, DEPTH_MAX))).collect();
        Self { wanted, seen: BTreeSet::new(), addresses: BTreeSet::new() }
    }

    async fn follow(&mut self, texts: impl AsyncFn(&str) -> Vec<String>) {
        while let Some((name, depth)) = self.wanted.pop() {
            if self.seen.len() == LOOKUPS_MAX || !self.seen.insert(name.clone()) {
                continue;
            }
            let found = texts(&name).await;
            for value in found.iter().filter_map(|text| text.trim().strip_prefix(RECORD_PREFIX)) {
                self.take(value, depth);
            }
        }
    }

    fn take(&mut self, value: &str, depth: usize) {
        if value.starts_with(NAME_PREFIX) {
            if let Some(name) = parse_name(value).filter(|_| depth > 1) {
                self.wanted.push((name, depth - 1));
            }
        } else if value.starts_with('/') && self.addresses.len() < ADDRESSES_MAX {
            self.addresses.insert(value.to_owned());
        }
    }
}

/// The name in `name`, `name.` or `/dnsaddr/name[/p2p/...]`.
fn parse_name(text: &str) -> Option<String> {
    let name = text.strip_prefix(NAME_PREFIX).unwrap_or(text);
    let name = name.split('/').next()?.trim_end_matches('.').to_ascii_lowercase();
    let is_name = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    async fn search(names: &[&str], zone: impl Fn(&str) -> Vec<String>) -> (Vec<String>, usize) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let (mut search, lookups) = (Search::new(&names), RefCell::new(0));
        search
            .follow(async |name| {
                *lookups.borrow_mut() += 1;
                zone(name)
            })
            .await;
        (search.addresses.into_iter().collect(), lookups.into_inner())
    }

    #[tokio::test]
    async fn names_lead_to_addresses_through_names() {
        let zone = |name: &str| match name {
            "example.org" => vec![
                "dnsaddr=/ip4/192.0.2.1/tcp/7400/p2p/x".to_owned(),
                "dnsaddr=/dnsaddr/b.example.org/p2p/x".to_owned(),
                "v=spf1".to_owned(),
                "dnsaddr=nonsense".to_owned(),
            ],
            "b.example.org" => vec!["dnsaddr=/ip6/2001:db8::1/tcp/7400".to_owned()],
            _ => Vec::new(),
        };
        let (found, _) = search(&["Example.org.", "/dnsaddr/example.org", "missing.example.org"], zone).await;
        assert_eq!(found, ["/ip4/192.0.2.1/tcp/7400/p2p/x", "/ip6/2001:db8::1/tcp/7400"]);
    }

    #[tokio::test]
    async fn circles_chains_and_floods_are_cut() {
        let (_, lookups) = search(&["a"], |_| vec!["dnsaddr=/dnsaddr/a".to_owned()]).await;
        assert_eq!(lookups, 1, "a circle");
        let (_, lookups) = search(&["a"], |name| vec![format!("dnsaddr=/dnsaddr/{name}a")]).await;
        assert_eq!(lookups, DEPTH_MAX, "a chain");
        let many = |name: &str| (0..50).map(|n| format!("dnsaddr=/dnsaddr/{n}.{name}")).collect();
        assert_eq!(search(&["a"], many).await.1, LOOKUPS_MAX, "a tree");
        let flood = |_: &str| (0..999).map(|n| format!("dnsaddr=/ip4/192.0.2.1/tcp/{n}")).collect();
        assert_eq!(search(&["a"], flood).await.0.len(), ADDRESSES_MAX, "a flood");
    }

    #[test]
    fn what_is_no_name_is_not_looked_up() {
        for text in ["", ".", "/", "/dnsaddr/", "a b", "ü.example", &"a".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(parse_name(text), None, "{text}");
        }
    }
}

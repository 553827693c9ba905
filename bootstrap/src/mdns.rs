//! Peers on the local network, by multicast DNS (RFC 6762, RFC 6763).

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use thiserror::Error;

const SERVICE: &str = "_starling._udp.local.";
/// Domain of the hash that identifies the network: the id itself is not broadcast, and the secret is not part of the
/// hash.
const TAG_DOMAIN: &str = "starling mdns network tag v1";
/// The tag's property.
const TAG: &str = "network";
/// Properties of addresses: this and a number.
const ADDRESS: &str = "a";
/// Addresses announced, and taken from one peer, at most.
const ADDRESSES_MAX: usize = 8;
/// Longest address announced: a property has at most 255 bytes.
const ADDRESS_BYTES_MAX: usize = 240;
/// Addresses taken from all peers in one search, at most.
const FOUND_MAX: usize = 64;
/// How long answers to one search are awaited: responders wait up to 120 ms on purpose (RFC 6762,
/// section 6), and a first question may be lost.
const LISTEN: Duration = Duration::from_millis(1500);

/// Announces this node on the local network, and searches it for others of the same network. The
/// announcements are made by a thread of its own, until this is dropped.
pub struct Mdns {
    daemon: ServiceDaemon,
    tag: String,
    me: String,
}

/// Why the local network cannot be searched.
#[derive(Debug, Error)]
#[error("mDNS is not available: {0}; set `mdns = false`, or allow UDP port 5353")]
pub struct MdnsError(#[from] mdns_sd::Error);

impl Mdns {
    /// Starts the announcements. `instance` distinguishes nodes (a node's id, shortened); `addresses` are
    /// multiaddresses that others on the local network can dial.
    pub fn start(network: [u8; 16], instance: &str, addresses: &[String]) -> Result<Self, MdnsError> {
        let daemon = ServiceDaemon::new()?;
        let tag = tag(network);
        let host = format!("{instance}.local.");
        let service =
            ServiceInfo::new(SERVICE, instance, &host, "", port(addresses), properties(&tag, addresses))?
                .enable_addr_auto();
        let me = service.get_fullname().to_owned();
        daemon.register(service)?;
        Ok(Self { daemon, tag, me })
    }

    /// Addresses of the peers that answer now. Questions are asked only while this is awaited.
    pub async fn search(&self) -> Vec<String> {
        let mut found = BTreeSet::new();
        if let Ok(events) = self.daemon.browse(SERVICE) {
            let listening = async {
                while let Ok(event) = events.recv_async().await {
                    if let ServiceEvent::ServiceResolved(service) = event {
                        found.extend(self.addresses_of(&service));
                    }
                }
            };
            // Ends by its timeout, because further answers may always arrive.
            let _ = tokio::time::timeout(LISTEN, listening).await;
            // Fails only if the daemon has stopped, which sends no more questions.
            let _ = self.daemon.stop_browse(SERVICE);
        }
        found.into_iter().take(FOUND_MAX).collect()
    }

    /// The addresses of a service; none of this node itself or of another network.
    fn addresses_of(&self, service: &ResolvedService) -> Vec<String> {
        if service.get_property_val_str(TAG) != Some(&self.tag) || service.get_fullname() == self.me {
            return Vec::new();
        }
        addresses(|key| service.get_property_val_str(key))
    }
}

impl Drop for Mdns {
    fn drop(&mut self) {
        // Withdraws the announcement. Fails only if the daemon has stopped already.
        let _ = self.daemon.unregister(&self.me);
        let _ = self.daemon.shutdown();
    }
}

fn tag(network: [u8; 16]) -> String {
    data_encoding::HEXLOWER.encode(&blake3::derive_key(TAG_DOMAIN, &network)[..16])
}

/// The port of the service, which mDNS requires; peers use the addresses instead.
fn port(addresses: &[String]) -> u16 {
    let mut parts = addresses.iter().flat_map(|address| address.split('/'));
    let mut port = || {
        parts.find(|part| matches!(*part, "tcp" | "udp"))?;
        parts.next()?.parse().ok()
    };
    port().unwrap_or(0)
}

/// The properties of the service. Loopback addresses, which only processes on this machine can use, come last.
fn properties(tag: &str, addresses: &[String]) -> HashMap<String, String> {
    let is_loopback =
        |address: &&String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    let (local, others): (Vec<_>, Vec<_>) =
        addresses.iter().filter(|address| address.len() <= ADDRESS_BYTES_MAX).partition(is_loopback);
    let numbered = others.into_iter().chain(local).take(ADDRESSES_MAX).enumerate();
    let addresses = numbered.map(|(n, address)| (format!("{ADDRESS}{n}"), address.clone()));
    addresses.chain([(TAG.to_owned(), tag.to_owned())]).collect()
}

fn addresses<'a>(property: impl Fn(&str) -> Option<&'a str>) -> Vec<String> {
    let values = (0..ADDRESSES_MAX).map_while(|n| property(&format!("{ADDRESS}{n}")));
    values.filter(|value| value.starts_with('/')).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_understood_and_bounded() {
        let mut announced: Vec<_> = (1..20).map(|n| format!("/ip4/192.0.2.{n}/tcp/7400")).collect();
        announced.insert(0, "/ip4/127.0.0.1/tcp/7400".into());
        announced.insert(1, format!("/{}", "x".repeat(300)));
        let properties = properties("t", &announced);
        let read = addresses(|key| properties.get(key).map(String::as_str));
        assert_eq!(read, announced[2..2 + ADDRESSES_MAX]);
        assert_eq!(properties[TAG], "t");
        assert_eq!(port(&announced), 7400);
        assert_eq!(port(&["/ip4/192.0.2.1/udp/9/quic-v1".into()]), 9);
        assert_eq!(port(&["/tcp".into()]), 0);
    }

    #[test]
    fn a_tag_tells_networks_apart_and_does_not_show_them() {
        assert_ne!(tag([1; 16]), tag([2; 16]));
        assert!(!tag([0x11; 16]).contains("1111"));
    }

    #[test]
    fn strangers_and_this_node_itself_are_ignored() {
        // Without a network interface there is nothing to test.
        let Ok(mdns) = Mdns::start([1; 16], "me", &["/ip4/192.0.2.1/tcp/1".into()]) else { return };
        let heard = |network: u8, instance: &str| {
            let properties = properties(&tag([network; 16]), &["/ip4/192.0.2.2/tcp/1".to_owned()]);
            let host = format!("{instance}.local.");
            let service =
                ServiceInfo::new(SERVICE, instance, &host, "192.0.2.9", 1, properties).expect("is valid");
            mdns.addresses_of(&service.as_resolved_service())
        };
        assert_eq!(heard(1, "friend"), ["/ip4/192.0.2.2/tcp/1"]);
        assert!(heard(2, "stranger").is_empty());
        assert!(heard(1, "me").is_empty());
    }
}

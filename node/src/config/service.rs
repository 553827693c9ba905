//! The part of the configuration that the node itself needs.

use starling_service::{Role, Software};

use super::table::Config;

impl Config {
    /// The settings of a node of this role, which serves keyspaces to etcd clients at these URLs.
    pub fn service(&self, role: Role, client_urls: Vec<(String, String)>) -> starling_service::Config {
        starling_service::Config {
            data_dir: self.data_dir.clone(),
            role,
            name: self.name.clone(),
            listen: self.listen.clone(),
            labels: self.labels.clone(),
            external: self.external.clone(),
            join: self.join.clone(),
            mdns: self.mdns,
            strong_replace_ms: self.strong_replace_ms,
            strong_history_revisions: self.strong_history_revisions,
            strong_history_ms: self.strong_history_ms,
            strong_aside_ms: self.strong_aside_ms,
            strong_aside_bytes: self.strong_aside_bytes,
            strong_quota_bytes: self.strong_quota_bytes,
            certificate_ms: self.certificate_ms,
            durability: self.durability,
            key_bytes_max: self.key_bytes_max,
            value_bytes_max: self.value_bytes_max,
            field_bytes_max: self.field_bytes_max,
            batch_bytes_max: self.batch_bytes_max,
            active_view: self.active_view,
            passive_view: self.passive_view,
            shuffle_interval_ms: self.shuffle_interval_ms,
            detect_ms: self.detect_ms,
            sync_interval_ms: self.sync_interval_ms,
            client_urls,
            connections_max: self.connections_max,
            queue_bytes: self.queue_bytes,
            cache_bytes: self.cache_bytes,
            software: software(std::env::var(TEST_RELEASE).ok().as_deref()),
        }
    }
}

/// Variable of the environment that holds a node at what the previous release speaks and reads, for tests of
/// rolling upgrades. It is no setting: operators have no use for it.
const TEST_RELEASE: &str = "STARLING_TEST_RELEASE";

fn software(release: Option<&str>) -> Software {
    match release {
        Some("previous") => Software::previous(),
        _ => Software { version: env!("CARGO_PKG_VERSION").into(), ..Software::default() },
    }
}

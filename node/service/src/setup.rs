//! Translation of the configuration into the settings of each part.

use starling_core::strong::{AsideConfig, StrongConfig};
use starling_core::{CoreConfig, client_urls};
use starling_kv::Limits;
use starling_proto::Labels;
use starling_proto::detector::DetectorConfig;
use starling_proto::record::{MORE_BYTES_MAX, NAME_BYTES_MAX};
use starling_proto::sync::SyncConfig;
use starling_proto::view::{ACTIVE_RANGE, ViewConfig};
use starling_strong::group::History;
use starling_strong::machine;

use super::start_error::StartError;
use crate::config::Config;

/// Longest key and longest field that the store can hold, bytes.
const NAME_LIMIT_MAX: u64 = 64 << 10;
/// Largest value and batch, bytes: above, a rumor would not fit into a frame.
const VALUE_LIMIT_MAX: u64 = 1 << 20;
const BATCH_LIMIT_MAX: u64 = 2 << 20;

fn bounded(key: &'static str, value: u64, min: u64, max: u64) -> Result<usize, StartError> {
    if (min..=max).contains(&value) {
        return Ok(value as usize);
    }
    Err(StartError::Setting { key, value: value.to_string(), reason: format!("{min} to {max} are possible") })
}

/// How long a certificate is valid, milliseconds: a second to ten years.
pub fn certificate_ms(config: &Config) -> Result<u64, StartError> {
    Ok(bounded("trust.certificate_ms", config.certificate_ms, 1_000, 315_360_000_000)? as u64)
}

/// Bounds on what clients write.
pub fn limits(config: &Config) -> Result<Limits, StartError> {
    Ok(Limits {
        key_bytes_max: bounded("limits.key_bytes", config.key_bytes_max, 1, NAME_LIMIT_MAX)?,
        value_bytes_max: bounded("limits.value_bytes", config.value_bytes_max, 1, VALUE_LIMIT_MAX)?,
        field_bytes_max: bounded("limits.field_bytes", config.field_bytes_max, 1, NAME_LIMIT_MAX)?,
        batch_bytes_max: bounded("limits.batch_bytes", config.batch_bytes_max, 1024, BATCH_LIMIT_MAX)?,
        ..Limits::default()
    })
}

/// Settings of the protocols.
pub fn core(config: &Config) -> Result<CoreConfig, StartError> {
    let (active_min, active_max) = (*ACTIVE_RANGE.start() as u64, *ACTIVE_RANGE.end() as u64);
    let views = ViewConfig {
        passive_max: bounded("gossip.passive_view", config.passive_view, 1, 10_000)?,
        shuffle_ms: bounded("gossip.shuffle_interval_ms", config.shuffle_interval_ms, 100, 3_600_000)? as u64,
        ..ViewConfig::with_active(bounded("gossip.active_view", config.active_view, active_min, active_max)?)
    };
    let detect_ms = bounded("detector.detect_ms", config.detect_ms, 500, 600_000)? as u64;
    let interval_ms = bounded("sync.interval_ms", config.sync_interval_ms, 100, 86_400_000)? as u64;
    Ok(CoreConfig {
        views,
        detector: DetectorConfig::detecting_in(detect_ms),
        sync: SyncConfig { interval_ms, ..SyncConfig::default() },
        software: config.software.clone(),
        ..CoreConfig::default()
    })
}

/// Settings of strong keyspaces.
pub fn strong_config(config: &Config) -> Result<StrongConfig, StartError> {
    let revisions =
        bounded("strong.history_revisions", config.strong_history_revisions, 100, 1 << 40)? as u64;
    let quota_bytes = bounded("strong.quota_bytes", config.strong_quota_bytes, 16 << 20, 1 << 40)? as u64;
    Ok(StrongConfig {
        replace_ms: Some(config.strong_replace_ms).filter(|after_ms| *after_ms > 0),
        history: History { revisions, ms: config.strong_history_ms },
        aside: AsideConfig { keep_ms: config.strong_aside_ms, bytes_max: config.strong_aside_bytes },
        machine: machine::Config { quota_bytes },
    })
}

/// Bounds on connections and on the queues of peers.
pub fn driver_limits(config: &Config) -> Result<starling_p2p::Limits, StartError> {
    Ok(starling_p2p::Limits {
        connections_max: bounded("connections_max", config.connections_max, 8, 65_536)? as u32,
        rumor_queue_bytes_max: bounded("queue_bytes", config.queue_bytes, 4 << 20, 1 << 30)?,
        ..starling_p2p::Limits::default()
    })
}

/// The node's name, validated.
pub fn name(config: &Config) -> Result<String, StartError> {
    let reason = match &config.name {
        name if name.is_empty() => "it is empty".into(),
        name if name.len() > NAME_BYTES_MAX => format!("it is longer than {NAME_BYTES_MAX} bytes"),
        name if name.chars().any(char::is_control) => "it holds control characters".into(),
        name => return Ok(name.clone()),
    };
    Err(StartError::Setting { key: "name", value: config.name.clone(), reason })
}

/// The node's labels, validated.
pub fn labels(config: &Config) -> Result<Labels, StartError> {
    let mut labels = Labels::default();
    for label in &config.labels {
        labels.add(label).map_err(|error| StartError::Setting {
            key: "labels",
            value: label.clone(),
            reason: error.to_string(),
        })?;
    }
    Ok(labels)
}

/// The URLs for etcd clients, as fields of the node's record.
pub fn client_urls(config: &Config) -> Vec<u8> {
    let (fields, omitted) = client_urls::encode(&config.client_urls);
    for (keyspace, url) in omitted {
        tracing::warn!(
            "{url} of {keyspace} is not announced to other nodes: a node announces URLs for etcd clients of \
             {MORE_BYTES_MAX} bytes in all"
        );
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::new("/nonexistent");
        change(&mut config);
        config
    }

    #[test]
    fn settings_out_of_bounds_are_named() {
        let error =
            limits(&config(|config| config.value_bytes_max = 99_999_999)).expect_err("too large").to_string();
        assert!(error.contains("limits.value_bytes") && error.contains("1048576"), "{error}");
        assert!(core(&config(|config| config.active_view = 3)).is_err());
        assert!(core(&config(|config| config.detect_ms = 0)).is_err());
        assert!(driver_limits(&config(|config| config.connections_max = 0)).is_err());
        assert!(name(&config(|config| config.name = "a\nb".into())).is_err());
        assert!(name(&config(|config| config.name = "x".repeat(65))).is_err());
        let wrong = config(|config| config.labels = vec!["zone=a".into(), "Rack=7".into()]);
        let error = labels(&wrong).expect_err("a capital").to_string();
        assert!(error.contains("labels") && error.contains("Rack=7"), "{error}");
    }

    #[test]
    fn settings_reach_their_parts() {
        assert_eq!(
            limits(&config(|config| config.value_bytes_max = 1000)).expect("valid").value_bytes_max,
            1000
        );
        assert_eq!(
            core(&config(|config| config.detect_ms = 10_000)).expect("valid").detector.detect_ms,
            10_000
        );
        assert_eq!(
            core(&config(|config| config.sync_interval_ms = 500)).expect("valid").sync.interval_ms,
            500
        );
        let labelled = config(|config| config.labels = vec!["zone=a".into(), "rack=7".into()]);
        assert_eq!(labels(&labelled).expect("valid").get("rack"), Some("7"));
        assert_eq!(core(&config(|config| config.active_view = 7)).expect("valid").views.active_max, 7);
    }
}

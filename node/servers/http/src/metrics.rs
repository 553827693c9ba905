//! `/metrics` in Prometheus' text format.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use starling_api::admin::{Flow, Status};

use super::App;
use super::problem::Problem;
use starling_listener::Tls;
use starling_service::Held;

/// Everything the node counts.
#[utoipa::path(get, path = "/metrics", tag = "node",
    responses((status = 200, body = str, content_type = "application/openmetrics-text")))]
pub async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Problem> {
    let status = app.unrestricted.admin().status().await?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let groups = app.unrestricted.admin().groups().await?;
    let (unauthorized, forbidden) = (app.refusals.count(), app.forbidden.load(Ordering::Relaxed));
    let certificate = app.unrestricted.admin().trust().await?.certificate;
    let expiries = Expiries {
        node_s: certificate.map(|it| it.not_after_ms / 1000),
        tls_s: app.tls.as_ref().and_then(Tls::not_after_s).and_then(|at| u64::try_from(at).ok()),
    };
    let (throttled, audit_lost) = (app.access.throttled(), app.unrestricted.audit().lost());
    let snapshot = Snapshot { status, groups, unauthorized, forbidden, throttled, audit_lost, expiries };
    Ok(([(header::CONTENT_TYPE, content_type)], render(snapshot)))
}

fn render(snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("starling");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String does not fail");
    text
}

/// One figure of a flow: in, out.
type Directions = fn(&Flow) -> [u64; 2];

/// A node's figures at one instant.
#[derive(Debug)]
struct Snapshot {
    status: Status,
    groups: Vec<Held>,
    /// Requests without a token that counts.
    unauthorized: u64,
    /// Requests for which the caller's rights did not suffice.
    forbidden: u64,
    /// Requests of tokens that had used up their quota.
    throttled: u64,
    /// Records of the audit log that could not be written.
    audit_lost: u64,
    expiries: Expiries,
}

/// When certificates expire, seconds since the Unix epoch.
#[derive(Debug, Default)]
struct Expiries {
    /// The node's, in a network with an authority.
    node_s: Option<u64>,
    /// Of TLS for clients.
    tls_s: Option<u64>,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = &self.status;
        let gauges = [
            ("active_view", "Peers in the active view", status.active),
            ("passive_view", "Peers in the passive view", status.passive),
            ("entries", "Live entries: values, members and fields", status.entries),
            ("joined", "1 if a live peer is known, or none was to be joined", status.joined.into()),
            ("uptime_ms", "Milliseconds since the start", status.uptime_ms),
        ];
        for (name, help, value) in gauges {
            gauge(&mut encoder, name, help, value)?;
        }
        let Expiries { node_s, tls_s } = self.expiries;
        for (name, what, at_s) in
            [("certificate", "this node's certificate", node_s), ("tls", "tls.certificate", tls_s)]
        {
            if let Some(at_s) = at_s {
                let (name, help) =
                    (format!("{name}_expiry_timestamp_seconds"), format!("When {what} expires"));
                gauge(&mut encoder, &name, &help, at_s)?;
            }
        }
        counter(
            &mut encoder,
            "payload_new",
            "Full rumors received that brought something new",
            status.payload_new,
        )?;
        counter(
            &mut encoder,
            "payload_old",
            "Full rumors received that brought nothing new",
            status.payload_old,
        )?;
        for (name, value) in &status.counters {
            counter(&mut encoder, name, "See the counters of /v1/status", *value)?;
        }
        let frames: Directions = |flow| [flow.frames_in, flow.frames_out];
        let bytes: Directions = |flow| [flow.bytes_in, flow.bytes_out];
        traffic(&mut encoder, status, "frames", "Frames exchanged with peers", frames)?;
        traffic(&mut encoder, status, "frame_bytes", "Bytes of frames, before encryption", bytes)?;
        counter(
            &mut encoder,
            "api_unauthorized",
            "Requests to the API and the etcd server without a valid token",
            self.unauthorized,
        )?;
        counter(
            &mut encoder,
            "api_forbidden",
            "Requests for which the caller's rights did not suffice",
            self.forbidden,
        )?;
        counter(
            &mut encoder,
            "api_throttled",
            "Requests of tokens that had used up their quota here",
            self.throttled,
        )?;
        counter(
            &mut encoder,
            "audit_lost",
            "Records of the audit log that could not be written",
            self.audit_lost,
        )?;
        strong(&mut encoder, &self.groups)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), std::fmt::Error> {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), std::fmt::Error> {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn traffic(
    encoder: &mut DescriptorEncoder<'_>,
    status: &Status,
    name: &str,
    help: &str,
    of: Directions,
) -> Result<(), std::fmt::Error> {
    let classes = [
        ("control", &status.traffic.control),
        ("rumor", &status.traffic.rumor),
        ("sync", &status.traffic.sync),
        ("strong", &status.traffic.strong),
    ];
    let mut family = encoder.encode_descriptor(name, help, None, ConstCounter::new(0u64).metric_type())?;
    for (class, flow) in classes {
        for (direction, value) in ["in", "out"].into_iter().zip(of(flow)) {
            let labels = [("class", class), ("direction", direction)];
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// One figure of a strong keyspace's replica here.
type OfGroup = fn(&Held) -> u64;

fn strong(encoder: &mut DescriptorEncoder<'_>, groups: &[Held]) -> Result<(), std::fmt::Error> {
    let gauges: [(&str, &str, OfGroup); 5] = [
        ("strong_leads", "1 if the replica here leads the strong keyspace", |held| {
            (held.status.leader == Some(held.status.member)).into()
        }),
        ("strong_term", "Term of the strong keyspace's group", |held| held.status.term),
        ("strong_applied", "Last log entry that is applied here", |held| held.status.applied_index),
        ("strong_lag", "Log entries here that are not applied yet", |held| {
            held.status.log_index.saturating_sub(held.status.applied_index)
        }),
        ("strong_bytes", "Bytes of the strong keyspace, superseded versions included", |held| {
            held.status.bytes
        }),
    ];
    for (name, help, of) in gauges {
        let kind = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for held in groups {
            let labels = [("keyspace", held.keyspace.as_str())];
            let value = i64::try_from(of(held)).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    let counters: [(&str, &str, OfGroup); 3] = [
        ("strong_elections", "Leaders seen since the node started", |held| held.elections),
        ("strong_shed", "Requests refused because too much was under way", |held| held.shed),
        ("strong_rollbacks", "Members that came back without entries that they had acknowledged", |held| {
            held.rollbacks
        }),
    ];
    for (name, help, of) in counters {
        let kind = ConstCounter::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for held in groups {
            let labels = [("keyspace", held.keyspace.as_str())];
            ConstCounter::new(of(held)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_and_direction_has_its_line() {
        let mut status = Status { active: 5, payload_new: 7, ..Status::default() };
        status.traffic.rumor.bytes_out = 42;
        status.counters.insert("grafts".into(), 3);
        let text = render(Snapshot {
            status,
            groups: Vec::new(),
            unauthorized: 3,
            forbidden: 0,
            throttled: 0,
            audit_lost: 0,
            expiries: Expiries::default(),
        });
        for line in [
            "starling_active_view 5",
            "starling_payload_new_total 7",
            "starling_grafts_total 3",
            "starling_frame_bytes_total{class=\"rumor\",direction=\"out\"} 42",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}

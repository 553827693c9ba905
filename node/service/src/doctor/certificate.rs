//! What the doctor finds about this node's certificate and its network's issuers.

use starling_api::admin::Doctor;
use starling_api::trust::Trust;

use super::add;

/// Adds what keeps this node out of its network, or is about to.
pub fn check(doctor: &mut Doctor, trust: &Trust, me: &str, wall_ms: u64) {
    if trust.revoked.iter().any(|id| id == me) {
        let what = "the network's authority has revoked this node: no other node accepts it".to_owned();
        return add(
            doctor,
            what,
            "export what it alone holds; another data directory joins with a new ticket",
        );
    }
    if !trust.required {
        return;
    }
    if trust.issuers.len() < 2 {
        let what =
            "the network has one issuer: while it is down, no certificate is renewed and no node joins"
                .to_owned();
        add(doctor, what, "`starling issuer add NODE` makes another node one");
    }
    let renews = "start an issuer; `starling authority show` names them, `starling issuer add NODE` states new addresses of one";
    match &trust.certificate {
        _ if trust.is_issuer => {}
        None => {
            let what = "this node has no certificate, and its network requires one".to_owned();
            add(doctor, what, "start it with --join and a ticket of an issuer (`starling ticket` there)");
        }
        Some(it) if it.not_after_ms < wall_ms => {
            add(doctor, "this node's certificate has expired: it reaches issuers only".to_owned(), renews);
        }
        Some(it) if it.is_late(wall_ms) => {
            let days = (it.not_after_ms - wall_ms) / 86_400_000;
            let what =
                format!("this node's certificate expires in {days} days, and no issuer has renewed it");
            add(doctor, what, renews);
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use starling_api::trust::{Certificate, Issuer};

    use super::*;

    #[test]
    fn what_keeps_a_node_out_is_found_before_it_is_too_late() {
        let certificate = Certificate { issuer: "a".into(), issued_ms: 0, not_after_ms: 1200 };
        let issuer = |id: &str| Issuer { id: id.into(), addresses: Vec::new() };
        let good = Trust {
            authority: Some("k".into()),
            required: true,
            issuers: vec![issuer("a"), issuer("b")],
            certificate: Some(certificate),
            ..Trust::default()
        };
        let finds = |trust: &Trust, wall_ms: u64| {
            let mut doctor = Doctor::default();
            check(&mut doctor, trust, "me", wall_ms);
            doctor.findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(finds(&good, 0), "");
        assert_eq!(finds(&good, 900), "", "it asks since 800");
        assert!(finds(&good, 901).contains("no issuer has renewed it"));
        assert!(finds(&good, 1201).contains("has expired"));
        assert!(finds(&Trust { certificate: None, ..good.clone() }, 0).contains("has no certificate"));
        assert_eq!(finds(&Trust { certificate: None, is_issuer: true, ..good.clone() }, 0), "");
        assert!(finds(&Trust { issuers: vec![issuer("a")], ..good.clone() }, 0).contains("one issuer"));
        assert!(
            finds(&Trust { revoked: vec!["me".into()], ..good.clone() }, 0).contains("has revoked this node")
        );
        assert_eq!(finds(&Trust { required: false, certificate: None, ..good }, 0), "");
    }
}

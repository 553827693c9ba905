//! TLS of the HTTP API and of the etcd server: who is trusted, and who has to show a certificate.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair, date_time_ymd};
use starling_api::admin::SOCKET_FILE;
use starling_client::Client;
use starling_tests::{KEYSPACE, Node, run, wait_until};
use tempfile::TempDir;

/// An authority, whose certificate is in a file.
struct Authority {
    key: KeyPair,
    certificate: Certificate,
    path: String,
}

/// A certificate and its key, in files.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new(dir: &TempDir, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        let path = dir.path().join(name);
        fs::write(&path, certificate.pem()).expect("writes");
        Self { key, certificate, path: text(&path) }
    }

    /// Certifies a new key for this machine.
    fn certify(&self, identity: &Identity) {
        self.certify_until(identity, 2999);
    }

    /// Until the beginning of a year.
    fn certify_until(&self, identity: &Identity, year: i32) {
        let key = KeyPair::generate().expect("a key");
        let names = ["127.0.0.1", "localhost"].map(Into::into);
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.certificate, &self.key).expect("a certificate");
        fs::write(&identity.key, key.serialize_pem()).expect("writes");
        fs::write(&identity.certificate, certificate.pem()).expect("writes");
    }
}

impl Identity {
    fn new(dir: &TempDir, name: &str) -> Self {
        let [certificate, key] = ["pem", "key"].map(|end| dir.path().join(format!("{name}.{end}")));
        Self { certificate, key }
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A node that is to be served with this certificate.
fn node(name: &str, identity: &Identity) -> Node {
    let node = Node::up(name).set("tls.certificate", &text(&identity.certificate));
    node.set("tls.key", &text(&identity.key))
}

#[tokio::test]
async fn the_api_is_served_in_tls_with_a_certificate_that_can_be_renewed() {
    let dir = tempfile::tempdir().expect("a directory");
    let [first, second] = ["first.pem", "second.pem"].map(|name| Authority::new(&dir, name));
    let identity = Identity::new(&dir, "server");
    first.certify(&identity);
    let node = node("node", &identity).started().await;
    assert!(node.api().starts_with("https://"), "{}", node.api());
    node.run(["--cacert", &first.path, "put", "k", "v"]).ok();
    node.run(["--cacert", &second.path, "get", "k"]).says("--cacert");
    node.run(["get", "k"]).exits_noted(5);
    node.run(["--cacert", &text(&identity.key), "get", "k"]).says("no certificate");
    // Without TLS nothing is said.
    let mut plain = TcpStream::connect(node.api().trim_start_matches("https://")).expect("it listens");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: node\r\n\r\n").expect("sent");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1"), "{said:?}");
    // Half of a renewal: the node goes on with the former certificate.
    let former = fs::read(&identity.key).expect("reads");
    fs::write(&identity.key, "half").expect("writes");
    wait_until("it has looked", async || {
        node.run(["--cacert", &first.path, "get", "k"]).ok();
        if node.log().contains("go on with the former certificate") { Ok(()) } else { Err(node.log()) }
    })
    .await;
    fs::write(&identity.key, former).expect("writes");
    second.certify(&identity);
    wait_until("the renewed certificate is used", async || {
        let answer = node.run(["--cacert", &second.path, "get", "k"]);
        if answer.code == 0 { Ok(()) } else { Err(node.log()) }
    })
    .await;
    node.run(["--cacert", &first.path, "get", "k"]).exits_noted(5);
}

#[tokio::test]
async fn an_expired_certificate_is_found_by_the_doctor_and_shown_by_a_metric() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(&dir, "authority.pem");
    let identity = Identity::new(&dir, "server");
    authority.certify_until(&identity, 2020);
    let node = node("node", &identity).started().await;
    let socket = format!("unix:{}", node.data_dir().join(SOCKET_FILE).display());
    let local = |command: &str| run(["--api", &socket, command], b"");
    let found = local("doctor");
    found.exits(1);
    assert!(found.text().contains("tls.certificate has expired"), "{found:?}");
    let expires = async || {
        let client = Client::new(&socket, None).expect("an address");
        let metrics = client.metrics().await.expect("the node answers");
        let line = metrics.lines().find(|line| line.starts_with("starling_tls_expiry_timestamp_seconds "));
        line.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()).expect("the metric")
    };
    assert_eq!(expires().await, 1_577_836_800, "2020-01-01");
    authority.certify(&identity);
    wait_until("the renewed certificate is used", async || match expires().await {
        1_577_836_800 => Err(node.log()),
        _ => Ok(()),
    })
    .await;
    local("doctor").ok();
}

#[tokio::test]
async fn with_an_authority_of_clients_others_are_not_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let [authority, other] = ["authority.pem", "other.pem"].map(|name| Authority::new(&dir, name));
    let [server, client, stranger] = ["server", "client", "stranger"].map(|name| Identity::new(&dir, name));
    authority.certify(&server);
    authority.certify(&client);
    other.certify(&stranger);
    let node = node("node", &server)
        .set("tls.client_ca", &authority.path)
        .set("etcd.listen", &format!("0.0.0.0:0={KEYSPACE}"))
        .started()
        .await;
    let ask = |identity: Option<&Identity>, args: &[&str]| {
        let mut all = vec!["--cacert".to_owned(), authority.path.clone()];
        if let Some(Identity { certificate, key }) = identity {
            all.extend(["--cert".into(), text(certificate), "--cert-key".into(), text(key)]);
        }
        all.extend(args.iter().map(ToString::to_string));
        node.run(all)
    };
    ask(Some(&client), &["put", "k", "v"]).ok();
    ask(Some(&stranger), &["get", "k"]).exits_noted(5);
    ask(None, &["get", "k"]).says("--cert-key");
    // Administration: the node names its unix socket, which belongs to the address in TLS, too.
    ask(Some(&client), &["keyspace", "create", KEYSPACE, "--strong", "--voters", "1"]).ok();
    let url = node.etcd(KEYSPACE).replace("0.0.0.0", "127.0.0.1");
    let etcdctl = |identity: Option<&Identity>, args: &[&str]| -> Output {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &url, "--cacert", &authority.path]);
        command.args(["--dial-timeout", "2s", "--command-timeout", "4s"]);
        if let Some(Identity { certificate, key }) = identity {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        command.args(args).output().expect("etcdctl is installed")
    };
    let put = etcdctl(Some(&client), &["put", "from", "etcdctl"]);
    assert!(put.status.success(), "{put:?}");
    let get = ask(Some(&client), &["get", "-k", KEYSPACE, "from"]).ok();
    assert_eq!(get.trim(), "etcdctl");
    for identity in [None, Some(&stranger)] {
        let refused = etcdctl(identity, &["get", "from"]);
        assert!(!refused.status.success(), "{refused:?}");
    }
    assert!(node.log().contains("connections without a TLS handshake were closed"), "{}", node.log());
}

#[test]
fn a_node_without_all_files_of_tls_does_not_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(&dir, "authority.pem");
    let [identity, other] = ["server", "other"].map(|name| Identity::new(&dir, name));
    authority.certify(&identity);
    authority.certify(&other);
    // What clients show is nothing that a node asks for.
    let data_dir = text(&dir.path().join("data"));
    for (given, meant) in [
        (["--cert", "a.pem", "--cert-key", "a.key"].as_slice(), "tls.certificate"),
        (&["--token", "x"], "api.token"),
    ] {
        let up = ["up", "--exit-with-parent", "--data-dir", &data_dir];
        let refused = run([&up[..], given].concat(), b"");
        refused.exits(2);
        refused.says(meant);
    }
    Node::up("half").set("tls.certificate", &text(&identity.certificate)).refused().says("tls.key");
    Node::up("half").set("tls.client_ca", &authority.path).refused().says("tls.certificate");
    let mixed = Identity { certificate: identity.certificate.clone(), key: other.key };
    node("mixed", &mixed).refused().says("cannot use the certificate");
    let missing = Identity { certificate: dir.path().join("missing"), key: identity.key.clone() };
    node("missing", &missing).refused().says("missing");
    node("open", &identity).api_on("0.0.0.0:0").refused().says("tls.client_ca");
}

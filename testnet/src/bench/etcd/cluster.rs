//! etcd itself: three servers on this machine, on ports that the system chooses, with data directories of
//! their own. They do not outlive this program.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::servers::Servers;
use crate::error::{Error, Result};
use crate::process::ended;

/// Servers.
const SIZE: usize = 3;

/// Killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// What `etcd --version` says.
    pub version: String,
    /// Where they are.
    pub servers: Servers,
    _processes: Vec<Child>,
}

/// Where one server listens.
#[derive(Clone, Copy, Debug)]
struct Ports {
    client: SocketAddr,
    peer: SocketAddr,
}

impl Cluster {
    /// Starts it and waits until it has a leader; `None` where etcd is not on the PATH.
    pub async fn start(folder: &Path) -> Result<Option<Self>> {
        let Some(version) = installed().await? else { return Ok(None) };
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let ports = free_ports().map_err(Error::io(folder))?;
        let mut processes = Vec::new();
        for number in 0..SIZE {
            processes.push(spawn(folder, number, &ports)?);
        }
        let servers = Servers {
            endpoints: ports.iter().map(|ports| ports.client).collect(),
            pids: processes.iter().filter_map(Child::id).collect(),
        };
        let led = servers.leader_first().await;
        for (number, process) in processes.iter_mut().enumerate() {
            if let Ok(Some(status)) = process.try_wait() {
                return Err(ended(&name(number), status, &log(folder, number)));
            }
        }
        led?;
        Ok(Some(Self { version, servers, _processes: processes }))
    }
}

/// Its version, if it is on the PATH.
async fn installed() -> Result<Option<String>> {
    match Command::new("etcd").arg("--version").output().await {
        Ok(output) => Ok(Some(version(&String::from_utf8_lossy(&output.stdout)))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(Path::new("etcd"))(error)),
    }
}

/// From "etcd Version: 3.4.23" and lines that follow.
fn version(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("etcd Version:"));
    line.map_or("of an unknown version", str::trim).to_string()
}

/// All at once, so that no two are the same. Somebody else may take one before etcd does: then it says so
/// and ends.
fn free_ports() -> std::io::Result<Vec<Ports>> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let held = (0..SIZE).map(|_| Ok((bind()?, bind()?))).collect::<std::io::Result<Vec<_>>>()?;
    let addresses = |(client, peer): &(TcpListener, TcpListener)| {
        Ok(Ports { client: client.local_addr()?, peer: peer.local_addr()? })
    };
    held.iter().map(addresses).collect()
}

fn spawn(folder: &Path, number: usize, ports: &[Ports]) -> Result<Child> {
    let path = log(folder, number);
    let output = File::create(&path).map_err(Error::io(&path))?;
    let errors = output.try_clone().map_err(Error::io(&path))?;
    // However this program ends, the kernel then ends the server (util-linux).
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "etcd"]).args(arguments(folder, number, ports));
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0).kill_on_drop(true);
    command.spawn().map_err(|e| Error::Unsupported(format!("cannot run setpriv (Debian: util-linux): {e}")))
}

/// Everything else is etcd's default, which syncs every write.
fn arguments(folder: &Path, number: usize, ports: &[Ports]) -> Vec<String> {
    let own = ports[number];
    let member = |(number, ports): (usize, &Ports)| format!("{}=http://{}", name(number), ports.peer);
    let cluster: Vec<String> = ports.iter().enumerate().map(member).collect();
    let (client, peer) = (format!("http://{}", own.client), format!("http://{}", own.peer));
    let options = [
        ("--name", name(number)),
        ("--data-dir", folder.join(name(number)).display().to_string()),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer),
        ("--initial-cluster", cluster.join(",")),
        ("--initial-cluster-state", "new".into()),
        ("--logger", "zap".into()),
        ("--log-level", "error".into()),
    ];
    options.into_iter().flat_map(|(option, value)| [option.to_string(), value]).collect()
}

fn name(number: usize) -> String {
    format!("etcd-{number}")
}

fn log(folder: &Path, number: usize) -> PathBuf {
    folder.join(name(number)).with_extension("log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found() {
        assert_eq!(version("etcd Version: 3.4.23\nGit SHA: Not provided\n"), "3.4.23");
        assert_eq!(version(""), "of an unknown version");
    }

    #[test]
    fn every_server_has_ports_of_its_own_and_knows_all() {
        let ports = free_ports().expect("there are ports");
        let all = ports.iter().flat_map(|ports| [ports.client, ports.peer]);
        assert_eq!(all.collect::<std::collections::BTreeSet<_>>().len(), 2 * SIZE);
        for number in 0..SIZE {
            let given = arguments(Path::new("/tmp/x"), number, &ports).join(" ");
            assert!(ports.iter().all(|ports| given.contains(&ports.peer.to_string())), "{given}");
            assert!(
                given.contains(&format!("--name etcd-{number} --data-dir /tmp/x/etcd-{number}")),
                "{given}"
            );
        }
    }
}

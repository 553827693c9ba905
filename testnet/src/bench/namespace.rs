//! A network namespace for a measurement, whose loopback interface carries nothing else.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::error::{Error, Result};

/// Set in the run that has a network namespace of its own.
const IN_NAMESPACE: &str = "STARLING_TESTNET_NAMESPACE";

/// Runs this program again in a namespace of its own, unless it is in one already. Replaces this process
/// and returns only if it is in one, or if that failed.
pub fn enter() -> Result<()> {
    if std::env::var_os(IN_NAMESPACE).is_none() {
        return Err(run_again());
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if up.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Error::Unsupported("`ip link set lo up` failed: install iproute2".into()))
}

fn run_again() -> Error {
    let Ok(own) = std::env::current_exe() else {
        return Error::Unsupported("cannot find this program's own file".into());
    };
    let failure = Command::new("unshare")
        .arg("--net")
        .arg("--")
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(IN_NAMESPACE, "1")
        .exec();
    Error::Unsupported(format!("`unshare --net` failed ({failure}): run as root with util-linux installed"))
}

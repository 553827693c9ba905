//! What processes cost, as the Linux kernel counts it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};

/// Memory of one process.
#[allow(clippy::struct_field_names, reason = "a unit ends each name")]
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// Resident, shared pages counted in full. Bytes.
    pub rss_bytes: u64,
    /// Resident, shared pages divided among those who share them. Bytes.
    pub pss_bytes: u64,
    /// The part of the PSS that no file backs: heap, stacks. Bytes.
    pub pss_anonymous_bytes: u64,
    /// The part of the PSS that files back: code and mapped data. Bytes.
    pub pss_file_bytes: u64,
}

/// Reads `/proc/PID/smaps_rollup`.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(Error::io(Path::new(&path)))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
    };
    Ok(Memory {
        rss_bytes: field("Rss"),
        pss_bytes: field("Pss"),
        pss_anonymous_bytes: field("Pss_Anon"),
        pss_file_bytes: field("Pss_File"),
    })
}

/// CPU time a process has used so far: the sum over its threads, in nanoseconds of resolution.
/// Threads that have ended are missing, so differences are only right over a quiet time.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/task");
    let mut total = 0;
    for task in fs::read_dir(&path).map_err(Error::io(Path::new(&path)))?.flatten() {
        let line = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(total))
}

/// How the cores of this machine have spent their time since it was started, in ticks of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineTime {
    idle: u64,
    all: u64,
}

/// Reads `/proc/stat`.
pub fn machine_time() -> Result<MachineTime> {
    let path = Path::new("/proc/stat");
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    MachineTime::parse(&text).ok_or_else(|| Error::Unsupported("/proc/stat has no line for the cores".into()))
}

impl MachineTime {
    /// user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first two.
    fn parse(text: &str) -> Option<Self> {
        let fields = text.lines().find_map(|line| line.strip_prefix("cpu "))?.split_whitespace();
        let ticks: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
        let (idle, iowait) = (ticks.get(3)?, ticks.get(4)?);
        Some(Self { idle: idle + iowait, all: ticks.iter().sum() })
    }

    /// The share of the time since then in which somebody used a core, per cent.
    pub fn busy_percent_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        let idle = self.idle.saturating_sub(earlier.idle);
        100.0 * all.saturating_sub(idle) as f64 / all.max(1) as f64
    }
}

/// What a network interface has received.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Bytes, all headers down to the (14-byte) Ethernet one included.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// Counters of the loopback interface of this network namespace, where every packet is received
/// exactly once.
pub fn loopback() -> Result<Received> {
    let path = Path::new("/proc/self/net/dev");
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let mut counters = line.into_iter().flat_map(str::split_whitespace).map_while(|n| n.parse().ok());
    match (counters.next(), counters.next()) {
        (Some(bytes), Some(packets)) => Ok(Received { bytes, packets }),
        _ => Err(Error::Unsupported("this network namespace has no loopback interface".into())),
    }
}

/// Bytes of all files below a folder. Files that vanish meanwhile are not counted.
pub fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => disk_bytes(&entry.path()),
            _ => entry.metadata().map_or(0, |m| m.len()),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_cpu() {
        let pid = std::process::id();
        let memory = memory(pid).expect("our own");
        assert!(memory.rss_bytes >= memory.pss_bytes && memory.pss_bytes > 0);
        assert!(cpu_time(pid).expect("our own") > Duration::ZERO);
    }

    #[test]
    fn waiting_for_the_disk_is_not_work() {
        let time = |text| MachineTime::parse(text).expect("a line for the cores");
        let earlier = time("cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1 1 1 1 1\n");
        let later = time("cpu  40 0 20 90 50 0 0 0 9 0\n");
        assert!((later.busy_percent_since(earlier) - 40.0).abs() < 1e-9);
        assert_eq!(MachineTime::parse("intr 1 2 3"), None);
        assert!(machine_time().expect("Linux").all > 0);
    }

    #[test]
    fn disk_use_counts_nested_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("inner")).expect("writable");
        fs::write(folder.path().join("inner/file"), [0; 100]).expect("writable");
        fs::write(folder.path().join("file"), [0; 10]).expect("writable");
        assert_eq!(disk_bytes(folder.path()), 110);
    }
}

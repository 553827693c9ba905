//! CPU time, as the Linux kernel counts it.

use std::fs;
use std::time::Duration;

use crate::Error;

/// What a process has used so far, ended threads included, in steps of the kernel's tick (10 ms).
pub fn cpu_time(pid: u32) -> Result<Duration, Error> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| Error::Process { pid, error })?;
    // The name in brackets may hold anything; what is counted stands behind it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second()))
}

#[cfg(test)]
mod tests {
    use super::cpu_time;

    #[test]
    fn the_time_of_this_process_never_shrinks() {
        let before = cpu_time(std::process::id()).expect("a process");
        assert!(cpu_time(std::process::id()).expect("a process") >= before);
        assert!(cpu_time(u32::MAX).is_err());
    }
}

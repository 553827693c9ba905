//! The audit log: who has administered the node, or destroyed data, from where, and with which outcome.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use starling_api::Error;
use starling_api::admin::time_of;

use crate::data_dir::AUDIT;

/// Size from which on a new file is begun, bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Earlier files that are kept: `audit.log.1` is the latest of them.
const FILES_KEPT: u32 = 4;
/// Longest text of a field, characters; the rest is cut.
const TEXT_CHARS_MAX: usize = 256;
/// Refusals that are recorded a second, at most; the next record counts the others.
const REFUSED_A_SECOND: u32 = 10;
/// Time between two reports in the log that a record could not be written, at least.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// One line of JSON for each action, in files of 40 MiB together. A record is with the system when the action is answered;
/// it is not synced.
pub struct Audit {
    directory: PathBuf,
    state: Mutex<State>,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The file and its size; opened with the first record.
    file: Option<(File, u64)>,
    /// When the second began for which refusals are counted, and how many there were.
    refused: Option<(Instant, u32)>,
    /// Refusals without a record since the last one with one.
    omitted: u64,
    reported: Option<Instant>,
}

impl Audit {
    /// A log in a data directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, state: Mutex::default(), lost: AtomicU64::new(0) }
    }

    /// Records that could not be written since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Records an action and its outcome.
    pub fn record(&self, who: &str, from: &str, action: &str, target: &str, outcome: Result<(), &Error>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match outcome {
            Ok(()) => "done".to_owned(),
            Err(error) => error.message.clone(),
        };
        self.write(&mut state, who, from, action, target, &outcome);
    }

    /// Records an action that the caller may not do, unless there are too many of them.
    pub fn refused(&self, who: &str, from: &str, action: &str, target: &str, reason: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, count) = state
            .refused
            .filter(|(began, _)| began.elapsed() < Duration::from_secs(1))
            .unwrap_or_else(|| (Instant::now(), 0));
        state.refused = Some((began, count + 1));
        if count < REFUSED_A_SECOND {
            self.write(&mut state, who, from, action, target, &format!("refused: {reason}"));
        } else {
            state.omitted += 1;
        }
    }

    fn write(&self, state: &mut State, who: &str, from: &str, action: &str, target: &str, outcome: &str) {
        let cut = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect::<String>();
        let now_ms = crate::wall_ms();
        let mut record = json!({
            "time": time_of(now_ms), "time_ms": now_ms, "who": cut(who), "from": cut(from),
            "action": action, "target": cut(target), "outcome": cut(outcome),
        });
        if state.omitted > 0 {
            record["refusals_omitted"] = state.omitted.into();
        }
        match self.append(state, format!("{record}\n").as_bytes()) {
            Ok(()) => state.omitted = 0,
            Err(error) => {
                state.file = None;
                self.lost.fetch_add(1, Ordering::Relaxed);
                if state.reported.is_none_or(|at| at.elapsed() > REPORT_INTERVAL) {
                    state.reported = Some(Instant::now());
                    tracing::error!(%error, "the audit log cannot be written: records are lost");
                }
            }
        }
    }

    fn append(&self, state: &mut State, record: &[u8]) -> io::Result<()> {
        if state.file.as_ref().is_some_and(|(_, bytes)| *bytes >= FILE_BYTES_MAX) {
            state.file = None;
            self.rotate()?;
        }
        let (file, bytes) = match &mut state.file {
            Some(open) => open,
            none => {
                let mut options = OpenOptions::new();
                let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
                let file = options.create(true).append(true).mode(0o600).custom_flags(no_link);
                let file = file.open(self.directory.join(AUDIT))?;
                let bytes = file.metadata()?.len();
                none.insert((file, bytes))
            }
        };
        file.write_all(record)?;
        *bytes += record.len() as u64;
        Ok(())
    }

    /// Makes room for a new file.
    fn rotate(&self) -> io::Result<()> {
        let path = |number: u32| match number {
            0 => self.directory.join(AUDIT),
            number => self.directory.join(format!("{AUDIT}.{number}")),
        };
        for number in (0..FILES_KEPT).rev() {
            match fs::rename(path(number), path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(path: &std::path::Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).expect("is there");
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    #[test]
    fn files_are_bounded_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let audit = Audit::new(temporary.path().into());
        let long = "x".repeat(10_000);
        // 256 characters of each text are kept, so that a record has less than 1,200 bytes.
        for _ in 0..(FILE_BYTES_MAX / 800) * 7 {
            audit.record(&long, &long, "drop keyspace", &long, Ok(()));
        }
        let mut names: Vec<String> = fs::read_dir(temporary.path())
            .expect("is there")
            .map(|entry| entry.expect("is read").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3", "audit.log.4"]);
        for name in names {
            let metadata = fs::metadata(temporary.path().join(name)).expect("is there");
            assert!(metadata.len() < FILE_BYTES_MAX + 1200, "{}", metadata.len());
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(audit.lost(), 0);
    }

    #[test]
    fn many_refusals_are_counted_and_a_lost_record_too() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let audit = Audit::new(temporary.path().join("later"));
        audit.record("a", "b", "leave", "", Ok(()));
        assert_eq!(audit.lost(), 1);
        fs::create_dir(temporary.path().join("later")).expect("is made");
        for _ in 0..1000 {
            audit.refused("a", "b", "leave", "", "no");
        }
        audit.record("a", "b", "leave", "", Ok(()));
        let records = records(&temporary.path().join("later").join(AUDIT));
        // A second may have passed meanwhile.
        assert!(records.len() < 100, "{}", records.len());
        let omitted: u64 = records.iter().filter_map(|it| it["refusals_omitted"].as_u64()).sum();
        assert_eq!(omitted as usize + records.len(), 1001);
        assert_eq!(records[records.len() - 1]["outcome"], "done");
        assert_eq!(records[0]["outcome"], "refused: no");
    }
}

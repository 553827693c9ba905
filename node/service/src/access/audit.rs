//! The audit log: who has administered the node, or destroyed data, from where, and with which outcome. What a caller without
//! an administrator's rights can cause is in files of its own, so that it displaces nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use starling_api::admin::time_of;

use crate::data_dir::{AUDIT, AUDIT_DATA};

/// Size from which on a new file is begun, bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Earlier files that are kept: `audit.log.1` is the latest of them.
const FILES_KEPT: u32 = 4;
/// Longest text of a field, characters; the rest is cut.
const TEXT_CHARS_MAX: usize = 256;
/// Refusals and deletions of data that are recorded a second, at most; the next record counts the others.
const DATA_A_SECOND: u32 = 10;
/// Time between two reports in the log that a record could not be written, at least.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// One line of JSON for each action: what administers the node in one file, refusals and deletions of prefixes and ranges in
/// another one, each with its former ones of 40 MiB together. A record is with the system when the action is answered; it is not
/// synced.
pub struct Audit {
    administration: Mutex<Log>,
    data: Mutex<Limited>,
    lost: AtomicU64,
}

/// What is recorded of one action.
pub struct Record<'a> {
    pub who: &'a str,
    pub from: &'a str,
    pub action: &'a str,
    pub target: &'a str,
    pub outcome: &'a str,
}

/// A log that records some actions a second, and counts the others.
struct Limited {
    log: Log,
    /// When the second began for which they are counted, and how many there were.
    second: Option<(Instant, u32)>,
    /// Those without a record since the last one with one.
    omitted: u64,
}

struct Log {
    path: PathBuf,
    /// The file and its size; opened with the first record.
    file: Option<(File, u64)>,
    reported: Option<Instant>,
}

impl Audit {
    /// The logs in a data directory.
    pub fn new(directory: &Path) -> Self {
        let log = |name| Log { path: directory.join(name), file: None, reported: None };
        let data = Limited { log: log(AUDIT_DATA), second: None, omitted: 0 };
        Self { administration: Mutex::new(log(AUDIT)), data: Mutex::new(data), lost: AtomicU64::new(0) }
    }

    /// Records that could not be written since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Records an administrative action.
    pub fn administered(&self, record: &Record) {
        let mut log = self.administration.lock().unwrap_or_else(PoisonError::into_inner);
        if !log.write(record, 0) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records a refusal or a deletion of data, unless there are too many of them.
    pub fn data(&self, record: &Record) {
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let Limited { log, second, omitted } = &mut *data;
        let (began, count) = second
            .filter(|(began, _)| began.elapsed() < Duration::from_secs(1))
            .unwrap_or_else(|| (Instant::now(), 0));
        *second = Some((began, count + 1));
        if count >= DATA_A_SECOND {
            *omitted += 1;
        } else if log.write(record, *omitted) {
            *omitted = 0;
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Log {
    /// Writes a record. Returns whether that succeeded.
    fn write(&mut self, record: &Record, omitted: u64) -> bool {
        let cut = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect::<String>();
        let now_ms = crate::wall_ms();
        let Record { who, from, action, target, outcome } = record;
        let mut record = json!({
            "time": time_of(now_ms), "time_ms": now_ms, "who": cut(who), "from": cut(from),
            "action": action, "target": cut(target), "outcome": cut(outcome),
        });
        if omitted > 0 {
            record["omitted"] = omitted.into();
        }
        let written = self.append(format!("{record}\n").as_bytes());
        if let Err(error) = &written {
            self.file = None;
            if self.reported.is_none_or(|at| at.elapsed() > REPORT_INTERVAL) {
                self.reported = Some(Instant::now());
                tracing::error!(%error, path = %self.path.display(), "the audit log cannot be written: records are lost");
            }
        }
        written.is_ok()
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, bytes)| *bytes >= FILE_BYTES_MAX) {
            self.file = None;
            self.rotate()?;
        }
        let (file, bytes) = match &mut self.file {
            Some(open) => open,
            none => {
                let mut options = OpenOptions::new();
                let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
                let file = options.create(true).append(true).mode(0o600).custom_flags(no_link);
                let file = file.open(&self.path)?;
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
            0 => self.path.clone(),
            number => PathBuf::from(format!("{}.{number}", self.path.display())),
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

    fn records(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).expect("is there");
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    fn record<'a>(text: &'a str, outcome: &'a str) -> Record<'a> {
        Record { who: text, from: text, action: "leave", target: text, outcome }
    }

    #[test]
    fn files_are_bounded_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let audit = Audit::new(temporary.path());
        let long = "x".repeat(10_000);
        // 256 characters of each text are kept, so that a record has less than 1,200 bytes.
        for _ in 0..(FILE_BYTES_MAX / 800) * 7 {
            audit.administered(&record(&long, "done"));
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
    fn what_callers_of_data_cause_is_counted_and_displaces_no_administration() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let audit = Audit::new(&temporary.path().join("later"));
        audit.administered(&record("a", "done"));
        assert_eq!(audit.lost(), 1);
        fs::create_dir(temporary.path().join("later")).expect("is made");
        audit.administered(&record("a", "done"));
        for _ in 0..1000 {
            audit.data(&record("a", "refused"));
        }
        let path = |name: &str| temporary.path().join("later").join(name);
        assert_eq!(records(&path(AUDIT)).len(), 1);
        let data = records(&path(AUDIT_DATA));
        // A second may have passed meanwhile.
        assert!((10..100).contains(&data.len()), "{}", data.len());
        assert!(data.iter().all(|it| it["outcome"] == "refused"));
    }
}

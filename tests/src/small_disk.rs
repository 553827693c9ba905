//! A disk that is soon full.

use std::fs;
use std::process::Command;

use starling_api::{Error, ErrorCode, Precondition};
use tempfile::TempDir;

use crate::node::Node;

/// A directory on a file system of its own that is soon full, where this process may mount one;
/// elsewhere a limit on the size of files stands in, which fails in another way.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
    is_mounted: bool,
}

impl SmallDisk {
    const SIZE_BYTES: u64 = 72 << 20;
    /// Taken by a file that can be removed. The store's engine writes again once its largest write
    /// buffer (16 MiB) fits.
    const BALLAST_BYTES: usize = 40 << 20;
    /// Of 512 or 1024 bytes.
    const FILE_BLOCKS_MAX: u64 = 2048;

    /// Mounts it, or prints that a limit stands in for it.
    pub fn mount() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={}", Self::SIZE_BYTES), "none"]).arg(dir.path());
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        if is_mounted {
            fs::write(dir.path().join("ballast"), vec![0; Self::BALLAST_BYTES]).expect("it fits");
        } else {
            eprintln!(
                "no file system can be mounted here: a limit on the size of files stands in for a full disk"
            );
        }
        Self { dir, is_mounted }
    }

    /// A node whose data is on it.
    pub fn node(&self, name: &str) -> Node {
        let node = Node::up(name).data_in(self.dir.path().join("data"));
        if self.is_mounted { node } else { node.file_blocks_max(Self::FILE_BLOCKS_MAX) }
    }

    /// The error of a write for which there is no space.
    pub fn is_full(&self) -> ErrorCode {
        if self.is_mounted { ErrorCode::StorageFull } else { ErrorCode::Storage }
    }

    /// Makes space. The store's engine goes on by itself after a full disk, and after no other failure.
    pub async fn make_room(&self, node: &mut Node) {
        if self.is_mounted {
            fs::remove_file(self.dir.path().join("ballast")).expect("it is there");
        } else {
            node.kill();
            node.lift_file_limit();
            node.start().await;
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazily: a node that is about to end may hold it a moment longer.
            let _ = Command::new("umount").arg("-l").arg(self.dir.path()).output();
        }
    }
}

/// Bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Writes 200,000 bytes that do not compress.
pub async fn put_noise(node: &Node, n: u64) -> Result<String, Error> {
    let key = format!("k{n}");
    node.client().put("default", key.as_bytes(), noise(n, 200_000), None, &Precondition::Any).await
}

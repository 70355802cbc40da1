//! Disks that are small, and become full.

use super::{Run, require_root, text};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory; unmounted with this handle.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(place: &Path, mib: u64) -> Self {
        require_root("to mount small file systems");
        fs::create_dir_all(place).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none", text(place)]);
        Run::of(command).ok();
        Self(place.to_owned())
    }

    pub fn grow(&self, mib: u64) {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,size={mib}m"), text(&self.0)]);
        Run::of(command).ok();
    }

    /// Leaves not a byte, until the file is removed.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        let block = vec![1; 1 << 16];
        let mut written = 0;
        // The last blocks one by one, so that nothing remains.
        while file.write_all(&block).is_ok() {
            written += block.len();
        }
        assert!(written < 1 << 30, "this disk does not become full");
        while file.write_all(&[1]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

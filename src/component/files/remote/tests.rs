//! Whatever step of a swap or of undoing it is the last one before a kill, the next call finishes.

use super::*;
use crate::model::event::Cancel;
use crate::model::via::Via;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use tempfile::TempDir;

const TAG: &str = "j1";

/// A directory with an old state, and a new one that is staged.
struct Place {
    directory: TempDir,
    is_mounted: bool,
    access: Access,
    target: PathBuf,
}

impl Place {
    fn new(is_mounted: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("a place");
        fs::create_dir(&target).unwrap();
        let access = Access::new(Via::local(), None, &Cancel::new());
        let place = Self { directory, is_mounted, access, target };
        if is_mounted {
            let mut mount = process::Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&place.target);
            assert!(mount.status().unwrap().success(), "the tests run as root");
        }
        fs::write(place.target.join("both"), "old").unwrap();
        fs::write(place.target.join(".old"), "old").unwrap();
        fs::set_permissions(&place.target, fs::Permissions::from_mode(0o750)).unwrap();
        let new = tempfile::tempdir().unwrap();
        fs::set_permissions(new.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::write(new.path().join("both"), "new").unwrap();
        fs::write(new.path().join("..new"), "new").unwrap();
        let mut tar = process::Command::new("tar");
        let output = tar.args(["--create", "-C"]).arg(new.path()).arg(".").output().unwrap();
        let fill = |out: &mut dyn Write| -> Result<u64, StageError<Infallible>> {
            out.write_all(&output.stdout)?;
            Ok(3)
        };
        place.swap().stage(fill).unwrap();
        // What is killed, and what need not be waited for.
        let bin = place.bin();
        fs::create_dir(&bin).unwrap();
        for tool in ["mv", "rm", "mkdir", "rmdir"] {
            let script = format!(
                "#!/bin/sh\nread left < '{0}'; echo $((left - 1)) > '{0}'\n[ \"$left\" != 0 ] || {{ kill -9 $PPID; exit 1; }}\nexec /bin/{tool} \"$@\"\n",
                place.left().display()
            );
            fs::write(bin.join(tool), script).unwrap();
        }
        fs::write(bin.join("sync"), "#!/bin/sh\n").unwrap();
        for tool in fs::read_dir(&bin).unwrap() {
            fs::set_permissions(tool.unwrap().path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        place
    }

    fn bin(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    fn left(&self) -> PathBuf {
        self.directory.path().join("left")
    }

    fn swap(&self) -> RemoteSwap<'_> {
        RemoteSwap::new(&self.access, self.target.to_str().unwrap(), TAG)
    }

    /// Do a step up to this move, which a kill prevents; whether it ended before.
    fn run(&self, step: &str, moves: i32) -> bool {
        fs::write(self.left(), format!("{moves}\n")).unwrap();
        let path = format!("{}:{}", self.bin().display(), std::env::var("PATH").unwrap());
        let command = self.swap().script(step).variable("PATH", &path);
        let mut running = self.access.start(&command, false).unwrap();
        io::copy(&mut running.stdout(), &mut io::sink()).unwrap();
        match running.finish() {
            Ok(finished) => {
                assert_eq!(finished.said, "");
                true
            }
            Err(error) => {
                assert!(error.to_string().contains("ended by signal 9"), "{error}");
                false
            }
        }
    }

    #[track_caller]
    fn assert_is(&self, state: &str) {
        let (names, mode) = match state {
            "old" => (["both", ".old"], 0o750),
            _ => (["both", "..new"], 0o711),
        };
        let wanted = names.map(|name| (name.to_owned(), state.to_owned()));
        assert_eq!(contents(&self.target), BTreeMap::from(wanted));
        assert_eq!(fs::metadata(&self.target).unwrap().permissions().mode() & 0o7777, mode);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_mounted {
            process::Command::new("umount").arg("--lazy").arg(&self.target).status().ok();
        }
    }
}

/// Names and contents, but for what is ours.
fn contents(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    named
        .filter(|(name, _)| !name.starts_with(".belay-"))
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap()))
        .collect()
}

const FOREVER: i32 = 1000;

#[test]
fn a_swap_that_was_killed_anywhere_is_finished_or_undone() {
    for is_mounted in [false, true] {
        for moves in 0.. {
            let place = Place::new(is_mounted);
            let has_ended = place.run(script::SWAP, moves);
            assert!(place.run(script::SWAP, FOREVER));
            place.assert_is("new");
            let kept = place.swap().swap().unwrap().unwrap();
            assert_eq!(contents(Path::new(&kept))["both"], "old");

            let place = Place::new(is_mounted);
            place.run(script::SWAP, moves);
            assert!(place.run(script::UNDO, FOREVER));
            place.assert_is("old");
            assert!(place.run(script::SWAP, FOREVER));
            place.assert_is("new");
            if has_ended {
                assert!(moves >= 2);
                break;
            }
        }
    }
}

#[test]
fn undoing_that_was_killed_anywhere_is_finished() {
    for is_mounted in [false, true] {
        for moves in 0.. {
            let place = Place::new(is_mounted);
            assert!(place.run(script::SWAP, FOREVER));
            let has_ended = place.run(script::UNDO, moves);
            assert!(place.run(script::UNDO, FOREVER));
            place.assert_is("old");
            assert!(place.run(script::SWAP, FOREVER));
            place.assert_is("new");
            if has_ended {
                break;
            }
        }
    }
}

#[test]
fn what_somebody_makes_meanwhile_is_kept() {
    for is_mounted in [false, true] {
        let place = Place::new(is_mounted);
        // In mid-swap, when the old state is aside.
        let moves = if is_mounted { 7 } else { 1 };
        assert!(!place.run(script::SWAP, moves));
        fs::create_dir_all(&place.target).unwrap();
        fs::write(place.target.join("both"), "meanwhile").unwrap();
        assert!(place.run(script::SWAP, FOREVER));
        place.assert_is("new");
        let all = process::Command::new("grep")
            .args(["-r", "meanwhile"])
            .arg(place.directory.path())
            .output();
        assert_eq!(String::from_utf8(all.unwrap().stdout).unwrap().lines().count(), 1);
    }
}

#[test]
fn a_place_that_is_none_or_leads_elsewhere_is_refused() {
    let place = Place::new(false);
    let step = |path: &Path| {
        let swap = RemoteSwap::new(&place.access, path.to_str().unwrap(), "j2");
        swap.abandon().unwrap_err().to_string()
    };
    assert!(step(Path::new("/")).contains("the root of the file system"));
    assert!(step(&place.target.join("both")).contains("is no directory"));
    assert!(step(Path::new("/nonexistent/deep/place")).contains("is not there"));
    // A link that stands where the new tree is to be made leads nowhere.
    let victim = tempfile::tempdir().unwrap();
    fs::write(victim.path().join("precious"), "x").unwrap();
    let part = place.directory.path().join(".belay-restore-j3-a place.part");
    std::os::unix::fs::symlink(victim.path(), &part).unwrap();
    let swap = RemoteSwap::new(&place.access, place.target.to_str().unwrap(), "j3");
    swap.abandon().unwrap();
    assert!(!part.is_symlink() && victim.path().join("precious").exists());
}

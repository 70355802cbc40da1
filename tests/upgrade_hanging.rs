//! A driver that is a script, and hangs: it is ended when its time is over, with all that it has started, and what became of that is told.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::clock::Clock;
use support::upgrades::{Pair, SIDES};
use support::{Run, Running, assert_same_text, text, wait_until};

const OLD: &str = "v3.16.11";
const NEW: &str = "v3.17.0";
/// How long each program of the driver may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Waits once, where a file says so, and notes its process; then, or otherwise, it does what the platform's own script does.
const HANGING: &str = r#"#!/bin/sh
set -eu
if mv "HERE/hangs-$BELAY_INSTANCE-$1" "HERE/hung" 2>/dev/null; then
  echo "$1 waits for what never comes"
  echo $$ > HERE/pid.new
  mv HERE/pid.new HERE/pid
  while [ ! -e HERE/go ]; do sleep 0.05; done
fi
exec HERE/platforms/upgrade.sh "$@"
"#;

/// A pair of which a script stops and starts the instances; it may hang.
struct Hanging {
    pair: Pair,
    here: PathBuf,
}

impl Hanging {
    fn new() -> Self {
        let pair = Pair::new("soak = '0s'");
        let here = pair.sandbox.path("");
        let script = here.join("hanging.sh");
        fs::write(&script, HANGING.replace("HERE/", &format!("{}/", text(&here)))).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let config = fs::read_to_string(pair.sandbox.config()).unwrap();
        let own = text(&here.join("platforms/upgrade.sh")).to_owned();
        let mut config =
            config.replace("timeout = '60s'", &format!("timeout = '{}s'", LIMIT.as_secs()));
        for word in ["stop", "start"] {
            let before = format!("{word} = ['{own}', '{word}']");
            assert!(config.contains(&before), "{config}");
            config = config.replace(&before, &format!("{word} = ['{}', '{word}']", text(&script)));
        }
        fs::write(pair.sandbox.config(), config).unwrap();
        Self { pair, here }
    }

    /// Production's next `stop` or `start` hangs.
    fn hangs(&self, word: &str) {
        fs::write(self.here.join(format!("hangs-{}-{word}", SIDES[1])), "").unwrap();
    }

    /// The process of the script that hangs.
    fn pid(&self) -> Option<String> {
        Some(fs::read_to_string(self.here.join("pid")).ok()?.trim().to_owned())
    }

    /// Returns when the script that hung has ended with what it had started; fails where it has far more time than it may take.
    #[track_caller]
    fn wait_for_its_end(&self, running: &mut Running) {
        wait_until("the script to hang", || running.has_ended() || self.pid().is_some());
        let pid = self.pid().unwrap_or_else(|| panic!("{}", running.stderr_so_far()));
        let begun = Instant::now();
        let is_there = || Path::new(&format!("/proc/{pid}")).exists();
        wait_until("the script to be ended", || !is_there() || begun.elapsed() > 4 * LIMIT);
        assert!(!is_there(), "it may take {LIMIT:?}: {}", running.stderr_so_far());
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let pid = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?));
        if let Some(pid) = pid.filter(|_| std::thread::panicking()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn a_stop_that_hangs_on_the_way_back_is_ended_and_tried_again() {
    let (clock, hanging) = (Clock::new(), Hanging::new());
    let pair = &hanging.pair;
    pair.belay(&["upgrade", "adopt", "production"]).code(1).says(&["a script has no image to pin"]);
    let before = pair.dump(1);
    let run = pair.start().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    hanging.hangs("stop");
    let back = ["upgrade", "rollback", "main", "--reason", "users complain", "--foreground"];
    let mut running = Running::start(clock.by(pair.command(&back)));
    hanging.wait_for_its_end(&mut running);
    let told = format!("was ended: it took longer than {} seconds", LIMIT.as_secs());
    wait_until("that to be told", || {
        running.stderr_so_far().contains(&told) || running.has_ended()
    });
    wait_until("the next try to be waited for", || {
        running.stderr_so_far().contains("waiting for the next try") || running.has_ended()
    });
    assert!(!running.has_ended(), "{}", running.wait());
    // The version that users complain of goes on meanwhile.
    assert_eq!(pair.state(), "rolling_back");
    assert!(pair.platforms[1].pid().is_some());
    let status = pair.belay(&["upgrade", "status", "main"]).ok().stdout();
    for words in ["It could not stop production", &told, "stop waits for what never comes"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    clock.is_ahead(Duration::from_mins(1));
    let run = running.wait().code_in(&[0, 3]);
    assert_eq!(pair.state(), "rolled_back", "{run}");
    assert_eq!([pair.version(0), pair.version(1)], [NEW, OLD], "{run}");
    assert_same_text(&before, &pair.dump(1));
    pair.assert_nothing_is_left();
}

#[test]
fn a_stop_of_what_writes_that_hangs_is_ended_and_production_goes_on_as_it_was() {
    let hanging = Hanging::new();
    let pair = &hanging.pair;
    let before = pair.dump(1);
    hanging.hangs("stop");
    let start = ["upgrade", "start", "main", "--to", NEW, "--yes", "--foreground"];
    let mut running = Running::start(pair.command(&start));
    hanging.wait_for_its_end(&mut running);
    let run = running.wait().code(1);
    assert_eq!(pair.state(), "held", "{run}");
    let status = pair.belay(&["upgrade", "status", "main"]).ok().stdout();
    for words in ["It could not stop production's writers", "stop waits for what never comes"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    assert!(pair.platforms[1].pid().is_some(), "{run}");
    assert_eq!([pair.version(0), pair.version(1)], [NEW, OLD]);
    assert_same_text(&before, &pair.dump(1));
    pair.assert_nothing_is_left();
    let run = pair.resume().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
}

#[test]
fn a_stop_that_outlives_belay_leaves_no_production_that_stands_still() {
    let hanging = Hanging::new();
    let pair = &hanging.pair;
    hanging.hangs("stop");
    let start = ["upgrade", "start", "main", "--to", NEW, "--yes", "--foreground"];
    let mut running = Running::start(pair.command(&start));
    wait_until("the stop to begin", || running.has_ended() || hanging.pid().is_some());
    let pid = hanging.pid().unwrap_or_else(|| panic!("{}", running.stderr_so_far()));
    running.kill();
    // What writes is started again by whoever takes it up, and only then does the stop come to its end, where it still may.
    let places = pair.sandbox.path("places");
    fs::write(&places, "noted done resume_writers\n").unwrap();
    let mut resume = pair.command(&["upgrade", "resume", "main", "--foreground"]);
    resume.env("BELAY_ENDS_UPGRADE_AT", &places);
    let run = Run::of(resume);
    assert_eq!(run.signal(), Some(9), "{run}");
    fs::write(hanging.here.join("go"), "").unwrap();
    wait_until("the stop to end", || !Path::new(&format!("/proc/{pid}")).exists());
    // Whatever it goes on to, it goes on with a production that runs: its tests have nothing to say.
    let mut running = Running::start(pair.command(&["upgrade", "resume", "main", "--foreground"]));
    wait_until("the upgrade to rest", || {
        running.has_ended() || running.stderr_so_far().contains("warning: Could not")
    });
    assert!(running.has_ended(), "{}", running.stderr_so_far());
    let run = running.wait().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert!(pair.platforms[1].pid().is_some(), "{run}");
    pair.assert_nothing_is_left();
}

#[test]
fn a_start_that_hangs_is_ended_and_tried_again() {
    let (clock, hanging) = (Clock::new(), Hanging::new());
    let pair = &hanging.pair;
    pair.start_until("noted done hold_writers");
    assert_eq!(pair.platforms[1].pid(), None);
    hanging.hangs("start");
    let resume = ["upgrade", "resume", "main", "--foreground"];
    let mut running = Running::start(clock.by(pair.command(&resume)));
    hanging.wait_for_its_end(&mut running);
    wait_until("the next try to be waited for", || {
        running.stderr_so_far().contains("waiting for the next try") || running.has_ended()
    });
    assert!(!running.has_ended(), "{}", running.wait());
    let status = pair.belay(&["upgrade", "status", "main"]).ok().stdout();
    for words in ["It could not start production's writers", "start waits for what never comes"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    clock.is_ahead(Duration::from_mins(1));
    let run = running.wait().code_in(&[0, 3]);
    assert_eq!(pair.state(), "provisional", "{run}");
    assert_eq!([pair.version(0), pair.version(1)], [NEW, NEW], "{run}");
    pair.assert_nothing_is_left();
}

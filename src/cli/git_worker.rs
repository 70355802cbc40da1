//! `belay git-worker`, which no person runs: see [`crate::git::worker`].

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use crate::git::worker::{Line, Request, answer};
use crate::ops::OpsError;
use rustix::process::{Signal, getpid, kill_process};
use std::cell::Cell;
use std::io::{BufRead as _, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A request is not longer.
const MOST_BYTES: u64 = 1024 * 1024;
const TELLS_EVERY: Duration = Duration::from_millis(200);

type Asked = serde_json::Result<Request>;

pub(super) fn run(environment: &Environment) -> Result<Exit, Failure> {
    let told = Cell::new(Instant::now());
    let heard = |bytes, objects| {
        if environment.context.cancel.is_cancelled() {
            std::process::exit(Exit::Interrupted as i32);
        }
        if told.get().elapsed() >= TELLS_EVERY {
            told.set(Instant::now());
            // Whoever asked and is gone has ended this already.
            let _ = output::json(&Line::Progress { bytes, objects });
        }
    };
    let (requests, is_working) = requests()?;
    for request in requests {
        let request = request.map_err(|_| {
            Failure::usage(
                "there is no request on the standard input",
                "this command is for Belay itself: see `belay apps --help`",
            )
        })?;
        let answer = answer(&request, &heard);
        is_working.store(false, Ordering::SeqCst);
        output::json(&answer)?;
    }
    Ok(Exit::Done)
}

/// Requests as they come, and whether one is being worked on. Who asked waits for the answer: where he is gone before it, as one that
/// was killed is, this ends at once, whatever libgit2 waits for. A mirror stands a kill at any moment.
fn requests() -> Result<(Receiver<Asked>, Arc<AtomicBool>), Failure> {
    let (sender, receiver) = sync_channel(0);
    let is_working = Arc::new(AtomicBool::new(false));
    let is_busy = Arc::clone(&is_working);
    let reading = move || {
        let mut requests = std::io::stdin().lock();
        loop {
            let mut text = Zeroizing::new(Vec::new());
            let read = requests.by_ref().take(MOST_BYTES).read_until(b'\n', &mut text);
            if read.is_ok_and(|read| read == 0) {
                if is_busy.load(Ordering::SeqCst) {
                    // Not an ordinary exit, which would tidy up below libgit2's feet.
                    let _ = kill_process(getpid(), Signal::KILL);
                }
                return;
            }
            let asked: Asked = serde_json::from_slice(&text);
            is_busy.store(asked.is_ok(), Ordering::SeqCst);
            if sender.send(asked).is_err() {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().name("requests".into()).spawn(reading);
    started.map_err(|error| {
        Failure::from(OpsError::Io {
            action: "start a thread of",
            path: "belay git-worker".into(),
            source: error,
        })
    })?;
    Ok((receiver, is_working))
}

//! `belay git-worker`, which no person runs: see [`crate::git::worker`].

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use crate::git::worker::{Line, Request, answer};
use std::cell::Cell;
use std::io::{BufRead as _, Read as _};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A request is not longer.
const MOST_BYTES: u64 = 1024 * 1024;
const TELLS_EVERY: Duration = Duration::from_millis(200);

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
    let mut requests = std::io::stdin().lock();
    loop {
        let mut text = Zeroizing::new(Vec::new());
        let read = requests.by_ref().take(MOST_BYTES).read_until(b'\n', &mut text);
        if read.is_ok_and(|read| read == 0) {
            return Ok(Exit::Done);
        }
        let request: Request = serde_json::from_slice(&text).map_err(|_| {
            Failure::usage(
                "there is no request on the standard input",
                "this command is for Belay itself: see `belay apps --help`",
            )
        })?;
        output::json(&answer(&request, &heard))?;
    }
}

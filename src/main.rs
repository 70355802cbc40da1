//! The program `belay`: signals and the exit code; everything else is in the library.

use belay::cli;
use belay::model::event::Cancel;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    // A walk keeps a directory open for each level of a tree.
    raise_limit_of_open_files();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("belay: could not start: {error}");
                return ExitCode::FAILURE;
            }
        };
    let cancel = Cancel::new();
    let exit = runtime.block_on(async {
        let watching = tokio::spawn(watch_signals(cancel.clone()));
        let job = tokio::task::spawn_blocking(move || cli::run(std::env::args_os(), &cancel));
        let exit = job.await;
        watching.abort();
        exit
    });
    match exit {
        Ok(exit) => exit.into(),
        // The panic has told itself.
        Err(_) => ExitCode::FAILURE,
    }
}

/// The first interrupt asks the job to stop and clean up; the second ends the process. SIGHUP is passed over: with it
/// `restic unlock` asks whether the holder of a lock is alive, and a terminal that goes away ends no backup.
async fn watch_signals(cancel: Cancel) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = hangup.recv() => continue,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if cancel.is_cancelled() {
            cli::leave();
        }
        cancel.cancel();
        eprintln!("belay: stopping; once more to stop at once");
    }
}

fn raise_limit_of_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // As it was, it serves all but very deep trees.
    let _ = setrlimit(Resource::Nofile, limit);
}

//! The service manager: told when the daemon is ready, reloads, ends, and what it does; pinged as long as the executor lives.

use super::Daemon;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the status text is looked at.
const STATUS: Duration = Duration::from_secs(5);

fn tell(states: &[NotifyState<'_>]) {
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(states);
}

pub(super) fn ready(daemon: &Daemon) {
    let text = daemon.in_a_line();
    tell(&[NotifyState::Ready, NotifyState::Status(&text)]);
    tracing::info!("ready: {text}");
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing what runs")]);
}

/// Ping the watchdog, unless the executor hangs; keep the status text.
pub(super) async fn watch(daemon: Arc<Daemon>) {
    let patience = sd_notify::watchdog_enabled();
    let ping = patience.map_or(STATUS, |patience| (patience / 3).min(STATUS));
    let mut every = tokio::time::interval(ping);
    let mut told = String::new();
    loop {
        every.tick().await;
        // Both wait for the executor, which may be at the catalog.
        let asked = Arc::clone(&daemon);
        let look = move || (asked.executor.hangs(patience), asked.in_a_line());
        let looked = tokio::task::spawn_blocking(look);
        let Ok((hangs, text)) = looked.await else { continue };
        match hangs {
            None => tell(&[NotifyState::Watchdog]),
            Some(why) => tracing::error!("the executor hangs: {why}"),
        }
        if text != told {
            tell(&[NotifyState::Status(&text)]);
            told = text;
        }
    }
}

/// SIGHUP: take the configuration anew, or keep the old one and say why.
pub(super) async fn reload_on_hangup(daemon: Arc<Daemon>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!("SIGHUP cannot be listened to: {error}");
            return;
        }
    };
    while hangup.recv().await.is_some() {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        tell(&[NotifyState::Reloading, NotifyState::MonotonicUsec(microseconds)]);
        let path = daemon.settings.path().display().to_string();
        match daemon.settings.reload() {
            Ok(()) => {
                daemon.overview.forget();
                daemon.settings.trouble("reload", None);
                daemon.due.notify_one();
                daemon.upgrades.wake();
                tracing::info!("the configuration {path} is read anew");
            }
            Err(error) => {
                let told =
                    format!("The configuration {path} is not taken, the old one stays: {error}");
                daemon.settings.trouble("reload", Some(told));
            }
        }
        let text = daemon.in_a_line();
        tell(&[NotifyState::Ready, NotifyState::Status(&text)]);
    }
}

/// Somebody asks the process to end. `main` listens to the same signals, and ends it at the second.
pub(super) struct End {
    interrupt: Signal,
    terminate: Signal,
}

impl End {
    /// What comes from now on is heard.
    pub(super) fn listen() -> std::io::Result<Self> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    pub(super) async fn asked(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Daemon {
    /// What it does, in a line.
    fn in_a_line(&self) -> String {
        let (queued, _) = self.executor.lengths();
        let open = self.executor.open_jobs();
        let running: Vec<String> = open
            .iter()
            .filter(|entry| entry.state == crate::catalog::EntryState::Running)
            .map(|entry| format!("{} of {}", entry.work.noun(), entry.work.subject()))
            .collect();
        let instances = self.settings.config().instances.len();
        if let Some(trouble) = self.settings.troubles().first() {
            return trouble.clone();
        }
        match (running.is_empty(), queued) {
            (true, 0) => format!("{instances} instances; nothing runs"),
            (true, _) => format!("{instances} instances; {queued} jobs wait"),
            (false, _) => format!("{}; {queued} more wait", running.join(", ")),
        }
    }
}

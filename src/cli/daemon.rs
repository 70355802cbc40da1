//! `belay daemon`.

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::perform::perform;
use crate::config::Config;
use crate::daemon::{Daemon, DaemonError, Settings};
use crate::http::{ServeError, Socket};
use std::sync::Arc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(super) fn run(environment: &Environment) -> Result<Exit, Failure> {
    log()?;
    let path = &environment.global.config;
    let config: Config = environment.config()?.clone();
    let socket_path = config.daemon.socket.clone();
    let settings = Settings::new(path, config, environment.secrets.clone());
    let daemon = Arc::new(Daemon::open(settings, Arc::new(perform))?);
    let cancel = &environment.context.cancel;
    tokio::runtime::Handle::current().block_on(async {
        let socket = Socket::bind(&socket_path)?;
        let serving = tokio::spawn(socket.serve(Arc::clone(&daemon)));
        daemon.run(cancel).await?;
        serving.abort();
        // The socket goes with it.
        let _ = serving.await;
        Ok::<_, Failure>(())
    })?;
    tracing::info!("ended");
    Ok(Exit::Done)
}

/// To the journal with fields where that is what standard error leads to, and as text otherwise.
fn log() -> Result<(), Failure> {
    let filter =
        EnvFilter::try_from_env("BELAY_LOG").unwrap_or_else(|_| EnvFilter::new("warn,belay=info"));
    let registry = tracing_subscriber::registry().with(filter);
    let set = if std::env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal.with_field_prefix(None).with_syslog_identifier("belay".into());
        registry.with(journal).try_init()
    } else {
        let text = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_target(false);
        registry.with(text).try_init()
    };
    set.map_err(|error| Failure::internal(format!("the log could not be set up: {error}")))
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Catalog(error) => error.into(),
            DaemonError::Operation(error) => error.into(),
            DaemonError::Twice { .. } => Self {
                exit: Exit::Locked,
                message: error.to_string(),
                hint: Some("stop that one first: `systemctl stop belay`".into()),
            },
            DaemonError::Scheduler(_) | DaemonError::Signals(_) => {
                Self::internal(error.to_string())
            }
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let hint = match &error {
            ServeError::InUse { .. } => "stop that process, or set another `socket` in [daemon]",
            ServeError::InTheWay { .. } => "take it away, or set another `socket` in [daemon]",
            ServeError::Io { .. } => {
                "run the daemon as a user who may do that, or set another `socket` in [daemon]"
            }
        };
        Self { exit: Exit::Failed, message: error.to_string(), hint: Some(hint.into()) }
    }
}

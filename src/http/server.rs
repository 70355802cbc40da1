//! The socket: made so that only its group may open it, and served so that nobody can hold it up.

use super::answer::Answer;
use super::router;
use crate::daemon::Daemon;
use crate::host;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

/// The group whose members may open the socket, where there is one.
const GROUP: &str = "belay";
/// Members of the group, and nobody else.
const MODE: u32 = 0o660;
/// So many connections are served at once; others wait.
const MOST_CONNECTIONS: usize = 256;
/// A request's head has to be there within this.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// And its body and the answer within this; events are made as they happen, and take as long as they do.
const REQUEST_TIME: Duration = Duration::from_mins(2);
/// The largest head that is read.
const MOST_HEAD: usize = 32 * 1024;

/// Who asks, as the kernel says.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The user's name, or number where it has none.
    pub(super) name: String,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process answers there.
    #[error("another process answers at {} already", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is there, and is no socket", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
    },
    /// It could not be made.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The socket, which is taken away when this is dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Make the socket. One that a killed daemon has left is replaced.
    pub fn bind(path: &Path) -> Result<Self, ServeError> {
        let failed = |action| {
            let path = path.to_owned();
            move |source| ServeError::Io { action, path, source }
        };
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(ServeError::InTheWay { path: path.to_owned() });
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(ServeError::InUse { path: path.to_owned() });
            }
            std::fs::remove_file(path).map_err(failed("remove"))?;
        }
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed("make the directory of"))?;
        }
        // Nobody may open it between its making and the change of its mode.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let socket =
            Self { listener: listener.map_err(failed("listen at"))?, path: path.to_owned() };
        if let Some(group) = host::group_id(GROUP) {
            // Who is neither root nor in the group cannot give it away; its own users may use it then.
            let _ = std::os::unix::fs::chown(path, None, Some(group));
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))
            .map_err(failed("set the mode of"))?;
        Ok(socket)
    }

    /// Answer requests, for ever.
    pub async fn serve(self, daemon: Arc<Daemon>) {
        let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let router = router(daemon);
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, most likely: others have to end first.
                    tracing::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let router = router.clone();
            tokio::spawn(async move {
                let Some(peer) = peer_of(&stream) else { return };
                let service = router.layer(axum::Extension(peer));
                let timed = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let answering = service.clone().oneshot(request.map(axum::body::Body::new));
                    async move {
                        let answered = tokio::time::timeout(REQUEST_TIME, answering).await;
                        answered.unwrap_or_else(|_| Ok(too_slow()))
                    }
                });
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME)
                    .max_buf_size(MOST_HEAD)
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(timed));
                // Who asks may go away at any time.
                let _ = served.await;
                drop(permit);
            });
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn too_slow() -> Response {
    let error = format!("no answer was made within {} s", REQUEST_TIME.as_secs());
    Answer::problem(StatusCode::REQUEST_TIMEOUT, &error, None).into_response()
}

fn peer_of(stream: &UnixStream) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
    Some(Peer { name: host::user_name(credentials.uid()) })
}

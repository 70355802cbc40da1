//! A way for a client on this host to a port that is reached from where an instance lives: a socket that nobody else may
//! open, and for each connection to it a relay that runs there.
//!
//! A line that is cut is not mended behind anybody's back: after a relay has failed there are no others. A cancelled job may go
//! on using it, to clean up. Dropping it ends its relays.

use super::{Access, AccessError, Command};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Joins the port of a host to its own input and output, by what is there. bash needs no other program for the connection; a
/// `cat` may wait for more before it hands on what has come, which `dd` does not. Each way ends the other one: the one up by its
/// end, and the one down by a pipe that only it holds. bash's `wait -n` would be shorter, but a way that has ended before it is
/// called can be missed by that.
pub(super) const RELAY: &str = r#"if command -v bash >/dev/null; then exec bash -c '
  exec 3<>"/dev/tcp/$1/$2" 4<&0 0</dev/null || exit 1
  dd bs=128k <&4 >&3 2>/dev/null & up=$!
  dd bs=128k <&3 2>/dev/null 5> >(exec 1>&- 2>&- 3>&- 4<&-; read -r; kill "$up") & down=$!
  exec 1>&- 3>&- 4<&-
  wait "$up"
  kill "$down" 2>/dev/null
  exit 0' "$0" "$1" "$2"
elif command -v nc >/dev/null; then exec nc "$1" "$2"
fi
echo "neither bash nor nc is there to make a connection" >&2; exit 127"#;

const BUFFER_BYTES: usize = 128 * 1024;

/// How long a relay whose connection broke may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long one may take to end whose connection was closed on this side.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// A way to a port.
pub struct Tunnel {
    /// Goes with what is in it.
    _directory: TempDir,
    socket: PathBuf,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    access: Access,
    host: String,
    port: u16,
    /// No more connections are made.
    ended: AtomicBool,
    /// The connections that are open, to end them.
    open: Mutex<Vec<Arc<UnixStream>>>,
    /// Why the first of the relays failed that did.
    failure: Mutex<Option<AccessError>>,
    failed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Access {
    /// Open a way to a port of a host, as that is called where this leads to. Whether there is such a port shows when somebody
    /// connects.
    pub fn tunnel(&self, host: &str, port: u16) -> io::Result<Tunnel> {
        let directory = tempfile::Builder::new().prefix("belay-").tempdir()?;
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket)?;
        let shared = Arc::new(Shared {
            access: self.anew(),
            host: host.to_owned(),
            port,
            ended: AtomicBool::new(false),
            open: Mutex::default(),
            failure: Mutex::default(),
            failed: Condvar::new(),
        });
        let listening = Arc::clone(&shared);
        let listening = std::thread::Builder::new()
            .name("tunnel".into())
            .spawn(move || listen(&listening, listener))?;
        Ok(Tunnel { _directory: directory, socket, shared, listening: Some(listening) })
    }
}

impl Tunnel {
    /// Where a client connects to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Why a connection failed, once: for who has just seen that it did.
    pub fn failure(&self) -> Option<AccessError> {
        let failure = lock(&self.shared.failure);
        let wait = self.shared.failed.wait_timeout_while(failure, LAST_WORDS, |it| it.is_none());
        wait.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.shared.end();
        // Wakes who listens. After a relay has failed nobody does any more.
        let is_woken = match UnixStream::connect(&self.socket) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        };
        if is_woken && let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

impl Shared {
    /// No more connections are made, and those that there are end.
    fn end(&self) {
        let open = lock(&self.open);
        self.ended.store(true, Ordering::SeqCst);
        for stream in open.iter() {
            // It may have been ended by the other side.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Take connections until the end, and then wait for theirs.
fn listen(shared: &Arc<Shared>, listener: UnixListener) {
    let mut relays = Vec::new();
    for stream in listener.incoming() {
        let mut open = lock(&shared.open);
        if shared.ended.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream.map(Arc::new) else { continue };
        open.push(Arc::clone(&stream));
        drop(open);
        let relayed = Arc::clone(shared);
        relays.retain(|relay: &JoinHandle<()>| !relay.is_finished());
        relays.extend(std::thread::Builder::new().name("relay".into()).spawn(move || {
            if let Err(error) = relay(&relayed, &stream) {
                lock(&relayed.failure).get_or_insert(error);
                relayed.failed.notify_all();
                // The others, too: who waits for an answer must not do so for ever.
                relayed.end();
            }
            let _ = stream.shutdown(Shutdown::Both);
            lock(&relayed.open).retain(|open| !Arc::ptr_eq(open, &stream));
        }));
    }
    // Who connects from now on is refused, and does not wait in a queue that nobody serves.
    drop(listener);
    for relay in relays {
        let _ = relay.join();
    }
}

/// Join one connection to the port, until either side ends it.
fn relay(shared: &Shared, stream: &UnixStream) -> Result<(), AccessError> {
    let command = Command::shell(RELAY)
        .arguments([shared.host.as_str(), &shared.port.to_string()])
        // A connection that waits for its next use is silent.
        .silence(Duration::MAX);
    let mut running = shared.access.start(&command, true)?;
    let (mut input, mut output, stopper) = (running.stdin(), running.stdout(), running.stopper());
    let (ended, end) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            copy(stream, &mut input);
            drop(input);
            // Nobody waits for ever for one that does not notice.
            if end.recv_timeout(LAST_BYTES) == Err(RecvTimeoutError::Timeout) {
                stopper.stop();
            }
        });
        copy(&mut output, stream);
        let _ = stream.shutdown(Shutdown::Both);
        drop(output);
        let finished = running.finish();
        drop(ended);
        finished.map(drop)
    })
}

/// Hand on what comes until there is no more, or nobody takes it: each side learns of that by itself.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

//! Locks that Belay and restic respect of each other.
//!
//! A lock is a small file; whoever made one looks again after a moment and gives way if somebody else was quicker. It is
//! refreshed every five minutes by a new file that takes its place. Stale locks are removed: those of Belay's processes
//! that are certainly dead, and those that nobody refreshed for 30 minutes.

use super::format::lock::{LockFile, MAX_BYTES, REFRESH_EVERY, RELIABLE_FOR, STALE_AFTER};
use super::{Repository, RepositoryError};
use crate::host::{self, Process};
use crate::model::event::{Cancel, Event, Events};
use crate::model::id::FileId;
use crate::store::{FileKind, FileName, Listed};
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long after making a lock another one that was made at the same moment must be visible; restic waits as long.
const SETTLE: Duration = Duration::from_millis(200);
/// Shared locks of this process that nobody can have overlooked. While there is one, nobody else comes to be alone, so that a further
/// one beside it need not settle.
static SETTLED: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
/// How often a waiting process looks again.
const POLL: Duration = Duration::from_millis(500);

/// Whether a lock's holder must be alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Beside other shared ones.
    Shared,
    /// Alone.
    Exclusive,
}

/// What a lock is wanted for.
#[derive(Clone, Debug)]
pub struct LockRequest {
    /// Shared or exclusive.
    pub mode: LockMode,
    /// What the holder does, for people: `backup uploads`.
    pub purpose: String,
    /// How long to wait for others.
    pub wait: Duration,
}

/// A held lock, refreshed in the background and removed when dropped.
pub struct Lock {
    shared: Arc<Shared>,
    refresher: Option<JoinHandle<()>>,
}

struct Shared {
    repository: Arc<Repository>,
    request: LockRequest,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    id: FileId,
    time: Timestamp,
    /// Why the lock cannot be relied upon any more.
    lost: Option<String>,
    released: bool,
}

/// A lock that keeps another out, in words.
struct Holder(LockFile);

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(LockFile { exclusive, hostname, username, pid, time, purpose, .. }) = self;
        let kind = if *exclusive { "exclusively " } else { "" };
        write!(formatter, "{kind}by process {pid} of {username} on {hostname}")?;
        if let Some(purpose) = purpose {
            write!(formatter, " ({purpose})")?;
        }
        write!(formatter, " since {}", time.strftime("%Y-%m-%d %H:%M:%S UTC"))
    }
}

impl Lock {
    /// Take a lock, waiting for others as long as the request says.
    pub fn acquire(
        repository: &Arc<Repository>,
        request: LockRequest,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<Self, RepositoryError> {
        let (id, time) = acquire_file(repository, &request, events, cancel)?;
        let state = Mutex::new(State { id, time, lost: None, released: false });
        let shared = Arc::new(Shared {
            repository: Arc::clone(repository),
            request,
            state,
            wake: Condvar::new(),
        });
        if shared.request.mode == LockMode::Shared {
            let mut settled = SETTLED.lock().unwrap_or_else(PoisonError::into_inner);
            settled.retain(|other| other.strong_count() > 0);
            settled.push(Arc::downgrade(&shared));
        }
        let for_thread = Arc::clone(&shared);
        let refresher = std::thread::Builder::new()
            .name("lock".into())
            .spawn(move || for_thread.refresh_until_released())
            .map_err(|error| {
                RepositoryError::Internal(format!("could not start a thread: {error}"))
            })?;
        Ok(Self { shared, refresher: Some(refresher) })
    }

    /// Shared or exclusive.
    pub fn mode(&self) -> LockMode {
        self.shared.request.mode
    }

    /// An error when the lock is not there any more, or was not refreshed for so long that others may ignore it.
    pub fn ensure_held(&self) -> Result<(), RepositoryError> {
        let state = self.shared.lock_state();
        let lost = |reason: String| {
            Err(RepositoryError::LockLost { location: self.shared.repository.location(), reason })
        };
        if let Some(reason) = &state.lost {
            return lost(reason.clone());
        }
        if Timestamp::now().duration_since(state.time) > RELIABLE_FOR {
            return lost(format!("it was last refreshed at {}", state.time));
        }
        match self
            .shared
            .repository
            .store
            .read(FileName::Id(FileKind::Lock, state.id), MAX_BYTES as u64)
        {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => lost("somebody removed its file".into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Take the lock again after it was lost. What happened to the repository meanwhile is the caller's to find out.
    pub fn take_again(&self, events: &Events, cancel: &Cancel) -> Result<(), RepositoryError> {
        let (id, time) =
            acquire_file(&self.shared.repository, &self.shared.request, events, cancel)?;
        let old = {
            let mut state = self.shared.lock_state();
            let old = state.id;
            (state.id, state.time, state.lost) = (id, time, None);
            old
        };
        self.shared.wake.notify_all();
        Ok(self.shared.repository.store.remove(FileName::Id(FileKind::Lock, old))?)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.shared.lock_state().released = true;
        self.shared.wake.notify_all();
        if let Some(refresher) = self.refresher.take() {
            // A panic of the refresher has no more to say here.
            let _ = refresher.join();
        }
        let id = self.shared.lock_state().id;
        // A lock that cannot be removed goes stale with this process.
        let _ = self.shared.repository.store.remove(FileName::Id(FileKind::Lock, id));
    }
}

/// Whether this process holds a shared lock of that very place, which can be relied upon.
fn is_covered(repository: &Repository) -> bool {
    let settled = SETTLED.lock().unwrap_or_else(PoisonError::into_inner);
    let here = repository.location();
    settled.iter().filter_map(Weak::upgrade).any(|other| {
        let state = other.lock_state();
        !state.released
            && state.lost.is_none()
            && Timestamp::now().duration_since(state.time) <= RELIABLE_FOR
            && other.repository.id() == repository.id()
            && other.repository.location() == here
    })
}

impl Shared {
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh_until_released(&self) {
        let every = REFRESH_EVERY.unsigned_abs();
        let mut state = self.lock_state();
        loop {
            let (next, _) = self
                .wake
                .wait_timeout_while(state, every, |state| !state.released)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if state.released {
                return;
            }
            if state.lost.is_none() {
                self.refresh(&mut state);
            }
        }
    }

    /// Write a new lock file and remove the old one. A failure is not final: the lock stays reliable for a while, and the
    /// next attempt comes before that ends.
    fn refresh(&self, state: &mut State) {
        let store = &self.repository.store;
        let old = FileName::Id(FileKind::Lock, state.id);
        if matches!(store.read(old, MAX_BYTES as u64), Err(error) if error.is_not_found()) {
            state.lost = Some("somebody removed its file".into());
            return;
        }
        let file = lock_file(&self.request);
        if let Ok(id) = save_lock(&self.repository, &self.request, &file) {
            (state.id, state.time) = (id, file.time);
            // The old file goes stale by itself if it cannot be removed.
            let _ = store.remove(old);
        }
    }
}

fn lock_file(request: &LockRequest) -> LockFile {
    let process = Process::current();
    LockFile {
        time: Timestamp::now(),
        exclusive: request.mode == LockMode::Exclusive,
        hostname: host::hostname(),
        username: host::username(),
        pid: process.pid,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        boot_id: Some(process.boot_id),
        process_start: Some(process.start),
        host_id: host::certain_host_id(),
        pid_namespace: host::pid_namespace(),
        purpose: Some(request.purpose.clone()),
    }
}

fn acquire_file(
    repository: &Repository,
    request: &LockRequest,
    events: &Events,
    cancel: &Cancel,
) -> Result<(FileId, Timestamp), RepositoryError> {
    let deadline = Instant::now() + request.wait;
    let mut told = false;
    loop {
        cancel.check()?;
        let mut holder = conflicting(repository, request.mode, None, events)?;
        if holder.is_none() {
            let file = lock_file(request);
            let may_be_covered = request.mode == LockMode::Shared && is_covered(repository);
            let id = save_lock(repository, request, &file)?;
            // The other one is there still: whoever wants to be alone has seen it, or sees this one.
            if !(may_be_covered && is_covered(repository)) {
                std::thread::sleep(SETTLE);
            }
            holder = match conflicting(repository, request.mode, Some(id), events) {
                Ok(None) => return Ok((id, file.time)),
                Ok(holder) => holder,
                Err(error) => {
                    let _ = repository.store.remove(FileName::Id(FileKind::Lock, id));
                    return Err(error);
                }
            };
            repository.store.remove(FileName::Id(FileKind::Lock, id))?;
        }
        let holder = holder.map(|holder| holder.to_string()).unwrap_or_default();
        if Instant::now() >= deadline {
            return Err(RepositoryError::Locked { location: repository.location(), holder });
        }
        if !told {
            events.phase("waiting", format!("the repository is locked {holder}"));
            told = true;
        }
        // Two that gave way to each other must not meet again at once.
        let jitter =
            Duration::from_millis(getrandom::u32().map_or(0, |random| u64::from(random % 400)));
        std::thread::sleep((POLL + jitter).min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Write a lock's file. On a full disk an exclusive lock may use the reserve: it is the way to make room again.
fn save_lock(
    repository: &Repository,
    request: &LockRequest,
    file: &LockFile,
) -> Result<FileId, RepositoryError> {
    match repository.save(FileKind::Lock, file) {
        Err(RepositoryError::Store(error))
            if error.is_full() && request.mode == LockMode::Exclusive =>
        {
            repository.store.release_reserve()?;
            repository.save(FileKind::Lock, file)
        }
        other => other,
    }
}

/// A live lock that excludes one of `mode`, other than `own`. Stale ones are removed on the way.
fn conflicting(
    repository: &Repository,
    mode: LockMode,
    own: Option<FileId>,
    events: &Events,
) -> Result<Option<Holder>, RepositoryError> {
    for listed in repository.store.list(FileKind::Lock)? {
        if Some(listed.id) == own {
            continue;
        }
        let lock: LockFile = match repository.load(FileKind::Lock, listed.id, MAX_BYTES) {
            Ok(lock) => lock,
            Err(error) if error.is_not_found() => continue,
            Err(error) if error.is_damage() => {
                if is_older_than(&listed, STALE_AFTER) {
                    remove_stale(repository, listed.id, "it is damaged and old", events)?;
                    continue;
                }
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        if let Some(reason) = staleness(&lock, Timestamp::now()) {
            remove_stale(repository, listed.id, &reason, events)?;
        } else if lock.exclusive || mode == LockMode::Exclusive {
            return Ok(Some(Holder(lock)));
        }
    }
    Ok(None)
}

fn is_older_than(listed: &Listed, age: SignedDuration) -> bool {
    let modified = listed.modified.and_then(|time| Timestamp::try_from(time).ok());
    modified.is_some_and(|time| Timestamp::now().duration_since(time) > age)
}

/// Why a lock binds nobody any more; `None` for a live one, and for one of which only its age will tell.
fn staleness(lock: &LockFile, now: Timestamp) -> Option<String> {
    if now.duration_since(lock.time) > STALE_AFTER {
        return Some(format!("it was last refreshed at {}", lock.time));
    }
    let gone = process_on_this_machine(lock)?.is_gone();
    gone.then(|| format!("its process {} is gone", lock.pid))
}

/// The holder, where this process can judge it. A number means nothing in another pid namespace, and machines or
/// containers may share a name: so never that of restic, which tells no more than name and number.
fn process_on_this_machine(lock: &LockFile) -> Option<Process> {
    let start = lock.process_start?;
    let boot_id = lock.boot_id.clone()?;
    // An earlier boot has no processes, in whichever namespace. Of a machine without an id nothing says that it is this.
    let is_this_machine = lock.host_id.is_some() && lock.host_id == host::certain_host_id();
    let is_earlier_boot = is_this_machine && boot_id != host::boot_id();
    let is_here = boot_id == host::boot_id()
        && lock.pid_namespace.is_some()
        && lock.pid_namespace == host::pid_namespace();
    (is_earlier_boot || is_here).then_some(Process { pid: lock.pid, boot_id, start })
}

fn remove_stale(
    repository: &Repository,
    id: FileId,
    reason: &str,
    events: &Events,
) -> Result<(), RepositoryError> {
    repository.store.remove(FileName::Id(FileKind::Lock, id))?;
    events.note(format!("A stale lock was removed: {reason}."));
    events.send(Event::Removed { kind: "lock".into(), id });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_a_dead_process() -> LockFile {
        let request =
            LockRequest { mode: LockMode::Shared, purpose: "test".into(), wait: Duration::ZERO };
        LockFile { pid: i32::MAX, ..lock_file(&request) }
    }

    #[test]
    fn only_a_shared_lock_of_the_same_place_that_can_be_relied_upon_covers_another_one() {
        use crate::repository::format::key::ScryptCost;
        use crate::store::local::LocalStore;
        let made = || {
            let directory = tempfile::tempdir().unwrap();
            let store = Arc::new(LocalStore::new(directory.path()));
            let made = Repository::init(store, b"password", ScryptCost::RANDOM_KEY).unwrap();
            (directory, Arc::new(made))
        };
        let ((_one, repository), (_two, other)) = (made(), made());
        let lock = |mode| {
            let request = LockRequest { mode, purpose: "test".into(), wait: Duration::ZERO };
            Lock::acquire(&repository, request, &Events::ignored(), &Cancel::new())
        };
        assert!(!is_covered(&repository));
        let exclusive = lock(LockMode::Exclusive).unwrap();
        assert!(!is_covered(&repository) && lock(LockMode::Shared).is_err());
        drop(exclusive);

        let first = lock(LockMode::Shared).unwrap();
        assert!(is_covered(&repository) && !is_covered(&other));
        let second = lock(LockMode::Shared).unwrap();
        assert!(lock(LockMode::Exclusive).is_err(), "nobody is alone beside them");
        drop(first);
        assert!(is_covered(&repository), "the second is as good");
        second.shared.lock_state().lost = Some("somebody removed its file".into());
        assert!(!is_covered(&repository));
        drop(second);
        assert!(!is_covered(&repository));
        lock(LockMode::Exclusive).unwrap();
    }

    #[test]
    fn a_dead_process_of_this_boot_and_namespace_makes_its_lock_stale() {
        let (dead, now) = (of_a_dead_process(), Timestamp::now());
        assert!(staleness(&dead, now).is_some());
        // The name does not count: it may change while a command runs.
        assert!(staleness(&LockFile { hostname: "renamed".into(), ..dead.clone() }, now).is_some());
        let this = LockFile { pid: Process::current().pid, ..dead };
        assert_eq!(staleness(&this, now), None);
    }

    #[test]
    fn where_the_process_table_is_not_the_holders_only_the_age_counts() {
        let dead = of_a_dead_process();
        let in_container = LockFile { pid_namespace: Some(1), ..dead.clone() };
        let unknown = LockFile { pid_namespace: None, ..dead.clone() };
        let on_a_namesake = LockFile {
            boot_id: Some("another".into()),
            host_id: Some("another".into()),
            ..dead.clone()
        };
        let without_machine_id =
            LockFile { boot_id: Some("another".into()), host_id: None, ..dead.clone() };
        let of_restic = LockFile { boot_id: None, process_start: None, ..unknown.clone() };
        for lock in [in_container, unknown, on_a_namesake, without_machine_id, of_restic] {
            assert_eq!(staleness(&lock, Timestamp::now()), None, "{lock:?}");
            let later = Timestamp::now() + STALE_AFTER + SignedDuration::from_secs(1);
            assert!(staleness(&lock, later).is_some());
        }
    }

    #[test]
    fn a_lock_of_an_earlier_boot_of_this_machine_is_stale() {
        let lock = LockFile { boot_id: Some("earlier".into()), ..of_a_dead_process() };
        let is_certain = host::certain_host_id().is_some();
        assert_eq!(staleness(&lock, Timestamp::now()).is_some(), is_certain);
    }
}

//! Mirrors of git repositories: bringing one up to date, and recording what was pushed away.

use super::private::PrivateDirectory;
use super::session::InstanceLock;
use super::{Context, OpsError};
use crate::access::{Access, AccessError, Command, Input, Output, Running};
use crate::catalog::Catalog;
use crate::config::{Config, GitRepository, SecretRef, SecretSources};
use crate::git::journal;
use crate::git::mirror::Mirror;
use crate::git::mirror::claim::Claim;
use crate::git::mirror::fetch::Fetched;
use crate::git::remote::Address;
use crate::git::worker::{Line, Request, Work};
use crate::host;
use crate::model::event::Event;
use crate::model::git::MirrorRecord;
use crate::model::name::Name;
use crate::model::via::Via;
use jiff::Timestamp;
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Where mirrors are, in the state directory.
const DIRECTORY: &str = "mirrors";
/// The hidden command that talks to git repositories.
pub const WORKER: &str = "git-worker";
/// A git repository that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_mins(2);
/// How often who waits for a mirror looks.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// What a fetch has brought.
#[derive(Clone, Debug, Serialize)]
pub struct FetchOutcome {
    /// The git repository's name.
    pub git: Name,
    /// What was done.
    #[serde(flatten)]
    pub fetched: Fetched,
}

/// Where the mirror of a git repository is.
pub fn mirror_path(state_dir: &Path, git: &Name) -> PathBuf {
    state_dir.join(DIRECTORY).join(format!("{git}.git"))
}

/// The directory of the mirrors, which is closed to others.
pub(super) fn mirrors_directory(state_dir: &Path) -> Result<PathBuf, OpsError> {
    PrivateDirectory::make(state_dir, DIRECTORY)?;
    Ok(state_dir.join(DIRECTORY))
}

/// Nobody changes a mirror for as long as this is there.
pub(super) struct Still(#[expect(dead_code, reason = "the lock lasts as long as it is open")] File);

/// Have nobody change a mirror. Somebody may be at it still whose job was killed: he is waited for so long.
pub(super) fn hold_still(
    config: &Config,
    git: &Name,
    longest: Duration,
    context: &Context,
) -> Result<Still, OpsError> {
    let directory = PrivateDirectory::make(&config.state_dir, DIRECTORY)?;
    let name = Claim::lock_name(&mirror_path(&config.state_dir, git));
    let lock = directory.open_or_make(&name)?;
    let begun = Instant::now();
    loop {
        let is_shared = Claim::is_shared(&lock).map_err(|source| OpsError::Io {
            action: "lock",
            path: directory.path_of(&name),
            source,
        })?;
        if is_shared {
            return Ok(Still(lock));
        }
        if begun.elapsed() >= longest {
            return Err(OpsError::Git {
                name: git.to_string(),
                message: "its mirror is being changed by the rest of a job that was killed".into(),
                hint: Some(
                    "try again when that has ended: its processes are called `belay git-worker`"
                        .into(),
                ),
                may_pass: true,
            });
        }
        context.cancel.check()?;
        context.events.phase("waiting", format!("for who changes the mirror of {git}"));
        std::thread::sleep(LOOKS_EVERY);
    }
}

/// The mirror of a git repository; an error where it was never fetched.
pub fn open_mirror(config: &Config, git: &Name) -> Result<Mirror, OpsError> {
    let mirror = Mirror::open(&mirror_path(&config.state_dir, git));
    mirror.map_err(|error| OpsError::git(git, &error))?.ok_or_else(|| {
        OpsError::refused(
            format!("the git repository {git} was never fetched"),
            format!("belay apps fetch {git}"),
        )
    })
}

/// Bring mirrors up to date, as a command of its own: each is tried, whatever becomes of the others. `told` is given how each
/// ended, and says whether to go on.
pub fn fetch(
    config: &Config,
    secrets: &SecretSources,
    gits: &[&GitRepository],
    is_new_history: bool,
    context: &Context,
    mut told: impl FnMut(&GitRepository, Result<FetchOutcome, OpsError>) -> bool,
) -> Result<(), OpsError> {
    // It makes the state directory where there is none yet.
    let catalog = Catalog::open(&config.state_dir)?;
    let mut worker = Worker::new(config, secrets, context);
    for git in gits {
        let fetched = InstanceLock::acquire(&config.state_dir, &git.name, context)
            .and_then(|_busy| fetch_locked(&mut worker, &catalog, git, is_new_history));
        if !told(git, fetched) {
            break;
        }
    }
    Ok(())
}

/// The same of one, for who holds the lock of its name.
pub(super) fn fetch_locked(
    worker: &mut Worker<'_>,
    catalog: &Catalog,
    git: &GitRepository,
    is_new_history: bool,
) -> Result<FetchOutcome, OpsError> {
    let (config, context) = (worker.config, worker.context);
    context.events.phase("fetching", git.url.to_string());
    let now = Timestamp::now();
    ensure_not_lost(config, catalog, git, is_new_history)?;
    let work = Work::Fetch { is_new_history, now };
    let Line::Fetched(fetched) = worker.ask(git, work)? else {
        return Err(unexpected(git));
    };
    for refused in &fetched.refused {
        context.events.warn(format!("{}: {refused}, and is not in the mirror.", git.name));
    }
    if !catalog.same_mirror(&git.name, &git.url.to_string(), &fetched.digest, now)? {
        record(config, catalog, git, now, context)?;
    }
    Ok(FetchOutcome { git: git.name.clone(), fetched })
}

/// A mirror that was lost has what was pushed away, which a new one would not have.
fn ensure_not_lost(
    config: &Config,
    catalog: &Catalog,
    git: &GitRepository,
    is_new_history: bool,
) -> Result<(), OpsError> {
    let is_there = mirror_path(&config.state_dir, &git.name).symlink_metadata().is_ok();
    if is_there {
        return Ok(());
    }
    if is_new_history {
        return Ok(catalog.forget_rewrites(&git.name)?);
    }
    let Some(known) = catalog.mirror(&git.name)? else { return Ok(()) };
    let name = &git.name;
    Err(OpsError::refused(
        format!(
            "the mirror of {name} is not there any more; when it was fetched last, at {}, it had {} refs, of which {} keep what was pushed away",
            known.fetched_at.strftime("%Y-%m-%d %H:%M UTC"),
            known.refs.len(),
            known.rewrites.len()
        ),
        format!(
            "`belay backup {name}` brings it back out of its newest snapshot; where there is none, `belay apps fetch {name} --new-history` begins a new one"
        ),
    ))
}

/// What a mirror has now goes into the catalog; what was pushed away and is not there yet is told.
fn record(
    config: &Config,
    catalog: &Catalog,
    git: &GitRepository,
    fetched_at: Timestamp,
    context: &Context,
) -> Result<(), OpsError> {
    let record = record_of(&open_mirror(config, &git.name)?, git, fetched_at)?;
    for rewrite in catalog.record_mirror(&git.name, &record, None)? {
        let git = git.name.to_string();
        context.events.send(Event::HistoryRewritten { git, rewrite });
    }
    Ok(())
}

/// What a mirror has.
pub(super) fn record_of(
    mirror: &Mirror,
    git: &GitRepository,
    fetched_at: Timestamp,
) -> Result<MirrorRecord, OpsError> {
    let read = || {
        let refs = mirror.refs()?;
        let (url, head, digest) = (git.url.to_string(), mirror.head(), mirror.digest_of(&refs));
        let refs = refs.into_iter().map(|(name, id)| (name, id.to_string())).collect();
        Ok(MirrorRecord { url, fetched_at, head, refs, rewrites: journal::kept(mirror)?, digest })
    };
    read().map_err(|error| OpsError::git(&git.name, &error))
}

/// See whether a git repository can be reached; tells how many refs it has.
pub(super) fn look(worker: &mut Worker<'_>, git: &GitRepository) -> Result<u64, OpsError> {
    match worker.ask(git, Work::Look)? {
        Line::Seen { refs } => Ok(refs),
        _ => Err(unexpected(git)),
    }
}

/// Push a commit of a mirror to a branch that is not there yet.
pub(super) fn push(
    worker: &mut Worker<'_>,
    git: &GitRepository,
    commit: String,
    branch: &str,
) -> Result<(), OpsError> {
    worker.context.events.phase("pushing", git.url.to_string());
    let work = Work::Push { commit, branch: branch.to_owned() };
    match worker.ask(git, work)? {
        Line::Pushed => Ok(()),
        _ => Err(unexpected(git)),
    }
}

pub(super) fn unexpected(git: &GitRepository) -> OpsError {
    OpsError::Git {
        name: git.name.to_string(),
        message: "what talks to it ended without an answer".into(),
        hint: None,
        may_pass: true,
    }
}

/// What talks to git repositories: a process of its own, with the rights of the state directory's owner. It is started when it is
/// needed first, and again after it failed.
pub(super) struct Worker<'a> {
    config: &'a Config,
    secrets: &'a SecretSources,
    context: &'a Context,
    process: Option<Process>,
}

struct Process {
    running: Running,
    stdin: Input,
    stdout: BufReader<Output>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        config: &'a Config,
        secrets: &'a SecretSources,
        context: &'a Context,
    ) -> Self {
        Self { config, secrets, context, process: None }
    }

    /// Have something done; returns its answer.
    pub(super) fn ask(&mut self, git: &GitRepository, work: Work) -> Result<Line, OpsError> {
        let mut request = serde_json::to_vec(&self.request(git, work)?)
            .map(Zeroizing::new)
            .map_err(|_| unexpected(git))?;
        request.push(b'\n');
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.start()?,
        };
        // One that ended early tells why by its answer or its status.
        let _ = process.stdin.write_all(&request);
        let mut line = String::new();
        loop {
            line.clear();
            let read = process.stdout.read_line(&mut line);
            // A line that was cut off is of one that was ended.
            let Some(said) = read.ok().and_then(|_| serde_json::from_str(&line).ok()) else {
                return Err(Self::ended(git, process));
            };
            match said {
                Line::Progress { bytes, objects } => {
                    let progress = Event::Progress { bytes, total_bytes: None, items: objects };
                    self.context.events.send(progress);
                }
                Line::Failed { message, hint, may_pass } => {
                    self.process = Some(process);
                    let name = git.name.to_string();
                    return Err(OpsError::Git { name, message, hint, may_pass });
                }
                answer => {
                    self.process = Some(process);
                    return Ok(answer);
                }
            }
        }
    }

    fn request(&self, git: &GitRepository, work: Work) -> Result<Request, OpsError> {
        let secret =
            |reference: &Option<SecretRef>| -> Result<Option<Zeroizing<String>>, OpsError> {
                let Some(reference) = reference else { return Ok(None) };
                let secret = reference.resolve(self.secrets)?;
                Ok(Some(Zeroizing::new(secret.expose().to_owned())))
            };
        let mut ssh_key = secret(&git.ssh_key)?;
        if let Some(key) = ssh_key.as_mut().filter(|key| !key.ends_with('\n')) {
            // A key's last line has to have an end.
            key.push('\n');
        }
        let address = Address {
            url: git.url.to_string(),
            user: git.user.clone(),
            token: secret(&git.token)?,
            ssh_key,
            ssh_passphrase: secret(&git.ssh_passphrase)?,
        };
        Ok(Request { mirror: mirror_path(&self.config.state_dir, &git.name), address, work })
    }

    fn start(&self) -> Result<Process, OpsError> {
        let directory = PrivateDirectory::make(&self.config.state_dir, DIRECTORY)?;
        let program = std::env::current_exe().map_err(|source| OpsError::Io {
            action: "find the program",
            path: "/proc/self/exe".into(),
            source,
        })?;
        let mut command =
            Command::new(&program.to_string_lossy()).argument(WORKER).silence(SILENCE);
        if let Some((uid, gid)) = directory.other_owner() {
            let home = host::home_of(uid).unwrap_or_else(|| PathBuf::from("/"));
            command = command.as_user(uid, gid, home);
        }
        let access = Access::new(Via::local(), None, &self.context.cancel);
        let mut running = access.start(&command, true)?;
        let (stdin, stdout) = (running.stdin(), BufReader::new(running.stdout()));
        Ok(Process { running, stdin, stdout })
    }

    /// Why it ended without an answer.
    fn ended(git: &GitRepository, process: Process) -> OpsError {
        let Process { running, stdin, stdout } = process;
        drop((stdin, stdout));
        match running.finish() {
            Err(AccessError::Silent { after, .. }) => OpsError::Git {
                name: git.name.to_string(),
                message: format!("{} said nothing for {} seconds", git.url, after.as_secs()),
                hint: Some("is `url` right, and does its server run?".into()),
                may_pass: true,
            },
            Err(error) => error.into(),
            Ok(_) => unexpected(git),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Cancel, Events};
    use rustix::fs::FlockOperation;

    #[test]
    fn a_mirror_stands_still_only_while_nobody_changes_it_and_then_nobody_may() {
        let state = tempfile::tempdir().unwrap();
        let text = format!(
            "[repository.main]\nurl = '/srv/repository'\npassword = 'file:/srv/password'\n[state]\ndir = '{0}'\n\
             [git.orders]\nplatform = 'appsmith'\nurl = '/srv/orders.git'\n",
            state.path().display()
        );
        let config = Config::parse(&text, "test").unwrap();
        let name: Name = "orders".parse().unwrap();
        let context = Context::new(Events::ignored(), Cancel::new());
        let hold = || hold_still(&config, &name, Duration::ZERO, &context);
        drop(hold().unwrap());
        let mirror = mirror_path(state.path(), &name);
        let changing = Claim::wait(&mirror).unwrap();
        let error = hold().err().unwrap();
        assert!(matches!(&error, OpsError::Git { may_pass: true, .. }), "{error:?}");
        drop(changing);
        let still = (hold().unwrap(), hold().unwrap());
        let lock = File::open(mirror.with_extension("lock")).unwrap();
        let may_change = || rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(may_change(), Err(rustix::io::Errno::WOULDBLOCK));
        drop(still);
        assert_eq!(may_change(), Ok(()));
    }
}

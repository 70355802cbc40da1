//! Bringing an old state back: as a new branch on top of what is there, or as files in a directory. Nothing is forced, and no
//! ref of the git repository is touched.

use super::error::GitError;
use super::mirror::Mirror;
use super::remote::OWN;
use git2::{Commit, FileMode, ObjectType, Oid, Repository, Signature, Tree};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

/// A directory that lies deeper is not made.
const MOST_DEPTH: usize = 128;

/// What is to be brought back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restoring {
    /// The commit whose state comes back.
    pub commit: String,
    /// The directory whose state that is; empty for everything.
    pub path: PathBuf,
    /// The branch on whose newest commit the new one is to lie; none where there is no such branch any more.
    pub onto: Option<String>,
    /// The new branch.
    pub branch: String,
    /// When this is.
    pub now: Timestamp,
}

/// A branch that brings an old state back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its commit.
    pub commit: String,
    /// The ref of the mirror that has it.
    pub kept: String,
}

/// The ref that has a restoring branch in the mirror.
fn restored_ref(branch: &str) -> String {
    format!("{OWN}restored/{branch}")
}

/// Make a commit that brings the state back, with a ref of our own. On top of the branch that is to take it, so that merging is
/// going forwards there; what was pushed away becomes a parent besides, so that its history comes back, too.
pub fn branch(mirror: &Mirror, wanted: &Restoring) -> Result<Restored, GitError> {
    if !git2::Reference::is_valid_name(&format!("refs/heads/{}", wanted.branch)) {
        return Err(refused(mirror, wanted, "that is no name of a branch"));
    }
    let repository = mirror.repository();
    let source = mirror.commit(&wanted.commit)?;
    let base = wanted.onto.as_ref().and_then(|onto| mirror.branch(onto));
    let commit = match base {
        None => source,
        Some(base) => on_top(mirror, wanted, base, source)?,
    };
    let kept = restored_ref(&wanted.branch);
    repository
        .reference(&kept, commit, true, "belay: restored")
        .map_err(GitError::unwritten(format!("make {kept}"), mirror.path()))?;
    Ok(Restored { commit: commit.to_string(), kept })
}

fn refused(mirror: &Mirror, wanted: &Restoring, reason: &str) -> GitError {
    let action = format!("make the branch {}", wanted.branch);
    GitError::Write { action, mirror: mirror.path().to_owned(), reason: reason.to_owned() }
}

fn on_top(mirror: &Mirror, wanted: &Restoring, base: Oid, source: Oid) -> Result<Oid, GitError> {
    let repository = mirror.repository();
    let failed = || {
        let action = format!("make the branch {}", wanted.branch);
        GitError::unwritten(action, mirror.path())
    };
    let find = |id: Oid| repository.find_commit(id).map_err(failed());
    let (base, source) = (find(base)?, find(source)?);
    let (present, old) = (base.tree().map_err(failed())?, source.tree().map_err(failed())?);
    let tree = if wanted.path.as_os_str().is_empty() {
        old.id()
    } else {
        with_old(repository, &present, &old, &wanted.path).map_err(failed())?
    };
    if tree == present.id() {
        let onto = wanted.onto.as_deref().unwrap_or_default();
        return Err(refused(mirror, wanted, &format!("{onto} has that state already")));
    }
    let is_behind = base.id() == source.id()
        || repository.graph_descendant_of(base.id(), source.id()).map_err(failed())?;
    let parents: Vec<&Commit<'_>> = if is_behind { vec![&base] } else { vec![&base, &source] };
    let subject = source.summary().ok().flatten().unwrap_or_default().to_owned();
    let what = if wanted.path.as_os_str().is_empty() {
        "everything".to_owned()
    } else {
        wanted.path.display().to_string()
    };
    let short = source.id().to_string()[..10].to_owned();
    let message = format!("Restore {what} as of {short}\n\nThat commit is: {subject}\n");
    let time = git2::Time::new(wanted.now.as_second(), 0);
    let who = Signature::new("Belay", "belay@localhost", &time).map_err(failed())?;
    let tree = repository.find_tree(tree).map_err(failed())?;
    repository.commit(None, &who, &who, &message, &tree, &parents).map_err(failed())
}

/// A tree in which one directory is as it is in another.
fn with_old(
    repository: &Repository,
    present: &Tree<'_>,
    old: &Tree<'_>,
    path: &Path,
) -> Result<Oid, git2::Error> {
    let entry = old.get_path(path)?;
    let names: Vec<&[u8]> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.as_bytes()),
            _ => None,
        })
        .collect();
    replaced(repository, Some(present), &names, (entry.id(), entry.filemode()))
}

fn replaced(
    repository: &Repository,
    tree: Option<&Tree<'_>>,
    names: &[&[u8]],
    (id, mode): (Oid, i32),
) -> Result<Oid, git2::Error> {
    let mut builder = repository.treebuilder(tree)?;
    match names {
        [] => return Ok(id),
        [name] => drop(builder.insert(*name, id, mode)?),
        [name, rest @ ..] => {
            let below = tree.and_then(|tree| tree.get_name_bytes(name)).map(|entry| entry.id());
            let below = below.and_then(|id| repository.find_tree(id).ok());
            let new = replaced(repository, below.as_ref(), rest, (id, mode))?;
            builder.insert(*name, new, FileMode::Tree.into())?;
        }
    }
    builder.write()
}

/// What was written into a directory.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Written {
    /// Files and links.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be written as it was, each with the reason.
    pub left_out: Vec<String>,
}

/// Write what a commit has at a path into a directory that is new or empty. What a stranger named or linked to leads nowhere else.
pub fn to_directory(
    mirror: &Mirror,
    commit: &str,
    path: &Path,
    target: &Path,
) -> Result<Written, GitError> {
    let repository = mirror.repository();
    let unread = || GitError::unread(format!("the files of {commit}"), mirror.path());
    let commit = repository.find_commit(mirror.commit(commit)?).map_err(unread())?;
    let root = commit.tree().map_err(unread())?;
    let tree = if path.as_os_str().is_empty() {
        root
    } else {
        let entry = root.get_path(path).map_err(unread())?;
        repository.find_tree(entry.id()).map_err(unread())?
    };
    let failed = |path: &Path| {
        GitError::unwritten::<std::io::Error>(format!("write {}", path.display()), target)
    };
    fs::create_dir_all(target).map_err(failed(target))?;
    if fs::read_dir(target).map_err(failed(target))?.next().is_some() {
        let error = std::io::Error::other("it is not empty");
        return Err(failed(target)(error));
    }
    let mut written = Written::default();
    let mut waiting = vec![(tree, target.to_owned(), 0)];
    while let Some((tree, directory, depth)) = waiting.pop() {
        for entry in &tree {
            let name = entry.name_bytes();
            let place = directory.join(std::ffi::OsStr::from_bytes(name));
            let mut leave_out = |reason: &str| {
                written.left_out.push(format!("{}: {reason}", place.display()));
            };
            let is_safe = !matches!(name, b"" | b"." | b"..")
                && !name.contains(&b'/')
                && !name.eq_ignore_ascii_case(b".git");
            if !is_safe {
                leave_out("its name is not taken from a stranger");
                continue;
            }
            match entry.kind() {
                Some(ObjectType::Tree) if depth < MOST_DEPTH => {
                    let below = repository.find_tree(entry.id()).map_err(unread())?;
                    // One that is there already, as a link for example, is an error.
                    fs::create_dir(&place).map_err(failed(&place))?;
                    waiting.push((below, place, depth + 1));
                }
                Some(ObjectType::Tree) => leave_out("it lies too deep"),
                Some(ObjectType::Blob) => {
                    let blob = repository.find_blob(entry.id()).map_err(unread())?;
                    write(&place, entry.filemode(), blob.content()).map_err(failed(&place))?;
                    written.files += 1;
                    written.bytes += blob.content().len() as u64;
                }
                _ => leave_out("it is a git repository of its own (a submodule)"),
            }
        }
    }
    File::open(target).and_then(|directory| directory.sync_all()).map_err(failed(target))?;
    Ok(written)
}

fn write(place: &Path, mode: i32, content: &[u8]) -> std::io::Result<()> {
    if mode == i32::from(FileMode::Link) {
        return symlink(std::ffi::OsStr::from_bytes(content), place);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(place)?;
    file.write_all(content)?;
    if mode == i32::from(FileMode::BlobExecutable) {
        file.set_permissions(Permissions::from_mode(0o755))?;
    }
    file.sync_all()
}

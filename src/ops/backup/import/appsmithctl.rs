//! What `appsmithctl backup` leaves: `manifest.json`, `mongodb-data.gz`, `git-storage/` and `docker.env`, at the root or,
//! formerly, in one folder `appsmith-backup-…`. They may come in any order.

use super::error::ImportError;
use super::gathered::{Gathered, Untaken};
use super::input::Input;
use super::members::{Member, MemberKind, each_member};
use super::or_fault;
use crate::model::node::{NodeKind, display_path};
use crate::ops::backup::mongodump::{self, Taken};
use crate::repository::writer::Writer;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use zeroize::Zeroizing;

/// What the folder of the older layout is called at its beginning.
const FOLDER: &[u8] = b"appsmith-backup";
/// Where the apps' git repositories are.
pub(super) const GIT: &str = "git-storage";
/// No such file of appsmithctl is longer.
const MOST_MANIFEST_BYTES: u64 = 64 * 1024;
const MOST_ENVIRONMENT_BYTES: u64 = 1024 * 1024;

/// `manifest.json`. Older ones have less.
#[derive(Default, Deserialize)]
struct Manifest {
    #[serde(rename = "appsmithVersion")]
    version: Option<String>,
    #[serde(rename = "dbName")]
    database: Option<String>,
}

/// What an archive holds, all of which was looked at.
pub(super) struct Contents {
    pub(super) version: Option<String>,
    pub(super) dump: Taken,
    pub(super) environment: Option<Zeroizing<Vec<u8>>>,
    /// Entries below `git-storage`, by kind; none where it is not there.
    pub(super) git: Option<BTreeMap<String, u64>>,
    /// Entries that appsmithctl does not write.
    pub(super) unknown: Vec<String>,
}

/// What an entry is.
enum Role<'a> {
    Manifest,
    Dump,
    Environment,
    Git(&'a [u8]),
    Folder,
    Unknown,
}

/// Where the entries lie: the first says it for all.
#[derive(Default)]
struct Layout {
    folder: Option<Vec<u8>>,
    is_known: bool,
    seen: [bool; 3],
}

impl Layout {
    fn role<'a>(&mut self, member: &'a Member) -> Result<Role<'a>, ImportError> {
        if member.path.is_empty() {
            return Ok(Role::Folder);
        }
        let first = member.path.split(|byte| *byte == b'/').next().unwrap_or_default();
        let folder = first.starts_with(FOLDER).then(|| first.to_vec());
        if !std::mem::replace(&mut self.is_known, true) {
            self.folder = folder;
        } else if folder != self.folder {
            return Err(member.refused("it lies in another folder than the entries before it"));
        }
        let path = match &self.folder {
            Some(folder) if *folder == member.path => return Ok(Role::Folder),
            Some(folder) => &member.path[folder.len() + 1..],
            None => &member.path,
        };
        let below = path.strip_prefix(GIT.as_bytes());
        if let Some(below) = below.filter(|below| below.is_empty() || below.starts_with(b"/")) {
            return Ok(Role::Git(below.strip_prefix(b"/").unwrap_or_default()));
        }
        let (place, role) = match path {
            b"manifest.json" => (0, Role::Manifest),
            b"mongodb-data.gz" => (1, Role::Dump),
            b"docker.env" => (2, Role::Environment),
            _ => return Ok(Role::Unknown),
        };
        if !matches!(member.kind, MemberKind::Node(NodeKind::File { .. })) {
            return Err(member.refused("it is no file"));
        }
        if std::mem::replace(&mut self.seen[place], true) {
            return Err(member.refused("it comes twice"));
        }
        Ok(role)
    }

    /// The path of a hard link's target below `git-storage`.
    fn in_git<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let path = match &self.folder {
            Some(folder) => path.strip_prefix(folder.as_slice())?.strip_prefix(b"/")?,
            None => path,
        };
        path.strip_prefix(GIT.as_bytes())?.strip_prefix(b"/")
    }
}

/// Look at all that an archive holds.
pub(super) fn look(input: &mut Input) -> Result<Contents, ImportError> {
    let fault = input.fault.clone();
    let (mut layout, mut manifest, mut dump) = (Layout::default(), Manifest::default(), None);
    let (mut environment, mut git, mut unknown) = (None, None, Vec::new());
    let read = each_member(&mut *input.content, &fault, &mut |member, content| {
        match layout.role(member)? {
            Role::Folder => {}
            Role::Manifest => {
                let text = small(member, content, MOST_MANIFEST_BYTES)?;
                manifest = serde_json::from_slice(&text)
                    .map_err(|error| ImportError::Damaged(format!("manifest.json: {error}")))?;
            }
            Role::Environment => {
                environment = Some(small(member, content, MOST_ENVIRONMENT_BYTES)?);
            }
            Role::Dump => {
                let known = manifest.database.as_deref();
                let surveyed = mongodump::survey(fault.unpacked(content), known);
                dump = Some(surveyed.map_err(of_dump)?);
            }
            Role::Git(_) => {
                let what = match &member.kind {
                    MemberKind::Node(NodeKind::File { .. }) | MemberKind::HardLink(_) => "files",
                    MemberKind::Node(NodeKind::Directory) => "directories",
                    MemberKind::Node(NodeKind::Symlink { .. }) => "symlinks",
                    MemberKind::Node(_) => {
                        return Err(member.refused("it is a device or a pipe"));
                    }
                };
                *git.get_or_insert_with(BTreeMap::new).entry(what.to_owned()).or_insert(0) += 1;
            }
            Role::Unknown => unknown.push(display_path(&member.path)),
        }
        Ok(())
    });
    or_fault(read, &fault)?;
    let dump = dump.ok_or(ImportError::Missing("mongodb-data.gz, the dump of the database"))?;
    if let Some(named) = manifest.database.filter(|named| *named != dump.database) {
        let (named, dumped) = (display_path(named.as_bytes()), &dump.database);
        return Err(ImportError::Database(format!(
            "it is of the database '{dumped}', and manifest.json says '{named}'"
        )));
    }
    Ok(Contents { version: manifest.version, dump, environment, git, unknown })
}

/// The content of a small file.
fn small(
    member: &Member,
    content: &mut dyn Read,
    most: u64,
) -> Result<Zeroizing<Vec<u8>>, ImportError> {
    // Room for all, so that no copy is left behind when it would grow.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most as usize + 1));
    let read = content.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| ImportError::Damaged(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(member.refused("it is longer than any that appsmithctl writes"));
    }
    Ok(bytes)
}

fn of_dump(error: mongodump::Untaken) -> ImportError {
    match error {
        mongodump::Untaken::Archive(error) => ImportError::Dump(error),
        mongodump::Untaken::Database(problem) => ImportError::Database(problem),
        mongodump::Untaken::Repository(error) => ImportError::Damaged(error.to_string()),
    }
}

/// Who takes the dump: `mongodump`'s own archive, unpacked.
pub(super) type TakeDump<'a> = dyn FnMut(&mut dyn Read) -> Result<(), mongodump::Untaken> + 'a;

/// Read an archive that was looked at into a repository: the dump goes to `take_dump`, git repositories into `git`.
pub(super) fn read(
    input: &mut Input,
    git: &mut Gathered,
    take_dump: &mut TakeDump<'_>,
    writer: &Writer,
) -> Result<(), Untaken> {
    let (fault, mut layout) = (input.fault.clone(), Layout::default());
    let read = each_member(&mut *input.content, &fault, &mut |member, content| match (
        layout.role(member)?,
        &member.kind,
    ) {
        (Role::Dump, _) => take_dump(&mut fault.unpacked(content)).map_err(|error| match error {
            mongodump::Untaken::Repository(error) => Untaken::from(error),
            other => of_dump(other).into(),
        }),
        (Role::Git(path), MemberKind::HardLink(to)) => match layout.in_git(to) {
            Some(first) => git.add_link(path, first, member),
            None => Err(member.refused("it is a link to something outside its folder").into()),
        },
        (Role::Git(path), _) => git.add(path, member, content, writer),
        _ => Ok(()),
    });
    or_fault(read, &fault)
}

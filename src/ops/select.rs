//! Which snapshot a person means: an id, a unique prefix of one, or `latest:NAME`.

use super::session::Session;
use super::{Context, OpsError};
use crate::config::{Config, SecretSources};
use crate::model::id::{InstanceId, SnapshotId};
use crate::model::manifest::Manifest;
use crate::model::name::Name;
use crate::repository::format::snapshot::SnapshotFile;
use crate::repository::reader::Reader;
use crate::repository::{Snapshot, Snapshots};
use std::str::FromStr;

/// The tag of every snapshot of an instance.
pub(super) const TAG: &str = "belay";
/// The tag that names the instance for good: `instance-id=…`.
pub(super) const TAG_INSTANCE: &str = "instance-id";
/// The tag of the platform: `platform=files`.
pub(super) const TAG_PLATFORM: &str = "platform";
/// The tag of the job: `job=…`.
pub(super) const TAG_JOB: &str = "job";
/// The tag of a snapshot of what a restore was about to overwrite: `before-restore=…` with the restored snapshot's id.
/// `latest:` passes over these: the state that somebody wanted to get rid of is not what a person means by it.
pub(super) const TAG_BEFORE_RESTORE: &str = "before-restore";
/// The tag of the small snapshots that hold pins.
pub(super) const TAG_STATE: &str = "belay-state";

/// A snapshot as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotRef {
    /// Hexadecimal digits that an id begins with.
    Prefix(String),
    /// The newest good snapshot of the instance.
    Latest(String),
}

impl FromStr for SnapshotRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("latest:") {
            return Ok(Self::Latest(name.to_owned()));
        }
        let is_prefix =
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_prefix {
            return Ok(Self::Prefix(text.to_ascii_lowercase()));
        }
        Err(format!("'{text}' is no snapshot: use an id, the beginning of one, or latest:NAME"))
    }
}

/// Whether one of the tags is `NAME=…`.
pub(super) fn has_tag(tags: &[String], name: &str) -> bool {
    tags.iter().any(|tag| tag.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
}

/// The instance that a snapshot belongs to; none for those of other programs and for state.
pub(super) fn instance_of(file: &SnapshotFile) -> Option<InstanceId> {
    if file.has_tag(TAG) { file.tag(TAG_INSTANCE)?.parse().ok() } else { None }
}

impl std::fmt::Display for SnapshotRef {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prefix(prefix) => formatter.write_str(prefix),
            Self::Latest(name) => write!(formatter, "latest:{name}"),
        }
    }
}

impl SnapshotRef {
    /// Open the repository that the snapshot is in: that of the instance which is named, or else the only one that has
    /// such a snapshot.
    pub fn find(
        &self,
        config: &Config,
        secrets: &SecretSources,
        context: &Context,
    ) -> Result<Session, OpsError> {
        let open = |repository| Session::open_for_reading(config, repository, secrets, context);
        let own = match self {
            Self::Latest(name) => config.instance(name).ok(),
            Self::Prefix(_) => None,
        };
        if let Some(instance) = own {
            return open(config.repository_of(instance)?);
        }
        let mut repositories = config.repositories.values();
        if let (Some(only), None) = (repositories.next(), repositories.next()) {
            return open(only);
        }
        let (mut found, mut failed) = (Vec::new(), None);
        for repository in config.repositories.values() {
            match open(repository).and_then(|session| Ok((self.is_in(&session)?, session))) {
                Ok((true, session)) => found.push((&repository.name, session)),
                Ok((false, _)) => {}
                Err(error) => {
                    let (name, error) = (&repository.name, failed.insert(error));
                    context.events.warn(format!(
                        "Repository {name} is passed over, it cannot be read: {}.",
                        error.told()
                    ));
                }
            }
        }
        if found.len() > 1 {
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            return Err(OpsError::usage(
                format!("several repositories have a snapshot '{self}'"),
                format!("say which one with --repository: {}", names.join(", ")),
            ));
        }
        match (found.pop(), failed) {
            (Some((_, session)), _) => Ok(session),
            (None, Some(error)) => Err(error),
            (None, None) => Err(OpsError::usage(
                format!("no repository has a snapshot '{self}'"),
                "`belay list` shows the snapshots that there are",
            )),
        }
    }

    /// Whether the repository has a snapshot that may be meant.
    fn is_in(&self, session: &Session) -> Result<bool, OpsError> {
        Ok(match self {
            Self::Prefix(prefix) => {
                let ids = session.repository.snapshot_ids()?;
                ids.iter().any(|id| id.to_string().starts_with(prefix))
            }
            Self::Latest(name) => {
                let snapshots = session.repository.snapshots()?.readable;
                snapshots.iter().any(|snapshot| {
                    snapshot.file.hostname == *name && instance_of(&snapshot.file).is_some()
                })
            }
        })
    }

    /// The snapshot that is meant. `own` gives this host's id for an instance's name.
    pub(super) fn resolve(
        &self,
        snapshots: &Snapshots,
        reader: &Reader,
        session: &Session,
    ) -> Result<Snapshot, OpsError> {
        match self {
            Self::Prefix(prefix) => by_prefix(prefix, snapshots, session),
            Self::Latest(name) => latest(name, snapshots, reader, session),
        }
    }
}

/// ` in repository main`, where it has a name.
fn place(session: &Session) -> String {
    session.name.as_ref().map(|name| format!(" in repository {name}")).unwrap_or_default()
}

fn by_prefix(prefix: &str, snapshots: &Snapshots, session: &Session) -> Result<Snapshot, OpsError> {
    let fits = |id: &SnapshotId| id.to_string().starts_with(prefix);
    let mut found = snapshots.readable.iter().filter(|snapshot| fits(&snapshot.id));
    match (found.next(), found.next()) {
        (Some(snapshot), None) => Ok(snapshot.clone()),
        (Some(one), Some(two)) => Err(OpsError::usage(
            format!(
                "'{prefix}' is the beginning of several snapshots, such as {} and {}",
                one.id.short(),
                two.id.short()
            ),
            "give more digits",
        )),
        (None, _) => match snapshots.damaged.iter().find(|(id, _)| fits(id)) {
            Some((id, error)) => Err(OpsError::WrongFile {
                object: format!("snapshot {}", id.short()),
                reason: error.to_string(),
            }),
            None => Err(OpsError::usage(
                format!("there is no snapshot '{prefix}'{}", place(session)),
                "`belay list` shows the snapshots that there are",
            )),
        },
    }
}

fn latest(
    name: &str,
    snapshots: &Snapshots,
    reader: &Reader,
    session: &Session,
) -> Result<Snapshot, OpsError> {
    let own = match (&session.catalog, &session.name, name.parse::<Name>()) {
        (Some(catalog), Some(repository), Ok(name)) => catalog.instance_id(&name, repository)?,
        _ => None,
    };
    let candidates: Vec<&Snapshot> = snapshots
        .readable
        .iter()
        .rev()
        .filter(|snapshot| {
            let file = &snapshot.file;
            let is_meant = match own {
                Some(own) => instance_of(file) == Some(own),
                None => file.hostname == name && instance_of(file).is_some(),
            };
            is_meant && file.tag(TAG_BEFORE_RESTORE).is_none()
        })
        .collect();
    if own.is_none() {
        let mut ids: Vec<_> =
            candidates.iter().filter_map(|snapshot| instance_of(&snapshot.file)).collect();
        ids.sort();
        ids.dedup();
        if ids.len() > 1 {
            return Err(OpsError::usage(
                format!("{} instances are called '{name}' in this repository", ids.len()),
                "name the snapshot by its id; `belay list` shows them",
            ));
        }
    }
    for snapshot in candidates {
        match super::show::read_manifest(reader, snapshot) {
            Ok(Some(manifest)) if Manifest::is_good(&manifest) => return Ok(snapshot.clone()),
            Ok(_) => {}
            // The next older one is the newest that can be restored.
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(OpsError::usage(
        format!("there is no good snapshot of '{name}'{}", place(session)),
        "`belay list` shows the snapshots that there are; `belay backup` takes one",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_named_by_prefix_or_as_the_latest() {
        assert_eq!("latest:web".parse(), Ok(SnapshotRef::Latest("web".into())));
        assert_eq!("ABcd".parse(), Ok(SnapshotRef::Prefix("abcd".into())));
        for text in ["", "xyz", "latest", "../x", &"a".repeat(65)] {
            assert!(text.parse::<SnapshotRef>().is_err(), "{text}");
        }
    }
}

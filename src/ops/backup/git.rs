//! The mirrors of git repositories on their way into a snapshot: fetched, verified, and read as trees of files.

use super::before::Before;
use super::seal::Draft;
use super::{FilesRead, Run, counts_of, progress_of, tree_component, warnings_of};
use crate::component::files::walk::{self, WalkOptions};
use crate::config::{GitRepository, Platform};
use crate::model::git::MirrorRecord;
use crate::model::manifest::Manifest;
use crate::model::name::Name;
use crate::model::node::display_path;
use crate::ops::OpsError;
use crate::ops::apps::restore::Unpacked;
use crate::ops::checksums::ChecksumWriter;
use crate::ops::git::{Worker, fetch_locked, hold_still, mirror_path, open_mirror, record_of};
use crate::ops::session::InstanceLock;
use crate::ops::tree::TreeBuilder;
use crate::repository::reader::Reader;
use crate::repository::writer::Writer;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// The folder of a snapshot that has mirrors, and their kind of component.
const FOLDER: &str = "apps";
const KIND: &str = "git";

/// So long an instance's backup waits for who works on a mirror of it.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// What the manifest says of a mirror.
#[derive(Serialize, Deserialize)]
struct Details {
    #[serde(flatten)]
    mirror: MirrorRecord,
    /// Packs whose sums were verified.
    packs: BTreeSet<String>,
}

impl Run<'_> {
    /// Read the mirror that this snapshot is of, or those that the instance has. Returns the components' names.
    pub(super) fn read_mirrors(
        &self,
        writer: &Writer,
        reader: &Reader,
        before: &Before,
        draft: &mut Draft,
    ) -> Result<Vec<String>, OpsError> {
        let mut names = Vec::new();
        if self.instance.platform == Platform::Git {
            let git = self.config.git(self.instance.name.as_str())?;
            let fetched_at = Timestamp::now();
            self.bring_up_to_date(git, before)?;
            names.push(self.read_mirror(git, fetched_at, (writer, reader), before, draft)?);
        } else if self.options.before_restore_of.is_none() {
            for name in &self.instance.gits {
                let git = self.config.git(name.as_str())?;
                let (_busy, fetched_at) = self.as_new_as_possible(git, before)?;
                names.push(self.read_mirror(git, fetched_at, (writer, reader), before, draft)?);
            }
        }
        Ok(names)
    }

    fn bring_up_to_date(&self, git: &GitRepository, before: &Before) -> Result<(), OpsError> {
        self.bring_back(git, before)?;
        let (catalog, secrets) = (self.session.require_catalog()?, &self.session.secrets);
        let mut worker = Worker::new(self.config, secrets, self.context);
        fetch_locked(&mut worker, catalog, git, false).map(drop)
    }

    /// A mirror that is lost, as on a new host, comes back out of the newest snapshot: it has what was pushed away, which the git
    /// server has not.
    fn bring_back(&self, git: &GitRepository, before: &Before) -> Result<(), OpsError> {
        let name = component_name(&git.name);
        let place = mirror_path(&self.config.state_dir, &git.name);
        let snapshot = before.newest().filter(|snapshot| snapshot.manifest_of(&name).is_some());
        let Some(snapshot) = snapshot.filter(|_| place.symlink_metadata().is_err()) else {
            return Ok(());
        };
        let (state_dir, context) = (&self.config.state_dir, self.context);
        let unpacked =
            Unpacked::new(state_dir, self.session, git, &snapshot.id.to_string(), context)?;
        unpacked.become_mirror(&place)?;
        context.events.warn(format!(
            "The mirror of {} was not there any more: it is back as it was in snapshot {}.",
            git.name,
            snapshot.id.short()
        ));
        Ok(())
    }

    /// What was pushed away and was ever recorded has to be there: a mirror that was made anew does not have it.
    fn ensure_kept(&self, git: &GitRepository, now: &MirrorRecord) -> Result<(), OpsError> {
        let recorded = self.session.require_catalog()?.mirror(&git.name)?;
        let mut known = recorded.into_iter().flat_map(|recorded| recorded.rewrites);
        let missing = known.find(|rewrite| !now.refs.contains_key(&rewrite.kept));
        let Some(missing) = missing else { return Ok(()) };
        let (name, path) = (&git.name, mirror_path(&self.config.state_dir, &git.name));
        Err(OpsError::refused(
            format!(
                "the mirror of {name} has not {} any more, which keeps what was pushed away",
                missing.kept
            ),
            format!(
                "move {} aside: the next `belay backup {name}` brings it back out of the newest snapshot",
                path.display()
            ),
        ))
    }

    /// Belay's own processes keep away, and git that somebody runs in a mirror does not.
    fn ensure_unchanged(&self, git: &GitRepository, read: &MirrorRecord) -> Result<(), OpsError> {
        let now = open_mirror(self.config, &git.name)?.digest();
        if now.map_err(|error| OpsError::git(&git.name, &error))? == read.digest {
            return Ok(());
        }
        Err(OpsError::Git {
            name: git.name.to_string(),
            message: "refs of its mirror changed while it was read, and not by Belay".into(),
            hint: Some(format!(
                "what changes {} besides? Take the snapshot again when that has ended",
                mirror_path(&self.config.state_dir, &git.name).display()
            )),
            may_pass: true,
        })
    }

    /// A git server that is away must not keep an instance from its snapshot: then the mirror is as it was fetched last.
    fn as_new_as_possible(
        &self,
        git: &GitRepository,
        before: &Before,
    ) -> Result<(InstanceLock, Timestamp), OpsError> {
        let busy =
            InstanceLock::wait(&self.config.state_dir, &git.name, LONGEST_WAIT, self.context)?;
        let error = match self.bring_up_to_date(git, before) {
            Ok(()) => return Ok((busy, Timestamp::now())),
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => error,
        };
        let Some(known) = self.session.require_catalog()?.mirror(&git.name)? else {
            return Err(error);
        };
        self.context.events.warn(format!(
            "{}: {}. Its mirror is in the snapshot as it was at {}.",
            git.name,
            error.told(),
            known.fetched_at
        ));
        Ok((busy, known.fetched_at))
    }

    fn read_mirror(
        &self,
        git: &GitRepository,
        fetched_at: Timestamp,
        (writer, reader): (&Writer, &Reader),
        before: &Before,
        draft: &mut Draft,
    ) -> Result<String, OpsError> {
        let name = component_name(&git.name);
        let started = Timestamp::now();
        let events = &self.context.events;
        events.phase("reading", &name);
        // What is verified, told and read is one and the same.
        let _still = hold_still(self.config, &git.name, LONGEST_WAIT, self.context)?;
        let mirror = open_mirror(self.config, &git.name)?;
        let verified = before.newest().and_then(|snapshot| {
            let details = &snapshot.manifest_of(&name)?.details;
            serde_json::from_value::<Details>(details.clone()).ok()
        });
        let verified = verified.map(|details| details.packs).unwrap_or_default();
        let packs = mirror.verify(&verified).map_err(|error| OpsError::git(&git.name, &error))?;
        let details = Details { mirror: record_of(&mirror, git, fetched_at)?, packs };
        self.ensure_kept(git, &details.mirror)?;
        let previous = match before.newest() {
            Some(previous) if !self.options.reread => {
                previous.component(reader, FOLDER, &name, writer)?
            }
            _ => None,
        };
        let path = mirror_path(&self.config.state_dir, &git.name);
        let mut checksums = ChecksumWriter::new(writer.file());
        let mut builder = TreeBuilder::new(writer, previous, &mut checksums);
        let read = walk::read_tree(
            &path,
            name.as_bytes(),
            &WalkOptions::default(),
            &self.context.cancel,
            &mut builder,
            &mut progress_of(events),
        );
        let report = read.map_err(|source| OpsError::Component {
            instance: self.instance.name.to_string(),
            component: name.clone(),
            source,
        })?;
        let tree = builder.finish()?;
        self.ensure_unchanged(git, &details.mirror)?;
        let warnings = warnings_of(&name, &report);
        for warning in &warnings {
            events.warn(warning);
        }
        let mut counts = counts_of(&report);
        counts.insert("refs".into(), details.mirror.refs.len() as u64);
        draft.add(tree_component(FilesRead {
            kind: KIND,
            folder: FOLDER,
            name: &name,
            source: display_path(path.as_os_str().as_bytes()),
            started,
            tree,
            sums: checksums.finish()?.wait()?,
            size_bytes: report.bytes,
            counts,
            details: serde_json::to_value(&details).unwrap_or_default(),
            warnings,
        }));
        Ok(name)
    }
}

/// What a manifest says of the mirrors in its snapshot.
pub(in crate::ops) fn mirrors_of(manifest: &Manifest) -> Vec<(Name, MirrorRecord)> {
    let mirrors = manifest.components.iter().filter(|component| component.kind == KIND);
    mirrors
        .filter_map(|component| {
            let name = component.name.strip_suffix(".git")?.parse().ok()?;
            Some((name, serde_json::from_value(component.details.clone()).ok()?))
        })
        .collect()
}

/// What a mirror is called in snapshots.
fn component_name(git: &Name) -> String {
    format!("{git}.git")
}

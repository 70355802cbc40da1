//! What the repository has of the instance already: what need not be read again, and what the instance should be like.

use super::{Run, UNSETTLED};
use crate::component::files::walk::WalkReport;
use crate::model::id::SnapshotId;
use crate::model::manifest::{ComponentManifest, InstanceRef, Manifest};
use crate::ops::OpsError;
use crate::ops::checksums::Checksums;
use crate::ops::select::{self, TAG_BEFORE_RESTORE};
use crate::ops::show::read_manifest;
use crate::ops::tree::Previous;
use crate::repository::Snapshot;
use crate::repository::format::tree::TreeNode;
use crate::repository::reader::Reader;
use crate::repository::writer::Writer;
use jiff::Timestamp;

/// What there is of the instance already: the newest snapshot that can be read, and where that is of a state that a
/// restore overwrote, the newest other one behind it.
#[derive(Default)]
pub(super) struct Before(Vec<PreviousSnapshot>);

impl Before {
    /// The newest: what did not change since is not read again.
    pub(super) fn newest(&self) -> Option<&PreviousSnapshot> {
        self.0.first()
    }

    /// The newest that no restore took: what the instance should be like.
    pub(super) fn regular(&self) -> Option<&PreviousSnapshot> {
        self.0.last().filter(|snapshot| snapshot.is_regular)
    }
}

/// A snapshot before.
pub(super) struct PreviousSnapshot {
    pub(super) id: SnapshotId,
    is_regular: bool,
    manifest: Manifest,
    root: Vec<TreeNode>,
}

impl PreviousSnapshot {
    /// What it says of a component, where it has that.
    pub(super) fn manifest_of(&self, component: &str) -> Option<&ComponentManifest> {
        self.manifest.components.iter().find(|known| known.name == component)
    }

    /// The same component in it, or none where it has none or it cannot be read.
    pub(super) fn component<'a>(
        &self,
        reader: &'a Reader,
        folder: &str,
        name: &str,
        writer: &Writer,
    ) -> Result<Option<Previous<'a>>, OpsError> {
        let find = |folder: &str, name: &str| {
            let folder = self.root.iter().find(|node| node.node.name == folder.as_bytes());
            let Some(tree) = folder.and_then(|folder| folder.subtree) else { return Ok(None) };
            let nodes = reader.tree(tree)?;
            Ok(nodes.into_iter().find(|node| node.node.name == name.as_bytes()))
        };
        let found = find(folder, name)
            .and_then(|root| Ok(root.zip(find("checksums", &format!("{name}.sha256"))?)));
        match found {
            Ok(Some((root, sums))) => Ok(Some(Previous {
                reader,
                root,
                trusted_until: self
                    .manifest
                    .started
                    .saturating_sub(UNSETTLED)
                    .unwrap_or(Timestamp::MIN),
                checksums: Checksums::new(reader.stream(&sums)),
            })),
            Ok(None) => Ok(None),
            Err::<_, crate::repository::RepositoryError>(error) if error.is_damage() => {
                writer.distrust_trees();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Run<'_> {
    /// What this instance's snapshots tell, newest first; one that cannot be read is passed over.
    pub(super) fn find_previous(
        &self,
        reader: &Reader,
        writer: &Writer,
    ) -> Result<Before, OpsError> {
        let snapshots = self.session.repository.snapshots()?;
        let mut before = Before::default();
        let own = |snapshot: &&Snapshot| select::instance_of(&snapshot.file) == Some(self.identity);
        for snapshot in snapshots.readable.iter().rev().filter(own) {
            let is_regular = snapshot.file.tag(TAG_BEFORE_RESTORE).is_none();
            if before.newest().is_some() && !is_regular {
                continue;
            }
            let read = || {
                let manifest = read_manifest(reader, snapshot)?;
                Ok(manifest.zip(Some(reader.tree(snapshot.file.tree)?)))
            };
            match read() {
                Ok(Some((manifest, root))) => {
                    if before.newest().is_none() {
                        self.warn_of_another_host(&manifest)?;
                    }
                    let id = snapshot.id;
                    before.0.push(PreviousSnapshot { id, is_regular, manifest, root });
                    if is_regular {
                        break;
                    }
                }
                Ok(None) => {}
                Err::<_, crate::repository::RepositoryError>(error) if error.is_damage() => {
                    writer.distrust_trees();
                    self.context.events.warn(format!(
                        "Snapshot {} cannot be read ({error}); what this one shares with it is stored again. Run `belay check`.",
                        snapshot.id.short()
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(before)
    }

    /// A snapshot that another host took since this one adopted the instance: both write under one id.
    fn warn_of_another_host(&self, newest: &Manifest) -> Result<(), OpsError> {
        let catalog = self.session.require_catalog()?;
        let Some(own) = catalog.instance(&self.instance.name, &self.instance.repository)? else {
            return Ok(());
        };
        let InstanceRef { name, host, host_id, .. } = &newest.instance;
        if *host_id != own.host_id && newest.started > own.adopted_at {
            self.context.events.warn(format!(
                "The newest snapshot of '{name}' was taken by the host '{host}' at {}: two hosts write under one id, and each \
                 forgets the other's snapshots. Run `belay adopt {name} --new` on the one that is a clone.",
                newest.started
            ));
        }
        Ok(())
    }

    /// A file system that is not mounted looks like an empty directory: that is a failure, and no smaller success.
    pub(super) fn ensure_not_emptied(
        &self,
        component: &str,
        report: &WalkReport,
        before: &Before,
    ) -> Result<(), OpsError> {
        // What a restore overwrites is often what a disaster has left.
        let may_be_empty = self.options.allow_empty || self.options.before_restore_of.is_some();
        if may_be_empty || report.files > 0 {
            return Ok(());
        }
        let Some(snapshot) = before.regular() else { return Ok(()) };
        let (id, known) = (&snapshot.id, snapshot.manifest_of(component));
        let files = known.and_then(|known| known.counts.get("files")).copied().unwrap_or(0);
        if files == 0 {
            return Ok(());
        }
        let name = &self.instance.name;
        Err(OpsError::refused(
            format!(
                "component {component} of {name} has no files now, and had {files} in snapshot {}",
                id.short()
            ),
            format!(
                "is its file system mounted? If it is meant to be empty: `belay backup {name} --allow-empty`"
            ),
        ))
    }
}

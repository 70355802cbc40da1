//! A directory where an instance lives on its way into a snapshot, as a tar stream through the access.

use super::before::Before;
use super::{Component, Run, Tree, progress_of};
use crate::component::files::stream::{RemoteTree, StreamError};
use crate::component::files::walk::WalkReport;
use crate::model::node::display_path;
use crate::ops::OpsError;
use crate::ops::checksums::ChecksumWriter;
use crate::ops::instance::Living;
use crate::ops::tree::TreeBuilder;
use crate::platform::recipe::FilesRecipe;
use crate::repository::RepositoryError;
use crate::repository::writer::Writer;
use jiff::Timestamp;

/// How often a directory is read in which something changes meanwhile.
const ATTEMPTS: u32 = 3;

impl Run<'_> {
    /// A directory of the recipe; none where this instance has none.
    pub(super) fn read_directory(
        &self,
        living: &Living<'_>,
        recipe: &FilesRecipe,
        writer: &Writer,
        before: &Before,
    ) -> Result<Option<Component>, OpsError> {
        let name = recipe.name.as_str();
        let path = living.directory(recipe)?;
        let failed = |source: StreamError<RepositoryError>| OpsError::Stream {
            instance: self.instance.name.to_string(),
            component: name.to_owned(),
            source: source.into(),
        };
        let Some(remote) = RemoteTree::find(&living.access, path).map_err(failed)? else {
            // One whose file system is not mounted may be missing as well as empty.
            self.ensure_not_emptied(name, &WalkReport::default(), before)?;
            return Ok(None);
        };
        let started = Timestamp::now();
        let events = &self.context.events;
        let mut attempt = 1;
        loop {
            events.phase("reading", format!("{name} of {}", self.instance.name));
            let mut checksums = ChecksumWriter::new(writer.document());
            let mut builder = TreeBuilder::new(writer, None, &mut checksums);
            let mut progress = progress_of(events);
            let cancel = &self.context.cancel;
            let read = remote.read(name.as_bytes(), cancel, &mut builder, &mut progress);
            let report = read.map_err(failed)?;
            let has_changed = report.changed.count > 0 || report.vanished.count > 0;
            if has_changed && attempt < ATTEMPTS {
                attempt += 1;
                continue;
            }
            let tree = Tree { root: builder.finish()?, checksums, report };
            let source = display_path(path.as_bytes());
            let component = self.files_component(name, source, started, tree, before)?;
            return Ok(Some(component));
        }
    }
}

//! Reading a file that was looked at into the repository.

use super::appsmithctl::{self, GIT};
use super::gathered::Gathered;
use super::{
    ImportError, ImportOptions, ImportOutcome, Looked, TAG_IMPORTED, exported, failed, keys, open,
};
use crate::model::manifest::{KeyFit, Manifest};
use crate::model::node::NodeKind;
use crate::ops::OpsError;
use crate::ops::backup::keys::documents::DocumentProof;
use crate::ops::backup::mongodump::{self, Taken, Taking};
use crate::ops::backup::part::Part;
use crate::ops::backup::seal::Draft;
use crate::ops::backup::{BackupOutcome, Component, FILES, FilesRead, Run, tree_component};
use crate::ops::checksums::ChecksumWriter;
use crate::ops::export::MANIFEST;
use crate::ops::tree::{TreeBuilder, made_node};
use crate::platform::keyfit::FitReport;
use crate::repository::RepositoryError;
use crate::repository::format::snapshot::SnapshotFile;
use crate::repository::lock::LockMode;
use crate::repository::writer::Writer;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why no import is of one moment.
const NOT_ONE_MOMENT: &str = "appsmithctl does not stop the server while it dumps";

/// An import under way.
pub(super) struct Importing<'a> {
    pub(super) run: Run<'a>,
    pub(super) looked: &'a Looked,
    pub(super) options: &'a ImportOptions,
    pub(super) keys: keys::Resolved,
}

impl Importing<'_> {
    /// Read the file once more, now into the repository, and seal.
    pub(super) fn take(self) -> Result<ImportOutcome, OpsError> {
        let Self { run, looked, .. } = &self;
        let purpose = format!("import into {}", run.instance.name);
        let lock = run.session.lock(LockMode::Shared, purpose, run.context)?;
        let index = Arc::new(run.load_index()?);
        let writer = Writer::start(&run.session.repository, index, &run.context.cancel)?;
        run.context.events.phase("reading", looked.file.clone());
        let (manifest, mut file) = if let Some(manifest) = &looked.manifest {
            self.take_exported(manifest, &writer)?
        } else {
            self.take_appsmithctl(&writer)?
        };
        let tag = format!("{TAG_IMPORTED}={}", looked.sha256);
        file.tags.get_or_insert_default().push(tag);
        let snapshot = writer.commit(file, &lock, &run.context.events)?;
        run.record(&snapshot, &manifest);
        let BackupOutcome {
            id,
            instance,
            sealed,
            key_fit,
            size_bytes,
            added_bytes,
            counts,
            warnings,
            ..
        } = run.outcome(snapshot.id, manifest);
        let (file, time) = (looked.file.clone(), looked.time);
        Ok(ImportOutcome {
            id,
            instance,
            file,
            time,
            sealed,
            key_fit,
            size_bytes,
            added_bytes,
            counts,
            warnings,
        })
    }

    /// The snapshot of an export as it was, but of this instance and this run.
    fn take_exported(
        &self,
        manifest: &Manifest,
        writer: &Writer,
    ) -> Result<(Manifest, SnapshotFile), OpsError> {
        let Self { run, looked, .. } = self;
        let mut input = open(&looked.path, looked.packing, None, run.context)
            .map_err(|source| failed(&looked.path, source))?;
        let mut tree = Gathered::new("", looked.time, true);
        let read = exported::read(&mut input, &mut tree, writer);
        read.map_err(|error| error.at(&looked.path))?;
        if input.sum() != looked.sha256 {
            return Err(failed(&looked.path, ImportError::Changed));
        }
        writer.settle()?;
        let own = run.manifest(looked.time, &[], writer);
        let (instance, job) = (own.instance, own.job);
        let (read_bytes, added_bytes) = (own.read_bytes, own.added_bytes);
        let manifest = Manifest { instance, job, read_bytes, added_bytes, ..manifest.clone() };
        let json = serde_json::to_vec_pretty(&manifest).expect("it was read from JSON");
        let mut stream = writer.file();
        stream.append(&json)?;
        let kind = NodeKind::File { size: json.len() as u64 };
        tree.put(made_node(MANIFEST, kind, looked.time), stream.finish()?);
        // The snapshot has the lists of its sums already.
        let mut unused = ChecksumWriter::new(writer.document());
        let mut builder = TreeBuilder::new(writer, None, &mut unused);
        tree.deliver(&mut builder)?;
        let root = builder
            .finish()?
            .subtree
            .ok_or_else(|| RepositoryError::Internal("a directory has no tree".into()))?;
        Ok((manifest, run.snapshot_file(root, looked.time)))
    }

    fn take_appsmithctl(&self, writer: &Writer) -> Result<(Manifest, SnapshotFile), OpsError> {
        let Self { run, looked, .. } = self;
        let (components, key_fit, mut warnings) = self.read(writer)?;
        for warning in &warnings {
            run.context.events.warn(warning);
        }
        let mut draft = Draft::new(looked.time);
        let expected: Vec<String> =
            components.iter().map(|component| component.manifest.name.clone()).collect();
        for mut component in components {
            // What is true of a backup's own time is true of the file's.
            (component.manifest.started, component.manifest.finished) = (looked.time, looked.time);
            draft.add(component);
        }
        writer.settle()?;
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        let sealed = draft.seal(&expected, |components| {
            let mut manifest = run.manifest(looked.time, components, writer);
            manifest.finished = looked.time;
            manifest.version.clone_from(&looked.version);
            manifest.key_fit = key_fit;
            manifest.warnings.append(&mut warnings);
            manifest
        })?;
        let manifest = sealed.manifest.clone();
        Ok((manifest, run.store(sealed, writer, None)?))
    }

    fn read(&self, writer: &Writer) -> Result<(Vec<Component>, KeyFit, Vec<String>), OpsError> {
        let Self { run, looked, options, keys } = self;
        let failed = |source| failed(&looked.path, source);
        let proof = keys.pair.as_ref().map(|(password, salt)| DocumentProof::new(password, salt));
        let see = |collection: &str, document: &[u8]| {
            if let Some(proof) = &proof {
                proof.see(collection, document);
            }
        };
        let mut input = open(&looked.path, looked.packing, options.password.as_ref(), run.context)
            .map_err(failed)?;
        let mut git = Gathered::new(GIT, looked.time, false);
        let dump = RefCell::new(None);
        let mut take_dump = |archive: &mut dyn std::io::Read| {
            let (database, not_one_moment) = (looked.database.as_deref(), NOT_ONE_MOMENT);
            let taking = Taking { database, not_one_moment, see: &see };
            let part = Part::new(writer, "mongodb");
            *dump.borrow_mut() =
                Some(mongodump::take(archive, &taking, part, looked.file.clone())?);
            Ok(())
        };
        let read = appsmithctl::read(&mut input, &mut git, &mut take_dump, writer);
        read.map_err(|error| error.at(&looked.path))?;
        if input.sum() != looked.sha256 {
            return Err(failed(ImportError::Changed));
        }
        let (mut dump, Taken { database, .. }) =
            dump.into_inner().ok_or_else(|| failed(ImportError::Changed))?;
        let warning = format!("mongodb: {database} is not of one moment: {NOT_ONE_MOMENT}");
        dump.warnings.push(warning);
        let mut components = Vec::new();
        if looked.has_git {
            components.push(self.files(git, writer)?);
        }
        components.push(dump);
        if let Some(content) = &keys.environment {
            let mut part = Part::new(writer, "environment");
            part.add("docker.env", content)?;
            components.push(part.finish(
                looked.file.clone(),
                BTreeMap::new(),
                serde_json::Value::Null,
            )?);
        }
        let mut warnings = looked.warnings.clone();
        warnings.extend(keys.warning.clone());
        let report = proof.map(DocumentProof::finish);
        let key_fit = report.as_ref().map_or(KeyFit::Unfit, FitReport::verdict);
        let told = report.iter().flat_map(FitReport::warnings);
        warnings.extend(told.map(|warning| format!("environment: {warning}")));
        Ok((components, key_fit, warnings))
    }

    /// The gathered tree, stored.
    fn files(&self, git: Gathered, writer: &Writer) -> Result<Component, OpsError> {
        let (size_bytes, counts) = (git.size_bytes, git.counts.clone());
        let mut checksums = ChecksumWriter::new(writer.document());
        let mut builder = TreeBuilder::new(writer, None, &mut checksums);
        git.deliver(&mut builder)?;
        let tree = builder.finish()?;
        let sums = checksums.finish()?.wait()?;
        Ok(tree_component(FilesRead {
            kind: "files",
            folder: FILES,
            name: GIT,
            source: self.looked.file.clone(),
            started: self.looked.time,
            tree,
            sums,
            size_bytes,
            counts,
            details: serde_json::Value::Null,
            warnings: Vec::new(),
        }))
    }
}

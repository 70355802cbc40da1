//! A part of a platform's instance on its way into a snapshot: files in a directory of its own, and what the manifest says of
//! them.

use super::Component;
use crate::model::event::Events;
use crate::model::manifest::{ComponentManifest, FileManifest};
use crate::model::node::NodeKind;
use crate::ops::tree::{made_directory, made_node};
use crate::repository::RepositoryError;
use crate::repository::format::tree::TreeNode;
use crate::repository::writer::{Content, FileStream, Writer};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A part while it is gathered: a directory of its own in the snapshot.
pub(super) struct Part<'a> {
    writer: &'a Writer,
    name: &'static str,
    started: Timestamp,
    /// By directory: the part's own has no name.
    nodes: BTreeMap<String, Vec<TreeNode>>,
    files: Vec<FileManifest>,
    warnings: Vec<String>,
}

impl<'a> Part<'a> {
    pub(super) fn new(writer: &'a Writer, name: &'static str) -> Self {
        let started = Timestamp::now();
        let (nodes, files, warnings) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { writer, name, started, nodes, files, warnings }
    }

    /// Store a small file. `path` is its place below the part's directory, with one directory between at most.
    pub(super) fn add(&mut self, path: &str, content: &[u8]) -> Result<(), RepositoryError> {
        let mut stream = self.writer.file();
        stream.append(content)?;
        self.add_stream(path, stream)
    }

    /// Begin a file that is written as it is read.
    pub(super) fn stream(&self) -> FileStream {
        self.writer.file()
    }

    /// The same for one that was written already.
    pub(super) fn add_stream(
        &mut self,
        path: &str,
        stream: FileStream,
    ) -> Result<(), RepositoryError> {
        self.add_content(path, stream.finish()?.wait()?);
        Ok(())
    }

    /// The same for one that was stored already.
    pub(super) fn add_content(&mut self, path: &str, content: Content) {
        let Content { blobs, size, sha256 } = content;
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let node = made_node(name, NodeKind::File { size }, self.started);
        let node = TreeNode { node, content: blobs, subtree: None };
        self.nodes.entry(directory.to_owned()).or_default().push(node);
        let path = format!("/{}/{path}", self.name);
        self.files.push(FileManifest { path, size_bytes: size, sha256 });
    }

    pub(super) fn warn(&mut self, events: &Events, warning: String) {
        events.warn(&warning);
        self.warnings.push(warning);
    }

    pub(super) fn finish(
        self,
        source: String,
        counts: BTreeMap<String, u64>,
        details: serde_json::Value,
    ) -> Result<Component, RepositoryError> {
        let mut directories = self.nodes;
        let mut nodes = directories.remove("").unwrap_or_default();
        for (name, inside) in directories {
            nodes.push(made_directory(self.writer, &name, inside, self.started)?);
        }
        let tree = made_directory(self.writer, self.name, nodes, self.started)?;
        let manifest = ComponentManifest {
            name: self.name.to_owned(),
            kind: self.name.to_owned(),
            path: format!("/{}", self.name),
            source,
            started: self.started,
            finished: Timestamp::now(),
            size_bytes: self.files.iter().map(|file| file.size_bytes).sum(),
            counts,
            files: self.files,
            checksums: None,
            details,
        };
        Ok(Component { tree, among: None, manifest, warnings: self.warnings })
    }
}

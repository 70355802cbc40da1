//! Trees of files as components: what was read, and what the manifest says of it.

use crate::component::files::walk::{PathList, WalkReport};
use crate::model::event::{Event, Events};
use crate::model::manifest::{ComponentManifest, FileManifest};
use crate::model::node::NodeKind;
use crate::ops::checksums::ChecksumWriter;
use crate::ops::tree::made_node;
use crate::repository::format::tree::TreeNode;
use crate::repository::writer::Content;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Fewer entries that vanish while a component is read are nothing to warn of.
const MANY_VANISHED: u64 = 100;

/// A tree of files that was delivered to its end.
pub(super) struct Tree {
    pub(super) root: TreeNode,
    pub(super) checksums: ChecksumWriter,
    pub(super) report: WalkReport,
}

/// A component that was read to its end.
pub(super) struct Component {
    pub(super) tree: TreeNode,
    /// The folder that a tree of files is in, and the sums of these, which lie beside it; none where the manifest has them.
    pub(super) among: Option<(&'static str, TreeNode)>,
    pub(super) manifest: ComponentManifest,
    pub(super) warnings: Vec<String>,
}

/// A tree of files that was read to its end.
pub(super) struct FilesRead<'a> {
    pub(super) kind: &'static str,
    /// The folder that it goes into.
    pub(super) folder: &'static str,
    pub(super) name: &'a str,
    pub(super) source: String,
    pub(super) started: Timestamp,
    pub(super) tree: TreeNode,
    /// The list of its sums.
    pub(super) sums: Content,
    pub(super) size_bytes: u64,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) details: serde_json::Value,
    pub(super) warnings: Vec<String>,
}

pub(super) fn tree_component(read: FilesRead<'_>) -> Component {
    let FilesRead {
        kind,
        folder,
        name,
        source,
        started,
        tree,
        sums,
        size_bytes,
        counts,
        details,
        warnings,
    } = read;
    let sums_name = format!("{name}.sha256");
    let checksums = Some(FileManifest {
        path: format!("/checksums/{sums_name}"),
        size_bytes: sums.size,
        sha256: sums.sha256,
    });
    let sums_node = made_node(&sums_name, NodeKind::File { size: sums.size }, started);
    let sums = TreeNode { node: sums_node, content: sums.blobs, subtree: None };
    let manifest = ComponentManifest {
        name: name.to_owned(),
        kind: kind.into(),
        path: format!("/{folder}/{name}"),
        source,
        started,
        finished: Timestamp::now(),
        size_bytes,
        counts,
        files: Vec::new(),
        checksums,
        details,
    };
    Component { tree, among: Some((folder, sums)), manifest, warnings }
}

/// Tell progress at most five times a second.
pub(in crate::ops) fn progress_of(events: &Events) -> impl FnMut(u64, u64) + use<> {
    let events = events.clone();
    let mut told = std::time::Instant::now();
    move |bytes, items| {
        if told.elapsed() >= std::time::Duration::from_millis(200) {
            told = std::time::Instant::now();
            events.send(Event::Progress { bytes, total_bytes: None, items });
        }
    }
}

pub(super) fn counts_of(report: &WalkReport) -> BTreeMap<String, u64> {
    let counts = [
        ("files", report.files),
        ("directories", report.directories),
        ("symlinks", report.symlinks),
        ("others", report.others),
        ("excluded", report.excluded),
        ("vanished", report.vanished.count),
    ];
    counts.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect()
}

pub(super) fn warnings_of(component: &str, report: &WalkReport) -> Vec<String> {
    let changed = "changed each time it was read; the snapshot has it as it was read last";
    // A few files that come and go are usual, and noted one by one.
    let vanished = report.vanished.count;
    let mass = (vanished > MANY_VANISHED && vanished > report.files / 10).then(|| {
        let files = report.files;
        format!("{vanished} entries vanished before they could be read, and {files} files did not: was the tree replaced meanwhile?")
    });
    let sentences =
        told(&report.changed, changed).chain(mass).chain(report.warnings.iter().cloned());
    sentences.map(|sentence| format!("{component}: {sentence}")).collect()
}

/// What is to be said of each path of a list, and of those that it only counts.
pub(super) fn told(list: &PathList, predicate: &str) -> impl Iterator<Item = String> {
    let more = list.count.saturating_sub(list.paths.len() as u64);
    let more = (more > 0).then(|| format!("{more} more: each {predicate}."));
    list.paths.iter().map(move |path| format!("{path} {predicate}.")).chain(more)
}

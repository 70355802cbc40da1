//! What a snapshot has of an instance's parts: components of its manifest, and the content of their files.

use super::Source;
use super::items::find_nodes;
use crate::model::manifest::{ComponentManifest, Manifest};
use crate::ops::OpsError;
use crate::repository::format::tree::TreeNode;
use crate::repository::reader::ContentStream;
use std::io::Read as _;

/// A list of roles, an environment file, or the text of options and indexes has fewer bytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// The content of a file of the snapshot, by its path there.
pub(super) fn content<'a>(source: &'a Source, path: &str) -> Result<ContentStream<'a>, OpsError> {
    Ok(source.reader.stream(&file(source, path)?))
}

/// A file of the snapshot, by its path there.
pub(super) fn file(source: &Source, path: &str) -> Result<TreeNode, OpsError> {
    let parts: Vec<&[u8]> =
        path.split('/').filter(|part| !part.is_empty()).map(str::as_bytes).collect();
    let node = find_nodes(source, &parts)?.and_then(|mut nodes| nodes.pop());
    node.ok_or_else(|| OpsError::WrongFile {
        object: format!("snapshot {}", source.snapshot.id.short()),
        reason: format!("its manifest names {path}, which is not in it"),
    })
}

pub(super) fn read_small(
    source: &Source,
    path: &str,
) -> Result<zeroize::Zeroizing<Vec<u8>>, OpsError> {
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let unreadable = |error: std::io::Error| OpsError::WrongFile {
        object: path.to_owned(),
        reason: error.to_string(),
    };
    content(source, path)?.take(MOST_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

pub(super) fn component<'a>(manifest: &'a Manifest, kind: &str) -> Option<&'a ComponentManifest> {
    manifest.components.iter().find(|component| component.kind == kind)
}

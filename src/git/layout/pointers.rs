//! Files that stand for something stored elsewhere: Git LFS's pointers, and `.gitmodules`.

use super::{LfsPointer, Submodule};
use crate::config::redact_url;
use crate::model::exact_path::ExactPath;
use std::collections::BTreeMap;
use std::path::Path;

/// No pointer is larger, by LFS's specification.
pub(super) const MOST_POINTER_BYTES: usize = 1_024;
/// A larger `.gitmodules` is not read.
pub(super) const MOST_GITMODULES_BYTES: usize = 1 << 20;

/// What the content of a file points to, where that is a pointer of Git LFS's.
pub(super) fn lfs_pointer(path: &[u8], content: &[u8]) -> Option<LfsPointer> {
    let text = std::str::from_utf8(content).ok()?;
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("version https://git-lfs.github.com/spec/")?;
    let member =
        |name: &str| lines.clone().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let oid = member("oid")?.strip_prefix("sha256:")?;
    let is_sum = oid.len() == 64 && oid.bytes().all(|digit| digit.is_ascii_hexdigit());
    let size = member("size")?.parse().ok()?;
    let path = ExactPath::of_bytes("path", path);
    (is_sum && version == "v1").then(|| LfsPointer { path, oid: oid.to_ascii_lowercase(), size })
}

/// Give each submodule the address that `.gitmodules` has for its path.
pub(super) fn set_addresses(submodules: &mut [Submodule], gitmodules: &[u8]) {
    let text = String::from_utf8_lossy(gitmodules);
    let mut addresses = BTreeMap::new();
    let (mut path, mut url) = (None, None);
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            (path, url) = (None, None);
        } else if let Some((name, value)) = line.split_once('=') {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "path" => path = Some(value),
                "url" => url = Some(value),
                _ => {}
            }
            if let (Some(path), Some(url)) = (path, url) {
                addresses.insert(Path::new(path), url);
            }
        }
    }
    for submodule in submodules {
        submodule.url = addresses.get(submodule.path.path()).map(|url| redact_url(url));
    }
}

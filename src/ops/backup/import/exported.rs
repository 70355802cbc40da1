//! What `belay export` wrote: the manifest first, then all that the snapshot has, and the sums of it last.

use super::error::ImportError;
use super::gathered::{Gathered, Untaken};
use super::input::Input;
use super::members::{Member, MemberKind, each_member};
use super::or_fault;
use crate::model::id::Sha256;
use crate::model::manifest::{FileManifest, Manifest};
use crate::model::node::NodeKind;
use crate::ops::checksums;
use crate::ops::export::{MANIFEST, SUMS};
use crate::ops::show::parse_manifest;
use crate::repository::writer::Writer;
use sha2::Digest as _;
use std::collections::HashMap;
use std::io::{self, Read};

/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// A longer manifest is none.
const MOST_MANIFEST_BYTES: u64 = 512 * 1024 * 1024;
const FOREIGN: ImportError =
    ImportError::NotAnArchive("it does not begin with the manifest of a snapshot");

/// What has been seen of an export.
struct Seen {
    manifest: Manifest,
    /// What the manifest says of single files, and was not seen yet.
    left: HashMap<Vec<u8>, (u64, Sha256)>,
    /// The sum over the list of sums as it should be.
    sums: sha2::Sha256,
    is_ended: bool,
}

/// Look through an export to its end: every file has the sum that was written, and all that the manifest names is there.
pub(super) fn look(input: &mut Input) -> Result<Manifest, ImportError> {
    let fault = input.fault.clone();
    let mut seen: Option<Seen> = None;
    let mut buffer = vec![0; PIECE_BYTES];
    let read = each_member(&mut *input.content, &fault, &mut |member, content| {
        let MemberKind::Node(NodeKind::File { size }) = member.kind else {
            return seen.as_ref().map(|_| ()).ok_or(FOREIGN);
        };
        let path = member.path.as_slice();
        let Some(seen) = &mut seen else {
            let is_manifest = path == MANIFEST.as_bytes() && size <= MOST_MANIFEST_BYTES;
            seen = Some(if is_manifest { begin(content)? } else { return Err(FOREIGN) });
            return Ok(());
        };
        if seen.is_ended {
            return Err(member.refused("it comes after the list of sums"));
        }
        let sum = sum_of(content, &mut buffer).map_err(|error| cannot(&error))?;
        if path == SUMS.as_bytes() {
            seen.is_ended = true;
            if seen.sums.clone().finalize().as_slice() != sum.0 {
                return Err(ImportError::Damaged(format!(
                    "the sums of its files are not those in {SUMS}"
                )));
            }
            return Ok(());
        }
        seen.sums.update(checksums::line(path, sum));
        if seen.left.remove(path).is_some_and(|expected| expected != (size, sum)) {
            return Err(member.refused("it is not the file that the manifest names"));
        }
        Ok(())
    });
    or_fault(read, &fault)?;
    let seen = seen.ok_or(FOREIGN)?;
    if !seen.is_ended {
        return Err(ImportError::Missing("list of its sums"));
    }
    if !seen.left.is_empty() {
        return Err(ImportError::Missing("file of some that its manifest names"));
    }
    Ok(seen.manifest)
}

fn cannot(error: &io::Error) -> ImportError {
    ImportError::Damaged(error.to_string())
}

fn begin(content: &mut dyn Read) -> Result<Seen, ImportError> {
    let mut json = Vec::new();
    content.read_to_end(&mut json).map_err(|error| cannot(&error))?;
    let manifest = parse_manifest(&json)
        .map_err(|error| ImportError::Damaged(format!("its manifest: {error}")))?;
    if !manifest.sealed {
        return Err(ImportError::Damaged("its manifest says that it was never sealed".into()));
    }
    let mut sums = sha2::Sha256::new();
    let sum = Sha256(sha2::Sha256::digest(&json).into());
    sums.update(checksums::line(MANIFEST.as_bytes(), sum));
    let files = manifest.components.iter().flat_map(|it| it.files.iter().chain(&it.checksums));
    let left = files.map(|FileManifest { path, size_bytes, sha256 }| {
        (path.trim_start_matches('/').as_bytes().to_vec(), (*size_bytes, *sha256))
    });
    Ok(Seen { left: left.collect(), manifest, sums, is_ended: false })
}

fn sum_of(content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<Sha256> {
    let mut sum = sha2::Sha256::new();
    loop {
        match content.read(buffer)? {
            0 => return Ok(Sha256(sum.finalize().into())),
            length => sum.update(&buffer[..length]),
        }
    }
}

/// Read an export that was looked at into a repository: all but its manifest and its sums.
pub(super) fn read(input: &mut Input, tree: &mut Gathered, writer: &Writer) -> Result<(), Untaken> {
    let fault = input.fault.clone();
    let take = &mut |member: &Member, content: &mut dyn Read| {
        let path = member.path.as_slice();
        match &member.kind {
            _ if path == MANIFEST.as_bytes() || path == SUMS.as_bytes() => Ok(()),
            MemberKind::HardLink(first) => tree.add_link(path, first, member),
            MemberKind::Node(_) => tree.add(path, member, content, writer),
        }
    };
    let read = each_member(&mut *input.content, &fault, take);
    or_fault(read, &fault)
}

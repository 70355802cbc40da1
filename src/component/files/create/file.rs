//! One regular file that is being made.

use super::metadata::{Circumstances, Metadata};
use super::{CreateError, failed};
use crate::model::node::Node;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Zeros in blocks of this size become holes: the block size of nearly all file systems.
const HOLE_BYTES: usize = 4096;

/// A file whose content may be written by several threads.
pub struct CreatedFile {
    pub(super) file: File,
    pub(super) path: String,
    pub(super) circumstances: Arc<Circumstances>,
}

impl CreatedFile {
    fn shown(&self) -> String {
        self.path.clone()
    }

    /// Write content at an offset. Blocks of zeros are left as holes.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), CreateError> {
        let mut from = 0;
        while from < bytes.len() {
            // Whole blocks of the file, so that a hole is a hole.
            let boundary = HOLE_BYTES - (offset as usize + from) % HOLE_BYTES;
            let first = boundary.min(bytes.len() - from);
            if is_zero(&bytes[from..from + first]) {
                from += first;
                continue;
            }
            let mut to = from + first;
            while to < bytes.len() {
                let next = HOLE_BYTES.min(bytes.len() - to);
                if is_zero(&bytes[to..to + next]) {
                    break;
                }
                to += next;
            }
            self.file
                .write_all_at(&bytes[from..to], offset + from as u64)
                .map_err(failed("write", || self.shown()))?;
            from = to;
        }
        Ok(())
    }

    /// Give the complete file its metadata.
    pub fn finish(&self, node: &Node) -> Result<(), CreateError> {
        Metadata::of(node).apply(&self.file, &self.circumstances, &|| self.shown())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; HOLE_BYTES] = [0; HOLE_BYTES];
    bytes == &ZEROS[..bytes.len()]
}

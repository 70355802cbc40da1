//! Whether a repository has everything that a snapshot refers to. Trees are read; of everything else only places are looked at.
//!
//! What is there may still be damaged within: `check --read-data` reads it. This is what can be asked in seconds, right before
//! something depends on the answer.

use super::blob_index::BlobIndex;
use super::format::pack::BlobKind;
use super::reader::Reader;
use super::{Repository, RepositoryError};
use crate::model::event::Cancel;
use crate::model::id::BlobId;
use std::collections::HashSet;
use std::sync::Arc;

impl Reader {
    /// Read with what is really there: blobs of packs that are gone or cut short are in no index of this reader.
    pub fn of_what_is_there(repository: &Arc<Repository>) -> Result<Self, RepositoryError> {
        let mut index = BlobIndex::load(repository)?;
        if !index.damaged.is_empty() {
            index.add_unindexed_packs(repository)?;
        }
        index.forget_missing_packs(repository)?;
        Ok(Self::with_index(repository, index))
    }

    /// The first thing below a tree that this reader has not or cannot read, as a clause; none where all is there. An error is only what
    /// keeps this from being told.
    pub fn first_lost(
        &self,
        root: BlobId,
        cancel: &Cancel,
    ) -> Result<Option<String>, RepositoryError> {
        let mut seen = HashSet::from([root]);
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            cancel.check()?;
            let nodes = match self.tree(id) {
                Ok(nodes) => nodes,
                Err(error) if error.is_damage() => return Ok(Some(error.to_string())),
                Err(error) => return Err(error),
            };
            for node in nodes {
                let lost =
                    node.content.iter().find(|id| !self.index().contains(BlobKind::Data, **id));
                if let Some(id) = lost {
                    let error = RepositoryError::MissingBlob { kind: "data", id: *id };
                    return Ok(Some(error.to_string()));
                }
                waiting.extend(node.subtree.filter(|subtree| seen.insert(*subtree)));
            }
        }
        Ok(None)
    }
}

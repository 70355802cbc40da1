//! Bringing histories from one git repository of this machine into another, as one pack: with it comes all of them, or nothing.
//!
//! Not by libgit2's own way of fetching from a directory: that takes of a tag of a tag no history, ends at a tag of a directory in
//! the mirror, and believes that whose tip is there is there altogether.

use super::remote::Heard;
use git2::{ObjectType, Oid, PackBuilder, Repository, Revwalk, Sort};
use std::collections::BTreeSet;
use std::io::Write as _;

/// What is to be taken.
pub(super) struct Wanted {
    /// Commits, tags, and what else refs lead to.
    pub(super) ids: Vec<Oid>,
    /// Commits that are there already, with all that belongs to them.
    pub(super) known: BTreeSet<Oid>,
}

/// Bring all that belongs to what is wanted, and that is not known.
pub(super) fn copy<'a>(
    from: &'a Repository,
    to: &Repository,
    wanted: &Wanted,
    heard: Heard<'a>,
) -> Result<(), git2::Error> {
    let mut builder = builder(from, heard)?;
    let mut walk = from.revwalk()?;
    walk.set_sorting(Sort::TIME)?;
    for id in wanted.known.iter().filter(|id| from.find_commit(**id).is_ok()) {
        walk.hide(*id)?;
    }
    for id in &wanted.ids {
        insert(from, &mut builder, &mut walk, *id)?;
    }
    builder.insert_walk(&mut walk)?;
    write(&mut builder, to, heard)
}

/// Bring these objects, and nothing that they lead to.
pub(super) fn pack<'a>(
    from: &'a Repository,
    to: &Repository,
    ids: impl Iterator<Item = Oid>,
    heard: Heard<'a>,
) -> Result<(), git2::Error> {
    let mut builder = builder(from, heard)?;
    for id in ids {
        builder.insert_object(id, None)?;
    }
    write(&mut builder, to, heard)
}

fn builder<'a>(from: &'a Repository, heard: Heard<'a>) -> Result<PackBuilder<'a>, git2::Error> {
    let mut builder = from.packbuilder()?;
    builder.set_progress_callback(move |_, done, _| {
        heard(0, done.into());
        true
    })?;
    Ok(builder)
}

fn write(
    builder: &mut PackBuilder<'_>,
    to: &Repository,
    heard: Heard<'_>,
) -> Result<(), git2::Error> {
    let objects = builder.object_count() as u64;
    if objects == 0 {
        return Ok(());
    }
    let odb = to.odb()?;
    let mut pack = odb.packwriter()?;
    let (mut bytes, mut failed) = (0, None);
    let built = builder.foreach(|piece| {
        bytes += piece.len() as u64;
        heard(bytes, objects);
        failed = pack.write_all(piece).err();
        failed.is_none()
    });
    if let Some(error) = failed {
        return Err(git2::Error::from_str(&error.to_string()));
    }
    built?;
    pack.commit().map(drop)
}

/// What a tag leads to is wanted, too, and of a commit its history.
fn insert(
    from: &Repository,
    builder: &mut PackBuilder<'_>,
    walk: &mut Revwalk<'_>,
    wanted: Oid,
) -> Result<(), git2::Error> {
    let mut object = from.find_object(wanted, None)?;
    loop {
        match object.kind() {
            Some(ObjectType::Commit) => return walk.push(object.id()),
            Some(ObjectType::Tree) => return builder.insert_tree(object.id()),
            _ => builder.insert_object(object.id(), None)?,
        }
        match object.as_tag() {
            Some(tag) => object = tag.target()?,
            None => return Ok(()),
        }
    }
}

//! What was pushed away: each ref that moved backwards, vanished or was retargeted has its old target under a ref of our own.
//!
//! `refs/belay/kept/<time>/<ref without refs/>` is an annotated tag of the old target, and its message says what happened, so
//! that the journal goes wherever the mirror goes: into snapshots, clones, and catalogs that are made again.

use super::copy;
use super::error::GitError;
use super::mirror::Mirror;
use super::remote::Heard;
use crate::model::git::Rewrite;
use git2::{Oid, Repository, Signature, Time};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// Where old targets are kept.
pub const KEPT: &str = "refs/belay/kept/";
/// The message's first line; what follows is JSON.
const SUBJECT: &str = "Kept by Belay";
/// More tags than so many do not get a file each.
const MOST_LOOSE: usize = 16;
/// What is made is looked for and put into memory before files.
const ABOVE_FILES: i32 = 999;

/// The ref that keeps what a ref led to.
pub(super) fn kept_name(name: &str, seen_at: Timestamp) -> String {
    let name = name.strip_prefix("refs/").unwrap_or(name);
    format!("{KEPT}{}/{name}", seen_at.strftime("%Y%m%dT%H%M%S.%6fZ"))
}

/// Make the tags that keep old targets, and tell which ref is to lead to which. Doing it again makes the same ones.
pub(super) fn make_tags(
    mirror: &Mirror,
    rewritten: &[Rewrite],
    heard: Heard<'_>,
) -> Result<BTreeMap<String, Oid>, GitError> {
    let mut made = BTreeMap::new();
    if rewritten.len() <= MOST_LOOSE {
        for rewrite in rewritten {
            heard(0, made.len() as u64);
            made.insert(rewrite.kept.clone(), make_tag(mirror.repository(), mirror, rewrite)?);
        }
        return Ok(made);
    }
    // Each file takes its time until it is on the disk: many tags are made in memory, and get there as one pack.
    let failed = || GitError::unwritten::<git2::Error>("keep what was pushed away", mirror.path());
    let apart = Repository::open_bare(mirror.path()).map_err(failed())?;
    let odb = apart.odb().map_err(failed())?;
    odb.add_new_mempack_backend(ABOVE_FILES).map_err(failed())?;
    for rewrite in rewritten {
        heard(0, made.len() as u64);
        made.insert(rewrite.kept.clone(), make_tag(&apart, mirror, rewrite)?);
    }
    copy::pack(&apart, mirror.repository(), made.values().copied(), heard).map_err(failed())?;
    Ok(made)
}

fn make_tag(repository: &Repository, mirror: &Mirror, rewrite: &Rewrite) -> Result<Oid, GitError> {
    let failed =
        |what: &str| GitError::unwritten(format!("keep {} ({what})", rewrite.name), mirror.path());
    let target = Oid::from_str(&rewrite.from).map_err(failed("its old target"))?;
    let target = repository.find_object(target, None).map_err(failed("its old target"))?;
    let seconds = Time::new(rewrite.seen_at.as_second(), 0);
    let tagger = Signature::new("Belay", "belay@localhost", &seconds).map_err(failed("by whom"))?;
    let message = message_of(rewrite);
    let kept = &rewrite.kept;
    let short = kept.strip_prefix("refs/").unwrap_or(kept).replace('/', "-");
    repository.tag_annotation_create(&short, &target, &tagger, &message).map_err(failed("its tag"))
}

/// A rewrite as JSON, without the ref that has it.
fn message_of(rewrite: &Rewrite) -> String {
    let mut message = serde_json::to_value(rewrite).unwrap_or_default();
    if let Some(members) = message.as_object_mut() {
        members.remove("kept");
    }
    let message = serde_json::to_string_pretty(&message).unwrap_or_default();
    format!("{SUBJECT}\n\n{message}\n")
}

fn read_message(kept: &str, message: &str) -> Option<Rewrite> {
    let mut message: Value = serde_json::from_str(message.strip_prefix(SUBJECT)?).ok()?;
    message.as_object_mut()?.insert("kept".to_owned(), kept.into());
    serde_json::from_value(message).ok()
}

/// All that is kept, oldest first. What cannot be read as ours is left out: somebody made it by hand.
pub fn kept(mirror: &Mirror) -> Result<Vec<Rewrite>, GitError> {
    let repository = mirror.repository();
    let failed = || GitError::unread("what is kept", mirror.path());
    let mut found = Vec::new();
    for reference in repository.references_glob(&format!("{KEPT}*")).map_err(failed())? {
        let reference = reference.map_err(failed())?;
        let Ok(kept) = reference.name() else { continue };
        let Some(tag) = reference.target().and_then(|id| repository.find_tag(id).ok()) else {
            continue;
        };
        let message = tag.message().ok().flatten();
        found.extend(message.and_then(|message| read_message(kept, message)));
    }
    found.sort_by(|one, other| (one.seen_at, &one.name).cmp(&(other.seen_at, &other.name)));
    Ok(found)
}

//! What was pushed away: each ref that moved backwards, vanished or was retargeted has its old target under a ref of our own.
//!
//! `refs/belay/kept/<time>/<ref without refs/>` is an annotated tag of the old target, and its message says what happened, so
//! that the journal goes wherever the mirror goes: into snapshots, clones, and catalogs that are made again.

use super::error::GitError;
use crate::git::mirror::Mirror;
use crate::model::git::Rewrite;
use git2::{Oid, Signature, Time};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where old targets are kept.
pub const KEPT: &str = "refs/belay/kept/";
/// The message's first line; what follows is JSON.
const SUBJECT: &str = "Kept by Belay";

/// What the message of the tag says.
#[derive(Serialize, Deserialize)]
struct Message {
    name: String,
    from: String,
    #[serde(default)]
    to: Option<String>,
    seen_at: Timestamp,
    commits_dropped: u64,
    #[serde(default)]
    by: Option<String>,
}

/// The ref that keeps what a ref led to.
pub(super) fn kept_name(name: &str, seen_at: Timestamp) -> String {
    let name = name.strip_prefix("refs/").unwrap_or(name);
    format!("{KEPT}{}/{name}", seen_at.strftime("%Y%m%dT%H%M%S.%6fZ"))
}

/// Keep an old target. Doing it again changes nothing.
pub(super) fn keep(mirror: &Mirror, rewrite: &Rewrite) -> Result<(), GitError> {
    let repository = mirror.repository();
    let failed =
        |what: &str| GitError::unwritten(format!("keep {} ({what})", rewrite.name), mirror.path());
    let Rewrite { name, from, to, seen_at, commits_dropped, by, kept } = rewrite.clone();
    let target = Oid::from_str(&from).map_err(failed("its old target"))?;
    let target = repository.find_object(target, None).map_err(failed("its old target"))?;
    let seconds = Time::new(seen_at.as_second(), 0);
    let tagger = Signature::new("Belay", "belay@localhost", &seconds).map_err(failed("by whom"))?;
    let message = Message { name, from, to, seen_at, commits_dropped, by };
    let message = serde_json::to_string_pretty(&message).unwrap_or_default();
    let short = kept.strip_prefix("refs/").unwrap_or(&kept).replace('/', "-");
    let message = format!("{SUBJECT}\n\n{message}\n");
    let tag = repository
        .tag_annotation_create(&short, &target, &tagger, &message)
        .map_err(failed("its tag"))?;
    repository.reference(&kept, tag, true, "belay: kept").map_err(failed("its ref"))?;
    Ok(())
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
        let message = tag.message().ok().flatten().and_then(|text| text.strip_prefix(SUBJECT));
        let Some(Ok(message)) = message.map(serde_json::from_str::<Message>) else { continue };
        let Message { name, from, to, seen_at, commits_dropped, by } = message;
        found.push(Rewrite { kept: kept.to_owned(), name, from, to, seen_at, commits_dropped, by });
    }
    found.sort_by(|one, other| (one.seen_at, &one.name).cmp(&(other.seen_at, &other.name)));
    Ok(found)
}

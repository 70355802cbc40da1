//! What is known of a git repository: its refs, and what was pushed away in it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A ref that no longer leads to what it led to. Its old target is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// The ref that keeps the old target.
    pub kept: String,
    /// The ref that moved, such as `refs/heads/master`.
    pub name: String,
    /// What it led to: the id of a commit, or of the object of a tag.
    pub from: String,
    /// What it leads to now; none where it vanished.
    pub to: Option<String>,
    /// When a fetch saw it.
    pub seen_at: Timestamp,
    /// How many commits no ref of the git repository leads to any more.
    pub commits_dropped: u64,
    /// Who made the commit that it leads to now, as far as that says who moved it.
    pub by: Option<String>,
}

impl Rewrite {
    /// What happened, as a sentence.
    pub fn told(&self, git: &str) -> String {
        let Self { kept, name, from, to, commits_dropped, by, .. } = self;
        let short = |id: &str| id.get(..10).unwrap_or(id).to_owned();
        let name = ["refs/heads/", "refs/tags/"]
            .iter()
            .find_map(|kind| name.strip_prefix(kind))
            .unwrap_or(name);
        let what = match to {
            Some(to) => format!("{name} was rewritten from {} to {}", short(from), short(to)),
            None => format!("{name} was removed (it was {})", short(from)),
        };
        let by = by
            .as_ref()
            .filter(|_| to.is_some())
            .map(|by| format!(" (its newest commit is of {by})"))
            .unwrap_or_default();
        let dropped = match commits_dropped {
            0 => "no commit is lost by that there".to_owned(),
            1 => "1 commit is not there any more".to_owned(),
            several => format!("{several} commits are not there any more"),
        };
        format!("{git}: {what}{by}: {dropped}; kept as {kept}.")
    }
}

/// A mirror as it was at one time, as manifests have it (`details` of a component of the kind `git`) and the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorRecord {
    /// Where the git repository is.
    pub url: String,
    /// When it was fetched last.
    pub fetched_at: Timestamp,
    /// The ref that a clone begins with.
    pub head: Option<String>,
    /// Every ref with the id of what it leads to, those that Belay keeps among them.
    pub refs: BTreeMap<String, String>,
    /// What was pushed away, oldest first.
    pub rewrites: Vec<Rewrite>,
    /// Tells this state of the refs from others.
    #[serde(default)]
    pub digest: String,
}

//! Finds what was renamed among what is gone and what is new.

use super::{Change, ChangeKind, Part};
use git2::Oid;
use std::collections::{BTreeMap, BTreeSet};

/// The content of an empty file, which says nothing.
const EMPTY: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
/// A content that more parts than these had says nothing either.
const MOST_SHARING: usize = 64;

/// A part that is gone, new, or changed.
pub(super) struct Candidate {
    pub(super) part: Part,
    pub(super) app: Option<String>,
    pub(super) page: Option<String>,
    pub(super) name: String,
    /// What it is known by whatever its name.
    pub(super) id: Option<String>,
    /// Which of the two trees have it.
    pub(super) there: [bool; 2],
    /// Those of its contents that the other tree has not there.
    pub(super) contents: Vec<Oid>,
    pub(super) files: u64,
}

impl Candidate {
    /// Only what is of one kind in one place can have been renamed. An app's place is its name.
    fn scope(&self) -> (Part, Option<&str>, Option<&str>) {
        let app = self.app.as_deref().filter(|_| self.part != Part::App);
        (self.part, app, self.page.as_deref())
    }

    pub(super) fn told(&self, change: ChangeKind) -> Change {
        let Self { part, app, page, name, files, .. } = self;
        let (app, page, name) = (app.clone(), page.clone(), name.clone());
        Change { change, part: *part, app, page, name, was: None, files: *files }
    }

    /// The same where it is what `old` was.
    pub(super) fn told_of(&self, old: &Self) -> Change {
        let had: BTreeSet<Oid> = old.contents.iter().copied().collect();
        let files = self.contents.iter().filter(|id| !had.contains(*id)).count() as u64;
        if self.name == old.name {
            return Change { files, ..self.told(ChangeKind::Changed) };
        }
        Change { was: Some(old.name.clone()), files, ..self.told(ChangeKind::Renamed) }
    }
}

/// For each that is new, which one that is gone it was: the one of the same name or id, or else the one that it has at least half of
/// its contents from.
pub(super) fn pair(gone: &[Candidate], new: &[Candidate]) -> Vec<Option<usize>> {
    let mut pairs =
        Pairs { gone, new, of_new: vec![None; new.len()], taken: vec![false; gone.len()] };
    pairs.by_key(|candidate| Some((candidate.scope(), &candidate.name)));
    pairs.by_key(|candidate| candidate.id.as_ref().map(|id| (candidate.scope(), id)));
    pairs.by_contents();
    pairs.of_new
}

struct Pairs<'c> {
    gone: &'c [Candidate],
    new: &'c [Candidate],
    of_new: Vec<Option<usize>>,
    taken: Vec<bool>,
}

impl<'c> Pairs<'c> {
    fn by_key<K: Ord>(&mut self, key: impl Fn(&'c Candidate) -> Option<K>) {
        let gone = self.gone.iter().enumerate().filter(|(at, _)| !self.taken[*at]);
        let mut known: BTreeMap<K, usize> =
            gone.filter_map(|(at, candidate)| Some((key(candidate)?, at))).collect();
        for (at, candidate) in self.new.iter().enumerate() {
            if self.of_new[at].is_none()
                && let Some(old) = key(candidate).and_then(|key| known.remove(&key))
            {
                self.set(at, old);
            }
        }
    }

    fn by_contents(&mut self) {
        let mut had: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (at, candidate) in self.gone.iter().enumerate().filter(|(at, _)| !self.taken[*at]) {
            for id in candidate.contents.iter().filter(|id| id.to_string() != EMPTY) {
                had.entry((candidate.scope(), *id)).or_default().push(at);
            }
        }
        had.retain(|_, had| had.len() <= MOST_SHARING);
        for (at, candidate) in self.new.iter().enumerate() {
            if self.of_new[at].is_some() {
                continue;
            }
            let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
            for id in &candidate.contents {
                for old in had.get(&(candidate.scope(), *id)).into_iter().flatten() {
                    *shared.entry(*old).or_default() += 1;
                }
            }
            let free = shared.into_iter().filter(|(old, _)| !self.taken[*old]);
            let most = free.max_by_key(|(old, count)| (*count, usize::MAX - old));
            if let Some((old, count)) = most
                && count * 2 >= candidate.contents.len().max(self.gone[old].contents.len())
            {
                self.set(at, old);
            }
        }
    }

    fn set(&mut self, new: usize, old: usize) {
        self.of_new[new] = Some(old);
        self.taken[old] = true;
    }
}

//! Journals of upgrades as the state has them: documents that are carried along whole, also those that a newer Belay wrote.
//!
//! Of two journals of one upgrade the one that goes on where the other ends counts, wherever it was found.

use crate::model::id::UpgradeId;
use crate::model::upgrade::{Journal, Relation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A journal as it lies in the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::ops) struct Stored(Value);

impl Stored {
    /// As it is to be stored.
    pub(in crate::ops) fn of(journal: &Journal) -> Self {
        Self(serde_json::to_value(journal).expect("a journal has nothing that JSON has not"))
    }

    /// What it says; an error where that is not understood here.
    pub(in crate::ops) fn journal(&self) -> Result<Journal, serde_json::Error> {
        Journal::deserialize(&self.0)
    }

    /// Which upgrade it is of.
    pub(in crate::ops) fn id(&self) -> Option<UpgradeId> {
        self.0.get("id")?.as_str()?.parse().ok()
    }

    fn records(&self) -> &[Value] {
        self.0.get("records").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn has_head_of(&self, other: &Self) -> bool {
        let head = ["id", "planned_at", "plan"];
        head.iter().all(|member| self.0.get(member) == other.0.get(member))
    }

    /// How it stands to another one of the same upgrade.
    pub(in crate::ops) fn relation(&self, other: &Self) -> Relation {
        let (own, others) = (self.records(), other.records());
        let common = own.len().min(others.len());
        if !self.has_head_of(other) || own[..common] != others[..common] {
            return Relation::Diverged;
        }
        match own.len().cmp(&others.len()) {
            std::cmp::Ordering::Less => Relation::Older,
            std::cmp::Ordering::Equal => Relation::Same,
            std::cmp::Ordering::Greater => Relation::Newer,
        }
    }

    /// Whether it takes the place of another one of the same upgrade. Of two that have parted all hosts have to take the same one.
    fn beats(&self, other: &Self) -> bool {
        match self.relation(other) {
            Relation::Newer => true,
            Relation::Same | Relation::Older => false,
            Relation::Diverged => self.order() > other.order(),
        }
    }

    fn order(&self) -> (usize, String) {
        (self.records().len(), self.0.to_string())
    }
}

/// Add those that are not there, and those that take the place of one that is. The order is that of their ids.
pub(super) fn add(upgrades: &mut Vec<Stored>, others: Vec<Stored>) {
    for other in others {
        let id = other.id();
        let same = |own: &Stored| if id.is_some() { own.id() == id } else { *own == other };
        match upgrades.iter().position(same) {
            Some(place) if other.beats(&upgrades[place]) => upgrades[place] = other,
            Some(_) => {}
            None => upgrades.push(other),
        }
    }
    upgrades.sort_by_cached_key(|stored| {
        (stored.id(), stored.id().is_none().then(|| stored.0.to_string()))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::upgrade::tests::journal;
    use crate::model::upgrade::{Entry, Step};
    use serde_json::json;

    fn stored(steps: &[Step]) -> Stored {
        Stored::of(&journal(
            steps.iter().map(|step| Entry::Began { hop: 0, step: *step }).collect(),
        ))
    }

    #[test]
    fn the_journal_that_goes_on_counts_wherever_it_comes_from() {
        let short = stored(&[Step::PullStaging]);
        let long = stored(&[Step::PullStaging, Step::BackUpStaging]);
        for (first, second) in [(&short, &long), (&long, &short)] {
            let mut upgrades = Vec::new();
            add(&mut upgrades, vec![first.clone()]);
            add(&mut upgrades, vec![second.clone(), second.clone()]);
            assert_eq!(upgrades, std::slice::from_ref(&long));
        }
    }

    #[test]
    fn of_two_that_have_parted_everybody_takes_the_same() {
        let one = stored(&[Step::PullStaging, Step::BackUpStaging]);
        let other = stored(&[Step::PullStaging, Step::PinBoth]);
        assert_eq!(one.relation(&other), Relation::Diverged);
        let both = |first: &Stored, second: &Stored| {
            let mut upgrades = vec![first.clone()];
            add(&mut upgrades, vec![second.clone()]);
            upgrades
        };
        assert_eq!(both(&one, &other), both(&other, &one));
        assert_eq!(both(&one, &other).len(), 1);
        let longer = stored(&[Step::PullStaging, Step::PinBoth, Step::GateStaging]);
        assert_eq!(both(&one, &longer), std::slice::from_ref(&longer));
    }

    #[test]
    fn what_a_newer_belay_wrote_is_carried_along() {
        let newer = Stored(json!({
            "id": "0909090909090909", "planned_at": "2030-01-01T00:00:00Z", "plan": {"fleet": 3},
            "records": [{"number": 1, "kind": "teleported"}]
        }));
        assert!(newer.journal().is_err());
        let known = stored(&[Step::PullStaging]);
        let mut upgrades = vec![newer.clone()];
        add(&mut upgrades, vec![known.clone()]);
        add(&mut upgrades, vec![newer.clone()]);
        assert_eq!(upgrades, [known, newer]);
        let nameless = Stored(json!(["what"]));
        add(&mut upgrades, vec![nameless.clone(), nameless]);
        assert_eq!(upgrades.len(), 3);
    }
}

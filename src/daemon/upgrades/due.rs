//! Whether an upgrade is to be gone on with now: a pure function of what its journal says, and of what was tried.

use crate::model::upgrade::{Entry, Journal};
use crate::upgrade::machine::Decision;
use jiff::{SignedDuration, Timestamp};

/// After the first try that got nowhere; twice as long each time.
const FIRST_WAIT: SignedDuration = SignedDuration::from_mins(1);
/// No wait is longer.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
/// More doublings lead beyond that.
const MOST_DOUBLINGS: u32 = 6;

/// What was tried with the upgrade of a pair, as far as this process knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// Tries in a row after which it was still due.
    futile: u32,
    /// When the last one was seen.
    tried_at: Option<Timestamp>,
    /// What people had said by then.
    said: usize,
    /// When production was looked at last, and whether it was well.
    pub(super) health: Option<(Timestamp, bool)>,
}

impl Past {
    /// A job begins for it.
    pub(super) fn begins(&mut self, now: Timestamp, said: usize) {
        self.futile = self.futile.saturating_add(1);
        self.is_tried(now, said);
    }

    /// A job for it waits or runs.
    pub(super) fn is_tried(&mut self, now: Timestamp, said: usize) {
        self.futile = self.futile.max(1);
        (self.tried_at, self.said) = (Some(now), said);
    }

    /// It rests where it should.
    pub(super) fn has_got_somewhere(&mut self) {
        self.futile = 0;
    }

    /// When it may be tried, after tries that got nowhere. A clock that was set back keeps nobody waiting.
    fn not_before(&self, now: Timestamp) -> Option<Timestamp> {
        let tried_at = self.tried_at.filter(|tried_at| self.futile > 0 && *tried_at <= now)?;
        let doublings = (self.futile - 1).min(MOST_DOUBLINGS);
        let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
        tried_at.saturating_add(wait).ok()
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Now.
    Now,
    /// Then: it was tried in vain.
    At(Timestamp),
    /// It waits for time, for a person or for the world.
    Nothing,
}

/// How often people have said something.
pub(super) fn said(journal: &Journal) -> usize {
    journal.records.iter().filter(|record| record.entry.by().is_some()).count()
}

/// The host that has an upgrade in hand, where that is not this one: two that go on by themselves would each undo what the other does.
pub(super) fn of_other_host<'a>(journal: &'a Journal, own: &str) -> Option<&'a str> {
    let taken_up = journal.records.iter().rev().find_map(|record| match &record.entry {
        Entry::TakenUp { host } => Some(host.as_str()),
        _ => None,
    });
    taken_up.filter(|host| *host != own)
}

/// Whether to go on with an upgrade of which `next` comes next; `has_words` says that something was said to it which nobody has read.
pub(super) fn due(
    next: &Decision,
    has_words: bool,
    said: usize,
    past: &Past,
    now: Timestamp,
) -> Due {
    if !has_words && !matches!(next, Decision::Do(_)) {
        return Due::Nothing;
    }
    match past.not_before(now) {
        // What was said since then may change everything.
        Some(at) if at > now && said == past.said => Due::At(at),
        _ => Due::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::upgrade::{Step, tests::journal};
    use crate::upgrade::machine::{Facts, Upgrade, Waiting};

    const STEP: Decision = Decision::Do(Step::BackUpStaging);
    const WAIT: Decision = Decision::Wait { waiting: Waiting::Approval, until: None };

    fn at(minutes: i64) -> Timestamp {
        "2026-11-21T01:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn what_was_cut_off_goes_on_when_the_daemon_begins() {
        let entries = vec![
            Entry::TakenUp { host: "here".into() },
            Entry::Began { hop: 0, step: Step::PullStaging },
        ];
        let upgrade = Upgrade::replay(journal(entries)).unwrap();
        let next = upgrade.next(at(0), &Facts::default());
        assert_eq!(due(&next, false, 0, &Past::default(), at(0)), Due::Now);
    }

    #[test]
    fn what_another_host_has_taken_up_last_is_left_to_it() {
        let hosts = |hosts: &[&str]| {
            let taken_up = |host: &&str| Entry::TakenUp { host: (*host).into() };
            let journal = journal(hosts.iter().map(taken_up).collect());
            of_other_host(&journal, "here").map(ToOwned::to_owned)
        };
        assert_eq!(hosts(&[]), None);
        assert_eq!(hosts(&["there", "here"]), None);
        assert_eq!(hosts(&["here", "there"]), Some("there".to_owned()));
    }

    #[test]
    fn what_waits_is_left_alone_unless_somebody_said_something() {
        let past = Past::default();
        assert_eq!(due(&WAIT, false, 0, &past, at(0)), Due::Nothing);
        assert_eq!(due(&WAIT, true, 0, &past, at(0)), Due::Now);
        let soak = Decision::Wait { waiting: Waiting::Soak, until: Some(at(5)) };
        assert_eq!(due(&soak, false, 0, &past, at(0)), Due::Nothing);
    }

    #[test]
    fn tries_that_get_nowhere_become_seldom_and_a_word_ends_the_waiting() {
        let mut past = Past::default();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(due(&STEP, false, 2, &past, now), Due::Now);
            past.begins(now, 2);
            let Due::At(next) = due(&STEP, false, 2, &past, now) else { panic!("{past:?}") };
            waits.push(next.duration_since(now).as_mins());
            assert_eq!(due(&STEP, false, 3, &past, now), Due::Now, "somebody said something");
            now = next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        // As long as a job runs nothing is counted but its time.
        past.is_tried(now, 2);
        assert!(matches!(due(&STEP, false, 2, &past, now), Due::At(_)));
        past.has_got_somewhere();
        assert_eq!(due(&STEP, false, 2, &past, now), Due::Now);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nothing_waiting() {
        let mut past = Past::default();
        past.begins(at(600), 0);
        assert_eq!(due(&STEP, false, 0, &past, at(0)), Due::Now);
    }
}

//! People who say what they may and what they may not, and one who acts sensibly when it is a person's turn.

use super::truth::Random;
use crate::model::id::Sha256;
use crate::model::upgrade::{Overridable, Request, RuleName};
use crate::upgrade::machine::{Command, What};
use std::collections::VecDeque;

const NAMES: [&str; 3] = ["alice", "bob", "eve"];
/// `eve` is none.
pub(super) const APPROVERS: [&str; 2] = ["alice", "bob"];

pub(super) struct People {
    pub(super) queue: VecDeque<Command>,
    /// In which hop they are.
    pub(super) hop: usize,
    approved: Vec<usize>,
    overridden: Vec<(Overridable, usize)>,
}

impl People {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), hop: 0, approved: Vec::new(), overridden: Vec::new() }
    }

    /// Whether an approver has ever said yes to this hop of the plan.
    pub(super) fn may_have_approved(&self, hop: usize) -> bool {
        self.approved.contains(&hop)
    }

    /// Whether anybody who may has ever overridden a rule in this hop.
    pub(super) fn may_have_overridden(&self, rule: Overridable, hop: usize) -> bool {
        self.overridden.contains(&(rule, hop))
    }

    pub(super) fn approve(&mut self, by: &str, digest: Sha256, plan: Sha256) {
        if APPROVERS.contains(&by) && digest == plan {
            self.approved.push(self.hop);
        }
        let what = What::Approve(digest);
        self.queue.push_back(Command { by: by.to_owned(), reason: None, what });
    }

    pub(super) fn ask(&mut self, request: Request) {
        let reason = Some("it is what I want".to_owned());
        let what = What::Ask(request);
        self.queue.push_back(Command { by: "alice".to_owned(), reason, what });
    }

    /// Anybody says anything.
    pub(super) fn say_anything(&mut self, random: &mut Random, plan: Sha256) {
        let by = random.pick(&NAMES);
        let reason = random.pick(&[None, Some(" "), Some("because"), Some("because")]);
        let what = match random.below(10) {
            0 | 1 => {
                let digest = if random.per_mille(300) { Sha256([0; 32]) } else { plan };
                return self.approve(by, digest, plan);
            }
            2..=4 => {
                let rule = random.pick(&RuleName::ALL);
                let has_reason = reason.is_some_and(|reason| !reason.trim().is_empty());
                if let (Ok(rule), true) = (Overridable::try_from(rule), has_reason) {
                    self.overridden.push((rule, self.hop));
                }
                What::Override(rule)
            }
            5 | 6 => What::Ask(Request::Resume),
            7 => What::Ask(Request::Abort { keep_staging: random.per_mille(300) }),
            8 => What::Ask(Request::RollBack { discard_current: random.per_mille(300) }),
            _ => What::Ask(Request::AcceptBack),
        };
        let reason = reason.map(str::to_owned);
        self.queue.push_back(Command { by: by.to_owned(), reason, what });
    }

    /// What comes first, and lies there until it is answered.
    pub(super) fn next(&self) -> Option<Command> {
        self.queue.front().cloned()
    }

    pub(super) fn answered(&mut self) {
        self.queue.pop_front();
    }
}

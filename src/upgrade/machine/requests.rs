//! What people may ask of an upgrade, and when: the same conditions for the command line, and for a journal that is read.

use super::state::State;
use super::{Course, Progress, Upgrade};
use crate::model::id::Sha256;
use crate::model::upgrade::{
    Approval, Entry, Overridable, Override, Plan, Request, RuleName, Step,
};

/// Reasons and names are not longer, in bytes.
const MOST_BYTES: usize = 4_096;

/// What a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who, by the credentials of the connection.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// What.
    pub what: What,
}

/// What can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Yes to the plan of this digest.
    Approve(Sha256),
    /// A rule is no hindrance.
    Override(RuleName),
    /// A change of course.
    Ask(Request),
}

/// It may not be said, or not now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What was tried, and why not.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

fn refuse<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), hint: hint.into() })
}

impl Upgrade {
    /// The entry for the journal that a person's word is, or why it is none.
    pub fn hear(&self, command: &Command) -> Result<Entry, Refusal> {
        let pair = self.journal.plan.pair.as_str();
        self.heard(command).map_err(|Refusal { message, hint }| {
            // Below nobody knows its name.
            Refusal { message, hint: hint.replace("PAIR", pair) }
        })
    }

    fn heard(&self, command: &Command) -> Result<Entry, Refusal> {
        let Command { by, reason, what } = command;
        let long = by.len().max(reason.as_deref().map_or(0, str::len));
        if long > MOST_BYTES {
            let message = format!("a reason of {long} bytes cannot be noted");
            return refuse(message, format!("at most {MOST_BYTES} bytes are"));
        }
        let (progress, plan, hop) = (&self.progress, &self.journal.plan, self.progress.hop);
        let (by, reason) = (by.clone(), reason.clone());
        match *what {
            What::Approve(digest) => {
                let approval = Approval { hop, plan: digest, by, reason };
                may_approve(progress, plan, &approval)?;
                Ok(Entry::Approved(approval))
            }
            What::Override(rule) => {
                let Ok(rule) = Overridable::try_from(rule) else {
                    return refuse(
                        format!("cannot override '{rule}': it has no override"),
                        "`belay gate` shows what would make it pass",
                    );
                };
                let it = Override { hop, rule, reason: reason.unwrap_or_default(), by };
                may_override(progress, plan, &it)?;
                Ok(Entry::Overridden(it))
            }
            What::Ask(request) => {
                may_ask(progress, request, reason.as_deref())?;
                Ok(Entry::Asked { request, by, reason })
            }
        }
    }

    /// The changes of course that would be heard now.
    pub fn possible(&self) -> Vec<Request> {
        let all = [
            Request::Resume,
            Request::Abort { keep_staging: false },
            Request::RollBack { discard_current: false },
            Request::RollBack { discard_current: true },
            Request::AcceptBack,
        ];
        let may = |request: &Request| may_ask(&self.progress, *request, Some("why")).is_ok();
        all.into_iter().filter(may).collect()
    }
}

/// Whether the upgrade is on its way to production, and has not got there.
fn is_before_production(progress: &Progress) -> bool {
    !progress.production_touched
        && matches!(progress.course, Course::Forward(_) | Course::StandDown { .. })
}

pub(super) fn may_approve(
    progress: &Progress,
    plan: &Plan,
    approval: &Approval,
) -> Result<(), Refusal> {
    let Approval { hop, plan: digest, by, .. } = approval;
    let approvers = &plan.terms.approvers;
    if approvers.is_empty() {
        return refuse(
            format!("cannot approve: the plan of pair '{}' has no `approvers`", plan.pair),
            "it goes on without; `approvers` in the configuration count for the next plan",
        );
    }
    if !approvers.contains(by) {
        return refuse(
            format!("cannot approve: {by} is none of the approvers, {}", approvers.join(", ")),
            "let one of them say `belay upgrade approve PAIR` as that user: with sudo it is root who says it",
        );
    }
    if *digest != plan.digest() || *hop != progress.hop {
        return refuse(
            "cannot approve: that is another plan than the one on its way",
            "look at it with `belay upgrade show PAIR`, then approve it",
        );
    }
    if !is_before_production(progress) {
        return refuse(
            "cannot approve: there is nothing left to be approved",
            "`belay upgrade status PAIR` says what it is at",
        );
    }
    if progress.tested.is_none() {
        return refuse(
            "cannot approve: staging has not passed its tests yet",
            "approve once it has, and you have looked at it",
        );
    }
    Ok(())
}

pub(super) fn may_override(progress: &Progress, plan: &Plan, it: &Override) -> Result<(), Refusal> {
    let rule = RuleName::from(it.rule);
    let approvers = &plan.terms.approvers;
    if it.reason.trim().is_empty() {
        return refuse(
            format!("cannot override '{rule}' without a reason"),
            "say why: --reason TEXT",
        );
    }
    // Whoever may not approve may not do without the approval either.
    if !approvers.is_empty() && !approvers.contains(&it.by) {
        return refuse(
            format!(
                "cannot override '{rule}': {} is none of the approvers, {}",
                it.by,
                approvers.join(", ")
            ),
            "let one of them override it",
        );
    }
    if it.hop != progress.hop || !is_before_production(progress) {
        return refuse(
            format!("cannot override '{rule}': no gate is left that would ask it"),
            "`belay upgrade status PAIR` says what it is at",
        );
    }
    Ok(())
}

pub(super) fn may_ask(
    progress: &Progress,
    request: Request,
    reason: Option<&str>,
) -> Result<(), Refusal> {
    match request {
        Request::Resume => may_resume(progress),
        Request::Abort { keep_staging } => may_abort(progress, keep_staging),
        Request::AcceptBack => may_accept(progress, reason),
        Request::RollBack { discard_current } => {
            may_roll_back(progress)?;
            if discard_current { may_discard(progress, reason) } else { Ok(()) }
        }
    }
}

fn may_resume(progress: &Progress) -> Result<(), Refusal> {
    let is_over = matches!(progress.course, Course::Over { .. } | Course::Provisional { .. });
    let waits = progress.held || progress.blocked.is_some() || progress.trouble.is_some();
    if is_over || !waits {
        return refuse(
            "cannot resume: nothing was held, and no rule said no",
            "`belay upgrade status PAIR` says what it is at",
        );
    }
    Ok(())
}

fn may_abort(progress: &Progress, keep_staging: bool) -> Result<(), Refusal> {
    match &progress.course {
        Course::Over { state, .. } => {
            let hint = match state {
                State::Committed => "`belay restore` brings a snapshot back",
                _ => "production runs what it ran before",
            };
            refuse(format!("cannot abort: the upgrade is {state}"), hint)
        }
        Course::RollBack(_) => refuse(
            "cannot abort: production is on its way back already",
            "let it end; `belay upgrade resume PAIR` goes on where it is held",
        ),
        // From its beginning: what puts staging back may have been undone meanwhile.
        Course::Abort(_)
            if !progress.held
                && progress.trouble.is_none()
                && (progress.keep_staging || !keep_staging) =>
        {
            refuse(
                "cannot abort: the upgrade is being given up already",
                "`belay upgrade status PAIR` says how far it is",
            )
        }
        _ if progress.production_touched => refuse(
            "cannot abort: production has been touched",
            "`belay upgrade rollback PAIR` brings its old version back",
        ),
        _ => Ok(()),
    }
}

fn may_roll_back(progress: &Progress) -> Result<(), Refusal> {
    match &progress.course {
        Course::Over { state: State::Committed, .. } => refuse(
            "cannot roll back: the upgrade is committed",
            "`belay restore` brings a snapshot back, and says what is lost by that",
        ),
        Course::Over { state, .. } => refuse(
            format!("cannot roll back: the upgrade is {state}"),
            "production runs what it ran before",
        ),
        Course::RollBack(_) if !progress.held && progress.trouble.is_none() => refuse(
            "cannot roll back: production is on its way back already",
            "`belay upgrade status PAIR` says how far it is",
        ),
        _ if !progress.production_touched && progress.hop > 0 => refuse(
            format!("cannot roll back: production has not been touched since hop {}", progress.hop),
            "`belay upgrade abort PAIR` gives the rest up; `belay upgrade show PAIR` names the snapshot before that hop, and belay restore SNAPSHOT --into NAME brings it back, once that version runs again",
        ),
        _ if !progress.production_touched => refuse(
            "cannot roll back: production has not been touched",
            "`belay upgrade abort PAIR` gives the upgrade up",
        ),
        _ => Ok(()),
    }
}

/// Whether production, put back, is right although its tests say no is for a person to say; nothing else is.
fn may_accept(progress: &Progress, reason: Option<&str>) -> Result<(), Refusal> {
    let has_failed =
        progress.trouble.as_ref().is_some_and(|trouble| trouble.step == Step::VerifyBack);
    if !has_failed || !progress.held || !matches!(progress.course, Course::RollBack(_)) {
        return refuse(
            "cannot accept production as it is: it is not held for its tests after a rollback",
            "`belay upgrade status PAIR` says what it is at",
        );
    }
    if reason.is_none_or(|reason| reason.trim().is_empty()) {
        return refuse(
            "cannot accept production as it is without a reason",
            "say why: --reason TEXT",
        );
    }
    Ok(())
}

/// What is there may be lost only where keeping it was tried.
fn may_discard(progress: &Progress, reason: Option<&str>) -> Result<(), Refusal> {
    // Where there are no copies of volumes the second saves it, too.
    let saves = |step| matches!(step, Step::SaveProduction | Step::PutBackProduction);
    let has_failed = progress.trouble.as_ref().is_some_and(|trouble| saves(trouble.step));
    if !has_failed || !matches!(progress.course, Course::RollBack(_)) {
        return refuse(
            "cannot discard production's present state: it was not tried in vain to keep it",
            "roll back without --discard-current first",
        );
    }
    if reason.is_none_or(|reason| reason.trim().is_empty()) {
        return refuse(
            "cannot discard production's present state without a reason",
            "say why: --reason TEXT",
        );
    }
    Ok(())
}

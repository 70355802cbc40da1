//! Which steps follow each other: one list for going on, and one for each way back.

use super::Progress;
use crate::model::upgrade::{Plan, Step};

/// One hop, up to a production that was tested. What reaches out to production stands behind everything that only looks.
pub(super) const HOP: [Step; 23] = [
    Step::PullStaging,
    Step::BackUpStaging,
    Step::BackUpProduction,
    Step::PinBoth,
    Step::GateStaging,
    Step::BaselineStaging,
    Step::UpgradeStaging,
    Step::TestStaging,
    // Once it has soaked.
    Step::TestStagingAgain,
    // Once somebody has approved. Fetched ahead of the window.
    Step::PullProduction,
    // Once a window is open.
    Step::BackUpStagingAgain,
    Step::BaselineProduction,
    Step::GateBeforeStop,
    Step::MaintenanceOn,
    Step::StopWriters,
    Step::BackUpStopped,
    Step::PinLast,
    Step::CopyVolumes,
    Step::HoldWriters,
    // Nothing may come between this and the next.
    Step::GateProduction,
    Step::UpgradeProduction,
    Step::Verify,
    Step::MaintenanceOff,
];

/// Production is as it was, and goes on.
pub(super) const STAND_DOWN: [Step; 2] = [Step::ResumeWriters, Step::EndMaintenance];

/// The upgrade is given up before production is touched: production first, then staging.
pub(super) const ABORT: [Step; 5] = [
    Step::ResumeWriters,
    Step::EndMaintenance,
    Step::SaveStaging,
    Step::PutBackStaging,
    Step::TestStagingBack,
];

/// Production gets its old version back.
pub(super) const ROLL_BACK: [Step; 7] = [
    Step::KeepUsersOut,
    Step::StopProduction,
    Step::SaveProduction,
    Step::PutBackProduction,
    Step::StartBack,
    Step::VerifyBack,
    Step::LetUsersIn,
];

/// Whether a step is one of production's ways back to where users work with it, which nothing else may hinder.
pub fn frees_production(step: Step) -> bool {
    STAND_DOWN.contains(&step) || ROLL_BACK.contains(&step)
}

/// Where a step stands in a hop.
pub(super) fn place(step: Step) -> Option<usize> {
    HOP.iter().position(|it| *it == step)
}

/// Whether a plan has that step at all.
fn is_planned(step: Step, plan: &Plan) -> bool {
    match step {
        Step::MaintenanceOn
        | Step::MaintenanceOff
        | Step::EndMaintenance
        | Step::KeepUsersOut
        | Step::LetUsersIn => plan.terms.maintenance,
        Step::CopyVolumes => plan.terms.copy_volumes,
        Step::TestStagingAgain => !plan.terms.soak.is_zero(),
        _ => true,
    }
}

/// Whether it has to be done, as things are.
fn is_needed(step: Step, plan: &Plan, progress: &Progress) -> bool {
    let is_needed = match step {
        Step::ResumeWriters => progress.writers_stopped,
        Step::EndMaintenance => progress.users_kept_out,
        Step::SaveStaging | Step::PutBackStaging | Step::TestStagingBack => {
            progress.staging_touched && !progress.keep_staging
        }
        Step::SaveProduction => !progress.discard_current,
        _ => true,
    };
    is_needed && is_planned(step, plan)
}

/// The first step from `at` on that has to be done, with its place.
pub(super) fn from(
    steps: &[Step],
    at: usize,
    plan: &Plan,
    progress: &Progress,
) -> Option<(usize, Step)> {
    let rest = steps.iter().copied().enumerate().skip(at);
    rest.into_iter().find(|(_, step)| is_needed(*step, plan, progress))
}

/// The steps of each hop of a plan, in order.
pub fn steps(plan: &Plan) -> Vec<Step> {
    HOP.into_iter().filter(|step| is_planned(*step, plan)).collect()
}

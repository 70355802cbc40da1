//! `belay check`.

use super::arguments::CheckArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output::field;
use super::perform::Said;
use super::render::counted;
use crate::model::job::Work;
use crate::model::size::Bytes;
use crate::ops::check::check;
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};
use crate::repository::check::{CheckOptions, CheckReport, Finding, Severity, Slice};
use serde::Serialize;

#[derive(Serialize)]
struct Document<'a> {
    errors: Vec<&'a Finding>,
    notes: Vec<&'a Finding>,
    #[serde(flatten)]
    report: &'a CheckReport,
}

pub(super) fn run(arguments: &CheckArguments, environment: &Environment) -> Result<Exit, Failure> {
    if environment.bare()?.is_none() {
        let repository = environment.repository()?.name.clone();
        let read_data = arguments.read_data.map(|slice| slice.to_string());
        return environment.run_and_show(&Work::Check { repository, read_data });
    }
    let session = environment.session_anywhere()?;
    let said = said(&session, arguments.read_data, &environment.context)?;
    environment.show_said(said)
}

/// What a check says.
pub(super) fn said(
    session: &Session,
    read_data: Option<Slice>,
    context: &Context,
) -> Result<Said, OpsError> {
    let report = check(session, CheckOptions { read_data }, context)?;
    let (errors, notes) =
        report.findings.iter().partition(|finding| finding.severity == Severity::Damage);
    let document = Document { errors, notes, report: &report };
    let exit = if report.is_damaged() { Exit::Damaged } else { Exit::Done };
    Ok(Said::new(exit, text(&document), &document))
}

fn text(Document { errors, notes, report }: &Document<'_>) -> String {
    let mut lines = Vec::new();
    for finding in notes.iter().chain(errors) {
        let kind = if finding.severity == Severity::Damage { "damage" } else { "note" };
        lines.push(format!("{kind}: {}: {}", field(&finding.object), field(&finding.message)));
        if !finding.snapshots.is_empty() {
            let snapshots: Vec<String> =
                finding.snapshots.iter().map(super::super::model::id::SnapshotId::short).collect();
            lines.push(format!("  touches the snapshots {}", snapshots.join(", ")));
        }
        lines.extend(finding.paths.iter().map(|path| format!("  lost: {path}")));
        if finding.more_paths > 0 {
            lines.push(format!("  and {}", counted(finding.more_paths, "more path", "more paths")));
        }
    }
    lines.push(format!(
        "Checked {}, {} and {}{}.",
        counted(report.snapshots, "snapshot", "snapshots"),
        counted(report.packs, "pack", "packs"),
        counted(report.blobs, "blob", "blobs"),
        if report.bytes_read > 0 {
            format!(", and read {}", Bytes(report.bytes_read))
        } else {
            String::new()
        }
    ));
    lines.push(if errors.is_empty() {
        "No damage was found.".into()
    } else {
        format!(
            "{} found. Snapshots that are not named above still restore.",
            counted(errors.len() as u64, "damage", "damages")
        )
    });
    lines.join("\n")
}

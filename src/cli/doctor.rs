//! `belay doctor`.

mod as_service;

use super::arguments::DoctorArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use crate::ops::doctor::{Finding, Verdict, doctor};

pub(super) fn run(arguments: &DoctorArguments, environment: &Environment) -> Result<Exit, Failure> {
    if arguments.as_service {
        return as_service::run(arguments, environment);
    }
    let config = environment.config()?;
    let findings =
        doctor(config, arguments.name.as_deref(), &environment.secrets, &environment.context)?;
    let exit =
        environment.show(&findings, || findings.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    Ok(match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Failure) => Exit::Failed,
        Some(Verdict::Warning) => Exit::Warned,
        _ => exit,
    })
}

fn line(finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warning => "warn",
        Verdict::Failure => "FAIL",
    };
    let hint = finding.hint.as_ref().map(|hint| format!("\n      {hint}")).unwrap_or_default();
    format!("{mark}  {}: {}{hint}", finding.subject, finding.message)
}

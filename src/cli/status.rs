//! `belay status`.

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use super::remote::Remote;
use super::render::{age, fitting_table, local_time};
use crate::ops::status::{InstanceStatus, Status, status};
use crate::ops::what_to_do;

pub(super) fn run(environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let status = if let Some(daemon) = Remote::of(config) {
        let mut status = daemon.status()?;
        status.problems.extend(daemon.warning());
        status
    } else {
        let mut status = status(config, &environment.secrets, &environment.context)?;
        if config.instances.values().any(|instance| instance.schedule.is_some()) {
            let (why, hint) = Remote::missing(&config.daemon.socket);
            let why = why[..1].to_uppercase() + &why[1..];
            status.problems.push(format!(
                "{why}: what has a schedule may not be backed up by itself.{}",
                what_to_do(Some(hint))
            ));
        }
        status
    };
    let exit = environment.show(&status, || text(&status))?;
    Ok(if status.problems.is_empty() { exit } else { Exit::Warned })
}

fn text(status: &Status) -> String {
    let mut lines = Vec::new();
    if status.instances.is_empty() {
        lines.push("The configuration has no instances.".to_owned());
    } else {
        let rows = status.instances.iter().map(row).collect();
        let header = [
            "INSTANCE",
            "PLATFORM",
            "LAST GOOD",
            "TAKEN",
            "AGE",
            "RPO",
            "SNAPSHOTS",
            "NEXT RUN",
            "LAST RUN",
        ];
        let expendable = ["PLATFORM", "TAKEN", "SNAPSHOTS"];
        lines.push(fitting_table(&header, &["SNAPSHOTS"], rows, &expendable, output::width()));
    }
    if !status.problems.is_empty() {
        lines.push(String::new());
        lines.extend(status.problems.iter().map(|problem| format!("! {problem}")));
    }
    lines.join("\n")
}

fn row(instance: &InstanceStatus) -> Vec<String> {
    let last_run = match (&instance.last_run, instance.last_run_at) {
        (Some(outcome), Some(at)) => format!("{outcome}, {}", local_time(at)),
        (Some(outcome), None) => outcome.clone(),
        (None, _) => "none from this host".into(),
    };
    let none = if instance.snapshots.is_some() { "none" } else { "unknown" };
    vec![
        instance.name.clone(),
        instance.platform.clone(),
        instance.last_good.map_or_else(|| none.into(), |id| id.short()),
        instance.last_good_at.map(local_time).unwrap_or_default(),
        instance.age_seconds.map(age).unwrap_or_default(),
        match instance.rpo_seconds {
            None => String::new(),
            Some(rpo) => {
                let rpo = age(i64::try_from(rpo).unwrap_or(i64::MAX));
                if instance.rpo_breached { format!("{rpo} BREACHED") } else { rpo }
            }
        },
        instance.snapshots.map_or_else(|| none.into(), |count| count.to_string()),
        match (&instance.now, instance.next_run) {
            (Some(now), _) => now.clone(),
            (None, Some(next)) => local_time(next),
            (None, None) => "none".into(),
        },
        last_run,
    ]
}

//! `belay job`.

use super::arguments::{JobArguments, JobCommand};
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use super::remote::Remote;
use super::render::{fitting_table, local_time};
use serde_json::{Value, json};

pub(super) fn run(arguments: &JobArguments, environment: &Environment) -> Result<Exit, Failure> {
    let daemon = Remote::needed(environment.config()?)?;
    match arguments.command {
        JobCommand::List { limit } => {
            let jobs = daemon.jobs(limit)?;
            environment.show(&jobs, || list(&jobs["jobs"]))
        }
        JobCommand::Show { id } => {
            let job = daemon.job(id)?;
            environment.show(&job, || show(&job))
        }
        JobCommand::Cancel { id } => {
            daemon.cancel(id)?;
            let text =
                || format!("Job {id} is asked to stop. `belay job follow {id}` shows how it ends.");
            environment.show(&json!({ "id": id }), text)
        }
        JobCommand::Follow { id } => {
            environment.show_ended(daemon.follow(id, &environment.context, false)?)
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(
        || if value.is_null() { String::new() } else { value.to_string() },
        ToOwned::to_owned,
    )
}

fn time_of(value: &Value) -> String {
    let time = value.as_str().and_then(|text| text.parse().ok());
    time.map(local_time).unwrap_or_default()
}

fn subject(job: &Value) -> String {
    let work = &job["work"];
    let names = [&work["instance"], &work["repository"], &work["pair"]];
    let name = names.into_iter().find(|name| !name.is_null());
    name.map(text_of).unwrap_or_default()
}

/// How it ended, or how far it is.
fn outcome(job: &Value) -> String {
    let ended = &job["ended"];
    match (&job["state"], ended["failure"]["error"].as_str(), ended["exit_code"].as_u64()) {
        (_, Some(error), _) => error.lines().next().unwrap_or_default().to_owned(),
        (_, None, Some(0)) => "done".into(),
        // Where an upgrade rests is told by its state.
        (_, None, Some(_)) if !job["ended"]["document"]["state"].is_null() => {
            text_of(&ended["document"]["state"]).replace('_', " ")
        }
        (_, None, Some(_)) => "done, with warnings".into(),
        (state, None, None) => text_of(state),
    }
}

fn list(jobs: &Value) -> String {
    let jobs = jobs.as_array().map(Vec::as_slice).unwrap_or_default();
    if jobs.is_empty() {
        return "The daemon has had no jobs yet.".into();
    }
    let row = |job: &Value| {
        vec![
            text_of(&job["id"]),
            text_of(&job["work"]["kind"]),
            subject(job),
            text_of(&job["submitted_by"]),
            time_of(&job["submitted_at"]),
            outcome(job),
        ]
    };
    let header = ["ID", "KIND", "OF", "FOR", "ASKED FOR", "STATE"];
    fitting_table(
        &header,
        &[],
        jobs.iter().map(row).collect(),
        &["FOR", "ASKED FOR"],
        output::width(),
    )
}

fn show(job: &Value) -> String {
    let asked_by = job["submitted_by"].as_str();
    let asked_by =
        asked_by.map_or_else(|| "run by a command".into(), |by| format!("asked for by {by}"));
    let mut lines = vec![
        format!("{} of {}: {}", text_of(&job["work"]["kind"]), subject(job), outcome(job)),
        format!("{asked_by} at {}", time_of(&job["submitted_at"])),
    ];
    if let Some(attempt) = job["attempt"].as_u64().filter(|attempt| *attempt > 1) {
        lines.push(format!("attempt {attempt}"));
    }
    if !job["ended_at"].is_null() {
        lines.push(format!("ended at {}", time_of(&job["ended_at"])));
    }
    lines.extend(job["ended"]["text"].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
    lines.extend(job["ended"]["failure"]["hint"].as_str().map(|hint| format!("hint: {hint}")));
    lines.join("\n")
}

//! What `belay apps` tells people.

use super::instances::{outside, pulled_lines};
use crate::access::quote;
use crate::cli::output;
use crate::cli::render::{counted, fitting_table, local_time};
use crate::git::history::Commit;
use crate::git::layout::diff::Difference;
use crate::git::layout::{App, Inventory};
use crate::model::size::Bytes;
use crate::ops::apps::restore::RestoredApp;
use crate::ops::apps::status::{AppsStatus, Compared, GitStatus, MOST_COMMITS, Side};
use crate::ops::apps::{AppLog, AppsList, ShownApp};
use crate::ops::git::FetchOutcome;
use crate::policy::readable::Readability;
use std::fmt::Write as _;

/// Of an id of git so much is shown.
pub(super) fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    String::from_utf8_lossy(&quote::join(&[text.as_bytes().to_vec()])).into_owned()
}

fn commit_line(commit: &Commit) -> String {
    let Commit { id, author, date, subject, .. } = commit;
    format!("{} {} {author}: {subject}", short(id), local_time(*date))
}

pub(super) fn list(list: &AppsList) -> String {
    let mut text = String::new();
    let row = |app: &crate::ops::apps::ListedApp| {
        vec![
            if app.app == app.git.as_str() {
                app.app.clone()
            } else {
                format!("{}/{}", app.git, app.app)
            },
            app.platform.clone(),
            app.branch.clone(),
            short(&app.commit).to_owned(),
            app.pages.to_string(),
            app.queries.to_string(),
            app.fetched_at.map(local_time).unwrap_or_default(),
        ]
    };
    if !list.apps.is_empty() {
        let header = ["APP", "PLATFORM", "BRANCH", "COMMIT", "PAGES", "QUERIES", "FETCHED"];
        let rows = list.apps.iter().map(row).collect();
        text = fitting_table(
            &header,
            &["PAGES", "QUERIES"],
            rows,
            &["PLATFORM", "COMMIT"],
            output::width(),
        );
    } else if list.unread.is_empty() {
        text = "The configuration has no git repository with apps: see [git.NAME] in docs/CONFIGURATION.md.".into();
    }
    for unread in &list.unread {
        let hint = unread.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let _ = write!(text, "\n{}: {}{hint}", unread.git, unread.reason);
    }
    text.trim_start().to_owned()
}

pub(super) fn fetched(fetched: &[FetchOutcome]) -> String {
    let line = |outcome: &FetchOutcome| {
        let it = &outcome.fetched;
        let rewritten = it.rewritten.len() as u64;
        let what = [(it.created, "new"), (it.moved, "moved"), (rewritten, "rewritten or removed")];
        let what: Vec<String> = what
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let what = if what.is_empty() { "nothing new".to_owned() } else { what.join(", ") };
        format!("{}: {what}; {}", outcome.git, counted(it.refs, "ref", "refs"))
    };
    fetched.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn shown(shown: &ShownApp) -> String {
    let Inventory {
        layout, schema, apps, modules, data_sources, lfs, submodules, troubles, ..
    } = &shown.inventory;
    let mut lines = vec![
        format!("{}: {layout}, {}", shown.git, shown.url),
        format!("At {} ({}).", shown.at, short(&shown.commit)),
    ];
    if let Some(at) = shown.fetched_at {
        lines.push(format!("Fetched {}.", local_time(at)));
    }
    lines.extend(schema.as_ref().map(|schema| format!("Files of {schema}.")));
    for app in apps {
        lines.push(String::new());
        app_lines(app, &mut lines);
    }
    let names = |names: Vec<&str>| names.join(", ");
    if !data_sources.is_empty() {
        let all = data_sources.iter().map(|it| it.name.as_str()).collect();
        lines.push(format!("Data sources: {}", names(all)));
    }
    if !modules.is_empty() {
        lines.push(format!(
            "Modules: {}",
            names(modules.iter().map(|it| it.name.as_str()).collect())
        ));
    }
    if lfs.count > 0 {
        let files = counted(lfs.count, "file is", "files are");
        lines.push(format!(
            "{files} stored elsewhere (Git LFS, {}), and in no mirror:",
            Bytes(lfs.size)
        ));
        lines.extend(lfs.first.iter().map(|it| format!("  missing: {} ({})", it.path, it.oid)));
    }
    for submodule in submodules {
        let url = submodule.url.as_deref().unwrap_or("unknown");
        lines.push(format!(
            "Submodule {} at {} of {url}: not in the mirror.",
            submodule.path,
            short(&submodule.commit)
        ));
    }
    lines.extend(troubles.iter().map(|it| format!("Unreadable: {}: {}", it.path, it.reason)));
    if shown.kept > 0 {
        let refs = counted(shown.kept as u64, "ref was", "refs were");
        lines.push(format!("{refs} rewritten or removed: belay apps log {} --kept", shown.git));
    }
    lines.push(outside(&shown.outside));
    lines.join("\n").trim_end().to_owned()
}

fn app_lines(app: &App, lines: &mut Vec<String>) {
    if !app.name.is_empty() {
        lines.push(format!("App {}", app.name));
    }
    let list = |names: &[String]| names.join(", ");
    for page in &app.pages {
        let mut parts = Vec::new();
        if !page.queries.is_empty() {
            parts.push(format!("queries {}", list(&page.queries)));
        }
        if !page.js_objects.is_empty() {
            parts.push(format!("JS objects {}", list(&page.js_objects)));
        }
        parts.extend(page.widgets.map(|count| counted(count, "widget", "widgets")));
        lines.push(format!("  page {}: {}", page.name, parts.join("; ")));
    }
    for (what, names) in [
        ("queries", &app.queries),
        ("JS objects", &app.js_objects),
        ("versions", &app.versions),
        ("libraries", &app.libraries),
    ] {
        if !names.is_empty() {
            lines.push(format!("  {what}: {}", list(names)));
        }
    }
}

pub(super) fn log(log: &AppLog, is_kept: bool) -> String {
    if !is_kept {
        return log.commits.iter().map(commit_line).collect::<Vec<_>>().join("\n");
    }
    if log.kept.is_empty() {
        return format!("Nothing was pushed away in {} since Belay mirrors it.", log.git);
    }
    let mut lines = Vec::new();
    for kept in &log.kept {
        lines.push(format!(
            "{} {}",
            local_time(kept.rewrite.seen_at),
            kept.rewrite.told(log.git.as_str())
        ));
        lines.extend(kept.commits.iter().map(|commit| format!("  {}", commit_line(commit))));
    }
    let git = &log.git;
    lines.push(format!("To bring one back: belay apps restore {git} --at COMMIT --branch NAME"));
    lines.join("\n")
}

pub(super) fn difference(difference: &Difference) -> String {
    let mut lines: Vec<String> = difference.changes.iter().map(ToString::to_string).collect();
    if difference.changes_left_out > 0 {
        lines.push(format!("and {} more", difference.changes_left_out));
    }
    lines.extend(
        difference.troubles.iter().map(|it| format!("unreadable: {}: {}", it.path, it.reason)),
    );
    if lines.is_empty() {
        lines.push("Nothing differs.".into());
    }
    lines.join("\n")
}

pub(super) fn status(status: &AppsStatus) -> String {
    status.git.iter().map(git_status).collect::<Vec<_>>().join("\n\n")
}

fn git_status(status: &GitStatus) -> String {
    let fetched = status
        .fetched_at
        .map_or("never fetched".into(), |at| format!("fetched {}", local_time(at)));
    let mut lines = vec![format!("{} (pair {}, {fetched})", status.name, status.pair)];
    lines.extend(status.trouble.as_ref().map(|trouble| format!("  {trouble}")));
    if let Some(compared) = &status.compared {
        compared_lines(compared, &mut lines);
    }
    lines.join("\n")
}

fn compared_lines(compared: &Compared, lines: &mut Vec<String>) {
    let Compared { staging, production, relation, commits, readable, raised_by } = compared;
    for (name, side) in [("staging", staging), ("production", production)] {
        lines.push(format!("  {name}: {}", side_text(side)));
        pulled_lines(name, side, lines);
    }
    let ahead = counted(relation.ahead, "commit", "commits");
    let behind = counted(relation.behind, "commit", "commits");
    lines.push(match (relation.ahead, relation.behind) {
        (0, 0) => "  Both are at the same commit.".into(),
        (_, 0) => format!("  Staging is {ahead} ahead."),
        (0, _) => format!("  Staging is {behind} behind: it has nothing that production has not."),
        _ => format!(
            "  They have diverged: staging has {ahead} of its own, and production {behind}."
        ),
    });
    for ahead in commits {
        lines.push(format!("    {}", commit_line(&ahead.commit)));
        let changes = &ahead.changed.difference;
        lines.extend(changes.changes.iter().take(10).map(|change| format!("      {change}")));
        let more = changes.changes.len().saturating_sub(10) as u64 + changes.changes_left_out;
        if more > 0 {
            lines.push(format!("      and {more} more"));
        }
    }
    let more = relation.ahead.saturating_sub(MOST_COMMITS as u64);
    if more > 0 {
        lines.push(format!("    and {more} more"));
    }
    lines.push(match readable {
        Readability::Readable => "  Readable by production.".into(),
        Readability::NotReadable { reason } => format!("  NOT readable by production: {reason}."),
        Readability::Unknown { reason } => {
            format!("  Whether production could read it is not known: {reason}.")
        }
    });
    if let Some(commit) = raised_by {
        lines.push(format!("  The version of the files was raised by {}", commit_line(commit)));
    }
}

fn side_text(side: &Side) -> String {
    let version = side
        .version
        .as_ref()
        .map_or("of a version that is not known".into(), |it| format!("of version {it}"));
    let schema = side.schema.as_ref().map(|it| format!(", files of {it}")).unwrap_or_default();
    format!(
        "{} {version}, branch {} at {}{schema}",
        side.instance,
        side.branch,
        short(&side.commit)
    )
}

pub(super) fn restored(restored: &RestoredApp) -> String {
    format!("{}\n{}", what_was_restored(restored), outside(&restored.outside)).trim_end().to_owned()
}

fn what_was_restored(restored: &RestoredApp) -> String {
    let from = short(&restored.from_commit);
    if let Some(files) = &restored.directory {
        let count = counted(files.written.files, "file", "files");
        return format!(
            "{count} ({}) of {} as of {from} are in {}.",
            Bytes(files.written.bytes),
            restored.git,
            files.target
        );
    }
    let Some(branch) = &restored.branch else { return String::new() };
    // A stranger named the branches, and the lines below are to be pasted.
    let name = quoted(&branch.branch);
    let onto = quoted(branch.onto.as_deref().unwrap_or("BRANCH"));
    let mut lines = vec![format!(
        "The branch {name} ({}) brings {} back as of {from}, on top of {onto}.",
        short(&branch.commit),
        restored.git
    )];
    if branch.is_pushed {
        lines.push(format!("It was pushed. To take it: open a pull request from {name} into {onto}, or, in a clone:"));
        lines.push(format!(
            "  git fetch && git checkout {onto} && git merge --ff-only origin/{name} && git push"
        ));
    } else {
        lines.push("It was not pushed. In a clone:".into());
        lines.push(format!(
            "  git fetch {} {}:{name}",
            quoted(&branch.mirror.to_string()),
            quoted(&branch.mirror_ref)
        ));
        lines.push(format!("  git checkout {onto} && git merge --ff-only {name} && git push"));
    }
    lines.join("\n")
}

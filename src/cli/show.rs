//! `belay show`.

use super::arguments::SnapshotArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output::field;
use super::render::{local_time, table};
use crate::model::size::Bytes;
use crate::ops::show::{Shown, show};

pub(super) fn run(
    arguments: &SnapshotArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let session = environment.session_of(&arguments.snapshot)?;
    let shown = show(&session, &arguments.snapshot, &environment.context)?;
    environment.show(&shown, || text(&shown))
}

fn text(shown: &Shown) -> String {
    let mut lines =
        vec![format!("snapshot   {}", shown.id), format!("time       {}", local_time(shown.time))];
    let Some(manifest) = &shown.manifest else {
        lines.push(format!("host       {}", field(&shown.host)));
        lines.push(format!("tags       {}", field(&shown.tags.join(", "))));
        lines.push("Another program made it: there is no manifest.".into());
        return lines.join("\n");
    };
    let instance = &manifest.instance;
    lines.push(format!(
        "instance   {} ({}) on {}",
        instance.name,
        instance.id,
        field(&instance.host)
    ));
    let version = manifest.version.as_ref().map(|version| format!(" {version}"));
    let platform = manifest.platform.clone() + &version.unwrap_or_default();
    lines.push(format!("platform   {}", field(&platform)));
    lines.push(format!(
        "size       {}, {} new",
        Bytes(manifest.size_bytes),
        Bytes(manifest.added_bytes)
    ));
    lines.push(format!("written by {}", field(&manifest.program)));
    for warning in &manifest.warnings {
        lines.push(format!("warning    {}", field(warning)));
    }
    lines.push(String::new());
    let rows = manifest.components.iter().map(|component| {
        let counts = component.counts.iter().filter(|(_, count)| **count > 0);
        let counts: Vec<String> = counts.map(|(kind, count)| format!("{kind} {count}")).collect();
        vec![
            component.name.clone(),
            component.kind.clone(),
            component.source.clone(),
            Bytes(component.size_bytes).to_string(),
            counts.join(", "),
        ]
    });
    lines.push(table(&["COMPONENT", "KIND", "FROM", "SIZE", "COUNTS"], &[3], rows.collect()));
    lines.join("\n")
}

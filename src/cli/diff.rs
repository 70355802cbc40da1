//! `belay diff`.

use super::arguments::DiffArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use crate::model::size::Bytes;
use crate::ops::diff::{Change, Difference, diff};

pub(super) fn run(arguments: &DiffArguments, environment: &Environment) -> Result<Exit, Failure> {
    let session = environment.session_of(&arguments.a)?;
    let has_several =
        environment.global.repository.is_none() && environment.config()?.repositories.len() > 1;
    if has_several && environment.session_of(&arguments.b)?.name != session.name {
        return Err(Failure::usage(
            format!("'{}' and '{}' are in different repositories", arguments.a, arguments.b),
            "only snapshots of one repository can be compared",
        ));
    }
    let mut differences = Vec::new();
    let mut counts = [0_u64; 4];
    let mut failed = None;
    diff(&session, (&arguments.a, &arguments.b), &environment.context, &mut |difference| {
        counts[difference.change as usize] += 1;
        if environment.global.json {
            differences.push(difference);
        } else if let Err(failure) = output::line(line(&difference)) {
            failed.get_or_insert(failure);
        }
    })?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    environment.show(&differences, || {
        let [added, removed, modified, metadata] = counts;
        format!("{added} added, {removed} removed, {modified} changed, {metadata} with other metadata only")
    })
}

fn line(difference: &Difference) -> String {
    let Difference { change, path, size_before, size_after } = difference;
    match change {
        Change::Added => format!("+ {path} ({})", Bytes(*size_after)),
        Change::Removed => format!("- {path} ({})", Bytes(*size_before)),
        Change::Modified => format!("M {path} ({} to {})", Bytes(*size_before), Bytes(*size_after)),
        Change::Metadata => format!("m {path}"),
    }
}

//! `belay ls`.

use super::arguments::LsArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use super::render::local_time;
use crate::ops::show::{Entry, list_entries};
use std::os::unix::ffi::OsStrExt as _;

pub(super) fn run(arguments: &LsArguments, environment: &Environment) -> Result<Exit, Failure> {
    let session = environment.session_of(&arguments.snapshot)?;
    let mut entries = Vec::new();
    let mut failed = None;
    list_entries(
        &session,
        &arguments.snapshot,
        arguments.path.as_bytes(),
        &environment.context,
        &mut |entry| {
            if environment.global.json {
                entries.push(entry);
            } else if let Err(failure) = output::line(line(&entry)) {
                failed.get_or_insert(failure);
            }
        },
    )?;
    match failed {
        Some(failure) => Err(failure),
        None => environment.show(&entries, String::new),
    }
}

/// As `ls -l` has it, with numbers for owners.
fn line(entry: &Entry) -> String {
    let kind = match entry.kind {
        "dir" => 'd',
        "symlink" => 'l',
        "dev" => 'b',
        "chardev" => 'c',
        "fifo" => 'p',
        "socket" => 's',
        _ => '-',
    };
    let target = entry.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
    format!(
        "{kind}{} {:>5} {:>5} {:>12} {} {}{target}",
        permissions(entry.mode),
        entry.uid,
        entry.gid,
        entry.size,
        local_time(entry.mtime),
        entry.path
    )
}

fn permissions(mode: u32) -> String {
    let special = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    let mut text = String::with_capacity(9);
    for (index, (bit, with_execute, without)) in special.into_iter().enumerate() {
        let bits = mode >> (6 - 3 * index);
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & bit != 0, bits & 1 != 0) {
            (true, true) => with_execute,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_shown_as_ls_shows_them() {
        for (mode, text) in [
            (0o755, "rwxr-xr-x"),
            (0o4755, "rwsr-xr-x"),
            (0o2644, "rw-r-Sr--"),
            (0o1777, "rwxrwxrwt"),
            (0, "---------"),
        ] {
            assert_eq!(permissions(mode), text);
        }
    }
}

//! The names of users and groups, as this machine has them: a help for people; numbers are what is restored.

use std::collections::HashMap;
use std::path::Path;

/// Names by number.
pub(super) struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// What `/etc/passwd` and `/etc/group` say; nothing where they cannot be read.
    pub(super) fn read() -> Self {
        let names = |file: &str| {
            std::fs::read(Path::new(file)).map_or_else(|_| HashMap::new(), |text| parse(&text))
        };
        Self { users: names("/etc/passwd"), groups: names("/etc/group") }
    }

    /// A user's name, empty where it has none.
    pub(super) fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_default()
    }

    /// A group's name, empty where it has none.
    pub(super) fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_default()
    }
}

/// Name and number are the first and the third field of both files. Lines of another kind are passed over.
fn parse(text: &[u8]) -> HashMap<u32, String> {
    let entry = |line: &[u8]| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    // Of two names for one number the first counts, as for the C library.
    text.split(|byte| *byte == b'\n').rev().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts_and_odd_lines_are_passed_over() {
        let text =
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n\xff:x:7:\n+::::\n# note\nada:x:1000:";
        let names = parse(text);
        assert_eq!((names.len(), names[&0].as_str(), names[&1000].as_str()), (2, "root", "ada"));
    }
}

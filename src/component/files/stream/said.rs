//! What GNU tar says on its standard error when it could read everything, or everything that was still there.

use crate::component::files::walk::{PathList, WalkReport};

/// What stands where the middle of a long speech was left out.
const LEFT_OUT: &str = " bytes left out]";

/// All that was said is of these kinds. Paths are as tar writes them, escaped for people.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    changed: PathList,
    vanished: PathList,
    sockets: u64,
}

impl Said {
    /// None where something else was said, too.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut said = Self::default();
        let mut lines = text.lines().filter(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next() {
            // Beside the gap there is half a line each.
            let is_gap = |line: &str| line.starts_with('[') && line.ends_with(LEFT_OUT);
            if lines.peek().is_some_and(|next| is_gap(next)) {
                lines.nth(1);
                continue;
            }
            let line = line.strip_prefix("tar: ")?;
            let (path, what) = line.rsplit_once(": ")?;
            let path = path.strip_prefix("./").unwrap_or(path);
            let has_shrunk =
                what.starts_with("File shrank by ") && what.ends_with("; padding with zeros");
            match what {
                "socket ignored" => said.sockets += 1,
                "file changed as we read it" => said.changed.add_shown(path),
                "File removed before we read it" => said.vanished.add_shown(path),
                _ if has_shrunk => said.changed.add_shown(path),
                _ => return None,
            }
        }
        Some(said)
    }

    /// Whether nothing changed or vanished.
    pub(super) fn is_all_read(&self) -> bool {
        self.changed.count == 0 && self.vanished.count == 0
    }

    pub(super) fn add_to(self, report: &mut WalkReport) {
        report.changed = self.changed;
        report.vanished = self.vanished;
        report.excluded += self.sockets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_harmless_passes() {
        let text = "tar: ./a: file changed as we read it\ntar: ./b: c: File shrank by 3 bytes; padding with zeros\n\
                    tar: ./d: File removed before we read it\ntar: ./s: socket ignored\n";
        let said = Said::parse(text).unwrap();
        assert_eq!((said.changed.paths.join(" "), said.changed.count), ("a b: c".into(), 2));
        assert_eq!((said.vanished.paths.join(" "), said.sockets), ("d".into(), 1));
        assert!(!said.is_all_read() && Said::parse("").unwrap().is_all_read());
        for bad in [
            "tar: ./a: Cannot open: Permission denied",
            "tar: Exiting with failure status due to previous errors",
            "tar: ./a: Read error at byte 0, while reading 512 bytes: Input/output error",
            "Error response from daemon: file changed as we read it",
            "tar: file changed as we read it, too",
        ] {
            assert_eq!(Said::parse(&format!("{text}{bad}\n")), None, "{bad}");
        }
        let long =
            format!("{text}tar: ./x: file ch\n[700 bytes left out]\ned as we read it\n{text}");
        assert_eq!(Said::parse(&long).unwrap().changed.count, 4);
    }
}

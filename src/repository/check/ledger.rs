//! Where findings are gathered. However much is damaged, the report stays short enough to be held in memory and read.

use super::report::{Finding, FindingKind, LostPath, MAX_PATHS, Severity};
use crate::model::exact_path::ExactPath;
use crate::model::id::{BlobId, SnapshotId};
use crate::repository::RepositoryError;
use crate::repository::format::pack::BlobKind;
use crate::store::FileKind;
use std::collections::HashMap;

/// So many findings of a kind are told one by one; all further ones share one finding.
const MAX_FINDINGS: usize = 1000;

/// A finding's place in the ledger.
pub(super) type Number = usize;

/// The findings so far.
#[derive(Default)]
pub(super) struct Ledger {
    findings: Vec<Finding>,
    counts: HashMap<(Severity, FindingKind), usize>,
    overflows: HashMap<(Severity, FindingKind), (Number, u64)>,
}

/// What is wrong with a single file, to stand behind its name; what concerns no single file is an error again.
pub(super) fn fault(error: RepositoryError) -> Result<String, RepositoryError> {
    match error {
        RepositoryError::Damaged { source, .. } => Ok(source.to_string()),
        RepositoryError::DamagedConfig { reason, .. } => Ok(reason),
        RepositoryError::Store(error) => Ok(format!("it could not be read ({})", error.source)),
        RepositoryError::MissingBlob { .. } => Ok(error.to_string()),
        other => Err(other),
    }
}

/// A blob's name, for people.
pub(super) fn blob_name(kind: BlobKind, id: BlobId) -> String {
    match kind {
        BlobKind::Data => format!("data blob {id}"),
        BlobKind::Tree => format!("tree blob {id}"),
    }
}

impl Ledger {
    /// Add something damaged.
    pub(super) fn damage(
        &mut self,
        kind: FindingKind,
        object: impl Into<String>,
        message: String,
    ) -> Number {
        self.add(Severity::Damage, kind, object.into(), message)
    }

    /// Add something harmless.
    pub(super) fn note(&mut self, kind: FindingKind, object: impl Into<String>, message: String) {
        self.add(Severity::Note, kind, object.into(), message);
    }

    fn add(
        &mut self,
        severity: Severity,
        kind: FindingKind,
        object: String,
        message: String,
    ) -> Number {
        let count = self.counts.entry((severity, kind)).or_default();
        *count += 1;
        if *count <= MAX_FINDINGS {
            return self.push(severity, kind, object, message);
        }
        if let Some((number, more)) = self.overflows.get_mut(&(severity, kind)) {
            *more += 1;
            return *number;
        }
        let folder = match kind {
            FindingKind::Config => "config",
            FindingKind::Key => FileKind::Key.folder(),
            FindingKind::Lock => FileKind::Lock.folder(),
            FindingKind::Index => FileKind::Index.folder(),
            FindingKind::Snapshot => FileKind::Snapshot.folder(),
            FindingKind::Pack | FindingKind::Tree | FindingKind::Blob => FileKind::Pack.folder(),
        };
        let number = self.push(severity, kind, folder.to_owned(), String::new());
        self.overflows.insert((severity, kind), (number, 1));
        number
    }

    fn push(
        &mut self,
        severity: Severity,
        kind: FindingKind,
        object: String,
        message: String,
    ) -> Number {
        let (snapshots, paths) = (Vec::new(), Vec::new());
        let finding = Finding { severity, kind, object, message, snapshots, paths, more_paths: 0 };
        self.findings.push(finding);
        self.findings.len() - 1
    }

    /// A finding touches a snapshot. All findings of one snapshot are told before the next snapshot's.
    pub(super) fn touch(&mut self, number: Number, snapshot: SnapshotId) {
        let snapshots = &mut self.findings[number].snapshots;
        if snapshots.last() != Some(&snapshot) {
            snapshots.push(snapshot);
        }
    }

    /// Paths in `directory` of a snapshot are lost by a finding: `names` are some of `count`.
    pub(super) fn lose(
        &mut self,
        number: Number,
        snapshot: SnapshotId,
        directory: &[u8],
        names: &[Box<[u8]>],
        count: u64,
    ) {
        let finding = &mut self.findings[number];
        let room = MAX_PATHS - finding.paths.len();
        for name in names.iter().take(room) {
            let path = [directory, b"/", name].concat();
            let path = ExactPath::of_bytes("path", &path);
            finding.paths.push(LostPath { snapshot, path });
        }
        finding.more_paths += count - names.len().min(room) as u64;
    }

    /// Say more about a finding.
    pub(super) fn append(&mut self, number: Number, sentence: &str) {
        let message = &mut self.findings[number].message;
        if !message.is_empty() {
            message.push(' ');
        }
        message.push_str(sentence);
    }

    /// The snapshots that a finding touches.
    pub(super) fn snapshots(&self, number: Number) -> &[SnapshotId] {
        &self.findings[number].snapshots
    }

    /// All findings, damage first, each in the order in which it was found.
    pub(super) fn into_findings(mut self) -> Vec<Finding> {
        for ((_, kind), (number, count)) in self.overflows {
            self.findings[number].message = format!(
                "{count} more findings of the kind `{kind}`, beyond the {MAX_FINDINGS} that are told one by one."
            );
        }
        for finding in &mut self.findings {
            let is_pack = (finding.severity, finding.kind) == (Severity::Damage, FindingKind::Pack);
            if is_pack && finding.snapshots.is_empty() {
                finding.message.push_str(" No snapshot that could be read is touched.");
            }
        }
        self.findings.sort_by_key(|finding| finding.severity);
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_much_is_damaged_the_report_stays_short() {
        let mut ledger = Ledger::default();
        ledger.note(FindingKind::Pack, "data", "A note.".into());
        let snapshot = SnapshotId([1; 32]);
        for number in 0..5000 {
            let number = ledger.damage(FindingKind::Blob, format!("{number}"), "Gone.".into());
            ledger.touch(number, snapshot);
            ledger.lose(number, snapshot, b"/a", &[b"b"[..].into(), b"c"[..].into()], 3);
        }
        let findings = ledger.into_findings();
        assert_eq!(findings.len(), MAX_FINDINGS + 2);
        let overflow = &findings[MAX_FINDINGS];
        assert!(overflow.message.starts_with("4000 more findings"), "{}", overflow.message);
        assert_eq!(overflow.snapshots, [snapshot]);
        assert_eq!(overflow.paths.len(), MAX_PATHS);
        assert_eq!(overflow.more_paths, 4000 * 3 - MAX_PATHS as u64);
        let paths: Vec<String> = findings[0].paths.iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["01010101:/a/b", "01010101:/a/c"]);
        assert_eq!(findings[0].more_paths, 1);
        assert_eq!(findings[MAX_FINDINGS + 1].severity, Severity::Note);
    }
}

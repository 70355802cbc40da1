//! The proof that the keys in a snapshot decrypt the ciphertext in it (promise 6), made while the dump streams by.

use crate::component::postgres::archive::{TapRow, Wanted};
use crate::model::manifest::KeyFit;
use crate::ops::instance::Living;
use crate::platform::keyfit::tooljet::{FIELDS, FitProof, MasterKey, ORGANIZATION_IDS};
use crate::platform::recipe::CipherFamily;

/// The schema that platforms have their tables in.
const SCHEMA: &str = "public";

/// Tries what is encrypted.
pub(super) struct KeyProof {
    /// The database that holds ciphertext; none where the platform encrypts nothing.
    database: Option<String>,
    proof: Option<FitProof>,
    problems: Vec<String>,
}

/// What trying showed.
pub(super) struct Proven {
    pub(super) verdict: KeyFit,
    pub(super) warnings: Vec<String>,
}

impl KeyProof {
    /// With the keys that an instance really has.
    pub(super) fn of(living: &Living<'_>) -> Self {
        let Some(recipe) = &living.recipe.key_fit else {
            return Self { database: None, proof: None, problems: Vec::new() };
        };
        let CipherFamily::Tooljet = recipe.family;
        let key = &recipe.key;
        let (proof, problem) = match living.variable(key).map(MasterKey::parse) {
            Some(Ok(master)) => (Some(FitProof::new(master)), None),
            Some(Err(problem)) => (None, Some(format!("{key}: {problem}"))),
            None => (
                None,
                Some(format!(
                    "{key} is not set: nothing that is encrypted could be read after a restore"
                )),
            ),
        };
        let database = living.database_name(&recipe.database);
        Self { database, proof, problems: problem.into_iter().collect() }
    }

    /// The rows that it wants to see of a database.
    pub(super) fn wanted(&self, database: &str) -> Vec<Wanted> {
        if self.database.as_deref() != Some(database) || self.proof.is_none() {
            return Vec::new();
        }
        let table = |table: &str, columns: &[&str]| Wanted {
            schema: SCHEMA.into(),
            table: table.into(),
            columns: columns.iter().map(|column| (*column).into()).collect(),
        };
        let fields =
            FIELDS.iter().map(|field| table(field.table, &[field.id_column, field.value_column]));
        fields.chain([table(ORGANIZATION_IDS.0, &[ORGANIZATION_IDS.1])]).collect()
    }

    /// A row that it wanted to see.
    pub(super) fn row(&mut self, row: &TapRow<'_>) {
        let Some(proof) = &mut self.proof else { return };
        match (FIELDS.get(row.wanted), row.values) {
            (Some(field), [id, value]) => proof.add(field, id.as_deref(), value.as_deref()),
            (_, [Some(id)]) => proof.add_organization(id),
            _ => {}
        }
    }

    /// All was read.
    pub(super) fn finish(self) -> Proven {
        let mut warnings = self.problems;
        let mut verdict = if warnings.is_empty() { KeyFit::Unproven } else { KeyFit::Unfit };
        if let Some(proof) = self.proof {
            let report = proof.finish();
            verdict = report.verdict();
            warnings.extend(report.warnings());
        }
        Proven { verdict, warnings }
    }
}

//! The proof that the keys in a snapshot decrypt the ciphertext in it (promise 6), made while the dump streams by.

pub(in crate::ops) mod documents;

use self::documents::DocumentProof;
use crate::component::postgres::archive::{Missing, TapRow, Wanted};
use crate::model::manifest::KeyFit;
use crate::ops::instance::Living;
use crate::platform::keyfit::tooljet::{self, FIELDS, FitProof, MasterKey};
use crate::platform::recipe::KeyFitRecipe;

const NOTHING_READABLE: &str = "nothing that is encrypted could be read after a restore";

/// Tries what is encrypted.
pub(super) struct KeyProof {
    /// The database that holds ciphertext; none where the platform encrypts nothing, or nobody says.
    database: Option<String>,
    /// The variable that says which it is.
    variable: String,
    proof: Option<FitProof>,
    /// For what is encrypted in documents.
    documents: Option<DocumentProof>,
    problems: Vec<String>,
    /// What was wanted of that database and is not there; none where it was not read.
    missing: Option<Vec<Missing>>,
}

/// What trying showed.
pub(super) struct Proven {
    pub(super) verdict: KeyFit,
    pub(super) warnings: Vec<String>,
}

impl KeyProof {
    /// With the keys that an instance really has.
    pub(super) fn of(living: &Living<'_>) -> Self {
        let mut proof = Self {
            database: None,
            variable: String::new(),
            proof: None,
            documents: None,
            problems: Vec::new(),
            missing: None,
        };
        match &living.recipe.key_fit {
            None => {}
            Some(KeyFitRecipe::Appsmith { password, salt }) => {
                let not_set = |name| format!("{name} is not set: {NOTHING_READABLE}");
                match (living.variable(password), living.variable(salt)) {
                    (Some(password), Some(salt)) => {
                        proof.documents = Some(DocumentProof::new(password, salt));
                    }
                    (None, _) => proof.problems.push(not_set(password)),
                    (_, None) => proof.problems.push(not_set(salt)),
                }
            }
            Some(KeyFitRecipe::Tooljet { key, database }) => {
                match living.variable(key).map(MasterKey::parse) {
                    Some(Ok(master)) => proof.proof = Some(FitProof::new(master)),
                    Some(Err(problem)) => proof.problems.push(format!("{key}: {problem}")),
                    None => proof.problems.push(format!("{key} is not set: {NOTHING_READABLE}")),
                }
                proof.database = living.database_name(database);
                proof.variable.clone_from(database);
            }
        }
        proof
    }

    /// A document has come by.
    pub(super) fn document(&self, collection: &str, document: &[u8]) {
        if let Some(proof) = &self.documents {
            proof.see(collection, document);
        }
    }

    /// The rows that it wants to see of a database.
    pub(super) fn wanted(&self, database: &str) -> Vec<Wanted> {
        if self.database.as_deref() != Some(database) || self.proof.is_none() {
            return Vec::new();
        }
        wanted()
    }

    /// A database was read, in which this much of what was wanted is not.
    pub(super) fn was_read(&mut self, database: &str, missing: &[Missing]) {
        if self.database.as_deref() == Some(database) {
            self.missing = Some(missing.to_vec());
        }
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

    /// All was read: these databases. Where only a part was meant to be, what it lacks is no news.
    pub(super) fn finish(mut self, read: &[String], is_part: bool) -> Proven {
        let tried = self.proof.take().map(FitProof::finish);
        let whole = tried.as_ref().filter(|_| !is_part);
        let unlooked = whole.and_then(|report| self.unlooked(report.tried() == 0, read));
        let mut warnings = self.problems;
        let mut verdict = if warnings.is_empty() { KeyFit::Unproven } else { KeyFit::Unfit };
        if let Some(report) = tried {
            verdict = report.verdict();
            warnings.extend(report.warnings());
        }
        if let Some(report) = self.documents.map(DocumentProof::finish) {
            verdict = report.verdict();
            warnings.extend(report.warnings());
        }
        warnings.extend(unlooked);
        Proven { verdict, warnings }
    }

    /// What could not be looked at. A table that is missing is an older version's, and worth a word only where nothing was
    /// found in the others; a column that is missing is a version's that is not known.
    fn unlooked(&self, is_nothing_tried: bool, read: &[String]) -> Option<String> {
        let variable = &self.variable;
        let Some(database) = &self.database else {
            return Some(format!(
                "whether the keys fit is not known: {variable}, which names the database with what is encrypted, is not set"
            ));
        };
        let Some(missing) = &self.missing else {
            return Some(format!(
                "whether the keys fit is not known: what is encrypted is in the database {database} ({variable}), and only {} was read",
                read.join(", ")
            ));
        };
        let wanted = wanted();
        let told = missing.iter().filter(|missing| is_nothing_tried || missing.column.is_some());
        let told: Vec<String> = told
            .map(|missing| {
                let table = &wanted[missing.wanted].table;
                missing.column.as_ref().map_or(table.clone(), |column| format!("{table}.{column}"))
            })
            .collect();
        (!told.is_empty()).then(|| {
            let told = told.join(", ");
            format!("whether all keys fit is not known: the database {database} has no {told}")
        })
    }
}

/// All rows that ciphertext may stand in, and what else its keys are found by.
fn wanted() -> Vec<Wanted> {
    let wanted = |(table, columns): (&str, Vec<&str>)| Wanted {
        schema: tooljet::SCHEMA.into(),
        table: table.into(),
        columns: columns.into_iter().map(Into::into).collect(),
    };
    tooljet::tables().map(wanted).collect()
}

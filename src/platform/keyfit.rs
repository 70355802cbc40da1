//! The proof that the encryption keys in a snapshot decrypt the ciphertext in it: every ciphertext is tried while the
//! dump streams by, and what was found is counted.
//!
//! Neither a value nor a key is kept in a report, shown or logged: only in which table, column and row it stands.

pub mod appsmith;
pub mod tooljet;

use crate::model::manifest::KeyFit;
use crate::model::node::display_path;
use std::fmt;

/// So many places of a kind are named.
const NAMED_PLACES: usize = 5;
/// A longer row id is cut.
const MAX_ROW_BYTES: usize = 64;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitPlace {
    /// The table.
    pub table: String,
    /// The column, and the member in it where it holds JSON.
    pub column: String,
    /// The row's id, where it is known.
    pub row: Option<String>,
}

impl FitPlace {
    /// A value in a row whose id is known as the dump shows it.
    pub fn new(table: &str, column: &str, row: Option<&[u8]>) -> Self {
        let row = row.map(|id| display_path(&id[..id.len().min(MAX_ROW_BYTES)]));
        Self { table: table.to_owned(), column: column.to_owned(), row }
    }
}

impl fmt::Display for FitPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.table, self.column)?;
        self.row.as_ref().map_or(Ok(()), |row| write!(formatter, " of row {row}"))
    }
}

/// What became of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The keys decrypt it.
    Fit,
    /// It is shaped as ciphertext, and they do not.
    Unfit,
    /// It is not shaped as ciphertext.
    NotCiphertext,
    /// It is shaped as ciphertext, and could not be tried.
    Untried,
}

/// How many values there were of one outcome, and where the first of them stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub count: u64,
    /// The first few.
    pub places: Vec<FitPlace>,
}

impl Count {
    fn add(&mut self, place: FitPlace) {
        self.count += 1;
        if self.places.len() < NAMED_PLACES {
            self.places.push(place);
        }
    }
}

/// What trying all ciphertext showed. Values that are empty or NULL are in none of the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FitReport {
    /// Ciphertexts that were decrypted.
    pub fit: u64,
    /// Ciphertexts that were not.
    pub unfit: Count,
    /// Values that should be ciphertext and are not shaped so: a warning.
    pub not_ciphertext: Count,
    /// Ciphertexts that could not be tried: a warning.
    pub untried: Count,
}

impl FitReport {
    /// Count one value.
    pub fn record(&mut self, place: FitPlace, outcome: Outcome) {
        match outcome {
            Outcome::Fit => self.fit += 1,
            Outcome::Unfit => self.unfit.add(place),
            Outcome::NotCiphertext => self.not_ciphertext.add(place),
            Outcome::Untried => self.untried.add(place),
        }
    }

    /// Ciphertexts that were tried.
    pub fn tried(&self) -> u64 {
        self.fit + self.unfit.count
    }

    /// The verdict on the keys: one ciphertext that does not decrypt makes them unfit.
    pub fn verdict(&self) -> KeyFit {
        match (self.unfit.count, self.fit) {
            (0, 0) => KeyFit::Unproven,
            (0, _) => KeyFit::Fit,
            _ => KeyFit::Unfit,
        }
    }

    /// What a person should know besides the verdict.
    pub fn warnings(&self) -> Vec<String> {
        let told = |count: &Count, what: &str| {
            let first = count.places.first()?;
            let others = count.count - 1;
            let others = if others == 0 { String::new() } else { format!(" and {others} more") };
            Some(format!("{first}{others}: {what}"))
        };
        let unfit = told(&self.unfit, "cannot be decrypted with the key of this snapshot");
        let plain = told(&self.not_ciphertext, "should be encrypted and is not");
        let untried = told(&self.untried, "is encrypted, and could not be tried");
        [unfit, plain, untried].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[Outcome]) -> FitReport {
        let mut report = FitReport::default();
        for (index, outcome) in outcomes.iter().enumerate() {
            let row = index.to_string();
            report.record(FitPlace::new("credentials", "value", Some(row.as_bytes())), *outcome);
        }
        report
    }

    #[test]
    fn one_unfit_ciphertext_decides_and_what_was_not_tried_proves_nothing() {
        use Outcome::{Fit, NotCiphertext, Unfit, Untried};
        assert_eq!(report(&[]).verdict(), KeyFit::Unproven);
        assert_eq!(report(&[NotCiphertext, Untried]).verdict(), KeyFit::Unproven);
        assert_eq!(report(&[NotCiphertext, Fit]).verdict(), KeyFit::Fit);
        assert_eq!(report(&[Fit, Unfit, Fit]).verdict(), KeyFit::Unfit);
        assert_eq!(report(&[Fit, Unfit, Untried]).tried(), 2);
    }

    #[test]
    fn the_first_places_are_named_and_the_others_counted() {
        let many = report(&[Outcome::Unfit; 8]);
        assert_eq!((many.unfit.count, many.unfit.places.len()), (8, NAMED_PLACES));
        let expected = "credentials.value of row 0 and 7 more: cannot be decrypted with the key of this snapshot";
        assert_eq!(many.warnings(), [expected]);
        let one = report(&[Outcome::NotCiphertext]);
        assert_eq!(one.warnings(), ["credentials.value of row 0: should be encrypted and is not"]);
        assert_eq!(report(&[Outcome::Fit]).warnings(), [""; 0]);
    }

    #[test]
    fn a_row_id_cannot_play_with_the_terminal() {
        let place = FitPlace::new("t", "c", Some(&[b"\x1b[2J", &[b'x'; 100][..]].concat()));
        assert_eq!(place.to_string(), format!("t.c of row \\u{{1b}}[2J{}", "x".repeat(60)));
    }
}

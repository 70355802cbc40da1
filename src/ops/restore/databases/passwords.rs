//! The passwords of roles, where the globals of a snapshot have none: who is no superuser may not read them, but a platform
//! that makes roles keeps their passwords itself, as ciphertext in its database.

use super::Source;
use crate::component::postgres::PostgresDetails;
use crate::component::postgres::archive::{TapRow, Wanted, read_archive};
use crate::ops::restore::stored::content;
use crate::ops::restore::variables::SnapshotVariables;
use crate::ops::{Context, OpsError};
use crate::platform::keyfit::tooljet::{MasterKey, ROLE_PASSWORDS, decrypt};
use crate::platform::recipe::{KeyFitRecipe, Recipe};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The schema that platforms have their tables in.
const SCHEMA: &str = "public";

/// Roles with their passwords.
pub(super) type Passwords = Vec<(String, Zeroizing<String>)>;

/// What a snapshot keeps of passwords that its globals lack. What cannot be decrypted is noted.
pub(super) fn of_snapshot(
    source: &Source,
    (details, variables): (&PostgresDetails, &SnapshotVariables),
    recipe: &Recipe,
    notes: &mut Vec<String>,
    context: &Context,
) -> Result<Passwords, OpsError> {
    let Some(KeyFitRecipe::Tooljet { key, .. }) =
        recipe.key_fit.as_ref().filter(|_| !details.has_passwords)
    else {
        return Ok(Vec::new());
    };
    let field = &ROLE_PASSWORDS;
    let holders = details.databases.iter().filter(|database| {
        database
            .rows
            .get(SCHEMA)
            .and_then(|tables| tables.get(field.table))
            .is_some_and(|rows| *rows > 0)
    });
    let dumps: Vec<&str> = holders.map(|database| database.dump.as_str()).collect();
    if dumps.is_empty() {
        return Ok(Vec::new());
    }
    let master = match variables.get(key).map(MasterKey::parse) {
        Some(Ok(master)) => master,
        Some(Err(problem)) => {
            notes.push(format!("the passwords of roles cannot be decrypted: {problem}"));
            return Ok(Vec::new());
        }
        None => {
            notes.push(format!(
                "the passwords of roles cannot be decrypted: the snapshot has no {key}"
            ));
            return Ok(Vec::new());
        }
    };
    context.events.phase("reading", "the passwords of roles");
    let wanted = [Wanted {
        schema: SCHEMA.into(),
        table: field.table.into(),
        columns: [field.role_column, field.password_column].map(Into::into).to_vec(),
    }];
    let mut passwords = BTreeMap::new();
    for dump in dumps {
        let mut row = |row: &TapRow<'_>| {
            let [Some(role), Some(sealed)] = row.values else { return };
            let Ok(role) = std::str::from_utf8(role) else { return };
            let password =
                decrypt(&master, field.table, field.password_column, sealed).ok().and_then(
                    |bytes| Some(Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned())),
                );
            match password {
                Some(password) => {
                    passwords.insert(role.to_owned(), password);
                }
                None => notes.push(format!("the password of the role {role} cannot be decrypted")),
            }
        };
        read_archive(content(source, dump)?, &wanted, &mut row).map_err(|error| {
            OpsError::WrongFile { object: dump.to_owned(), reason: error.to_string() }
        })?;
    }
    Ok(passwords.into_iter().collect())
}

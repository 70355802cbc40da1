//! The passwords of roles, where the globals of a snapshot have none: who is no superuser may not read them, but a platform
//! that makes roles keeps their passwords itself, as ciphertext in its database.

use super::Source;
use super::look::{component, content, read_small};
use crate::component::environment::EnvironmentFile;
use crate::component::postgres::PostgresDetails;
use crate::component::postgres::archive::{TapRow, Wanted, read_archive};
use crate::model::manifest::Manifest;
use crate::ops::{Context, OpsError};
use crate::platform::keyfit::tooljet::{MasterKey, ROLE_PASSWORDS, decrypt};
use crate::platform::recipe::{CipherFamily, Recipe};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The schema that platforms have their tables in.
const SCHEMA: &str = "public";

/// Roles with their passwords.
pub(super) type Passwords = Vec<(String, Zeroizing<String>)>;

/// What a snapshot keeps of passwords that its globals lack. What cannot be decrypted is noted.
pub(super) fn of_snapshot(
    source: &Source,
    (manifest, details): (&Manifest, &PostgresDetails),
    recipe: &Recipe,
    notes: &mut Vec<String>,
    context: &Context,
) -> Result<Passwords, OpsError> {
    let Some(key_fit) = recipe.key_fit.as_ref().filter(|_| !details.has_passwords) else {
        return Ok(Vec::new());
    };
    let CipherFamily::Tooljet = key_fit.family;
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
    let master = match variable(source, manifest, &key_fit.key)?.map(|key| MasterKey::parse(&key)) {
        Some(Ok(master)) => master,
        Some(Err(problem)) => {
            notes.push(format!("the passwords of roles cannot be decrypted: {problem}"));
            return Ok(Vec::new());
        }
        None => {
            notes.push(format!(
                "the passwords of roles cannot be decrypted: the snapshot has no {}",
                key_fit.key
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

/// The value that a variable had when the snapshot was taken: a container's own overrides that of the file.
fn variable(
    source: &Source,
    manifest: &Manifest,
    name: &str,
) -> Result<Option<Zeroizing<String>>, OpsError> {
    let file_of = |kind: &str, name: Option<&str>| {
        let files = component(manifest, kind).map(|part| part.files.as_slice()).unwrap_or_default();
        let is_it = |path: &str| name.is_none_or(|name| path.ends_with(name));
        files.iter().map(|file| file.path.as_str()).find(|path| is_it(path))
    };
    if let Some(path) = file_of("deployment", Some("/environment")) {
        let bytes = read_small(source, path)?;
        let lines =
            bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        let value = lines.filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name);
        if let Some((_, value)) = value {
            return Ok(Some(Zeroizing::new(value.to_owned())));
        }
    }
    let Some(path) = file_of("environment", None) else { return Ok(None) };
    let bytes = read_small(source, path)?;
    let file = EnvironmentFile::parse(&bytes).ok();
    Ok(file.and_then(|file| Some(Zeroizing::new(file.get(name)?.to_owned()))))
}

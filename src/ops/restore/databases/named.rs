//! Under which names the databases of a snapshot come back.
//!
//! One whose name the target has, too, keeps it. Another one gets the name that the same variable of the environment tells,
//! or in a clone the one in its place; and no name of the snapshot is given to another of its databases.

use crate::component::postgres::DatabaseDetails;
use crate::ops::OpsError;
use crate::ops::instance::Databases;
use std::collections::BTreeMap;

/// The names that databases had, by those that they get, where the two differ.
pub(super) type Renamed = BTreeMap<String, String>;

/// Give the databases the names that the target has for them. Those that it has none for are left out, which is noted.
pub(super) fn give_names(
    details: &mut Vec<DatabaseDetails>,
    target: &Databases,
    as_clone: bool,
    notes: &mut Vec<String>,
) -> Result<Renamed, OpsError> {
    let mut renamed = Renamed::new();
    if target.names.is_empty() || details.is_empty() {
        return Ok(renamed);
    }
    let had: Vec<String> = details.iter().map(|details| details.facts.name.clone()).collect();
    let mut free: Vec<&String> = target.names.iter().filter(|name| !had.contains(*name)).collect();
    let by_position = as_clone && had.len() == target.names.len();
    let mut left_out = Vec::new();
    let mut given = Vec::new();
    for mut details in std::mem::take(details) {
        let name = &details.facts.name;
        if target.names.contains(name) {
            ensure_same_variable(&details, target)?;
            given.push(details);
            continue;
        }
        let is_for_it = |free: &&String| match (&details.variable, target.variable(free)) {
            (Some(had), Some(has)) => had == has,
            _ => by_position,
        };
        match free.iter().position(is_for_it) {
            Some(position) => {
                let new = free.remove(position).clone();
                let old = std::mem::replace(&mut details.facts.name, new.clone());
                renamed.insert(new, old);
                given.push(details);
            }
            None => left_out.push(name.clone()),
        }
    }
    if given.is_empty() {
        return Err(OpsError::refused(
            format!(
                "the target names {}, and the snapshot has {}",
                target.names.join(" and "),
                left_out.join(" and ")
            ),
            "name what is to come back: component.postgres = { databases = [\"…\"] }",
        ));
    }
    if !left_out.is_empty() {
        notes.push(format!(
            "of the snapshot, {} stays out: the target does not name it",
            left_out.join(" and ")
        ));
    }
    if !free.is_empty() {
        let free: Vec<&str> = free.into_iter().map(String::as_str).collect();
        notes.push(format!(
            "the snapshot does not have {}, which stays as it is",
            free.join(" and ")
        ));
    }
    *details = given;
    Ok(renamed)
}

/// What was one part of the platform may not come back as another one.
fn ensure_same_variable(details: &DatabaseDetails, target: &Databases) -> Result<(), OpsError> {
    let name = &details.facts.name;
    match (&details.variable, target.variable(name)) {
        (Some(had), Some(has)) if had != has => Err(OpsError::refused(
            format!("the database {name} is {had} in the snapshot, and {has} in the target"),
            "give the databases names in the target's environment that do not cross",
        )),
        _ => Ok(()),
    }
}

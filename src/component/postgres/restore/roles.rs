//! Which roles a restore makes and which it changes, and the statements for both.
//!
//! A new role is made without SUPERUSER and is put into no group that has it. An existing one is changed only with the swap,
//! and what it was is kept. The role that is connected, superusers, and those that the caller names stay as they are.

use super::globals::{Globals, Membership, Role};
use super::password;
use crate::component::postgres::identifier;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A role that exists, and is to become what it was in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedRole {
    /// Its name.
    pub name: String,
    /// What changes: `attributes`, `password`, `settings`, `comment`, `memberships`.
    pub what: Vec<String>,
}

/// The statements for roles. They hold hashes of passwords, so they are neither shown nor written down, but made anew.
pub struct RoleWork {
    pub(super) create: Zeroizing<String>,
    pub(super) change: Zeroizing<String>,
    /// To be written down before the swap.
    pub before: RolesBefore,
}

/// Statements that give the changed roles back what they had. They hold hashes of passwords: for a file that only its owner reads.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct RolesBefore {
    pub(super) sql: String,
}

impl fmt::Debug for RolesBefore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RolesBefore({} bytes)", self.sql.len())
    }
}

/// What is known when it is decided.
pub(super) struct Situation<'a> {
    /// What the snapshot has.
    pub(super) wanted: &'a Globals,
    /// What the server has.
    pub(super) current: &'a Globals,
    /// All roles that the server has, its own among them.
    pub(super) existing: &'a BTreeSet<String>,
    /// Those that the databases refer to.
    pub(super) needed: BTreeSet<String>,
    pub(super) passwords: &'a [(String, Zeroizing<String>)],
    /// Those that stay as they are.
    pub(super) kept: BTreeSet<&'a str>,
    pub(super) is_superuser: bool,
    pub(super) reads_passwords: bool,
}

/// What was decided.
#[derive(Default)]
pub(super) struct Decision {
    pub(super) create: Vec<String>,
    pub(super) change: Vec<ChangedRole>,
    /// Needed, and nowhere.
    pub(super) unknown: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) create_sql: Zeroizing<String>,
    pub(super) change_sql: Zeroizing<String>,
    pub(super) back_sql: String,
}

pub(super) fn decide(situation: &Situation<'_>) -> Decision {
    let Situation { wanted, current, existing, .. } = situation;
    let mut decision = Decision::default();
    let groups = situation.needed.iter().flat_map(|name| wanted.groups_of(name));
    // A password is no reason to touch a role that the snapshot does not know.
    let with_passwords = situation.passwords.iter().map(|(name, _)| name);
    let with_passwords = with_passwords.filter(|name| wanted.roles.contains_key(*name));
    let own = situation.needed.iter().chain(with_passwords).cloned();
    let names: BTreeSet<String> = groups.chain(own).collect();
    let mut changing = BTreeSet::new();
    for name in &names {
        let is_there = existing.contains(name);
        match (wanted.roles.get(name), current.roles.get(name)) {
            (_, Some(now)) => {
                if situation.stays(name, now) {
                    decision.notes.push(format!(
                        "the role {name} stays as it is on this server, its password too"
                    ));
                } else {
                    decision.change_role(situation, name, now);
                    changing.insert(name.as_str());
                }
            }
            (Some(role), None) if !is_there => decision.create_role(situation, name, role),
            (None, None) if !is_there && situation.needed.contains(name) => {
                decision.unknown.push(name.clone());
            }
            _ => {}
        }
    }
    let new: BTreeSet<String> = decision.create.iter().cloned().collect();
    for membership in &wanted.memberships {
        if !names.contains(&membership.member) {
            continue;
        }
        let is_known = |name: &String| existing.contains(name) || new.contains(name);
        if current.roles.get(&membership.group).is_some_and(|group| group.has("SUPERUSER")) {
            let Membership { group, member, .. } = membership;
            let note =
                format!("the role {member} is not put into {group}, which is a superuser here");
            decision.notes.push(note);
        } else if !is_known(&membership.group) || !is_known(&membership.member) {
            decision.notes.push(format!(
                "the role {} is not put into {}, which this server does not have",
                membership.member, membership.group
            ));
        } else if new.contains(&membership.group) || new.contains(&membership.member) {
            let sql = situation.grant(membership, is_known);
            decision.create_sql.push_str(&sql);
        } else if changing.contains(membership.member.as_str()) {
            decision.change_membership(situation, membership);
        }
    }
    decision
}

impl Situation<'_> {
    fn stays(&self, name: &str, now: &Role) -> bool {
        self.kept.contains(name) || now.has("SUPERUSER")
    }

    fn password_for(&self, name: &str) -> Option<&Zeroizing<String>> {
        self.passwords.iter().find(|(role, _)| role == name).map(|(_, password)| password)
    }

    /// What a role is to be, as far as this server lets us.
    fn target(&self, name: &str, recorded: Option<&Role>, now: Option<&Role>) -> Role {
        let mut role = recorded.or(now).cloned().unwrap_or_default();
        let forbidden: &[&str] = if self.is_superuser {
            &["SUPERUSER"]
        } else {
            &["SUPERUSER", "REPLICATION", "BYPASSRLS"]
        };
        for attribute in forbidden {
            let has = now.and_then(|now| now.attributes.get(attribute)).copied();
            role.attributes.remove(attribute);
            role.attributes.extend(has);
        }
        if let Some(password) = self.password_for(name) {
            let known = [now, recorded].into_iter().flatten();
            let fitting = known
                .filter_map(|role| role.password.as_ref())
                .find(|hash| password::fits(hash, password));
            role.password = Some(fitting.cloned().unwrap_or_else(|| password::hashed(password)));
        }
        role
    }

    fn grant(&self, membership: &Membership, is_known: impl Fn(&String) -> bool) -> String {
        let Membership { group, member, options, grantor } = membership;
        let mut sql = format!("GRANT {} TO {}", identifier(group), identifier(member));
        if !options.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(sql, " WITH {options}");
        }
        // Only a superuser may grant in the name of another.
        if let Some(grantor) = grantor.as_ref().filter(|name| self.is_superuser && is_known(name)) {
            let _ = write!(sql, " GRANTED BY {}", identifier(grantor));
        }
        sql + ";\n"
    }
}

impl Decision {
    fn create_role(&mut self, situation: &Situation<'_>, name: &str, recorded: &Role) {
        let target = situation.target(name, Some(recorded), None);
        let lost: Vec<&str> = recorded.attributes.difference(&target.attributes).copied().collect();
        if !lost.is_empty() {
            let lost = lost.join(" and ");
            let note = format!(
                "the role {name} is made without {lost}: if it is to have that, ALTER ROLE {} {lost} by hand",
                identifier(name)
            );
            self.notes.push(note);
        }
        if target.has("LOGIN") && target.password.is_none() {
            self.notes.push(format!(
                "the role {name} is made without a password: the snapshot has none for it"
            ));
        }
        let plain = Role { attributes: BTreeSet::from(["INHERIT"]), ..Role::default() };
        let (sql, _) = difference(name, &plain, &target, false);
        // Writing to a string does not fail.
        let _ = writeln!(self.create_sql, "CREATE ROLE {};", identifier(name));
        self.create_sql.push_str(&sql);
        self.create.push(name.to_owned());
    }

    fn change_role(&mut self, situation: &Situation<'_>, name: &str, now: &Role) {
        let target = situation.target(name, situation.wanted.roles.get(name), Some(now));
        let (forward, what) = difference(name, now, &target, false);
        let (back, _) = difference(name, &target, now, situation.reads_passwords);
        if what.is_empty() {
            return;
        }
        self.change_sql.push_str(&forward);
        self.back_sql.push_str(&back);
        let what = what.into_iter().map(ToOwned::to_owned).collect();
        self.change.push(ChangedRole { name: name.to_owned(), what });
    }

    fn change_membership(&mut self, situation: &Situation<'_>, wanted: &Membership) {
        let Membership { group, member, options, .. } = wanted;
        let current = || {
            situation
                .current
                .memberships
                .iter()
                .filter(|m| m.group == *group && m.member == *member)
        };
        let is_so = |now: &Membership| options.is_empty() || now.options == *options;
        if current().any(is_so) {
            return;
        }
        let is_known = |name: &String| situation.existing.contains(name);
        self.change_sql.push_str(&situation.grant(wanted, is_known));
        let (group, name) = (identifier(group), identifier(member));
        let mut back = format!("REVOKE {group} FROM {name};\n");
        for now in current() {
            back += &situation.grant(now, is_known);
        }
        self.back_sql.push_str(&back);
        let words = "memberships".to_owned();
        match self.change.iter_mut().find(|changed| changed.name == *member) {
            Some(changed) if changed.what.contains(&words) => {}
            Some(changed) => changed.what.push(words),
            None => self.change.push(ChangedRole { name: member.clone(), what: vec![words] }),
        }
    }
}

/// Statements that make a role of `from` into `to`, and what they change. A password that is not known is left, unless
/// `clears_password` says that none was there.
fn difference(
    name: &str,
    from: &Role,
    to: &Role,
    clears_password: bool,
) -> (Zeroizing<String>, Vec<&'static str>) {
    let role = identifier(name);
    let mut sql = Zeroizing::new(String::new());
    let mut what = Vec::new();
    let mut options: Vec<String> = from
        .attributes
        .symmetric_difference(&to.attributes)
        .map(|attribute| format!("{}{attribute}", if to.has(attribute) { "" } else { "NO" }))
        .collect();
    let limit = |role: &Role| role.connection_limit.clone().unwrap_or_else(|| "-1".into());
    if limit(from) != limit(to) {
        options.push(format!("CONNECTION LIMIT {}", limit(to)));
    }
    let until = |role: &Role| role.valid_until.clone().unwrap_or_else(|| "'infinity'".into());
    if until(from) != until(to) {
        options.push(format!("VALID UNTIL {}", until(to)));
    }
    // Writing to a string does not fail.
    if !options.is_empty() {
        what.push("attributes");
        let _ = writeln!(sql, "ALTER ROLE {role} WITH {};", options.join(" "));
    }
    match &to.password {
        Some(password) if from.password.as_ref() != Some(password) => {
            what.push("password");
            let _ = writeln!(sql, "ALTER ROLE {role} WITH PASSWORD {};", password.as_str());
        }
        None if from.password.is_some() && clears_password => {
            what.push("password");
            let _ = writeln!(sql, "ALTER ROLE {role} WITH PASSWORD NULL;");
        }
        _ => {}
    }
    if from.settings != to.settings {
        what.push("settings");
        // They have an order, which is that of their setting.
        let _ = writeln!(sql, "ALTER ROLE {role} RESET ALL;");
        for setting in &to.settings {
            let _ = writeln!(sql, "ALTER ROLE {role} SET {setting};");
        }
    }
    if from.comment != to.comment {
        what.push("comment");
        let comment = to.comment.as_deref().unwrap_or("NULL");
        let _ = writeln!(sql, "COMMENT ON ROLE {role} IS {comment};");
    }
    (sql, what)
}

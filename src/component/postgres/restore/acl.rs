//! Who may do what with a database: from `aclitem` texts to statements.

use crate::component::postgres::{DatabaseFacts, identifier};
use std::fmt::Write as _;

/// `grantee=letters/grantor`.
struct Item {
    /// None is everybody.
    grantee: Option<String>,
    letters: String,
    grantor: String,
}

impl Item {
    fn parse(text: &str) -> Option<Self> {
        let (grantee, rest) = name(text)?;
        let (letters, rest) = rest.strip_prefix('=')?.split_once('/')?;
        let (grantor, rest) = name(rest)?;
        let grantee = (!grantee.is_empty()).then_some(grantee);
        rest.is_empty().then(|| Self { grantee, letters: letters.to_owned(), grantor })
    }

    /// Privileges with the option to grant them, or without.
    fn privileges(&self, with_option: bool) -> Vec<&'static str> {
        let letters: Vec<char> = self.letters.chars().collect();
        let has_option = |at: usize| letters.get(at + 1) == Some(&'*');
        let known = [('C', "CREATE"), ('T', "TEMPORARY"), ('c', "CONNECT")];
        let privileges =
            letters.iter().enumerate().filter(|(at, _)| has_option(*at) == with_option);
        privileges
            .filter_map(|(_, letter)| known.iter().find(|(known, _)| known == letter))
            .map(|(_, privilege)| *privilege)
            .collect()
    }
}

/// The name that a text begins with, quoted or not, and what follows.
fn name(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(['=', '/']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

/// The roles that are named.
pub(super) fn roles(acl: &[String]) -> impl Iterator<Item = String> {
    acl.iter()
        .filter_map(|text| Item::parse(text))
        .flat_map(|item| item.grantee.into_iter().chain([item.grantor]))
}

/// Statements, for within a transaction, that give the database of this name the privileges that are recorded.
pub(super) fn statements(database: &str, facts: &DatabaseFacts) -> String {
    let database = identifier(database);
    let Some(acl) = &facts.acl else {
        return format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC;\n");
    };
    let owner = identifier(&facts.owner);
    let mut sql = format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC, {owner};\n");
    let mut items: Vec<Item> = acl.iter().filter_map(|text| Item::parse(text)).collect();
    // Others can only hand on what the owner gave them.
    items.sort_by_key(|item| item.grantor != facts.owner);
    for item in &items {
        let grantee = item.grantee.as_deref().map_or_else(|| "PUBLIC".into(), identifier);
        for (with_option, words) in [(false, ""), (true, " WITH GRANT OPTION")] {
            let privileges = item.privileges(with_option).join(", ");
            if privileges.is_empty() {
                continue;
            }
            let grant = format!("GRANT {privileges} ON DATABASE {database} TO {grantee}{words};");
            // Writing to a string does not fail.
            let _ = if item.grantor == facts.owner {
                writeln!(sql, "{grant}")
            } else {
                let grantor = identifier(&item.grantor);
                writeln!(sql, "SET LOCAL ROLE {grantor}; {grant} SET LOCAL ROLE NONE;")
            };
        }
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(acl: Option<&[&str]>) -> DatabaseFacts {
        DatabaseFacts {
            owner: "own\"er".into(),
            acl: acl.map(|acl| acl.iter().map(|text| (*text).to_owned()).collect()),
            ..DatabaseFacts::default()
        }
    }

    #[test]
    fn items_become_grants_by_those_who_granted() {
        let acl = [
            "b=c/\"a=/x\"",
            "\"a=/x\"=Cc*/\"own\"\"er\"",
            "=T/\"own\"\"er\"",
            "\"own\"\"er\"=CTc/\"own\"\"er\"",
        ];
        insta::assert_snapshot!(statements("d", &facts(Some(&acl))), @r#"
        REVOKE ALL ON DATABASE "d" FROM PUBLIC, "own""er";
        GRANT CREATE ON DATABASE "d" TO "a=/x";
        GRANT CONNECT ON DATABASE "d" TO "a=/x" WITH GRANT OPTION;
        GRANT TEMPORARY ON DATABASE "d" TO PUBLIC;
        GRANT CREATE, TEMPORARY, CONNECT ON DATABASE "d" TO "own""er";
        SET LOCAL ROLE "a=/x"; GRANT CONNECT ON DATABASE "d" TO "b"; SET LOCAL ROLE NONE;
        "#);
        let acl: Vec<String> = acl.iter().map(|text| (*text).to_owned()).collect();
        let named: Vec<String> = roles(&acl).collect();
        assert_eq!(named, ["b", "a=/x", "a=/x", "own\"er", "own\"er", "own\"er", "own\"er"]);
    }

    #[test]
    fn nothing_recorded_is_what_a_new_database_has() {
        let sql = statements("d", &facts(None));
        assert_eq!(sql, "GRANT CONNECT, TEMPORARY ON DATABASE \"d\" TO PUBLIC;\n");
        assert_eq!(statements("d", &facts(Some(&[]))).lines().count(), 1);
    }
}

//! Reads what `pg_dumpall --globals-only` writes: roles, memberships, tablespaces.
//!
//! Values stay as they are written there, as SQL, so that putting one back needs no quoting of our own. What is not known is
//! passed over: what a restore needs and nobody made is refused later, by name.

use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// The attributes of a role that are on or off.
const ATTRIBUTES: [&str; 7] =
    ["SUPERUSER", "INHERIT", "CREATEROLE", "CREATEDB", "LOGIN", "REPLICATION", "BYPASSRLS"];

/// The roles of a server, and what else is common to its databases.
#[derive(Default)]
pub(super) struct Globals {
    pub(super) roles: BTreeMap<String, Role>,
    /// In the order of the text: who grants is a member by then.
    pub(super) memberships: Vec<Membership>,
    pub(super) tablespaces: BTreeSet<String>,
}

/// A role.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Role {
    /// Those that are on.
    pub(super) attributes: BTreeSet<&'static str>,
    /// `-1` is none.
    pub(super) connection_limit: Option<String>,
    /// A literal.
    pub(super) valid_until: Option<String>,
    /// A literal, of a hash; none where there is none or it may not be read.
    pub(super) password: Option<Zeroizing<String>>,
    /// A literal.
    pub(super) comment: Option<String>,
    /// Each as `name TO value`, in their order.
    pub(super) settings: Vec<String>,
}

/// That a role is a member of another.
#[derive(Clone, PartialEq)]
pub(super) struct Membership {
    pub(super) group: String,
    pub(super) member: String,
    /// As after `WITH`; may be empty.
    pub(super) options: String,
    pub(super) grantor: Option<String>,
}

impl Globals {
    pub(super) fn parse(text: &str) -> Self {
        let mut globals = Self::default();
        for statement in statements(text) {
            globals.take(&statement);
        }
        globals
    }

    fn take(&mut self, statement: &Statement) {
        let is = |position: usize, word: &str| statement.is(position, word);
        let name = |position: usize| statement.name(position);
        if is(0, "CREATE") && is(1, "TABLESPACE") {
            self.tablespaces.extend(name(2));
        } else if is(0, "CREATE") && is(1, "ROLE") {
            self.roles.entry(name(2).unwrap_or_default()).or_default();
        } else if is(0, "COMMENT") && is(2, "ROLE") {
            if let Some(role) = self.roles.get_mut(&name(3).unwrap_or_default()) {
                role.comment = statement.raw(5);
            }
        } else if is(0, "GRANT") && is(2, "TO") {
            self.take_membership(statement);
        } else if is(0, "ALTER") && is(1, "ROLE") {
            let Some(role) = self.roles.get_mut(&name(2).unwrap_or_default()) else { return };
            if is(3, "WITH") {
                role.take_options(statement);
            } else if is(3, "SET") && is(5, "TO") {
                role.settings.push(statement.rest(4));
            }
        }
    }

    fn take_membership(&mut self, statement: &Statement) {
        let (Some(group), Some(member)) = (statement.name(1), statement.name(3)) else { return };
        let end = statement.tokens.len();
        let granted = (4..end).find(|at| statement.is(*at, "GRANTED"));
        let grantor = granted.and_then(|at| statement.name(at + 2));
        let options = if statement.is(4, "WITH") {
            statement.between(5, granted.unwrap_or(end))
        } else {
            String::new()
        };
        self.memberships.push(Membership { group, member, options, grantor });
    }

    /// The groups that a role is in, and those that these are in.
    pub(super) fn groups_of(&self, role: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut left = vec![role.to_owned()];
        while let Some(member) = left.pop() {
            for membership in self.memberships.iter().filter(|known| known.member == member) {
                if found.insert(membership.group.clone()) {
                    left.push(membership.group.clone());
                }
            }
        }
        found
    }
}

impl Role {
    fn take_options(&mut self, statement: &Statement) {
        for at in 4..statement.tokens.len() {
            let word = statement.tokens[at].text;
            if let Some(known) = ATTRIBUTES.iter().find(|known| word.eq_ignore_ascii_case(known)) {
                self.attributes.insert(known);
            } else if statement.is(at, "LIMIT") {
                self.connection_limit = Some(statement.between(at + 1, statement.tokens.len()))
                    .and_then(|text| text.split_whitespace().next().map(ToOwned::to_owned));
            } else if statement.is(at, "PASSWORD") {
                self.password = statement.raw(at + 1).map(Zeroizing::new);
            } else if statement.is(at, "UNTIL") {
                self.valid_until = statement.raw(at + 1);
            }
        }
    }

    pub(super) fn has(&self, attribute: &str) -> bool {
        self.attributes.contains(attribute)
    }
}

/// A word, a quoted name, a literal, or a single other character.
struct Token<'a> {
    text: &'a str,
    start: usize,
}

struct Statement<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
}

impl Statement<'_> {
    fn is(&self, position: usize, word: &str) -> bool {
        self.tokens.get(position).is_some_and(|token| token.text.eq_ignore_ascii_case(word))
    }

    fn raw(&self, position: usize) -> Option<String> {
        self.tokens.get(position).map(|token| token.text.to_owned())
    }

    fn name(&self, position: usize) -> Option<String> {
        let text = self.tokens.get(position)?.text;
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Some(inner.map_or_else(|| text.to_owned(), |inner| inner.replace("\"\"", "\"")))
    }

    fn between(&self, first: usize, end: usize) -> String {
        let Some(start) = self.tokens.get(first).map(|token| token.start) else {
            return String::new();
        };
        let last = &self.tokens[end - 1];
        self.text[start..last.start + last.text.len()].to_owned()
    }

    fn rest(&self, first: usize) -> String {
        self.between(first, self.tokens.len())
    }
}

fn statements(text: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = token_length(rest, tokens.is_empty());
        let token = &rest[..length];
        if token == ";" {
            found.push(Statement { text, tokens: std::mem::take(&mut tokens) });
        } else if !token.starts_with(char::is_whitespace)
            && !token.starts_with("--")
            && !token.starts_with('\\')
        {
            tokens.push(Token { text: token, start: at });
        }
        at += length;
    }
    found
}

/// The length of what the text begins with. It is not empty.
fn token_length(text: &str, between_statements: bool) -> usize {
    let line = || text.find('\n').unwrap_or(text.len()).max(1);
    let first = text.chars().next().map_or(1, char::len_utf8);
    let is_word = |character: char| {
        character.is_alphanumeric() || matches!(character, '_' | '$' | '-') || !character.is_ascii()
    };
    match text.as_bytes()[0] {
        b'-' if text.starts_with("--") => line(),
        // A command of `psql`.
        b'\\' if between_statements => line(),
        b'\'' | b'"' => quoted_length(text, false),
        b'E' | b'e' if text[1..].starts_with('\'') => 1 + quoted_length(&text[1..], true),
        byte if byte.is_ascii_whitespace() => {
            text.find(|character: char| !character.is_ascii_whitespace()).unwrap_or(text.len())
        }
        _ => text.find(|character| !is_word(character)).unwrap_or(text.len()).max(first),
    }
}

fn quoted_length(text: &str, has_escapes: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        let is_doubled = bytes[at] == bytes[0] && bytes.get(at + 1) == Some(&bytes[0]);
        if is_doubled || (has_escapes && bytes[at] == b'\\') {
            at += 2;
        } else if bytes[at] == bytes[0] {
            return at + 1;
        } else {
            at += 1;
        }
    }
    // It is not closed, or ends with a backslash.
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"--
-- PostgreSQL database cluster dump; 'a quote that is not closed
--
\restrict abc'def

SET standard_conforming_strings = on;
CREATE ROLE "Odd ""name"" ; x";
ALTER ROLE "Odd ""name"" ; x" WITH NOSUPERUSER NOINHERIT NOCREATEROLE CREATEDB LOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT -1 PASSWORD 'SCRAM-SHA-256$4096:a==$b=:c=' VALID UNTIL '2030-01-01 00:00:00+00';
COMMENT ON ROLE "Odd ""name"" ; x" IS 'it''s; one';
CREATE ROLE g;
ALTER ROLE g WITH SUPERUSER INHERIT;
ALTER ROLE g SET search_path TO 'a', E'b\'; c';
ALTER ROLE g SET "my.setting" TO 'x';
CREATE TABLESPACE fast OWNER g LOCATION '/fast';
GRANT g TO "Odd ""name"" ; x" WITH ADMIN OPTION, INHERIT TRUE GRANTED BY postgres;
GRANT h TO g;
GRANT CREATE ON TABLESPACE fast TO PUBLIC;
"#;

    #[test]
    fn roles_are_read_as_they_are_written() {
        let globals = Globals::parse(TEXT);
        let odd = &globals.roles["Odd \"name\" ; x"];
        assert_eq!(odd.attributes, BTreeSet::from(["CREATEDB", "LOGIN"]));
        assert_eq!(odd.connection_limit.as_deref(), Some("-1"));
        assert_eq!(odd.valid_until.as_deref(), Some("'2030-01-01 00:00:00+00'"));
        assert_eq!(odd.password.as_ref().unwrap().as_str(), "'SCRAM-SHA-256$4096:a==$b=:c='");
        assert_eq!(odd.comment.as_deref(), Some("'it''s; one'"));
        let group = &globals.roles["g"];
        assert!(group.has("SUPERUSER") && group.has("INHERIT"));
        assert_eq!(group.settings, [r"search_path TO 'a', E'b\'; c'", r#""my.setting" TO 'x'"#]);
        assert_eq!(globals.tablespaces, BTreeSet::from(["fast".to_owned()]));
        let [first, second] = &globals.memberships[..] else { panic!("two memberships") };
        assert_eq!(first.options, "ADMIN OPTION, INHERIT TRUE");
        assert_eq!(first.grantor.as_deref(), Some("postgres"));
        assert_eq!((second.group.as_str(), second.grantor.as_deref()), ("h", None));
        let groups = globals.groups_of("Odd \"name\" ; x");
        assert_eq!(groups, BTreeSet::from(["g".to_owned(), "h".to_owned()]));
    }

    #[test]
    fn a_text_that_breaks_off_is_read_as_far_as_it_goes() {
        for end in 0..TEXT.len() {
            let _ = Globals::parse(&TEXT[..end]);
        }
    }
}

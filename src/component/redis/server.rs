//! A Redis server, asked by `redis-cli` where the instance lives.

use super::RedisError;
use crate::access::{Access, Command, Finished};
use std::io::Read as _;
use zeroize::Zeroizing;

/// Answers of more bytes are none of those that are asked for.
const MOST_ANSWER: u64 = 1024 * 1024;
/// Where a server listens of which nobody says otherwise.
const PORT: u16 = 6379;

/// Where a server is, and who logs in there.
#[derive(Clone, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<Zeroizing<String>>,
    has_tls: bool,
    /// The database that it names; none is the first.
    database: Option<u64>,
}

/// A server that answers.
pub struct Server {
    pub(super) access: Access,
    address: Address,
    /// Its version.
    pub version: String,
}

impl Server {
    /// Ask a server for its version. `url` is `redis://[USER:PASSWORD@]HOST[:PORT][/…]` or `rediss://…`; `password` counts where
    /// that has none.
    pub fn open(access: &Access, url: &str, password: Option<&str>) -> Result<Self, RedisError> {
        let mut address = Address::parse(url).map_err(RedisError::Address)?;
        if address.password.is_none() {
            address.password = password.map(|password| Zeroizing::new(password.to_owned()));
        }
        let mut server = Self { access: access.clone(), address, version: String::new() };
        let answer = server.ask(&["INFO", "server"])?;
        let version = answer.lines().find_map(|line| line.strip_prefix("redis_version:"));
        match version {
            Some(version) => version.trim().clone_into(&mut server.version),
            None => return Err(server.refused("INFO", &answer)),
        }
        Ok(server)
    }

    /// Its address without the password, for people.
    pub fn told(&self) -> String {
        let (Address { host, port, .. }, version) = (&self.address, &self.version);
        let space = if version.is_empty() { "" } else { " " };
        format!("Redis{space}{version} at {host}:{port}")
    }

    /// The database that alone is flushed and filled; none where all are, which is so for a server of the instance's own, right
    /// beside it. Another one may be used by others.
    pub(super) fn own_database(&self) -> Option<u64> {
        let Address { host, database, .. } = &self.address;
        let is_beside = ["localhost", "127.0.0.1", "::1"].contains(&host.as_str());
        (!is_beside).then(|| database.unwrap_or_default())
    }

    /// What a restore flushes of it, for people: after this comes "flushed".
    pub fn scope(&self) -> String {
        match self.own_database() {
            None => "all its databases are".into(),
            Some(database) => format!("its database {database} is"),
        }
    }

    /// A call of `redis-cli`.
    pub(super) fn client(&self) -> Command {
        let Address { host, port, user, password, has_tls, .. } = &self.address;
        let mut command =
            Command::new("redis-cli").arguments(["-h", host, "-p", &port.to_string()]);
        if *has_tls {
            command = command.argument("--tls");
        }
        if let (Some(user), Some(_)) = (user, password) {
            command = command.arguments(["--user", user]);
        }
        match password {
            Some(password) => command.secret("REDISCLI_AUTH", password),
            None => command,
        }
    }

    /// What the server answers. What `redis-cli` complains of besides is an error, though it ends well then.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String, RedisError> {
        let command = self.client().arguments(words);
        let mut running = self.access.start(&command, false)?;
        let mut answer = Vec::new();
        let read = running.stdout().take(MOST_ANSWER).read_to_end(&mut answer);
        let Finished { said } = running.finish()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match read {
            Ok(_) if said.is_empty() => Ok(answer),
            Ok(_) => Err(self.refused(&words.join(" "), &said)),
            Err(error) => Err(self.refused(&words.join(" "), &error.to_string())),
        }
    }

    pub(super) fn refused(&self, asked: &str, said: &str) -> RedisError {
        let said = match said.trim() {
            "" => "nothing",
            said => said,
        };
        RedisError::Refused { server: self.told(), asked: asked.to_owned(), said: said.to_owned() }
    }
}

impl Address {
    /// What is wrong never quotes the address, which holds a password.
    fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) =
            url.trim().split_once("://").ok_or("it does not begin with redis://")?;
        let has_tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err("it begins neither with redis:// nor with rediss://"),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
        let database = match path {
            "" => None,
            number => Some(number.parse().map_err(|_| "its database is no number")?),
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(place) => {
                let (host, port) = place.split_once(']').ok_or("a bracket is not closed")?;
                (host, port.strip_prefix(':'))
            }
            None => match place.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port.filter(|port| !port.is_empty()) {
            Some(port) => port.parse().map_err(|_| "its port is no number")?,
            None => PORT,
        };
        if host.is_empty() || host.starts_with('-') || host.contains(char::is_whitespace) {
            return Err("it names no host");
        }
        let (mut user, mut password) = (None, None);
        if let Some(login) = login {
            let (name, secret) = login.split_once(':').unwrap_or((login, ""));
            let filled = |text: &str| Some(decoded(text)?).filter(|text| !text.is_empty());
            let broken = "a % in it is no escape";
            decoded(name).zip(decoded(secret)).ok_or(broken)?;
            user = filled(name);
            password = filled(secret).map(Zeroizing::new);
        }
        Ok(Self { host: host.to_owned(), port, user, password, has_tls, database })
    }
}

/// A part of an address, its escapes resolved.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let parse = |url: &str| {
            let Address { host, port, user, password, has_tls, .. } = Address::parse(url).unwrap();
            let password = password.map(|password| password.as_str().to_owned());
            (host, port, user.unwrap_or_default(), password.unwrap_or_default(), has_tls)
        };
        let plain = |host: &str, port| (host.to_owned(), port, String::new(), String::new(), false);
        assert_eq!(parse("redis://127.0.0.1"), plain("127.0.0.1", 6379));
        assert_eq!(parse("redis://cache:7/3?x=@y"), plain("cache", 7));
        assert_eq!(parse("redis://[::1]:7"), plain("::1", 7));
        let whole = parse("rediss://app:p%40s:s%25@cache.example.com:6380/0");
        let expected = ("cache.example.com".into(), 6380, "app".into(), "p@s:s%".into(), true);
        assert_eq!(whole, expected);
        let (_, _, user, password, _) = parse("redis://:secret@h");
        assert_eq!((user.as_str(), password.as_str()), ("", "secret"));
        let database = |url: &str| Address::parse(url).unwrap().database;
        assert_eq!([database("redis://h"), database("redis://h/")], [None, None]);
        assert_eq!(database("redis://cache:7/3?x=@y"), Some(3));
        for wrong in [
            "",
            "redis://h/name",
            "h:1",
            "http://h",
            "redis://",
            "redis://u:p%zz@h",
            "redis://h:port",
            "redis://-h",
            "redis-cluster://h",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}

//! Connection URLs, as platforms have them in one variable: `postgres://user:password@host:5432/database?sslmode=require`.
//!
//! What they mean is libpq's: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>. An error
//! never quotes the URL, which holds a password.

use zeroize::Zeroizing;

/// What a connection URL says; what it leaves out is said elsewhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServerUrl {
    /// A name, an address, or the directory of a socket.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// Who connects.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<Zeroizing<String>>,
    /// The database.
    pub database: Option<String>,
    /// libpq's word for how the connection is encrypted.
    pub ssl_mode: Option<String>,
}

/// Why a text is no connection URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// Another beginning.
    #[error("it does not begin with postgres:// or postgresql://")]
    Scheme,
    /// A `%` that no two hexadecimal digits follow, or bytes that are no text.
    #[error("a % in it does not stand for a character: one that is meant is written %25")]
    Escape,
    /// Not a number, or too large.
    #[error("its port is no number up to 65535")]
    Port,
    /// libpq would try one after the other.
    #[error("it names several servers, and only one can be read")]
    SeveralServers,
    /// A mode of encryption that libpq does not know.
    #[error("its sslmode is none of disable, allow, prefer, require, verify-ca, verify-full")]
    SslMode,
}

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

impl ServerUrl {
    /// Read a URL.
    pub fn parse(text: &str) -> Result<Self, UrlProblem> {
        let rest =
            ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or(UrlProblem::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // An @ in a password that nobody escaped belongs to it.
        let (user, servers) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        if servers.contains(',') {
            return Err(UrlProblem::SeveralServers);
        }
        let (host, port) = match servers.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => (address, rest.strip_prefix(':').unwrap_or_default()),
            None => servers.split_once(':').unwrap_or((servers, "")),
        };
        let mut url = Self::default();
        for (name, value) in [
            ("host", host),
            ("port", port),
            ("user", user),
            ("password", password),
            ("dbname", database),
        ] {
            url.set(name, value)?;
        }
        for parameter in query.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            url.set(name, value)?;
        }
        Ok(url)
    }

    /// What is empty says nothing, and what concerns no connection is not for us.
    fn set(&mut self, name: &str, value: &str) -> Result<(), UrlProblem> {
        if value.is_empty() {
            return Ok(());
        }
        let value = decoded(value)?;
        match name {
            "host" => self.host = Some(value.to_string()),
            "port" => self.port = Some(value.parse().map_err(|_| UrlProblem::Port)?),
            "user" => self.user = Some(value.to_string()),
            "password" => self.password = Some(value),
            "dbname" => self.database = Some(value.to_string()),
            // node-postgres' own word: encrypted, whoever the server is.
            "sslmode" if *value == "no-verify" => self.ssl_mode = Some("require".into()),
            "sslmode" if SSL_MODES.contains(&value.as_str()) => {
                self.ssl_mode = Some(value.to_string());
            }
            "sslmode" => return Err(UrlProblem::SslMode),
            _ => {}
        }
        Ok(())
    }
}

/// With each `%NN` as the byte that it stands for.
fn decoded(text: &str) -> Result<Zeroizing<String>, UrlProblem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, others) = rest.split_at_checked(2).ok_or(UrlProblem::Escape)?;
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(UrlProblem::Escape);
        let byte = digit(digits[0])? * 16 + digit(digits[1])?;
        bytes.push(u8::try_from(byte).expect("two digits make a byte"));
        rest = others;
    }
    String::from_utf8(bytes).map(Zeroizing::new).map_err(|_| UrlProblem::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> [String; 6] {
        let url = ServerUrl::parse(text).unwrap();
        let port = url.port.map(|port| port.to_string());
        let password = url.password.map(|password| password.to_string());
        [url.host, port, url.user, password, url.database, url.ssl_mode]
            .map(Option::unwrap_or_default)
    }

    #[test]
    fn urls_mean_what_libpq_takes_them_for() {
        assert_eq!(
            told("postgres://u%40x:p%3A%2Fw@db.example:5433/my%20db?sslmode=require&x=1"),
            ["db.example", "5433", "u@x", "p:/w", "my db", "require"]
        );
        assert_eq!(told("postgresql://"), [""; 6]);
        assert_eq!(told("postgres://h/d?sslmode=no-verify"), ["h", "", "", "", "d", "require"]);
        assert_eq!(told("postgres://u:p@w@[::1]:1/d"), ["::1", "1", "u", "p@w", "d", ""]);
        assert_eq!(told("postgres://u@%2Fvar%2Frun/d"), ["/var/run", "", "u", "", "d", ""]);
        assert_eq!(
            told("postgres:///d?host=/run/pg&port=7&user=u&password=p%25"),
            ["/run/pg", "7", "u", "p%", "d", ""]
        );
    }

    #[test]
    fn what_is_no_url_is_told_without_quoting_it() {
        for (text, problem) in [
            ("mysql://u:secret@h/d", UrlProblem::Scheme),
            ("postgres://u:50%secret@h/d", UrlProblem::Escape),
            ("postgres://u:secret%2@h", UrlProblem::Escape),
            ("postgres://u:%ffsecret@h", UrlProblem::Escape),
            ("postgres://u:secret@h:99999/d", UrlProblem::Port),
            ("postgres://u:secret@a,b/d", UrlProblem::SeveralServers),
            ("postgres://u:secret@h/d?sslmode=secret", UrlProblem::SslMode),
        ] {
            assert_eq!(ServerUrl::parse(text).err(), Some(problem), "{text}");
            assert!(!problem.to_string().contains("secret"));
        }
    }
}

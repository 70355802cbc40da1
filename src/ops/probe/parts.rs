//! Whether what a platform depends on answers, where the platform's own health does not look: `ToolJet`'s does not look at its second
//! database, at `PostgREST` and at Redis.

use super::{connection, failed};
use crate::access::Access;
use crate::component::postgres::Session;
use crate::config::{Config, Instance, Platform, SecretSources};
use crate::ops::instance::Living;
use crate::ops::{Context, OpsError};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const POSTGREST_PORT: u16 = 3000;
const REDIS_PORT: u16 = 6379;
/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of an answer so much is looked at.
const MOST_BYTES: usize = 64;

/// A part of an instance, and why it does not answer, where it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartState {
    /// Such as `the database tooljet_db`.
    pub part: String,
    /// None where it answers.
    pub trouble: Option<String>,
}

/// Look at all parts that its platform's health says nothing of.
pub fn parts(
    config: &Config,
    secrets: &SecretSources,
    instance: &Instance,
    context: &Context,
) -> Result<Vec<PartState>, OpsError> {
    if instance.platform != Platform::Tooljet {
        return Ok(Vec::new());
    }
    let living = Living::look(config, instance, context)?;
    let mut states = Vec::new();
    let databases = living.databases(secrets)?;
    for name in &databases.names {
        let asked = || {
            let connection = connection(&living, &databases, name)?;
            let mut session = Session::open(&connection, name).map_err(failed(&living))?;
            session.execute("SELECT 1 \\g /dev/null").map_err(failed(&living))?;
            session.close().map_err(failed(&living))
        };
        let trouble = match asked() {
            Ok(()) => None,
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => Some(error.to_string()),
        };
        states.push(PartState { part: format!("the database {name}"), trouble });
    }
    if let Some(host) = living.variable("PGRST_HOST") {
        let (name, port) = host_and_port(host, POSTGREST_PORT);
        let request = format!("GET / HTTP/1.0\r\nHost: {name}\r\n\r\n");
        let trouble =
            exchange(&living.access, name, port, &request).and_then(|answer| http(&answer));
        states.push(PartState { part: "PostgREST".into(), trouble: trouble.err() });
    }
    // What is encrypted on the way is not spoken here.
    let is_plain = living.variable("REDIS_TLS").is_none_or(|it| it != "true");
    if let (Some(host), true) = (living.variable("REDIS_HOST"), is_plain) {
        let port = living.variable("REDIS_PORT").and_then(|port| port.parse().ok());
        let answer = exchange(&living.access, host, port.unwrap_or(REDIS_PORT), "PING\r\n");
        let trouble = answer.and_then(|answer| redis(&answer));
        states.push(PartState { part: "Redis".into(), trouble: trouble.err() });
    }
    Ok(states)
}

/// `HOST`, `HOST:PORT` or an address of the web.
fn host_and_port(text: &str, usual: u16) -> (&str, u16) {
    let text = text.trim_start_matches("http://").trim_start_matches("https://");
    let text = text.split('/').next().unwrap_or(text);
    match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(usual)),
        None => (text, usual),
    }
}

/// Whether it speaks HTTP and is not broken: what it says no to is an answer.
fn http(answer: &str) -> Result<(), String> {
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match status.and_then(|status| status.parse::<u16>().ok()) {
        Some(..500) => Ok(()),
        Some(status) => Err(format!("it answers with {status}")),
        None => Err("it does not answer as PostgREST does".to_owned()),
    }
}

/// Who asks for a password runs.
fn redis(answer: &str) -> Result<(), String> {
    if answer.starts_with("+PONG") || answer.starts_with("-NOAUTH") {
        return Ok(());
    }
    Err(format!("it answers with '{}'", answer.lines().next().unwrap_or_default().escape_debug()))
}

/// The first line of what a port answers, which is reached from where the instance lives.
fn exchange(access: &Access, host: &str, port: u16, request: &str) -> Result<String, String> {
    let told = |error: std::io::Error| format!("{host}:{port}: {error}");
    let tunnel = access.tunnel(host, port).map_err(told)?;
    let asked = || {
        let mut stream = UnixStream::connect(tunnel.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; MOST_BYTES];
        while answer.len() < MOST_BYTES && !answer.contains(&b'\n') {
            match stream.read(&mut buffer)? {
                0 => break,
                count => answer.extend(&buffer[..count]),
            }
        }
        Ok(answer)
    };
    let answer: Result<Vec<u8>, std::io::Error> = asked();
    match answer {
        Ok(answer) if !answer.is_empty() => Ok(String::from_utf8_lossy(&answer).into_owned()),
        Ok(_) => match tunnel.failure() {
            Some(error) => Err(format!("{host}:{port} does not answer: {error}")),
            None => Err(format!("{host}:{port} does not answer")),
        },
        Err(error) => Err(told(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Cancel;
    use crate::model::via::Via;
    use std::net::TcpListener;

    #[test]
    fn answers_are_told_from_troubles() {
        assert_eq!(http("HTTP/1.1 200 OK\r\n"), Ok(()));
        assert_eq!(http("HTTP/1.0 401 Unauthorized"), Ok(()));
        assert!(http("HTTP/1.1 503 Service Unavailable").unwrap_err().contains("503"));
        assert!(http("SSH-2.0").is_err());
        assert_eq!(
            (redis("+PONG\r\n"), redis("-NOAUTH Authentication required")),
            (Ok(()), Ok(()))
        );
        assert!(redis("-LOADING x\u{1b}").unwrap_err().contains("\\u{1b}"));
        for (text, host, port) in [
            ("postgrest", "postgrest", 3000),
            ("localhost:3001", "localhost", 3001),
            ("http://postgrest:3002/", "postgrest", 3002),
        ] {
            assert_eq!(host_and_port(text, POSTGREST_PORT), (host, port));
        }
    }

    #[test]
    fn a_port_answers_or_is_told_as_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 6];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"+PONG\r\n").unwrap();
            request
        });
        let access = Access::new(Via::local(), None, &Cancel::new());
        let answer = exchange(&access, "127.0.0.1", port, "PING\r\n").unwrap();
        assert_eq!((redis(&answer), &serving.join().unwrap()), (Ok(()), b"PING\r\n"));
        let error = exchange(&access, "127.0.0.1", port, "PING\r\n").unwrap_err();
        assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    }
}

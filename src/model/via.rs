//! Where something lives: the chain of hops from Belay's own host to there, as the configuration's `via` says it.
//!
//! `local`, `docker:appsmith`, `ssh:deploy@prod1`, `ssh:deploy@prod1/docker:appsmith`. What is parsed here is safe to
//! stand in the argument list of `ssh` and `docker`: nothing in it can be taken for an option.

use std::fmt;
use std::str::FromStr;

/// A chain of hops, outermost first; none is this host itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Via(Vec<Hop>);

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hop {
    /// Another host, by the system's own `ssh`.
    Ssh {
        /// `host`, `user@host`, or a name of the ssh configuration.
        destination: String,
        /// The port, where it is not what the ssh configuration says.
        port: Option<u16>,
    },
    /// A running container, by `docker exec`.
    Docker {
        /// Its name or id.
        container: String,
    },
}

/// Why a text is no way to anywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseViaError {
    /// A word before the colon that is no access.
    #[error("unknown access '{0}': this version knows local, docker, ssh")]
    UnknownAccess(String),
    /// The part after the colon cannot be meant.
    #[error("'{0}' is no {1}")]
    NoTarget(String, &'static str),
    /// `local` within a chain.
    #[error("'local' stands alone: a chain begins on this host anyway")]
    LocalInChain,
}

impl Via {
    /// This host.
    pub fn local() -> Self {
        Self::default()
    }

    /// The hops, outermost first.
    pub fn hops(&self) -> &[Hop] {
        &self.0
    }

    /// Whether it is this host.
    pub fn is_local(&self) -> bool {
        self.0.is_empty()
    }

    /// The container that the last hop leads into, and the way to the Docker engine that runs it.
    pub fn container(&self) -> Option<(Self, &str)> {
        match self.0.split_last()? {
            (Hop::Docker { container }, before) => Some((Self(before.to_vec()), container)),
            (Hop::Ssh { .. }, _) => None,
        }
    }

    /// The way to the host that it is on: without the container, where the last hop leads into one.
    #[must_use]
    pub fn host(&self) -> Self {
        self.container().map_or_else(|| self.clone(), |(engine, _)| engine)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("local");
        }
        for (position, hop) in self.0.iter().enumerate() {
            if position > 0 {
                formatter.write_str("/")?;
            }
            write!(formatter, "{hop}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh { destination, port: None } => write!(formatter, "ssh:{destination}"),
            Self::Ssh { destination, port: Some(port) } => {
                write!(formatter, "ssh:{destination}:{port}")
            }
            Self::Docker { container } => write!(formatter, "docker:{container}"),
        }
    }
}

impl FromStr for Via {
    type Err = ParseViaError;

    fn from_str(text: &str) -> Result<Self, ParseViaError> {
        if text == "local" {
            return Ok(Self::local());
        }
        text.split('/').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Hop {
    type Err = ParseViaError;

    fn from_str(text: &str) -> Result<Self, ParseViaError> {
        match text.split_once(':') {
            Some(("docker", container)) if is_container(container) => {
                Ok(Self::Docker { container: container.to_owned() })
            }
            Some(("docker", container)) => {
                Err(ParseViaError::NoTarget(container.to_owned(), "name of a container"))
            }
            Some(("ssh", target)) => ssh(target)
                .ok_or_else(|| ParseViaError::NoTarget(target.to_owned(), "host to log in to")),
            None if text == "local" => Err(ParseViaError::LocalInChain),
            _ => {
                let word = text.split(':').next().unwrap_or(text);
                Err(ParseViaError::UnknownAccess(word.to_owned()))
            }
        }
    }
}

/// What Docker takes as a name or an id.
fn is_container(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && text.bytes().all(allowed)
}

fn ssh(target: &str) -> Option<Hop> {
    let (host, port) = match target.rsplit_once(':') {
        // The colons of an address in brackets are its own.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (target, None),
    };
    let (user, host) =
        host.rsplit_once('@').map_or((None, host), |(user, host)| (Some(user), host));
    // ssh takes an address without the brackets.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_address = bare.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let word = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-+".contains(&byte);
        text.as_bytes().first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            && text.bytes().all(allowed)
    };
    let is_right = (is_address || word(host)) && user.is_none_or(word);
    let host = if is_address { bare? } else { host };
    let destination = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
    is_right.then_some(Hop::Ssh { destination, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_read_back_as_they_were_written() {
        for text in [
            "local",
            "docker:postgresql",
            "ssh:prod1",
            "ssh:deploy@prod1:2222/docker:app_1.x",
            "ssh:a/ssh:b@c/docker:d",
        ] {
            assert_eq!(text.parse::<Via>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_address_with_colons_stands_in_brackets() {
        let via: Via = "ssh:root@[::1]:22".parse().unwrap();
        assert_eq!(via.hops(), [Hop::Ssh { destination: "root@::1".into(), port: Some(22) }]);
    }

    #[test]
    fn what_could_be_an_option_or_a_second_command_is_refused() {
        for text in [
            "",
            "locale",
            "docker:",
            "docker:-it",
            "docker:a b",
            "docker:a/",
            "ssh:",
            "ssh:-oProxyCommand=x",
            "ssh:a@-b",
            "ssh:a b",
            "ssh:a;b",
            "ssh:host:99999",
            "ssh:a$(b)",
            "local/docker:a",
            "docker:a/local",
            "kubectl:a/b/c",
            "ssh:a\n",
        ] {
            assert!(text.parse::<Via>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_last_container_is_told_with_the_way_to_its_engine() {
        let via: Via = "ssh:a/docker:b".parse().unwrap();
        assert_eq!(via.container(), Some(("ssh:a".parse().unwrap(), "b")));
        assert_eq!(via.host(), "ssh:a".parse().unwrap());
        let via: Via = "docker:b/ssh:a".parse().unwrap();
        assert_eq!((via.container(), via.host()), (None, via.clone()));
        assert_eq!("docker:b".parse::<Via>().unwrap().host(), Via::local());
    }
}

//! How the HTTP interface of an instance's platform is reached.

use super::SecretRef;
use reqwest::Url;
use std::net::IpAddr;

/// Where an instance's HTTP interface is, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Where people open it: https, or http on this machine or where that was said to be fine. Without a password.
    pub url: Url,
    /// Whether http was said to be fine.
    pub plain_http: bool,
    /// Who asks; none where only what needs nobody is asked for.
    pub credentials: Option<Credentials>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Somebody who logs in.
    Login {
        /// The user.
        user: String,
        /// That user's password.
        password: SecretRef,
    },
    /// Who has a token.
    Token(SecretRef),
}

/// The address of an instance, or what is wrong with it.
pub(super) fn parse(text: &str, plain_http: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no web address")?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err("it is no web address");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user or a password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has more than a host and a path");
    }
    if url.scheme() == "http" && !plain_http && !is_this_machine(&url) {
        return Err("over http a password could be read on the way");
    }
    Ok(url)
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_this_machine_unless_it_is_said_to_be_fine() {
        for (text, plain_http, is_fine) in [
            ("https://apps.example.com", false, true),
            ("https://example.com/appsmith/", false, true),
            ("http://127.0.0.1:8080", false, true),
            ("http://[::1]:8080", false, true),
            ("http://localhost", false, true),
            ("http://apps.example.com", false, false),
            ("http://127.0.0.1.example.com", false, false),
            ("http://apps.example.com", true, true),
            ("https://user:secret@apps.example.com", false, false),
            ("https://apps.example.com?x=1", false, false),
            ("ftp://apps.example.com", true, false),
            ("apps.example.com", true, false),
        ] {
            assert_eq!(parse(text, plain_http).is_ok(), is_fine, "{text}");
        }
    }
}

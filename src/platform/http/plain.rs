//! Asking a web address as anybody may: without a secret, and without a redirect that is followed.

use super::{HttpError, Limits, MOST_BYTES, USER_AGENT, reason};
use reqwest::Url;
use reqwest::blocking::Client as Http;
use reqwest::redirect::Policy;
use std::io::Read as _;

/// What an address answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// What it said.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether HTTP calls it well.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Get what an address has. Whatever status it answers with is an answer. Whoever calls has set up TLS for the process.
pub fn get(url: &Url, limits: Limits) -> Result<Answer, HttpError> {
    // A query may hold what is nobody's business.
    let call = format!("GET {}", url.path());
    let origin = url.origin().ascii_serialization();
    let failed = |error: reqwest::Error| HttpError::NoAnswer {
        call: call.clone(),
        origin: origin.clone(),
        reason: reason(error),
        changes: false,
    };
    let http = Http::builder()
        .no_proxy()
        .connect_timeout(limits.connect)
        .timeout(limits.all)
        .redirect(Policy::none())
        .referer(false)
        .user_agent(USER_AGENT)
        .build()
        .map_err(failed)?;
    let answer = http.get(url.clone()).send().map_err(failed)?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    answer.take(MOST_BYTES + 1).read_to_end(&mut body).map_err(|_| HttpError::NoAnswer {
        call: call.clone(),
        origin: origin.clone(),
        reason: "the answer was cut off".into(),
        changes: false,
    })?;
    if body.len() as u64 > MOST_BYTES {
        return Err(HttpError::Strange { call, origin, reason: "the answer is too long".into() });
    }
    Ok(Answer { status, body })
}

/// The address of a path at an instance's own, which may lie below a path itself.
pub fn below(base: &Url, path: &str) -> Option<Url> {
    Url::parse(&format!("{}{path}", base.as_str().trim_end_matches('/'))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_instances_address() {
        for (base, expected) in [
            ("https://a.example", "https://a.example/api/x?y=1"),
            ("https://a.example/tools/", "https://a.example/tools/api/x?y=1"),
        ] {
            let url = below(&Url::parse(base).unwrap(), "/api/x?y=1").unwrap();
            assert_eq!(url.as_str(), expected);
        }
    }
}

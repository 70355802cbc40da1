//! One POST request, with what must hold of all of them: limits, redirects, no proxy, and errors without the address.

use super::{Limits, Reason};
use crate::config::notify::origin_of;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::Url;
use reqwest::blocking::{Client, Response};
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::redirect::{Action, Attempt, Policy};
use std::error::Error;
use std::time::Duration;

/// What a receiver may ask for at most: what is told much later helps nobody.
const LONGEST_WAIT: Duration = Duration::from_hours(6);
const MOST_REDIRECTS: usize = 5;
const USER_AGENT: &str = concat!("belay/", env!("CARGO_PKG_VERSION"));

/// Posts a body; done when the answer's status is one of success. The rest of the answer is not read.
pub(super) fn post(
    limits: Limits,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<(), Reason> {
    // The environment of a service may name a proxy that was never meant for this.
    let client = Client::builder()
        .no_proxy()
        .connect_timeout(limits.connect)
        .timeout(limits.all)
        .redirect(Policy::custom(follow))
        .referer(false)
        .user_agent(USER_AGENT)
        .build()
        .map_err(|error| Reason::NoAnswer(reason(error, limits)))?;
    let answer = client.post(url).headers(headers).body(body).send();
    let answer = answer.map_err(|error| Reason::NoAnswer(reason(error, limits)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let status = status.as_u16();
    if let Some(target) = target(&answer) {
        return Err(Reason::Redirected { status, target: origin_of(&target) });
    }
    Err(Reason::Refused { status, retry_after: retry_after(answer.headers(), Timestamp::now()) })
}

/// Follows where the request stays what it is and goes to the same host. The others turn it into a GET without a body,
/// whose success would say nothing.
fn follow(attempt: Attempt<'_>) -> Action {
    let keeps_body = matches!(attempt.status().as_u16(), 307 | 308);
    let next = attempt.url();
    let is_fine = attempt.previous().last().is_some_and(|from| {
        from.host() == next.host() && (from.scheme() != "https" || next.scheme() == "https")
    });
    if keeps_body && is_fine && attempt.previous().len() <= MOST_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

fn target(answer: &Response) -> Option<Url> {
    let location = answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection())?;
    answer.url().join(location.to_str().ok()?).ok()
}

/// In seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(at.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The innermost reason: the outer ones say that there was a request. None of them has the address.
fn reason(error: reqwest::Error, limits: Limits) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        let (what, limit) = if error.is_connect() {
            ("connection", limits.connect)
        } else {
            ("answer", limits.all)
        };
        return format!("no {what} within {} s", limit.as_secs_f32());
    }
    let mut innermost: &dyn Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let what = if error.is_connect() { "no connection" } else { "no answer" };
    format!("{what}: {innermost}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_as_seconds_and_as_dates_and_are_limited() {
        let now = "2026-11-21T22:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            ("90", Some(90)),
            ("999999999", Some(6 * 3600)),
            ("Sat, 21 Nov 2026 22:05:00 GMT", Some(300)),
            ("Sat, 21 Nov 2020 22:05:00 GMT", Some(0)),
            ("Mon, 21 Nov 2050 22:05:00 GMT", Some(6 * 3600)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers: HeaderMap = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), seconds, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}

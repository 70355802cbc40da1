//! The test `health`: the platform says that it is well, and so does what it depends on.
//!
//! Appsmith says in the answer itself how it went, whatever the status of HTTP; and its front page answers with 200 before the server
//! is there, so that is not asked. `ToolJet`'s health does not look at its second database, `PostgREST` and Redis.

use super::{Asked, Found};
use crate::config::Platform;
use crate::model::trial::Baseline;
use crate::notify::install_crypto;
use crate::ops::OpsError;
use crate::ops::probe::{self, PartState};
use crate::platform::http::plain::{self, Answer};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long to wait where it was asked too often.
const BUSY: Duration = Duration::from_secs(5);
const TOO_OFTEN: u64 = 429;

/// The parts that do not answer before the upgrade: some are not to be reached from where Belay looks.
pub(super) fn before(asked: &Asked<'_>) -> Result<BTreeMap<String, String>, OpsError> {
    let parts = probe::parts(asked.config, asked.secrets, asked.instance, &asked.context)?;
    Ok(parts.into_iter().filter_map(|state| Some((state.part, state.trouble?))).collect())
}

pub(super) fn run(asked: &Asked<'_>, baseline: &Baseline) -> Result<Found, OpsError> {
    let Some(web) = &asked.instance.web else {
        return Ok(Found::failed("nothing says where people open it: add url"));
    };
    let (path, judge): (_, fn(&Answer) -> Health) = match asked.instance.platform {
        Platform::Appsmith => ("/api/v1/health", appsmith),
        Platform::Tooljet => ("/api/health", tooljet),
        other => return Ok(Found::not_applicable(format!("{other} has no health to ask for"))),
    };
    let Some(url) = plain::below(&web.url, path) else {
        return Ok(Found::failed(format!("{path} is no path at {}", web.url)));
    };
    install_crypto();
    let said = loop {
        asked.check()?;
        let answer = match plain::get(&url, asked.limits()) {
            Ok(answer) => answer,
            Err(error) => return Ok(Found::failed(error.to_string())),
        };
        match judge(&answer) {
            Health::Busy => wait(asked)?,
            Health::Well(said) => break said,
            Health::Ill(why) => return Ok(Found::failed(format!("GET {path} {why}"))),
        }
    };
    let parts = probe::parts(asked.config, asked.secrets, asked.instance, &asked.context)?;
    Ok(judge_parts(format!("GET {path} {said}"), parts, baseline))
}

fn judge_parts(summary: String, parts: Vec<PartState>, baseline: &Baseline) -> Found {
    let troubles = parts.into_iter().filter_map(|state| Some((state.part, state.trouble?)));
    let (before, new): (Vec<_>, Vec<_>) =
        troubles.partition(|(part, _)| baseline.parts.contains_key(part));
    let told = |(part, trouble): (String, String)| format!("{part}: {trouble}");
    let mut found = Found::of(summary, new.into_iter().map(told).collect());
    found.details.extend(before.into_iter().map(|it| format!("as before, {}", told(it))));
    found
}

/// Wait a little, unless the time is over before.
fn wait(asked: &Asked<'_>) -> Result<(), OpsError> {
    let (_stop, stopped) = std::sync::mpsc::channel::<()>();
    let begun = std::time::Instant::now();
    while begun.elapsed() < BUSY {
        asked.check()?;
        let _ = stopped.recv_timeout(super::LOOK);
    }
    Ok(())
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Health {
    Well(String),
    Ill(String),
    /// It was asked too often, which says nothing.
    Busy,
}

fn appsmith(answer: &Answer) -> Health {
    if u64::from(answer.status) == TOO_OFTEN {
        return Health::Busy;
    }
    if !answer.is_success() {
        return Health::Ill(format!("was answered with {}", answer.status));
    }
    match answer.json()["responseMeta"]["status"].as_u64() {
        Some(200..300) => Health::Well("was answered with 200, also in the answer".to_owned()),
        Some(TOO_OFTEN) => Health::Busy,
        Some(status) => {
            Health::Ill(format!("was answered with {} and, in the answer, {status}", answer.status))
        }
        None => {
            Health::Ill(format!("was answered with {}, and not as Appsmith does", answer.status))
        }
    }
}

fn tooljet(answer: &Answer) -> Health {
    match answer.status {
        429 => Health::Busy,
        200..300 if answer.json()["works"] == "yeah" => {
            Health::Well(format!("was answered with {}", answer.status))
        }
        200..300 => {
            Health::Ill(format!("was answered with {}, and not as ToolJet does", answer.status))
        }
        status => Health::Ill(format!("was answered with {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn what_stands_in_appsmiths_answer_counts() {
        let good = r#"{"responseMeta":{"status":200,"success":true},"data":"All systems are Up"}"#;
        assert!(matches!(appsmith(&answer(200, good)), Health::Well(_)));
        let limited = r#"{"responseMeta":{"status":429,"success":false}}"#;
        assert_eq!(appsmith(&answer(200, limited)), Health::Busy);
        assert_eq!(appsmith(&answer(429, "")), Health::Busy);
        for (status, body, why) in [
            (200, r#"{"responseMeta":{"status":503}}"#, "in the answer, 503"),
            (200, "<html>loading</html>", "not as Appsmith does"),
            (502, "", "answered with 502"),
        ] {
            let Health::Ill(said) = appsmith(&answer(status, body)) else { panic!("{body}") };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_part_that_did_not_answer_before_does_not_count() {
        let part = |name: &str, trouble: Option<&str>| PartState {
            part: name.into(),
            trouble: trouble.map(Into::into),
        };
        let parts = || vec![part("PostgREST", Some("no answer")), part("Redis", None)];
        let unlooked = judge_parts("well".into(), parts(), &Baseline::default());
        assert_eq!(unlooked.details, ["well", "PostgREST: no answer"]);
        assert!(!unlooked.verdict.is_fine());
        let parts_before = BTreeMap::from([("PostgREST".to_owned(), "no answer".to_owned())]);
        let before = Baseline { parts: parts_before, ..Baseline::default() };
        let same = judge_parts("well".into(), parts(), &before);
        assert!(same.verdict.is_fine());
        assert_eq!(same.details, ["well", "as before, PostgREST: no answer"]);
    }

    #[test]
    fn another_server_at_tooljets_address_is_not_taken_for_it() {
        assert!(matches!(tooljet(&answer(200, r#"{"works":"yeah"}"#)), Health::Well(_)));
        assert!(matches!(tooljet(&answer(200, "ok")), Health::Ill(_)));
        assert!(matches!(tooljet(&answer(500, "")), Health::Ill(_)));
        assert_eq!(tooljet(&answer(429, "")), Health::Busy);
    }
}

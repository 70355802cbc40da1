//! The test `http`: a web address answers with the status and the words that it should.

use super::{Asked, Found};
use crate::config::pair::{HttpSettings, HttpTarget};
use crate::notify::install_crypto;
use crate::ops::OpsError;
use crate::platform::http::plain::{self, Answer};
use memchr::memmem;

pub(super) fn run(asked: &Asked<'_>, settings: &HttpSettings) -> Result<Found, OpsError> {
    let url = match (&settings.target, &asked.instance.web) {
        (HttpTarget::Url(url), _) => Some(url.clone()),
        (HttpTarget::Path(path), Some(web)) => plain::below(&web.url, path),
        (HttpTarget::Path(_), None) => None,
    };
    let Some(url) = url else {
        return Ok(Found::failed("nothing says where people open the instance: add url"));
    };
    install_crypto();
    asked.check()?;
    Ok(match plain::get(&url, asked.limits()) {
        Ok(answer) => judge(&answer, settings),
        Err(error) => Found::failed(error.to_string()),
    })
}

fn judge(answer: &Answer, settings: &HttpSettings) -> Found {
    let HttpSettings { target, status, body } = settings;
    if answer.status != *status {
        return Found::failed(format!(
            "{target} was answered with {} instead of {status}",
            answer.status
        ));
    }
    match body {
        Some(body) if memmem::find(&answer.body, body.as_bytes()).is_none() => {
            Found::failed(format!("'{body}' is not in what {target} was answered with"))
        }
        _ => Found::passed(format!("{target} was answered with {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_words_have_to_be_right() {
        let settings = |status, body: Option<&str>| HttpSettings {
            target: HttpTarget::Path("/x".into()),
            status,
            body: body.map(Into::into),
        };
        let answer = Answer { status: 200, body: b"all is fine".to_vec() };
        assert!(judge(&answer, &settings(200, Some("fine"))).verdict.is_fine());
        assert!(judge(&answer, &settings(200, None)).verdict.is_fine());
        assert!(!judge(&answer, &settings(204, None)).verdict.is_fine());
        let found = judge(&answer, &settings(200, Some("better")));
        assert_eq!(found.details, ["'better' is not in what /x was answered with"]);
    }
}

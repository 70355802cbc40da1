//! Health-check pings, as Healthchecks takes them: `URL/start`, `URL`, and `URL/fail` with the end of the log.

use super::message::{LOG_LIMIT, head, tail, title};
use super::{Limits, Reason, http, webhook};
use crate::config::SecretSources;
use crate::config::notify::Ping;
use crate::model::id::DeliveryId;
use crate::model::notice::{Notice, NoticeKind};
use reqwest::Url;

pub(super) fn send(
    limits: Limits,
    ping: &Ping,
    id: DeliveryId,
    notice: &Notice,
    sources: &SecretSources,
) -> Result<(), Reason> {
    let url = ping.url.resolve(sources)?;
    let (url, body) = match notice.kind {
        NoticeKind::RunStarted => (below(url, "start"), String::new()),
        NoticeKind::RunSucceeded => (url, String::new()),
        NoticeKind::RunFailed => (below(url, "fail"), failure(notice)),
        other => return Err(Reason::Unfit(format!("a ping cannot tell '{other}'"))),
    };
    http::post(limits, url, webhook::headers(id), body.into_bytes())
}

/// The address with one more part, before what follows a `?`.
fn below(mut url: Url, part: &str) -> Url {
    url.path_segments_mut().expect("http and https have paths").pop_if_empty().push(part);
    url
}

/// What failed, and as much of the log as there is room for.
fn failure(notice: &Notice) -> String {
    let what = [&title(notice), notice.body.trim(), notice.hint.as_deref().unwrap_or_default()];
    let what: Vec<&str> = what.into_iter().filter(|text| !text.is_empty()).collect();
    let what = format!("{}\n\n", what.join("\n"));
    let what = head(&what, LOG_LIMIT / 2);
    format!("{what}{}", tail(&notice.log, LOG_LIMIT - what.len()))
}

//! Webhooks: the notice as signed JSON, as a message for Slack and Mattermost, or as ntfy takes it.

use super::message::{LOG_LIMIT, chat, head, tail, text, title};
use super::{Limits, Reason, http};
use crate::config::notify::{Style, Webhook};
use crate::config::{Secret, SecretSources};
use crate::model::id::DeliveryId;
use crate::model::notice::{Notice, NoticeKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use sha2::Sha256;

/// The version of the JSON document.
const VERSION: u32 = 1;
/// ntfy makes an attachment of what is longer than 4096 bytes.
const NTFY_LIMIT: usize = 4_000;

/// What a receiver of JSON gets; `docs/NOTIFICATIONS.md` describes it.
#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    id: DeliveryId,
    #[serde(flatten)]
    notice: &'a Notice,
}

pub(super) fn send(
    limits: Limits,
    webhook: &Webhook,
    id: DeliveryId,
    notice: &Notice,
    sources: &SecretSources,
) -> Result<(), Reason> {
    let url = webhook.url.resolve(sources)?;
    let secret = webhook.secret.as_ref().map(|secret| secret.resolve(sources)).transpose()?;
    let mut headers = headers(id);
    let body = match webhook.style {
        Style::Json => {
            let body = json(id, notice);
            if let Some(secret) = &secret {
                let signature = signature(secret, Timestamp::now(), &body);
                headers.insert(HeaderName::from_static("belay-signature"), value(&signature));
            }
            body
        }
        Style::Slack => message(&chat(notice, "*")),
        Style::Mattermost => message(&chat(notice, "**")),
        Style::Ntfy => {
            ntfy_headers(&mut headers, notice, secret.as_ref())?;
            let text = text(notice, NTFY_LIMIT / 2);
            head(&text, NTFY_LIMIT).as_bytes().to_vec()
        }
    };
    let kind = if webhook.style == Style::Ntfy { "text/plain" } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    http::post(limits, url, headers, body)
}

/// What all requests have: the id by which a receiver tells a repeat.
pub(super) fn headers(id: DeliveryId) -> HeaderMap {
    [(HeaderName::from_static("belay-delivery"), value(&id.to_string()))].into_iter().collect()
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("letters, digits and signs of ASCII are a header's value")
}

fn json(id: DeliveryId, notice: &Notice) -> Vec<u8> {
    let log = tail(&notice.log, LOG_LIMIT).to_owned();
    let body = Body { version: VERSION, id, notice: &Notice { log, ..notice.clone() } };
    serde_json::to_vec(&body).expect("texts and numbers can all be written as JSON")
}

/// `t=SECONDS,v1=HEX`: the HMAC-SHA256 over `SECONDS.BODY`. The time is in it so that nobody can send an old one again.
fn signature(secret: &Secret, now: Timestamp, body: &[u8]) -> String {
    let seconds = now.as_second();
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length")
        .chain_update(format!("{seconds}."))
        .chain_update(body)
        .finalize();
    format!("t={seconds},v1={}", hex::encode(mac.into_bytes()))
}

fn message(text: &str) -> Vec<u8> {
    serde_json::json!({ "text": text }).to_string().into_bytes()
}

fn ntfy_headers(
    headers: &mut HeaderMap,
    notice: &Notice,
    token: Option<&Secret>,
) -> Result<(), Reason> {
    let (priority, tag) = match notice.kind {
        NoticeKind::Recovery => ("default", "white_check_mark"),
        NoticeKind::Upgrade | NoticeKind::VersionChanged => ("default", "information_source"),
        _ => ("high", "warning"),
    };
    for (name, content) in
        [("title", encoded(&title(notice))), ("priority", value(priority)), ("tags", value(tag))]
    {
        headers.insert(HeaderName::from_static(name), content);
    }
    if let Some(token) = token {
        let mut content = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| Reason::Unfit("the secret is no access token".to_owned()))?;
        content.set_sensitive(true);
        headers.insert(AUTHORIZATION, content);
    }
    Ok(())
}

/// A header has ASCII only; anything else as RFC 2047 writes it, which ntfy reads.
fn encoded(title: &str) -> HeaderValue {
    if title.is_ascii() && !title.contains("=?") {
        value(title)
    } else {
        value(&format!("=?UTF-8?B?{}?=", STANDARD.encode(title)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::{ID, notice};
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn a_signature_is_what_another_implementation_of_hmac_computes() {
        let body = json(ID, &notice());
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let script = "import hashlib, hmac, sys\n\
                      body = sys.stdin.buffer.read()\n\
                      print(hmac.new('schlüssel'.encode(), b'1795000000.' + body, hashlib.sha256).hexdigest())";
        let mut python = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(&body).unwrap();
        let expected = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
        let secret = Secret::new("schlüssel".to_owned()).unwrap();
        assert_eq!(
            signature(&secret, now, &body),
            format!("t=1795000000,v1={}", expected.trim_end())
        );
        assert_eq!(expected.trim_end().len(), 64);
    }

    #[test]
    fn titles_in_headers_are_ascii() {
        assert_eq!(encoded("plain: text"), "plain: text");
        assert_eq!(encoded("für"), "=?UTF-8?B?ZsO8cg==?=");
        assert_eq!(encoded("=?x"), "=?UTF-8?B?PT94?=");
    }
}

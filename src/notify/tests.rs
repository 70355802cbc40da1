//! Deliveries to real servers on this machine, which do what receivers do on bad days.

mod http_server;
mod mails;
mod smtp_server;
mod web;

use super::*;
use crate::config::notify::{Address, Mail, MailLogin, MailTls, Ping, Style, Webhook};
use crate::model::id::JobId;
use crate::model::notice::NoticeKind;
use std::error::Error as _;

pub(super) const ID: DeliveryId = DeliveryId([0xab; 16]);
/// What must never be shown.
const SECRET: &str = "hunter2";
/// Short, for receivers that never answer; the others answer at once.
const SHORT: Limits = Limits { connect: Duration::from_secs(10), all: Duration::from_millis(300) };

pub(super) fn notice() -> Notice {
    Notice {
        kind: NoticeKind::Failure,
        instance: Some("production".parse().unwrap()),
        job: Some(JobId([1; 8])),
        at: "2026-11-21T22:00:00.5Z".parse().unwrap(),
        since: Some("2026-11-20T22:00:00Z".parse().unwrap()),
        reminder: false,
        title: "The backup of 'production' failed".to_owned(),
        body: "The server ‘db’ said: <no> & went away.".to_owned(),
        hint: Some("start it".to_owned()),
        host: "prod1".to_owned(),
        log: "reading postgres\npg_dump: error: connection lost\n".to_owned(),
    }
}

fn sources() -> SecretSources {
    SecretSources::new(vec![], |name| {
        let secret = SECRET.to_owned();
        match name {
            "SECRET" => Some(secret.into()),
            "BROKEN" => Some(format!("{secret}\nX: y").into()),
            _ => None,
        }
    })
}

fn channel(target: Target) -> Channel {
    Channel { on: NoticeKind::TOLD.to_vec(), instances: None, target }
}

fn webhook_to(url: &str, style: Style, secret: Option<&str>) -> Channel {
    channel(Target::Webhook(Webhook {
        url: Address::Plain(url.parse().unwrap()),
        secret: secret.map(|text| text.parse().unwrap()),
        style,
    }))
}

fn tell(channel: &Channel, notice: &Notice) -> Result<(), NotifyError> {
    deliver(channel, ID, notice, &sources())
}

/// The error with its reasons, after a look that no secret is in it.
fn told(error: &NotifyError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        text = format!("{text}: {reason}");
        source = reason.source();
    }
    let shown = format!("{text} {error:?} {:?}", error.hint());
    assert!(!shown.contains(SECRET), "{shown}");
    text
}

//! `[[notify]]` as it is shown: addresses by their hosts only.

use crate::config::notify::{Channel, Target};
use crate::config::secret::SecretRef;
use crate::model::name::Name;
use crate::model::notice::NoticeKind;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct ShownNotify<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    on: &'a [NoticeKind],
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<&'a [Name]>,
    #[serde(flatten)]
    target: ShownTarget<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ShownTarget<'a> {
    Webhook {
        url: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        secret: Option<&'a SecretRef>,
        style: &'static str,
    },
    Mail {
        to: Vec<String>,
        from: String,
        server: &'a str,
        port: u16,
        tls: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        password: Option<&'a SecretRef>,
    },
    Ping {
        url: String,
    },
}

pub(super) fn channel(channel: &Channel) -> ShownNotify<'_> {
    let target = match &channel.target {
        Target::Webhook(webhook) => ShownTarget::Webhook {
            url: webhook.url.to_string(),
            secret: webhook.secret.as_ref(),
            style: webhook.style.as_str(),
        },
        Target::Mail(mail) => ShownTarget::Mail {
            to: mail.to.iter().map(ToString::to_string).collect(),
            from: mail.from.to_string(),
            server: &mail.server,
            port: mail.port,
            tls: mail.tls.as_str(),
            user: mail.login.as_ref().map(|login| login.user.as_str()),
            password: mail.login.as_ref().map(|login| &login.password),
        },
        Target::Ping(ping) => ShownTarget::Ping { url: ping.url.to_string() },
    };
    let is_ping = matches!(channel.target, Target::Ping(_));
    ShownNotify {
        on: if is_ping { &[] } else { &channel.on },
        instances: channel.instances.as_deref(),
        target,
    }
}

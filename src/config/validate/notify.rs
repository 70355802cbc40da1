//! The checks of `[[notify]]`: one target, known words, addresses that can be reached, no password in the clear.

use super::Checker;
use crate::config::notify::{
    Address, Channel, Mail, MailLogin, MailTls, Ping, Style, Target, Webhook, parse_web_address,
};
use crate::config::raw::{RawConfig, RawMail, RawNotify, RawPing, RawWebhook};
use crate::config::secret::SecretRef;
use crate::model::name::Name;
use crate::model::notice::NoticeKind;
use lettre::message::Mailbox;
use std::net::IpAddr;
use toml::Spanned;

impl Checker<'_> {
    pub(super) fn channels(&mut self, raw: &RawConfig) -> Vec<Channel> {
        raw.notify.iter().filter_map(|entry| self.channel(entry, raw)).collect()
    }

    fn channel(&mut self, entry: &Spanned<RawNotify>, config: &RawConfig) -> Option<Channel> {
        let raw = entry.get_ref();
        let on = self.told_kinds(raw);
        let instances = raw.instances.as_ref().map(|names| self.told_instances(names, config));
        let target = match (&raw.webhook, &raw.mail, &raw.ping) {
            (Some(webhook), None, None) => self.webhook(webhook),
            (None, Some(mail), None) => self.mail(mail),
            (None, None, Some(ping)) => {
                let several = match (&instances, &raw.instances) {
                    (Some(Some(named)), Some(given)) if named.len() > 1 => Some(given.span()),
                    (None, _) if config.instance.len() > 1 => Some(entry.span()),
                    _ => None,
                };
                if let Some(span) = several {
                    let message = "ping: a health check cannot tell several instances apart";
                    let hint = "write a [[notify]] with instances = [\"NAME\"] and a check of its own for each";
                    self.refuse(&span, message, hint);
                }
                self.ping(ping)
            }
            (None, None, None) => {
                let hint = "add webhook = { url = … }, mail = { … } or ping = { url = … }";
                self.refuse(&entry.span(), "this notify tells nobody", hint);
                None
            }
            _ => {
                let hint = "each [[notify]] has one of webhook, mail and ping; add another";
                self.refuse(&entry.span(), "this notify has several targets", hint);
                None
            }
        };
        let instances = match instances {
            Some(named) => Some(named?),
            None => None,
        };
        Some(Channel { on: on?, instances, target: target? })
    }

    fn told_kinds(&mut self, raw: &RawNotify) -> Option<Vec<NoticeKind>> {
        let Some(words) = &raw.on else { return Some(NoticeKind::TOLD.to_vec()) };
        if raw.ping.is_some() {
            let hint = "leave it out: a ping tells starts, successes and failures of backups";
            self.refuse(&words.span(), "on means nothing to a ping", hint);
            return None;
        }
        let mut kinds = Vec::new();
        for word in words.get_ref() {
            let named = |kind: &NoticeKind| kind.as_str() == word.get_ref();
            let Some(kind) = NoticeKind::TOLD.into_iter().find(named) else {
                self.unknown_word("notice", word, &NoticeKind::TOLD.map(NoticeKind::as_str));
                continue;
            };
            kinds.push(kind);
        }
        if words.get_ref().is_empty() {
            self.refuse(&words.span(), "on: nothing is named", "leave it out for all");
        }
        (!kinds.is_empty() && kinds.len() == words.get_ref().len()).then_some(kinds)
    }

    fn told_instances(
        &mut self,
        names: &Spanned<Vec<Spanned<String>>>,
        config: &RawConfig,
    ) -> Option<Vec<Name>> {
        if names.get_ref().is_empty() {
            self.refuse(&names.span(), "instances: nothing is named", "leave it out for all");
            return None;
        }
        let git = |name: &Spanned<String>| {
            let mut known = config.git.keys().map(Spanned::get_ref);
            known.find(|known| known.as_str() == name.get_ref()).cloned()
        };
        let known = |name| {
            git(name).or_else(|| self.known_name("instance", "instances", name, &config.instance))
        };
        let found: Vec<_> = names.get_ref().iter().map(known).collect();
        found.into_iter().collect()
    }

    fn webhook(&mut self, raw: &RawWebhook) -> Option<Target> {
        let url = self.address(&raw.url);
        let all = Style::ALL;
        let style = self.word("style", raw.style.as_ref(), &all, Style::as_str);
        let secret = raw.secret.as_ref().map(|text| self.secret("secret", text));
        if let (Some(text), Some(style @ (Style::Slack | Style::Mattermost))) = (&raw.secret, style)
        {
            let message = format!("secret means nothing to the style {}", style.as_str());
            let hint = "leave it out: there the address is the secret, so name that by reference";
            self.refuse(&text.span(), message, hint);
        }
        let secret = match secret {
            Some(given) => Some(given?),
            None => None,
        };
        Some(Target::Webhook(Webhook { url: url?, secret, style: style? }))
    }

    fn ping(&mut self, raw: &RawPing) -> Option<Target> {
        Some(Target::Ping(Ping { url: self.address(&raw.url)? }))
    }

    /// A web address, or a reference to one.
    fn address(&mut self, text: &Spanned<String>) -> Option<Address> {
        let is_reference =
            ["credential:", "file:", "env:"].iter().any(|kind| text.get_ref().starts_with(kind));
        if is_reference {
            return self.secret("url", text).map(Address::Secret);
        }
        match parse_web_address(text.get_ref()) {
            Ok(url) if url.password().is_none() => Some(Address::Plain(url)),
            Ok(_) => {
                let hint = "put the whole address into a secret, and write credential:NAME";
                self.refuse(&text.span(), "url: there is a password in the address", hint);
                None
            }
            Err(reason) => {
                let hint =
                    "write such as \"https://HOST/PATH\", or credential:NAME where it is a secret";
                self.refuse(&text.span(), format!("url: this is no address: {reason}"), hint);
                None
            }
        }
    }

    fn mail(&mut self, raw: &RawMail) -> Option<Target> {
        let problems_before = self.problems.len();
        let to: Vec<Mailbox> =
            raw.to.get_ref().iter().filter_map(|text| self.mailbox("to", text)).collect();
        if raw.to.get_ref().is_empty() {
            self.refuse(&raw.to.span(), "to: nobody is named", "write to = [\"ops@example.com\"]");
        }
        let from = self.mailbox("from", &raw.from);
        let server = self.mail_server(&raw.server);
        let tls = self.word("tls", raw.tls.as_ref(), &MailTls::ALL, MailTls::as_str);
        let login = self.mail_login(raw, tls);
        if let Some(port) = raw.port.as_ref().filter(|port| *port.get_ref() == 0) {
            self.refuse(&port.span(), "port: there is no port 0", "leave it out, or name another");
        }
        let port = raw.port.as_ref().map(|port| *port.get_ref());
        let tls = tls?;
        let mail = Mail {
            to,
            from: from?,
            server: server?,
            port: port.unwrap_or(tls.default_port()),
            tls,
            login,
        };
        (self.problems.len() == problems_before).then_some(Target::Mail(mail))
    }

    fn mailbox(&mut self, key: &str, text: &Spanned<String>) -> Option<Mailbox> {
        // A line break would begin another header.
        let is_line = !text.get_ref().contains(char::is_control);
        let mailbox = text.get_ref().parse::<Mailbox>().ok().filter(|_| is_line);
        if mailbox.is_none() {
            let message = format!("{key}: '{}' is no mail address", text.get_ref());
            let hint = "write such as \"ops@example.com\" or \"Operators <ops@example.com>\"";
            self.refuse(&text.span(), message, hint);
        }
        mailbox
    }

    fn mail_server(&mut self, text: &Spanned<String>) -> Option<String> {
        let name = text.get_ref();
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if is_name || name.parse::<IpAddr>().is_ok() {
            return Some(name.clone());
        }
        let hint = "write such as \"smtp.example.com\"; the port is a key of its own";
        self.refuse(&text.span(), "server: this is no name of a host", hint);
        None
    }

    fn mail_login(&mut self, raw: &RawMail, tls: Option<MailTls>) -> Option<MailLogin> {
        let password: Option<SecretRef> =
            raw.password.as_ref().and_then(|text| self.secret("password", text));
        match (&raw.user, &raw.password) {
            (None, None) => {}
            (Some(user), None) => {
                let hint = "add password = \"credential:NAME\"";
                self.refuse(&user.span(), "user: there is no password for it", hint);
            }
            (None, Some(text)) => {
                self.refuse(&text.span(), "password: there is no user for it", "add user");
            }
            (Some(_), Some(text)) if tls == Some(MailTls::None) => {
                let hint = "use tls = \"starttls\" or \"implicit\", or no login";
                let message = "password: without TLS everyone on the way could read it";
                self.refuse(&text.span(), message, hint);
            }
            (Some(user), Some(_)) => {
                return Some(MailLogin { user: user.get_ref().clone(), password: password? });
            }
        }
        None
    }

    /// One of a few words, or what holds where there is none.
    pub(super) fn word<T: Copy + Default, const N: usize>(
        &mut self,
        key: &str,
        word: Option<&Spanned<String>>,
        all: &[T; N],
        as_str: fn(T) -> &'static str,
    ) -> Option<T> {
        let Some(word) = word else { return Some(T::default()) };
        let found = all.iter().copied().find(|known| as_str(*known) == word.get_ref());
        if found.is_none() {
            self.unknown_word(key, word, &all.map(as_str));
        }
        found
    }
}

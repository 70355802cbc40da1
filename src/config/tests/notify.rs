//! `[[notify]]`: what it means, what is refused, and that no address is shown.

use super::*;
use crate::config::notify::{Channel, Mail, MailTls, Ping, Style, Target, Webhook};
use crate::model::notice::{Notice, NoticeKind};

const MAIL: &str =
    "to = ['ops@example.com'], from = 'belay@example.com', server = 'smtp.example.com'";

/// The channels of these entries, beside one repository and two instances.
fn channels(entries: &str) -> Vec<Channel> {
    good(&with(entries)).channels
}

fn channel(lines: &str) -> Channel {
    let mut channels = channels(&format!("[[notify]]\n{lines}"));
    assert_eq!(channels.len(), 1);
    channels.remove(0)
}

fn with(entries: &str) -> String {
    let two = "[instance.b]\nplatform = 'files'\npaths = ['/srv/b']\n";
    format!("{REPOSITORY}{UPLOADS}{two}{entries}")
}

fn refused_channel(lines: &str) -> String {
    refused(&with(&format!("[[notify]]\n{lines}")))
}

fn notice(kind: NoticeKind, instance: Option<&str>) -> Notice {
    Notice {
        kind,
        instance: instance.map(name),
        job: None,
        at: jiff::Timestamp::UNIX_EPOCH,
        since: None,
        reminder: false,
        title: "t".to_owned(),
        body: String::new(),
        hint: None,
        host: "h".to_owned(),
        log: String::new(),
    }
}

#[test]
fn each_kind_of_channel_is_read_with_its_defaults() {
    let entries = format!(
        "[[notify]]\nwebhook = {{ url = 'https://example.com/x' }}\n\
         [[notify]]\non = ['missed', 'rpo']\ninstances = ['b', 'uploads']\n\
         webhook = {{ url = 'credential:u', secret = 'env:S', style = 'ntfy' }}\n\
         [[notify]]\nmail = {{ {MAIL} }}\n\
         [[notify]]\nmail = {{ {MAIL}, tls = 'implicit', user = 'u', password = 'file:/p' }}\n\
         [[notify]]\nmail = {{ {MAIL}, tls = 'none' }}\n\
         [[notify]]\nmail = {{ {MAIL}, port = 2525 }}\n\
         [[notify]]\ninstances = ['b']\nping = {{ url = 'http://hc.example.com:8000/ping/x' }}\n"
    );
    let channels = channels(&entries);
    let shown: Vec<String> = channels.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    the webhook https://example.com/***
    the webhook credential:u
    mail to ops@example.com by smtp.example.com:587
    mail to ops@example.com by smtp.example.com:465
    mail to ops@example.com by smtp.example.com:25
    mail to ops@example.com by smtp.example.com:2525
    the health check http://hc.example.com:8000/***
    ");
    let style = |channel: &Channel| match &channel.target {
        Target::Webhook(Webhook { style, .. }) => *style,
        other => panic!("{other:?}"),
    };
    assert_eq!((style(&channels[0]), style(&channels[1])), (Style::Json, Style::Ntfy));
    assert_eq!(channels[0].on, NoticeKind::TOLD);
    assert_eq!(channels[0].instances, None);
    assert_eq!(channels[1].on, [NoticeKind::Missed, NoticeKind::Rpo]);
    assert_eq!(channels[1].instances.as_deref(), Some(&[name("b"), name("uploads")][..]));
    let Target::Mail(Mail { tls, login, .. }) = &channels[3].target else { panic!() };
    let login = login.as_ref().unwrap();
    assert_eq!((*tls, login.user.as_str()), (MailTls::Implicit, "u"));
    assert_eq!(login.password.to_string(), "file:/p");
}

#[test]
fn a_channel_wants_what_it_names_and_pings_only_runs() {
    let all = channel("webhook = { url = 'https://example.com/x' }");
    let some = channel(&format!("on = ['missed']\ninstances = ['b']\nmail = {{ {MAIL} }}"));
    let ping = channel("instances = ['b']\nping = { url = 'https://example.com/x' }");
    for (kind, instance, wanted) in [
        (NoticeKind::Failure, Some("uploads"), (true, false, false)),
        (NoticeKind::Missed, Some("uploads"), (true, false, false)),
        (NoticeKind::Missed, Some("b"), (true, true, false)),
        (NoticeKind::Missed, None, (true, true, false)),
        (NoticeKind::CheckFailed, None, (true, false, false)),
        (NoticeKind::RunFailed, Some("b"), (false, false, true)),
        (NoticeKind::RunStarted, Some("uploads"), (false, false, false)),
    ] {
        let notice = notice(kind, instance);
        let found = (all.wants(&notice), some.wants(&notice), ping.wants(&notice));
        assert_eq!(found, wanted, "{kind} {instance:?}");
    }
}

#[test]
fn a_channel_keeps_its_id_whatever_else_is_configured() {
    let id = |lines: &str| channel(lines).id();
    let hook = id("webhook = { url = 'https://example.com/a' }");
    let more = "on = ['rpo']\ninstances = ['b']\nwebhook = { url = 'https://example.com/a', secret = 'env:S' }";
    assert_eq!(id(more), hook);
    let others = [
        id("webhook = { url = 'https://example.com/b' }"),
        id("webhook = { url = 'https://example.com/a', style = 'ntfy' }"),
        id("webhook = { url = 'credential:a' }"),
        id("instances = ['b']\nping = { url = 'https://example.com/a' }"),
        id(&format!("mail = {{ {MAIL} }}")),
        id(&format!("mail = {{ {MAIL}, port = 25 }}")),
        hook,
    ];
    let different: std::collections::BTreeSet<_> = others.iter().collect();
    assert_eq!(different.len(), others.len());
    assert_eq!(hook.to_string(), "55968fccea413e87", "it is kept in catalogs");
}

#[test]
fn wrong_entries_are_refused_with_what_is_right() {
    insta::assert_snapshot!(refused_channel("on = ['failre', 'rpo']\ninstances = ['uplods']\nwebhook = { url = 'ftp://x', style = 'slak' }"), @r#"
    f:11:7: unknown notice 'failre': this version knows failure, recovery, missed, rpo, check-failed, history-rewritten, upgrade, version-changed
      11 | on = ['failre', 'rpo']
         |       ^^^^^^^^
      hint: did you mean 'failure'?
    f:12:14: instances: no instance is called 'uplods'
      12 | instances = ['uplods']
         |              ^^^^^^^^
      hint: did you mean 'uploads'?
    f:13:19: url: this is no address: it does not begin with https:// or http:// and a host
      13 | webhook = { url = …
         |                   ^
      hint: write such as "https://HOST/PATH", or credential:NAME where it is a secret
    f:13:38: unknown style 'slak': this version knows json, slack, mattermost, ntfy
      13 | webhook = { url = …
         |                   ^
      hint: did you mean 'slack'?
    "#);
    insta::assert_snapshot!(refused_channel("on = ['rpo']"), @r"
    f:10:1: this notify tells nobody
      10 | [[notify]]
         | ^^^^^^^^^^
      hint: add webhook = { url = … }, mail = { … } or ping = { url = … }
    ");
    insta::assert_snapshot!(refused_channel("on = ['rpo']\nping = { url = 'https://x/y' }\nwebhook = { url = 'https://x/y' }"), @r"
    f:10:1: this notify has several targets
      10 | [[notify]]
         | ^^^^^^^^^^
      hint: each [[notify]] has one of webhook, mail and ping; add another
    f:11:6: on means nothing to a ping
      11 | on = ['rpo']
         |      ^^^^^^^
      hint: leave it out: a ping tells starts, successes and failures of backups
    ");
    insta::assert_snapshot!(refused_channel("on = []\ninstances = []\nwebhook = { url = 'https://x/y#z', secret = 'hunter2', style = 'slack' }"), @r#"
    f:11:6: on: nothing is named
      11 | on = []
         |      ^^
      hint: leave it out for all
    f:12:13: instances: nothing is named
      12 | instances = []
         |             ^^
      hint: leave it out for all
    f:13:19: url: this is no address: it has a '#', and what follows is never sent
      13 | webhook = { url = …
         |                   ^
      hint: write such as "https://HOST/PATH", or credential:NAME where it is a secret
    f:13:45: secret: this is no reference to a secret
      13 | webhook = { url = …
         |                   ^
      hint: write credential:NAME, file:/path or env:NAME; the secret itself does not belong in this file
    f:13:45: secret means nothing to the style slack
      13 | webhook = { url = …
         |                   ^
      hint: leave it out: there the address is the secret, so name that by reference
    "#);
    let message = refused_channel("webhook = { url = 'https://x/y', scret = 'a' }");
    assert!(message.contains("did you mean 'secret'?"), "{message}");
}

#[test]
fn wrong_mail_is_refused_with_what_is_right() {
    insta::assert_snapshot!(refused_channel("mail = { to = ['ops', 'a@b.c\\nBcc: d@e.f'], from = '', server = 'smtp.example.com:587', port = 0, tls = 'ssl', user = 'u' }"), @r#"
    f:11:16: to: 'ops' is no mail address
      11 | mail = { to = …
         |               ^
      hint: write such as "ops@example.com" or "Operators <ops@example.com>"
    f:11:23: to: 'a@b.c\nBcc: d@e.f' is no mail address
      11 | mail = { to = …
         |               ^
      hint: write such as "ops@example.com" or "Operators <ops@example.com>"
    f:11:52: from: '' is no mail address
      11 | mail = { to = …
         |               ^
      hint: write such as "ops@example.com" or "Operators <ops@example.com>"
    f:11:65: server: this is no name of a host
      11 | mail = { to = …
         |               ^
      hint: write such as "smtp.example.com"; the port is a key of its own
    f:11:96: port: there is no port 0
      11 | mail = { to = …
         |               ^
      hint: leave it out, or name another
    f:11:105: unknown tls 'ssl': this version knows starttls, implicit, none
      11 | mail = { to = …
         |               ^
    f:11:119: user: there is no password for it
      11 | mail = { to = …
         |               ^
      hint: add password = "credential:NAME"
    "#);
    insta::assert_snapshot!(refused_channel(&format!("mail = {{ {MAIL}, tls = 'none', user = 'u', password = 'env:P' }}")), @r#"
    f:11:130: password: without TLS everyone on the way could read it
      11 | mail = { to = …
         |               ^
      hint: use tls = "starttls" or "implicit", or no login
    "#);
    insta::assert_snapshot!(refused_channel(&format!("mail = {{ {}, password = 'env:P' }}", MAIL.replace("'ops@example.com'", ""))), @r#"
    f:11:15: to: nobody is named
      11 | mail = { to = …
         |               ^
      hint: write to = ["ops@example.com"]
    f:11:87: password: there is no user for it
      11 | mail = { to = …
         |               ^
      hint: add user
    "#);
}

#[test]
fn a_line_break_in_an_address_of_mail_is_refused() {
    for address in ["a@b.c\\nBcc: d@e.f", "a@b.c\\r\\n", "x\\r\\nBcc: y <a@b.c>"] {
        let mail = format!("mail = {{ to = [\"{address}\"], from = 'a@b.c', server = 's' }}");
        let message = refused_channel(&mail);
        assert!(message.contains("is no mail address"), "{message}");
        assert_eq!(message.matches('\n').count(), 3, "{message}");
    }
}

#[test]
fn a_health_check_of_several_instances_is_refused() {
    insta::assert_snapshot!(refused_channel("ping = { url = 'https://x/y' }\n[[notify]]\ninstances = ['b', 'uploads']\nping = { url = 'https://x/z' }"), @r#"
    f:10:1: ping: a health check cannot tell several instances apart
      10 | [[notify]]
         | ^^^^^^^^^^
      hint: write a [[notify]] with instances = ["NAME"] and a check of its own for each
    f:13:13: ping: a health check cannot tell several instances apart
      13 | instances = ['b', 'uploads']
         |             ^^^^^^^^^^^^^^^^
      hint: write a [[notify]] with instances = ["NAME"] and a check of its own for each
    "#);
    let one = format!("{REPOSITORY}{UPLOADS}[[notify]]\nping = {{ url = 'https://x/y' }}\n");
    assert_eq!(good(&one).channels.len(), 1);
}

#[test]
fn what_may_be_secret_in_an_address_is_never_shown() {
    let secret = "hunter2";
    for url in [
        "https://hooks.example.com/services/T0/hunter2",
        "https://example.com/?token=hunter2",
        "https://hunter2@example.com/",
    ] {
        let config = good(&with(&format!(
            "[[notify]]\nwebhook = {{ url = '{url}' }}\n[[notify]]\ninstances = ['b']\nping = {{ url = '{url}' }}\n"
        )));
        for shown in [format!("{config:?}"), config.show()] {
            assert!(!shown.contains(secret) && shown.contains("example.com"), "{shown}");
        }
        for channel in &config.channels {
            assert!(!channel.to_string().contains(secret));
        }
    }
    for url in [
        "https://user:hunter2@example.com/",
        "https://example.com/x#hunter2",
        "htps://example.com/hunter2",
        "example.com/hunter2",
        "hunter2",
        "credential:../hunter2",
        "https://[hunter2",
        "https://exa mple.com/hunter2",
    ] {
        for lines in [
            format!("webhook = {{ url = '{url}' }}"),
            format!("instances = ['b']\nping = {{ url = '{url}' }}"),
            format!("webhook = {{ style = 'json', ulr = '{url}' }}"),
            format!("webhook = '{url}'"),
            format!("instances = ['b']\nping = {{\n  url = '{url}' }}"),
        ] {
            let error = Config::parse(&with(&format!("[[notify]]\n{lines}")), "f").expect_err(url);
            assert!(!format!("{error} {error:?}").contains(secret), "{error}");
        }
    }
}

#[test]
fn an_address_that_is_a_secret_is_found_there() {
    let ping = channel("instances = ['b']\nping = { url = 'env:URL' }");
    let Target::Ping(Ping { url }) = ping.target else { panic!() };
    let resolve = |value: Option<&'static str>| {
        url.resolve(&SecretSources::new(vec![], move |_| value.map(Into::into)))
    };
    assert_eq!(resolve(Some("https://e.com/hunter2")).unwrap().path(), "/hunter2");
    for value in [None, Some("hunter2"), Some("https://e.com/#hunter2"), Some("file:///hunter2")] {
        let error = resolve(value).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        assert!(error.to_string().contains("env:URL"), "{error}");
    }
}

#[test]
fn what_is_shown_of_channels_reads_back_as_the_same() {
    let config = good(&with(&format!(
        "[[notify]]\non = ['rpo']\ninstances = ['b']\n\
         webhook = {{ url = 'credential:u', secret = 'env:S', style = 'ntfy' }}\n\
         [[notify]]\nmail = {{ {MAIL}, user = 'u', password = 'file:/p' }}\n\
         [[notify]]\ninstances = ['b']\nping = {{ url = 'env:PING' }}\n"
    )));
    assert_eq!(good(&config.show()).channels, config.channels, "{}", config.show());
}

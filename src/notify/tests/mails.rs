//! Mail.

use super::smtp_server::Server;
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::TcpListener;

fn mail_to(server: &Server, tls: MailTls, login: bool) -> Channel {
    let login = login
        .then(|| MailLogin { user: "belay".to_owned(), password: "env:SECRET".parse().unwrap() });
    channel(Target::Mail(Mail {
        to: vec!["ops@example.com".parse().unwrap(), "B <b@example.com>".parse().unwrap()],
        from: "Belay <belay@example.com>".parse().unwrap(),
        server: server.address.ip().to_string(),
        port: server.address.port(),
        tls,
        login,
    }))
}

/// Why a server that answers so was not told.
fn refusal(extensions: &'static [&'static str], replies: &'static [(&str, &str)]) -> NotifyError {
    let server = Server::start(extensions, replies);
    let login = extensions.iter().any(|offer| offer.starts_with("AUTH"));
    tell(&mail_to(&server, MailTls::None, login), &notice()).unwrap_err()
}

#[test]
fn a_mail_says_all_and_is_of_the_kind_that_nobody_answers() {
    let server = Server::start(&["8BITMIME"], &[]);
    tell(&mail_to(&server, MailTls::None, false), &notice()).unwrap();
    let said = server.said();
    let (commands, message) = said.split_once("DATA\r\n").unwrap();
    assert!(commands.contains("MAIL FROM:<belay@example.com>"), "{commands}");
    for to in ["ops@example.com", "b@example.com"] {
        assert!(commands.contains(&format!("RCPT TO:<{to}>")), "{commands}");
    }
    let (headers, body) = message.split_once("\r\n\r\n").unwrap();
    for header in [
        "From: Belay <belay@example.com>".to_owned(),
        "Subject: The backup of 'production' failed".to_owned(),
        format!("Message-ID: <{ID}@example.com>"),
        "Auto-Submitted: auto-generated".to_owned(),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        "Date: Sat, 21 Nov 2026 22:00:00 +0000".to_owned(),
    ] {
        assert!(headers.lines().any(|line| line == header), "{header} in {headers}");
    }
    assert!(body.contains("What to do: start it") && body.contains("Job: 0101010101010101"));
    assert!(body.contains("pg_dump: error: connection lost"), "{body}");
}

#[test]
fn a_title_makes_no_header_and_a_text_no_end() {
    let evil = Notice {
        title: "x\r\nBcc: evil@example.com\r\n\r\nbody".to_owned(),
        body: "one\r\n.\r\nMAIL FROM:<evil@example.com>\n.\nx".to_owned(),
        log: "\u{0}\r.\r\n.\r\nQUIT".to_owned(),
        ..notice()
    };
    let server = Server::start(&["8BITMIME"], &[]);
    tell(&mail_to(&server, MailTls::None, false), &evil).unwrap();
    let said = server.said();
    let (_, message) = said.split_once("DATA\r\n").unwrap();
    let (headers, _) = message.split_once("\r\n\r\n").unwrap();
    assert!(headers.contains("Subject: x Bcc: evil@example.com body"), "{headers}");
    assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");
    // What comes after the end of the message is a farewell only.
    let (_, after) = message.split_once("\r\n.\r\n").unwrap();
    assert!(["", "QUIT\r\n"].contains(&after), "{after:?}");
}

#[test]
fn a_server_without_starttls_gets_nothing() {
    let server = Server::start(&["AUTH PLAIN LOGIN"], &[]);
    let error = tell(&mail_to(&server, MailTls::Starttls, true), &notice()).unwrap_err();
    let text = told(&error);
    assert!(text.contains("STARTTLS is not supported"), "{text}");
    // Who sits between takes the offer away: with the next attempt he may be gone.
    assert!(error.is_passing());
    let said = server.said();
    assert!(!said.contains("AUTH") && !said.contains("MAIL"), "{said}");
}

#[test]
fn a_starttls_that_fails_is_no_way_around_it() {
    for replies in [&[("STARTTLS", "454 not now")], &[("STARTTLS", "220 go")]] as [&'static [_]; 2]
    {
        let server = Server::start(&["STARTTLS", "AUTH PLAIN LOGIN"], replies);
        let channel = mail_to(&server, MailTls::Starttls, true);
        let error = deliver_within(SHORT, &channel, ID, &notice(), &sources()).unwrap_err();
        assert!(error.is_passing(), "{error:?}");
        told(&error);
        let said = String::from_utf8_lossy(server.said().as_bytes()).into_owned();
        assert!(!said.contains("AUTH") && !said.contains("MAIL"), "{said}");
    }
}

#[test]
fn a_wrong_password_is_told_without_it() {
    let login = &["AUTH PLAIN"];
    let error = refusal(login, &[("AUTH", "535 5.7.8 wrong")]);
    assert!(told(&error).ends_with("the mail server answered 535: 5.7.8 wrong"), "{error:?}");
    assert!(!error.is_passing() && error.hint().unwrap().contains("password"));

    let plain = STANDARD.encode("\0belay\0hunter2");
    let alone = STANDARD.encode(SECRET);
    for echo in [
        format!("500 what is AUTH PLAIN {plain}"),
        format!("500 what is AUTH PLAIN {}...", &plain[..plain.len() - 4]),
        format!("535 no such password: {alone}"),
        "535 hunter2 is wrong".to_owned(),
        "hunter2 is no reply".to_owned(),
    ] {
        let replies: &'static [(&str, &str)] = Box::leak(Box::new([("AUTH", &*echo.leak())]));
        let error = refusal(login, replies);
        let text = told(&error);
        assert!(!text.contains(&plain[..12]) && !text.contains(&alone[..4]), "{text}");
    }
}

#[test]
fn what_passes_is_told_from_what_does_not() {
    let error = refusal(&[], &[("RCPT", "450 4.2.1 mailbox busy")]);
    assert!(told(&error).ends_with("the mail server answered 450: 4.2.1 mailbox busy"));
    assert!(error.is_passing());
    let error = refusal(&[], &[("RCPT", "550 5.1.1 no such user")]);
    assert!(
        told(&error)
            .starts_with("cannot tell mail to ops@example.com, b@example.com by 127.0.0.1:")
    );
    assert!(!error.is_passing());
    assert!(!refusal(&[], &[("END", "554 spam")]).is_passing());
    for replies in [
        &[("GREETING", "")],
        &[("GREETING", "HTTP/1.1 400 Bad Request")],
        &[("GREETING", "421 full")],
        &[("EHLO", "")],
        &[("END", "")],
    ] as [&'static [_]; 5]
    {
        let error = refusal(&[], replies);
        assert!(error.is_passing(), "{replies:?}: {error:?}");
        told(&error);
    }
}

#[test]
fn who_never_answers_does_not_hold_the_sender_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = channel(Target::Mail(Mail {
        to: vec!["ops@example.com".parse().unwrap()],
        from: "belay@example.com".parse().unwrap(),
        server: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        tls: MailTls::None,
        login: None,
    }));
    let error = deliver_within(SHORT, &silent, ID, &notice(), &sources()).unwrap_err();
    assert!(told(&error).ends_with("no answer within 0.3 s") && error.is_passing(), "{error:?}");
    drop(listener);
    let error = tell(&silent, &notice()).unwrap_err();
    assert!(told(&error).contains("Connection refused") && error.is_passing(), "{error:?}");
}

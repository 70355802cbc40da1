//! Webhooks and pings.

use super::http_server::{Answer, Request, Server};
use super::*;
use hmac::{KeyInit as _, Mac as _};
use std::net::TcpListener;
use std::time::Instant;

/// What one delivery to a server that takes it looks like there.
fn request(target: impl FnOnce(&Server) -> Channel, notice: &Notice) -> Request {
    let server = Server::start(vec![Answer::ok()]);
    tell(&target(&server), notice).unwrap_or_else(|error| panic!("{error:?}"));
    server.requests().remove(0)
}

/// Why a server that answers so was not told, and what it was asked.
fn refusal(answer: Answer) -> NotifyError {
    let server = Server::start(vec![answer]);
    let channel = webhook_to(&server.url("/services/hunter2"), Style::Json, None);
    let error = tell(&channel, &notice()).unwrap_err();
    assert_eq!(server.requests().len(), 1);
    error
}

#[test]
fn json_is_signed_and_says_all() {
    let hook =
        |server: &Server| webhook_to(&server.url("/hook?a=b"), Style::Json, Some("env:SECRET"));
    let request = request(hook, &notice());
    assert_eq!(request.line, "POST /hook?a=b HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("belay-delivery"), Some(ID.to_string().as_str()));
    assert_eq!(request.header("user-agent"), Some("belay/0.1.0"));
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let expected = serde_json::json!({
        "version": 1,
        "id": ID.to_string(),
        "kind": "failure",
        "instance": "production",
        "job": "0101010101010101",
        "at": "2026-11-21T22:00:00.5Z",
        "since": "2026-11-20T22:00:00Z",
        "reminder": false,
        "title": "The backup of 'production' failed",
        "body": "The server ‘db’ said: <no> & went away.",
        "hint": "start it",
        "host": "prod1",
        "log": "reading postgres\npg_dump: error: connection lost",
    });
    assert_eq!(body, expected);

    let signature = request.header("belay-signature").unwrap();
    let (seconds, mac) =
        signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).unwrap();
    let age = jiff::Timestamp::now().as_second() - seconds.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age}");
    let key = hmac::Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let signed = [format!("{seconds}.").as_bytes(), &request.body].concat();
    key.chain_update(signed).verify_slice(&hex::decode(mac).unwrap()).unwrap();
}

#[test]
fn without_a_secret_nothing_is_signed() {
    let request = request(|server| webhook_to(&server.url("/"), Style::Json, None), &notice());
    assert_eq!(request.header("belay-signature"), None);
}

#[test]
fn slack_and_mattermost_get_a_text() {
    for (style, bold) in [(Style::Slack, "*"), (Style::Mattermost, "**")] {
        let request = request(|server| webhook_to(&server.url("/"), style, None), &notice());
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let text = body["text"].as_str().unwrap();
        assert!(text.starts_with(&format!("{bold}The backup of 'production' failed{bold}\n")));
        assert!(text.contains("&lt;no&gt; &amp; went away"), "{text}");
        assert_eq!(body.as_object().unwrap().len(), 1);
    }
}

#[test]
fn ntfy_gets_a_text_with_headers() {
    let long = Notice {
        title: "Für\r\nX-Evil: 1".to_owned(),
        body: "ü".repeat(5_000),
        log: "x".repeat(50_000),
        ..notice()
    };
    let ntfy = |server: &Server| webhook_to(&server.url("/topic"), Style::Ntfy, Some("env:SECRET"));
    let request = request(ntfy, &long);
    assert_eq!(request.header("title"), Some("=?UTF-8?B?RsO8ciBYLUV2aWw6IDE=?="));
    assert_eq!(request.header("priority"), Some("high"));
    assert_eq!(request.header("tags"), Some("warning"));
    assert_eq!(request.header("x-evil"), None);
    assert_eq!(request.header("authorization"), Some("Bearer hunter2"));
    assert!(request.text().starts_with("üüü") && request.body.len() <= 4_096);

    let channel = webhook_to("http://127.0.0.1:9/", Style::Ntfy, Some("env:BROKEN"));
    let error = tell(&channel, &notice()).unwrap_err();
    assert!(told(&error).ends_with("the secret is no access token") && !error.is_passing());
}

#[test]
fn pings_tell_start_success_and_failure_with_the_end_of_the_log() {
    let run = |kind, path: &str| {
        let ping = |server: &Server| {
            let url = Address::Plain(server.url(path).parse().unwrap());
            channel(Target::Ping(Ping { url }))
        };
        let log = format!("{}the end", "ä line\n".repeat(10_000));
        request(ping, &Notice { kind, log, ..notice() })
    };
    assert_eq!(run(NoticeKind::RunStarted, "/ping/u").line, "POST /ping/u/start HTTP/1.1");
    let success = run(NoticeKind::RunSucceeded, "/ping/u");
    assert_eq!((success.line.as_str(), success.text()), ("POST /ping/u HTTP/1.1", ""));
    let failure = run(NoticeKind::RunFailed, "/ping/u/?create=1");
    assert_eq!(failure.line, "POST /ping/u/fail?create=1 HTTP/1.1");
    let text = failure.text();
    assert!(text.starts_with("The backup of 'production' failed\n") && text.ends_with("the end"));
    assert!((9_000..=10_000).contains(&text.len()), "{}", text.len());

    let url = Address::Plain("http://127.0.0.1:9/".parse().unwrap());
    let error = tell(&channel(Target::Ping(Ping { url })), &notice()).unwrap_err();
    assert!(told(&error).ends_with("a ping cannot tell 'failure'"));
}

#[test]
fn what_passes_is_told_from_what_does_not() {
    for (status, is_passing) in [
        ("500 Oops", true),
        ("503 Busy", true),
        ("408 Slow", true),
        ("429 Much", true),
        ("400 Bad", false),
        ("401 Who", false),
        ("404 None", false),
        ("410 Gone", false),
        ("304 Same", false),
    ] {
        let error = refusal(Answer::status(status, ""));
        let number = &status[..3];
        assert!(told(&error).ends_with(&format!("/***: it answered with status {number}")));
        assert_eq!((error.is_passing(), error.retry_after()), (is_passing, None), "{status}");
    }
    let error = refusal(Answer::status("429 Much", "Retry-After: 120\r\n"));
    assert_eq!(error.retry_after(), Some(Duration::from_mins(2)));
    assert!(refusal(Answer::status("404 None", "")).hint().unwrap().contains("new address"));
}

#[test]
fn an_answer_that_is_none_passes() {
    for answer in [
        Answer::Bytes(Vec::new()),
        Answer::Bytes(b"HTTP/1.1 20".to_vec()),
        Answer::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Answer::Bytes(vec![b'x'; 1 << 20]),
        Answer::Bytes([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 4 << 20]].concat()),
    ] {
        let error = refusal(answer);
        assert!(error.is_passing() && told(&error).contains(": no answer: "), "{error:?}");
    }
}

#[test]
fn a_huge_body_of_an_answer_is_not_read() {
    let body = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\nxxx".into();
    let server = Server::start(vec![Answer::Bytes(body)]);
    tell(&webhook_to(&server.url("/"), Style::Json, None), &notice()).unwrap();
}

#[test]
fn nobody_there_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hunter2", listener.local_addr().unwrap());
    drop(listener);
    let error = tell(&webhook_to(&url, Style::Json, None), &notice()).unwrap_err();
    let text = told(&error);
    assert!(text.contains("no connection: Connection refused"), "{text}");
    assert!(error.is_passing());
    let url = "https://name.invalid/hunter2";
    let error = tell(&webhook_to(url, Style::Json, None), &notice()).unwrap_err();
    assert!(told(&error).starts_with("cannot tell the webhook https://name.invalid/***: no "));
    assert!(error.is_passing());
}

#[test]
fn who_never_answers_does_not_hold_the_sender_up() {
    for answer in [Answer::Hang, Answer::Drip] {
        let server = Server::start(vec![answer]);
        let channel = webhook_to(&server.url("/hunter2"), Style::Json, None);
        let begun = Instant::now();
        let error = deliver_within(SHORT, &channel, ID, &notice(), &sources()).unwrap_err();
        assert!(told(&error).ends_with("no answer within 0.3 s"), "{error:?}");
        assert!(error.is_passing() && begun.elapsed() < Duration::from_secs(10));
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_redirect_is_followed_on_the_same_host_where_the_body_stays() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    for (status, location) in
        [("307 Go", "/two".to_owned()), ("308 Go", format!("http://{there}/two"))]
    {
        let moved = Answer::status(status, &format!("Location: {location}\r\n"));
        let server = Server::on(listener.try_clone().unwrap(), vec![moved, Answer::ok()]);
        let channel = webhook_to(&server.url("/one"), Style::Json, Some("env:SECRET"));
        tell(&channel, &notice()).unwrap_or_else(|error| panic!("{error:?}"));
        let [one, two] = server.requests().try_into().ok().unwrap();
        assert_eq!(two.line, "POST /two HTTP/1.1");
        assert_eq!(one.body, two.body);
        assert_eq!(one.header("belay-signature"), two.header("belay-signature"));
    }
}

#[test]
fn other_redirects_are_told_and_not_followed() {
    let other = Server::start(vec![Answer::ok()]);
    let elsewhere = format!("http://localhost:{}/hunter2", other.address.port());
    for (status, location) in [
        // Another name, though of the same machine.
        ("307 Go", elsewhere.as_str()),
        ("308 Go", elsewhere.as_str()),
        ("302 Go", elsewhere.as_str()),
        // As a GET without the body, a success would say nothing.
        ("301 Go", "/hunter2"),
        ("302 Go", "/hunter2"),
        ("303 Go", "/hunter2"),
    ] {
        let error = refusal(Answer::status(status, &format!("Location: {location}\r\n")));
        let text = told(&error);
        assert!(text.contains("which is not followed") && !error.is_passing(), "{text}");
        assert!(error.hint().is_some());
    }
    assert!(other.asked().is_empty());
    let round = Answer::status("307 Go", "Location: /hunter2\r\n");
    let Answer::Bytes(round) = round else { unreachable!() };
    let server = Server::start((0..6).map(|_| Answer::Bytes(round.clone())).collect());
    let channel = webhook_to(&server.url("/hunter2"), Style::Json, None);
    let error = tell(&channel, &notice()).unwrap_err();
    assert!(told(&error).contains("which is not followed"));
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn a_secret_that_cannot_be_had_is_told_without_it() {
    let hook = |secret: &str| webhook_to("http://127.0.0.1:9/", Style::Json, Some(secret));
    let error = tell(&hook("env:NONE"), &notice()).unwrap_err();
    assert!(told(&error).contains("'env:NONE' was not found"), "{error:?}");
    assert!(error.is_passing() && error.hint().unwrap().contains("set NONE"));
    let target = Webhook {
        url: Address::Secret("env:SECRET".parse().unwrap()),
        secret: None,
        style: Style::Slack,
    };
    let error = tell(&channel(Target::Webhook(target)), &notice()).unwrap_err();
    assert!(told(&error).contains("the webhook env:SECRET: the secret 'env:SECRET' is no address"));
    assert!(error.hint().is_some());
}

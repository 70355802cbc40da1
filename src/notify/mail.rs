//! Mail by SMTP: plain text, encrypted as configured and never less, of a kind that no vacation answers.

use super::message::{LOG_LIMIT, text, title};
use super::{Limits, Reason};
use crate::config::notify::{Mail, MailTls};
use crate::config::{Secret, SecretSources};
use crate::model::id::DeliveryId;
use crate::model::notice::Notice;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use std::error::Error as _;
use std::time::Duration;

/// The longest answer of a server that is passed on, in characters.
const SAID_LIMIT: usize = 200;
/// So many bytes of a secret in a row are no chance.
const TELLING_BYTES: usize = 8;

pub(super) fn send(
    limits: Limits,
    mail: &Mail,
    id: DeliveryId,
    notice: &Notice,
    sources: &SecretSources,
) -> Result<(), Reason> {
    let login = mail.login.as_ref();
    let password = login.map(|login| login.password.resolve(sources)).transpose()?;
    let message = message(mail, id, notice)?;
    let transport = transport(limits, mail, password.as_ref())?;
    // One limit for all: a server that answers a letter a second would never reach that of a single read.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Reason::NoAnswer(error.to_string()))?;
    let sent =
        runtime.block_on(async { tokio::time::timeout(limits.all, transport.send(message)).await });
    // Somebody may still be asking for the server's address.
    runtime.shutdown_background();
    match sent {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refusal(&error, mail, password.as_ref())),
        Err(_) => Err(no_answer_within(limits.all)),
    }
}

fn no_answer_within(limit: Duration) -> Reason {
    Reason::NoAnswer(format!("no answer within {} s", limit.as_secs_f32()))
}

fn transport(
    limits: Limits,
    mail: &Mail,
    password: Option<&Secret>,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, Reason> {
    let parameters = || {
        TlsParameters::builder(mail.server.clone())
            .build_rustls()
            .map_err(|error| Reason::Unfit(error.to_string()))
    };
    let tls = match mail.tls {
        MailTls::Starttls => Tls::Required(parameters()?),
        MailTls::Implicit => Tls::Wrapper(parameters()?),
        MailTls::None => Tls::None,
    };
    // What it calls dangerous is to go without TLS, which is said here each time.
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.server)
        .port(mail.port)
        .tls(tls)
        .timeout(Some(limits.connect));
    if let (Some(login), Some(password)) = (&mail.login, password) {
        let credentials = Credentials::new(login.user.clone(), password.expose().to_owned());
        builder = builder.credentials(credentials);
    }
    Ok(builder.build())
}

fn message(mail: &Mail, id: DeliveryId, notice: &Notice) -> Result<Message, Reason> {
    let mut builder = Message::builder()
        .from(mail.from.clone())
        .subject(title(notice))
        .date(notice.at.into())
        // The same at each try, so that a reader's program shows a repeat once.
        .message_id(Some(format!("<{id}@{}>", mail.from.email.domain())))
        .header(ContentType::TEXT_PLAIN);
    for to in &mail.to {
        builder = builder.to(to.clone());
    }
    let mut message = builder
        .body(text(notice, LOG_LIMIT))
        .map_err(|error| Reason::Unfit(format!("the mail cannot be made: {error}")))?;
    // RFC 3834: programs do not answer to it.
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
    Ok(message)
}

fn refusal(
    error: &lettre::transport::smtp::Error,
    mail: &Mail,
    password: Option<&Secret>,
) -> Reason {
    if let Some(code) = error.status() {
        let said = error.source().map(|said| line(&said.to_string())).unwrap_or_default();
        let is_shown = !said.is_empty() && !may_hold_secret(&said, mail, password);
        let said = if is_shown { format!(": {said}") } else { String::new() };
        return Reason::MailRefused { code: u16::from(code), said };
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let said = line(&innermost.to_string());
    Reason::NoAnswer(if may_hold_secret(&said, mail, password) {
        "the mail server did not answer as it should".to_owned()
    } else {
        format!("no mail could be handed over: {said}")
    })
}

/// Servers quote what they do not understand, a login among it, and cut it off anywhere.
fn may_hold_secret(said: &str, mail: &Mail, password: Option<&Secret>) -> bool {
    let (Some(login), Some(password)) = (&mail.login, password) else { return false };
    let password = password.expose();
    let plain = STANDARD.encode(format!("\0{}\0{password}", login.user));
    [password, &STANDARD.encode(password), &plain].into_iter().any(|secret| {
        let length = secret.len().min(TELLING_BYTES);
        let parts = secret.as_bytes().windows(length);
        parts.into_iter().any(|part| said.as_bytes().windows(length).any(|other| other == part))
    })
}

/// One line that is safe to show.
fn line(said: &str) -> String {
    let shown = |letter: char| if letter.is_control() { ' ' } else { letter };
    said.trim().chars().take(SAID_LIMIT).map(shown).collect()
}

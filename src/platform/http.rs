//! The HTTP interfaces of platforms, as far as apps are imported, pulled and looked at through them.
//!
//! What always holds: a call has a limit of time and its answer one of size; nothing is asked twice, and no redirect is followed; a
//! secret is in no call that is shown, in no error and in no answer that is told.

pub mod plain;

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderValue, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use serde::Serialize;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;
use std::io::Read as _;
use std::time::Duration;
use zeroize::Zeroizing;

/// An answer of more bytes is none that a platform gives.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// Characters of what a platform says that are told.
const MOST_SAID: usize = 300;
const USER_AGENT: &str = concat!("belay/", env!("CARGO_PKG_VERSION"));

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until there is a connection.
    pub connect: Duration,
    /// For all of it. A pull clones a git repository.
    pub all: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), all: Duration::from_mins(5) }
    }
}

/// A call as it may be shown: there is no secret in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Such as `GET`.
    pub method: &'static str,
    /// Behind the instance's address.
    pub path: String,
    /// What goes along, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Whether it changes something there.
    pub changes: bool,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.path)?;
        match &self.body {
            Some(body) => write!(formatter, " {body}"),
            None => Ok(()),
        }
    }
}

/// All calls there are. Sources: Appsmith's public sources, 1.9 to 2.7 (its documentation has none of its own); `ToolJet`'s
/// documentation of its external API, 3.0 to 3.20. Both have changed routes between releases: a change is made here.
impl Call {
    fn reading(path: String) -> Self {
        Self { method: "GET", path, body: None, changes: false }
    }

    fn appsmith_login() -> Self {
        Self { method: "POST", path: "/api/v1/login".into(), body: None, changes: false }
    }

    /// The workspaces that the user sees: `data` is a list with `id` and `name`.
    pub fn appsmith_workspaces() -> Self {
        Self::reading("/api/v1/workspaces/home".into())
    }

    /// The apps of a workspace: `data` is a list with `id`, `name` and `gitApplicationMetadata`.
    pub fn appsmith_applications(workspace: &str) -> Self {
        Self::reading(format!("/api/v1/applications/home?workspaceId={}", &*escaped(workspace)))
    }

    /// The pages of an app as users see it: `data.pages` is a list with `id` and `name`.
    pub fn appsmith_pages(application: &str) -> Self {
        let application = escaped(application);
        Self::reading(format!("/api/v1/pages?applicationId={}&mode=PUBLISHED", &*application))
    }

    /// All that a page needs in view mode; each member of `data` has a `responseMeta` of its own.
    pub fn appsmith_view(application: &str, page: &str) -> Self {
        let (application, page) = (escaped(application), escaped(page));
        Self::reading(format!(
            "/api/v1/consolidated-api/view?applicationId={}&defaultPageId={}",
            &*application, &*page
        ))
    }

    /// A page in view mode, as releases have it that know no consolidated one.
    pub fn appsmith_page(page: &str) -> Self {
        Self::reading(format!("/api/v1/pages/{}/view", &*escaped(page)))
    }

    /// Import an app from a git repository, by the key that the user made there for imports.
    pub fn appsmith_import(workspace: &str, remote_url: &str) -> Self {
        Self {
            method: "POST",
            path: format!("/api/v1/git/artifacts/import?workspaceId={}", &*escaped(workspace)),
            body: Some(
                json!({ "remoteUrl": remote_url, "gitProfile": { "useGlobalProfile": true } }),
            ),
            changes: true,
        }
    }

    /// Pull an app's branch. It is a GET that changes things.
    pub fn appsmith_pull(application: &str) -> Self {
        let path = format!("/api/v1/git/applications/{}/pull", &*escaped(application));
        Self { changes: true, ..Self::reading(path) }
    }

    /// The workspaces of an instance: a list with `id` and `name`.
    pub fn tooljet_workspaces() -> Self {
        Self::reading("/api/ext/workspaces".into())
    }

    /// The apps of a workspace: a list with `id` and `name`.
    pub fn tooljet_apps(workspace: &str) -> Self {
        Self::reading(format!("/api/ext/workspace/{}/apps", &*escaped(workspace)))
    }

    /// All of an app, as an export has it. It is a POST that changes nothing.
    pub fn tooljet_export(workspace: &str, app: &str) -> Self {
        let path =
            format!("/api/ext/export/workspace/{}/apps/{}", &*escaped(workspace), &*escaped(app));
        Self { method: "POST", path, body: Some(json!({})), changes: false }
    }

    /// Make an app out of the workspace's git repository. `app` is what it is known by there, `version` a branch or a tag.
    pub fn tooljet_import(
        workspace: &str,
        app: &str,
        version: &str,
        name: Option<&str>,
        may_edit: bool,
    ) -> Self {
        let mut body =
            json!({ "gitAppId": app, "gitVersionId": version, "organizationId": workspace });
        if let Some(name) = name {
            body["appName"] = name.into();
        }
        // Off is what its column `allow_editing` is without it.
        if may_edit {
            body["allowEditing"] = true.into();
        }
        let path = "/api/ext/apps?createMode=git".into();
        Self { method: "POST", path, body: Some(body), changes: true }
    }

    /// Pull what is new of an app.
    pub fn tooljet_pull(app: &str) -> Self {
        let path = format!("/api/ext/apps/{}?createMode=git", &*escaped(app));
        Self { method: "PUT", path, body: Some(json!({})), changes: true }
    }
}

/// A text as a part of a path or of a form.
fn escaped(text: &str) -> Zeroizing<String> {
    let mut escaped = Zeroizing::new(String::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push_str(&hex::encode_upper([byte]));
        }
    }
    escaped
}

/// Whether an id that a server gave can be a part of a path, and of no other path than is meant.
pub fn is_id(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.bytes().all(is_fine)
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There was no answer, or not all of it.
    #[error("{call} at {origin}: {reason}")]
    NoAnswer {
        /// The call.
        call: String,
        /// The instance's address.
        origin: String,
        /// Why.
        reason: String,
        /// Whether the call would have changed something.
        changes: bool,
    },
    /// The instance said no.
    #[error("{call} at {origin} was answered with {status}{said}")]
    Refused {
        /// The call.
        call: String,
        /// The instance's address.
        origin: String,
        /// The status of HTTP, or the one that stands in the answer.
        status: u16,
        /// What it said, behind a colon; empty where it said nothing.
        said: String,
        /// Whether the call would have changed something.
        changes: bool,
    },
    /// The answer is none that the platform gives.
    #[error("{call} at {origin}: {reason}")]
    Strange {
        /// The call.
        call: String,
        /// The instance's address.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl HttpError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoAnswer { changes: true, .. } => {
                "whether it was done is not known: look at the app in the instance before it is tried again"
            }
            Self::NoAnswer { .. } => "is `url` right, and does the instance run?",
            Self::Refused { status: 401 | 403, .. } => {
                "are `login` or `token` right, and may they do that there? ToolJet's external API needs ENABLE_EXTERNAL_API=true"
            }
            Self::Refused { status: 404, .. } => {
                "is `url` right? This release may have another route; ToolJet's external API needs ENABLE_EXTERNAL_API=true"
            }
            Self::Refused { status: 409, .. } => "choose another name with --name",
            Self::Refused { status: 429, .. } => "it was asked too often: try again in a minute",
            Self::Refused { status: 500.., changes: true, .. } => {
                "whether it was done is not known: look at the app in the instance, and at its log"
            }
            Self::Refused { .. } => "look at the instance's log",
            Self::Strange { .. } => "is `url` right? Something else may answer there",
        }
    }
}

/// Who asks.
pub enum Identity {
    /// Appsmith: somebody who logs in.
    Login {
        /// The user.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// `ToolJet`: who has the token of its external API.
    Token(Zeroizing<String>),
}

/// A way to an instance's HTTP interface.
pub struct Client {
    http: Http,
    base: Url,
    identity: Identity,
    /// Appsmith's cookie, once logged in.
    session: Option<Zeroizing<String>>,
}

impl Client {
    /// To the instance at `base`; nothing is asked yet. Whoever calls has set up TLS for the process.
    pub fn new(base: Url, identity: Identity, limits: Limits) -> Result<Self, HttpError> {
        let http = Http::builder()
            // The environment of a service may name a proxy that was never meant for this.
            .no_proxy()
            .connect_timeout(limits.connect)
            .timeout(limits.all)
            // What is posted would become a GET, and a cookie would go elsewhere.
            .redirect(Policy::none())
            .referer(false)
            .user_agent(USER_AGENT)
            .build();
        let http = http.map_err(|error| HttpError::Strange {
            call: "the first call".into(),
            origin: base.origin().ascii_serialization(),
            reason: error.without_url().to_string(),
        })?;
        Ok(Self { http, base, identity, session: None })
    }

    /// Be somebody there; returns the call that was needed for it.
    pub fn log_in(&mut self) -> Result<Option<Call>, HttpError> {
        let Identity::Login { user, password } = &self.identity else { return Ok(None) };
        let call = Call::appsmith_login();
        let form = Zeroizing::new(format!(
            "username={}&password={}",
            &*escaped(user),
            &*escaped(password)
        ));
        let request =
            self.request(&call)?.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = self.answered(&call, request.body(form.as_bytes().to_vec()).send())?;
        // A login ends with a redirect; one that failed leads back to the login.
        let target =
            answer.headers().get(LOCATION).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let is_refused = target.contains("error");
        let cookies = answer.headers().get_all(SET_COOKIE).iter();
        let session = cookies
            .filter_map(|cookie| cookie.to_str().ok()?.split(';').next()?.strip_prefix("SESSION="))
            .find(|value| !value.is_empty())
            .map(|value| Zeroizing::new(format!("SESSION={value}")));
        let status = answer.status();
        if !(status.is_success() || status.is_redirection()) {
            return Err(self.refused(&call, status.as_u16(), ""));
        }
        if is_refused || session.is_none() {
            return Err(self.refused(&call, 401, "the login was refused"));
        }
        self.session = session;
        Ok(Some(call))
    }

    /// Ask; returns what the answer holds: of Appsmith's the `data`.
    pub fn ask(&self, call: &Call) -> Result<Value, HttpError> {
        let mut request = self.request(call)?;
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = self.answered(call, request.send())?;
        let status = answer.status();
        let bytes = self.read(call, answer)?;
        let json: Option<Value> = serde_json::from_slice(&bytes).ok();
        if !status.is_success() {
            return Err(self.refused(call, status.as_u16(), &said(json.as_ref())));
        }
        match (json, &self.identity) {
            (Some(json), Identity::Login { .. }) => self.data(call, json),
            (Some(json), Identity::Token(_)) => Ok(json),
            // Some of its answers have no body.
            (None, Identity::Token(_)) if bytes.is_empty() => Ok(Value::Null),
            (None, _) => Err(self.strange(call, "the answer is no JSON")),
        }
    }

    /// Appsmith says in the answer itself how it went, whatever the status of HTTP.
    fn data(&self, call: &Call, mut json: Value) -> Result<Value, HttpError> {
        let Some(status) = json["responseMeta"]["status"].as_u64() else {
            return Err(self.strange(call, "the answer has no responseMeta.status"));
        };
        if !(200..300).contains(&status) {
            let status = u16::try_from(status).unwrap_or_default();
            return Err(self.refused(call, status, &said(Some(&json))));
        }
        Ok(json["data"].take())
    }

    fn request(&self, call: &Call) -> Result<RequestBuilder, HttpError> {
        let base = self.base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{}", call.path));
        let url = url.map_err(|_| self.strange(call, "the address is wrong"))?;
        let method = Method::from_bytes(call.method.as_bytes()).expect("a method of the table");
        let mut request = self.http.request(method, url);
        let secret = |text: &str| {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| self.strange(call, "the secret has signs that no header takes"))?;
            value.set_sensitive(true);
            Ok::<_, HttpError>(value)
        };
        match &self.identity {
            Identity::Login { .. } => {
                request = request.header("X-Requested-By", "Appsmith");
                if let Some(session) = &self.session {
                    request = request.header(COOKIE, secret(session)?);
                }
            }
            // The token as it is, not in base64.
            Identity::Token(token) => {
                let value = Zeroizing::new(format!("Basic {}", token.as_str()));
                request = request.header(AUTHORIZATION, secret(&value)?);
            }
        }
        Ok(request)
    }

    fn answered(
        &self,
        call: &Call,
        answer: Result<Response, reqwest::Error>,
    ) -> Result<Response, HttpError> {
        answer.map_err(|error| self.no_answer(call, &reason(error)))
    }

    fn read(&self, call: &Call, answer: Response) -> Result<Vec<u8>, HttpError> {
        let mut bytes = Vec::new();
        let read = answer.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|_| self.no_answer(call, "the answer was cut off"))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(self.strange(call, "the answer is too long"));
        }
        Ok(bytes)
    }

    fn no_answer(&self, call: &Call, reason: &str) -> HttpError {
        let (call, changes) = (call_of(call), call.changes);
        HttpError::NoAnswer { call, origin: self.origin(), reason: reason.to_owned(), changes }
    }

    fn refused(&self, call: &Call, status: u16, said: &str) -> HttpError {
        let said: String = self.without_secrets(said).chars().take(MOST_SAID).collect();
        let said = if said.is_empty() { said } else { format!(": {}", said.escape_debug()) };
        let (call, changes) = (call_of(call), call.changes);
        HttpError::Refused { call, origin: self.origin(), status, said, changes }
    }

    fn strange(&self, call: &Call, reason: &str) -> HttpError {
        let call = call_of(call);
        HttpError::Strange { call, origin: self.origin(), reason: reason.to_owned() }
    }

    fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// A server may say again what it was told.
    fn without_secrets(&self, text: &str) -> String {
        let own = match &self.identity {
            Identity::Login { password, .. } => password,
            Identity::Token(token) => token,
        };
        let session = self.session.as_ref().and_then(|it| it.strip_prefix("SESSION="));
        let mut text = text.to_owned();
        for secret in [Some(own.as_str()), session].into_iter().flatten() {
            if !secret.is_empty() {
                text = text.replace(secret, "***");
            }
        }
        text
    }
}

/// The call in an error: what goes along is long, and not what is wrong.
fn call_of(call: &Call) -> String {
    format!("{} {}", call.method, call.path)
}

/// What a platform says of a failure.
fn said(json: Option<&Value>) -> String {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let Some(json) = json else { return String::new() };
    text(&json["responseMeta"]["error"]["message"])
        .or_else(|| text(&json["message"]))
        .or_else(|| text(&json["message"][0]))
        .unwrap_or_default()
}

/// The innermost reason, without the address.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        let what = if error.is_connect() { "connection" } else { "answer" };
        return format!("there was no {what} in time");
    }
    let mut innermost: &dyn Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let what = if error.is_connect() { "no connection" } else { "no answer" };
    format!("{what}: {innermost}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_a_server_stays_a_part_of_the_path() {
        for (id, path, is_fine) in [
            ("65f0a", "65f0a", true),
            ("7b1e-4c_1", "7b1e-4c_1", true),
            ("../users?x=1#", "..%2Fusers%3Fx%3D1%23", false),
            ("..", "..", false),
            ("", "", false),
        ] {
            let call = Call::appsmith_pull(id);
            assert_eq!(call.path, format!("/api/v1/git/applications/{path}/pull"));
            assert!(call.changes, "a GET that changes things");
            for call in [
                Call::appsmith_pages(id),
                Call::appsmith_page(id),
                Call::appsmith_view("a", id),
                Call::tooljet_export("w", id),
            ] {
                assert!(call.path.contains(path) && !call.changes, "{call}");
            }
            assert_eq!(is_id(id), is_fine, "{id}");
        }
    }

    #[test]
    fn secrets_are_not_told_again() {
        let base = Url::parse("http://127.0.0.1:1").unwrap();
        let token = Zeroizing::new("the-token".to_owned());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new(base, Identity::Token(token), Limits::default()).unwrap();
        let error = client.refused(&Call::tooljet_workspaces(), 403, "no: the-token\u{1b}[2J");
        assert_eq!(
            error.to_string(),
            "GET /api/ext/workspaces at http://127.0.0.1:1 was answered with 403: no: ***\\u{1b}[2J"
        );
        assert!(client.ask(&Call::tooljet_workspaces()).unwrap_err().hint().contains("url"));
        assert_eq!(&*escaped("a b&ü"), "a%20b%26%C3%BC");
    }
}

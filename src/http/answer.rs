//! What is answered: JSON, text, or an error that says what is wrong and what to do.

use crate::catalog::CatalogError;
use crate::config::UnknownName;
use crate::daemon::executor::SubmitError;
use crate::ops::OpsError;
use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

const JSON: &str = "application/json";
/// A reason is no longer.
const MOST_TEXT: usize = 4096;

/// An answer.
pub(super) struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: Vec<u8>,
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    hint: Option<&'a str>,
}

impl Answer {
    /// A document.
    pub(super) fn json(document: &impl Serialize) -> Self {
        Self::document(StatusCode::OK, document)
    }

    /// A document with another status.
    pub(super) fn document(status: StatusCode, document: &impl Serialize) -> Self {
        match serde_json::to_vec(document) {
            Ok(mut body) => {
                body.push(b'\n');
                Self { status, kind: JSON, body }
            }
            Err(error) => {
                let text = format!("the answer could not be written: {error}\n");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self { status, kind: "text/plain; charset=utf-8", body: text.into_bytes() }
            }
        }
    }

    /// A text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        let kind = "text/plain; charset=utf-8";
        Self { status: StatusCode::OK, kind, body: text.into().into_bytes() }
    }

    /// A text of another type.
    pub(super) fn of_kind(kind: &'static str, text: String) -> Self {
        Self { status: StatusCode::OK, kind, body: text.into_bytes() }
    }

    /// Something is wrong.
    pub(super) fn problem(status: StatusCode, error: &str, hint: Option<&str>) -> Self {
        Self::document(status, &Problem { error, hint })
    }

    pub(super) fn unavailable(error: &str) -> Self {
        Self::problem(StatusCode::SERVICE_UNAVAILABLE, error, None)
    }

    /// There is nothing of that name.
    pub(super) fn unknown(error: &str, hint: Option<&str>) -> Self {
        Self::problem(StatusCode::NOT_FOUND, error, hint)
    }

    /// The request is wrong.
    pub(super) fn bad(error: &str, hint: &str) -> Self {
        Self::problem(StatusCode::BAD_REQUEST, error, Some(hint))
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl From<OpsError> for Answer {
    fn from(error: OpsError) -> Self {
        let status = match error {
            OpsError::Unknown(_) => StatusCode::NOT_FOUND,
            OpsError::Usage { .. } => StatusCode::BAD_REQUEST,
            OpsError::Gate { .. } => StatusCode::PRECONDITION_FAILED,
            OpsError::Refused { .. } => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::problem(status, &error.told(), error.hint().as_deref())
    }
}

impl From<UnknownName> for Answer {
    fn from(error: UnknownName) -> Self {
        Self::unknown(&error.to_string(), Some(&error.hint))
    }
}

impl From<CatalogError> for Answer {
    fn from(error: CatalogError) -> Self {
        OpsError::from(error).into()
    }
}

impl From<SubmitError> for Answer {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Unknown(error) => error.into(),
            SubmitError::Work(error) => {
                Self::bad(&error.to_string(), "docs/API.md has what a job may ask for")
            }
            SubmitError::Full => Self::problem(
                StatusCode::TOO_MANY_REQUESTS,
                &error.to_string(),
                Some("wait until some have ended, or cancel them"),
            ),
            SubmitError::Closed => Self::unavailable(&error.to_string()),
            SubmitError::Catalog(error) => error.into(),
            SubmitError::Operation(error) => error.into(),
        }
    }
}

/// Answer from a thread that may block.
pub(super) async fn blocking(
    work: impl FnOnce() -> Result<Answer, Answer> + Send + 'static,
) -> Answer {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(answer) | Err(answer)) => answer,
        Err(_) => Answer::problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Belay has a fault: it panicked",
            Some("the log has more; please report it"),
        ),
    }
}

/// What is refused before anything of this module sees it is told as a document, too.
pub(super) async fn as_document(response: Response) -> Response {
    let status = response.status();
    let is_problem = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !is_problem || kind.is_some_and(|kind| kind == JSON) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), MOST_TEXT).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let error = if text.is_empty() { status.to_string() } else { text.into_owned() };
    Answer::problem(status, &error, Some("docs/API.md has what can be asked")).into_response()
}

pub(super) async fn no_such_path(uri: Uri) -> Answer {
    Answer::unknown(&format!("there is no {}", uri.path()), Some("docs/API.md has the paths"))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Answer {
    let error = format!("{} takes no {method}", uri.path());
    Answer::problem(StatusCode::METHOD_NOT_ALLOWED, &error, Some("docs/API.md has the methods"))
}

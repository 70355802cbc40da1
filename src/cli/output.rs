//! Writing to standard output and standard error. A reader that closed its pipe ends the output, not the job.

use super::exit::{Exit, Failure};
use serde::Serialize;
use std::io::{self, Write as _};

/// Write bytes to standard output.
pub(super) fn bytes(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::internal(format!("could not write to standard output: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}

/// Write a line of text to standard output.
pub(super) fn line(text: impl AsRef<str>) -> Result<Exit, Failure> {
    bytes(format!("{}\n", text.as_ref()).as_bytes())
}

/// Write a JSON document to standard output, on one line, so that it is the last one whatever came before.
pub(super) fn json(document: &impl Serialize) -> Result<Exit, Failure> {
    let text = serde_json::to_string(document);
    line(text.map_err(|error| Failure::internal(format!("could not write JSON: {error}")))?)
}

/// Tell a failure on standard error; as JSON on standard output too, where a program listens.
pub(super) fn failure(failure: &Failure, as_json: bool) {
    let mut text = format!("belay: {}\n", failure.message);
    if let Some(hint) = &failure.hint {
        text.push_str("hint: ");
        text.push_str(hint);
        text.push('\n');
    }
    // There is nowhere left to tell that this failed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    if as_json {
        #[derive(Serialize)]
        struct Document<'a> {
            error: &'a str,
            hint: Option<&'a str>,
            exit_code: u8,
        }
        let Failure { exit, message, hint } = failure;
        let _ = json(&Document { error: message, hint: hint.as_deref(), exit_code: *exit as u8 });
    }
}

//! Answers and requests in the API's form: JSON, errors included.

use crate::config::{Diagnostics, Severity};
use crate::control::NoAnswer;
use crate::model::Changes;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::{DeserializeOwned, Error};
use serde_json::json;

pub(super) fn error(status: StatusCode, message: &str) -> Response {
    json_response(status, json!({ "error": message }))
}

pub(super) fn json_response(status: StatusCode, value: impl Serialize) -> Response {
    // Rows are plain data: they cannot fail.
    let text = serde_json::to_string(&value).unwrap_or_default() + "\n";
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The answer to a request that the control thread did not take, or did not end.
pub(super) fn no_answer(why: NoAnswer) -> Response {
    let status = match why {
        NoAnswer::Stopping | NoAnswer::TooSlow | NoAnswer::Degraded => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        NoAnswer::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
    };
    error(status, &why.to_string())
}

/// Refuses a body of another type.
pub(super) fn is_of_type(headers: &HeaderMap, wanted: &str) -> Result<(), Box<Response>> {
    let told = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let told = told.map(|value| value.split(';').next().unwrap_or_default().trim());
    match told == Some(wanted) {
        true => Ok(()),
        false => Err(Box::new(error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &format!("content-type must be {wanted}"),
        ))),
    }
}

/// What a POST says: JSON, or nothing for the default. A page of another site can have a browser post here, but not as JSON
/// without asking first.
pub(super) fn posted<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<T, Box<Response>> {
    is_of_type(headers, "application/json")?;
    if body.is_empty() {
        return Ok(T::default());
    }
    let wrong = |why: serde_json::Error| error(StatusCode::BAD_REQUEST, &why.to_string());
    object(body).map_err(|why| Box::new(wrong(why)))
}

/// A JSON object; serde would take an array for one as well, its values by their order.
pub(super) fn object<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    match text.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(text),
        _ => Err(serde_json::Error::custom("this is no JSON object")),
    }
}

/// What a reload changed, in numbers and in words.
#[derive(Serialize)]
struct Reloaded {
    #[serde(flatten)]
    changes: Changes,
    is_changed: bool,
    summary: String,
    /// A line for each change.
    text: String,
}

pub(super) fn changed(changes: Changes) -> Response {
    json_response(
        StatusCode::OK,
        Reloaded {
            is_changed: !changes.is_empty(),
            summary: changes.to_string(),
            text: changes.details.lines(),
            changes,
        },
    )
}

/// `text` is what `weir check` would print.
pub(super) fn invalid(diagnostics: &Diagnostics) -> serde_json::Value {
    let found: Vec<_> = diagnostics
        .iter()
        .map(|diagnostic| {
            json!({
                "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "file": diagnostic.file,
                "line": diagnostic.line,
                "column": diagnostic.column,
                "text": diagnostic.text,
                "message": diagnostic.message,
                "note": diagnostic.note,
                "help": diagnostic.help,
            })
        })
        .collect();
    json!({
        "error": "the file is not valid",
        "diagnostics": found,
        "more": diagnostics.more(),
        "text": diagnostics.to_string(),
    })
}

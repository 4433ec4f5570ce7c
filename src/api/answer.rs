//! Answers and requests in the API's form: JSON; errors as problem details (RFC 9457).

use crate::config::{Diagnostics, Severity};
use crate::control::NoAnswer;
use crate::model::Changes;
use axum::body::{self, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::{DeserializeOwned, Error};
use utoipa::ToSchema;

pub(super) const JSON: &str = "application/json";
pub(super) const PROBLEM: &str = "application/problem+json";

/// The problems that a program may want to tell from others of the same status. docs/api.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    InvalidConfiguration,
    UnusableFile,
    NeedsRestart,
    ConflictingServices,
    NothingToConfirm,
    NothingToRollBack,
    UnknownService,
    UnknownReal,
    CaptureRuns,
}

impl Kind {
    /// The problem's `type`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::InvalidConfiguration => "urn:weir:invalid-configuration",
            Kind::UnusableFile => "urn:weir:unusable-file",
            Kind::NeedsRestart => "urn:weir:needs-restart",
            Kind::ConflictingServices => "urn:weir:conflicting-services",
            Kind::NothingToConfirm => "urn:weir:nothing-to-confirm",
            Kind::NothingToRollBack => "urn:weir:nothing-to-roll-back",
            Kind::UnknownService => "urn:weir:unknown-service",
            Kind::UnknownReal => "urn:weir:unknown-real",
            Kind::CaptureRuns => "urn:weir:capture-runs",
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            Kind::InvalidConfiguration | Kind::UnusableFile => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::NeedsRestart
            | Kind::ConflictingServices
            | Kind::NothingToConfirm
            | Kind::NothingToRollBack
            | Kind::CaptureRuns => StatusCode::CONFLICT,
            Kind::UnknownService | Kind::UnknownReal => StatusCode::NOT_FOUND,
        }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Kind::InvalidConfiguration => "The configuration is not valid",
            Kind::UnusableFile => "A file that [api] names cannot be used",
            Kind::NeedsRestart => "The change needs a restart",
            Kind::ConflictingServices => "The services do not fit the others",
            Kind::NothingToConfirm => "No reload waits for a confirmation",
            Kind::NothingToRollBack => "There is no configuration to go back to",
            Kind::UnknownService => "There is no such service",
            Kind::UnknownReal => "There is no such real server",
            Kind::CaptureRuns => "Another capture runs",
        }
    }
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct Problem {
    /// `about:blank` where the status says what kind of problem it is, or one of weir's URNs.
    r#type: &'static str,
    /// The kind of problem, in words that do not change.
    title: &'static str,
    /// The answer's status.
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// The same as `detail`.
    error: String,
}

impl Problem {
    /// Without a kind it is what its status says (RFC 9457, section 4.2.1).
    fn new(kind: Option<Kind>, status: StatusCode, detail: &str) -> Self {
        let of_status = status.canonical_reason().unwrap_or("Refused");
        Problem {
            r#type: kind.map_or("about:blank", Kind::name),
            title: kind.map_or(of_status, Kind::title),
            status: status.as_u16(),
            detail: detail.to_owned(),
            error: detail.to_owned(),
        }
    }
}

/// An error that its status explains.
pub(super) fn error(status: StatusCode, detail: &str) -> Response {
    json_as(PROBLEM, status, Problem::new(None, status, detail))
}

/// An error of a kind of its own.
pub(super) fn problem(kind: Kind, detail: &str) -> Response {
    let status = kind.status();
    json_as(PROBLEM, status, Problem::new(Some(kind), status, detail))
}

pub(super) fn json_response(value: impl Serialize) -> Response {
    json_as(JSON, StatusCode::OK, value)
}

fn json_as(content_type: &'static str, status: StatusCode, value: impl Serialize) -> Response {
    // Answers are plain data: they cannot fail.
    let text = serde_json::to_string(&value).unwrap_or_default() + "\n";
    (status, [(header::CONTENT_TYPE, content_type)], text).into_response()
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
    is_of_type(headers, JSON)?;
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
#[derive(Serialize, ToSchema)]
pub(super) struct Reloaded {
    #[serde(flatten)]
    changes: Changes,
    is_changed: bool,
    /// In one line.
    summary: String,
    /// A line for each change.
    text: String,
}

pub(super) fn changed(changes: Changes) -> Response {
    json_response(Reloaded {
        is_changed: !changes.is_empty(),
        summary: changes.to_string(),
        text: changes.details.lines(),
        changes,
    })
}

/// A configuration that is refused.
#[derive(Serialize, ToSchema)]
pub(super) struct InvalidConfiguration {
    #[serde(flatten)]
    problem: Problem,
    /// Its first errors and warnings.
    diagnostics: Vec<Found>,
    /// Errors and warnings beyond these.
    more: usize,
    /// What `weir check` would print.
    text: String,
}

/// An error or a warning about a configuration.
#[derive(Serialize, ToSchema)]
#[schema(as = Diagnostic)]
struct Found {
    /// `error` or `warning`.
    severity: &'static str,
    file: String,
    /// From 1; 0: it is about the file as a whole.
    line: usize,
    /// In characters, from 1; 0: it is about the file as a whole.
    column: usize,
    /// The text that it is about.
    text: String,
    /// What is wrong.
    message: String,
    /// Another place that has to do with it.
    #[schema(required)]
    note: Option<String>,
    /// What to do.
    #[schema(required)]
    help: Option<String>,
}

pub(super) fn invalid(diagnostics: &Diagnostics) -> Response {
    let kind = Kind::InvalidConfiguration;
    let found = diagnostics.iter().map(|diagnostic| Found {
        severity: match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        file: diagnostic.file.clone(),
        line: diagnostic.line,
        column: diagnostic.column,
        text: diagnostic.text.clone(),
        message: diagnostic.message.clone(),
        note: diagnostic.note.clone(),
        help: diagnostic.help.clone(),
    });
    let answer = InvalidConfiguration {
        problem: Problem::new(Some(kind), kind.status(), "the file is not valid"),
        diagnostics: found.collect(),
        more: diagnostics.more(),
        text: diagnostics.to_string(),
    };
    json_as(PROBLEM, kind.status(), answer)
}

/// An answer of the framework, which says what it refuses in plain words: as weir's own errors are.
pub(super) async fn as_problem(answer: Response, method: &Method) -> Response {
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    let is_problem = content_type.is_some_and(|it| it == PROBLEM);
    let status = answer.status();
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    let said = body::to_bytes(answer.into_body(), 4096)
        .await
        .unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    // axum says in `allow` what an address does take.
    match (status, said.trim()) {
        (StatusCode::METHOD_NOT_ALLOWED, _) => {
            error(status, &format!("this address does not take {method}"))
        }
        (_, "") => error(status, status.canonical_reason().unwrap_or("refused")),
        (_, said) => error(status, said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_error_is_a_problem_and_every_other_answer_stays() {
        let ok = as_problem("fine".into_response(), &Method::GET).await;
        assert_eq!(
            ok.headers()[header::CONTENT_TYPE],
            "text/plain; charset=utf-8"
        );
        for (answer, detail) in [
            (StatusCode::NOT_FOUND.into_response(), "Not Found"),
            ((StatusCode::BAD_REQUEST, "no\n").into_response(), "no"),
            (
                (StatusCode::BAD_GATEWAY, "\n").into_response(),
                "Bad Gateway",
            ),
            (
                StatusCode::METHOD_NOT_ALLOWED.into_response(),
                "this address does not take PUT",
            ),
            (error(StatusCode::NOT_FOUND, "none"), "none"),
            (problem(Kind::NeedsRestart, "port"), "port"),
        ] {
            let status = answer.status();
            let answer = as_problem(answer, &Method::PUT).await;
            assert_eq!(answer.headers()[header::CONTENT_TYPE], PROBLEM, "{detail}");
            let body = body::to_bytes(answer.into_body(), 4096).await.unwrap();
            let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(said["status"], status.as_u16());
            assert_eq!(
                (&said["detail"], &said["error"]),
                (&detail.into(), &detail.into())
            );
            assert!(
                said["type"].is_string() && said["title"].is_string(),
                "{said}"
            );
        }
    }

    #[test]
    fn every_kind_of_problem_is_documented_with_its_status() {
        let text = include_str!("../../docs/api.md");
        let documented: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("| `urn:"))
            .collect();
        let kinds = [
            Kind::InvalidConfiguration,
            Kind::UnusableFile,
            Kind::NeedsRestart,
            Kind::ConflictingServices,
            Kind::NothingToConfirm,
            Kind::NothingToRollBack,
            Kind::UnknownService,
            Kind::UnknownReal,
            Kind::CaptureRuns,
        ];
        assert_eq!(documented.len(), kinds.len());
        for (kind, line) in kinds.into_iter().zip(documented) {
            let (name, status) = (kind.name(), kind.status().as_u16());
            assert!(
                line.starts_with(&format!("| `{name}` | {status} |")),
                "{line}"
            );
        }
    }
}

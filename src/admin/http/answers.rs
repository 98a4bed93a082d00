//! Answers of a kind: what is said in their heads, and in one sentence where something is wrong.

use std::fmt::Display;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

const TEXT: &str = "text/plain; charset=utf-8";

/// Content of a type; nobody is to keep it.
pub(super) fn content(content_type: &'static str, body: impl Into<String>) -> Response {
    let mut answer = body.into().into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

pub(super) fn text(body: impl Into<String>) -> Response {
    content(TEXT, body)
}

pub(super) fn json(document: &impl Serialize) -> Response {
    match serde_json::to_string(document) {
        Ok(body) => content("application/json", body + "\n"),
        Err(error) => failure(&error),
    }
}

/// The server's fault.
pub(super) fn failure(error: &dyn Display) -> Response {
    tracing::error!("an answer of the admin server failed: {error}");
    with_status(
        StatusCode::INTERNAL_SERVER_ERROR,
        text(format!("the answer could not be made: {error}\n")),
    )
}

/// What was asked is wrong.
pub(super) fn refusal(sentence: &str) -> Response {
    with_status(StatusCode::BAD_REQUEST, text(sentence))
}

pub(super) fn unavailable(sentence: &str) -> Response {
    with_status(StatusCode::SERVICE_UNAVAILABLE, text(sentence))
}

pub(super) fn not_found(path: &str) -> Response {
    let sentence =
        format!("there is no {path} here; / is the dashboard, and the README lists the rest\n");
    with_status(StatusCode::NOT_FOUND, text(sentence))
}

pub(super) fn wrong_method() -> Response {
    let sentence = "nothing can be changed here: use GET or HEAD\n";
    let mut answer = with_status(StatusCode::METHOD_NOT_ALLOWED, text(sentence));
    let allowed = HeaderValue::from_static("GET, HEAD");
    answer.headers_mut().insert(header::ALLOW, allowed);
    answer
}

pub(super) fn too_large() -> Response {
    let sentence = "requests have no body here: send none\n";
    with_status(StatusCode::PAYLOAD_TOO_LARGE, text(sentence))
}

pub(super) fn too_many() -> Response {
    let sentence = "too many requests: ask again in a second\n";
    let mut answer = with_status(StatusCode::TOO_MANY_REQUESTS, text(sentence));
    let in_a_second = HeaderValue::from_static("1");
    answer
        .headers_mut()
        .insert(header::RETRY_AFTER, in_a_second);
    answer
}

fn with_status(status: StatusCode, mut answer: Response) -> Response {
    *answer.status_mut() = status;
    answer
}

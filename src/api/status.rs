//! `/v1/status`: what the status page shows of weir as a whole.

use super::Plain;
use super::access::MayChange;
use super::answer::{json_response, no_answer};
use super::state::Api;
use crate::control::Control;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;

pub(super) async fn status(
    State(api): State<Api>,
    may_change: Option<Extension<MayChange>>,
    _: Plain,
) -> Response {
    let may_change = may_change.is_some_and(|Extension(MayChange(may))| may);
    let asked = move |control: &Control| control.show_status(may_change);
    match api.handle.ask(asked).await {
        Ok(status) => json_response(status),
        Err(why) => no_answer(why),
    }
}

//! `/v1/config`: the configuration in force, as a file.

use super::Plain;
use super::access::Peer;
use super::answer::{error, no_answer};
use super::state::Api;
use super::stream::{Reader, stream};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

/// Services written in one go.
const SLICE: usize = 128;

const HEAD: &str = "# What is in force, services added and removed at run time included. Drains and weights of the run time are not in here: see\n\
                    # `weir show reals`. Secrets are \"(hidden)\".\n";

pub(super) async fn config(
    State(api): State<Api>,
    reader: Reader,
    peer: Option<Extension<Peer>>,
    _: Plain,
) -> Response {
    // As lines of the daemon's files.
    if !peer.is_some_and(|Extension(peer)| peer.may_see_files()) {
        let why = "the configuration is shown to root and the daemon's user only, by a unix socket";
        return error(StatusCode::FORBIDDEN, why);
    }
    let config = match api.handle.ask(|control| control.config().clone()).await {
        Ok(config) => config,
        Err(why) => return no_answer(why),
    };
    stream(&reader, "application/toml", async move |pieces| {
        pieces.write(format!("{HEAD}{}", config.written())).await?;
        for slice in config.services.chunks(SLICE) {
            let services = slice
                .iter()
                .map(|service| format!("\n{}", service.written()));
            pieces.write(services.collect()).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    })
}

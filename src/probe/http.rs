//! Checks of HTTP/1.1 and HTTP/2: a request, its status and its body.

use super::way::To;
use super::words::{Checked, Failure, contains, excerpt, failed, not_made};
use super::{Stage, Tools, tcp};
use crate::config::{Body, HttpProbe};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::rt::Executor;
use hyper::{Request, Response, Uri, Version};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// As much of a body is looked at.
const MOST: usize = 64 << 10;

pub(super) async fn check(to: &To, probe: &HttpProbe, tools: &Tools, stage: &Stage) -> Checked {
    let (stream, to) = (tcp::connect(to, stage).await?, to.real);
    let Some(tls) = &probe.tls else {
        return by_http1(stream, to, probe, tools, stage).await;
    };
    let protocols: [&[u8]; 2] = [b"h2", b"http/1.1"];
    let tools_tls = tools.tls()?;
    let stream = tools_tls
        .connect(stream, to, tls, &protocols, stage)
        .await?;
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => by_http2(stream, to, probe, tools, stage).await,
        _ => by_http1(stream, to, probe, tools, stage).await,
    }
}

/// Runs what a connection of HTTP/2 consists of, until the check is over: a server that floods the connection and reads nothing
/// of it would keep it open for ever.
#[derive(Clone, Default)]
pub(super) struct Tied(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tied {
    fn execute(&self, part: F) {
        self.0.lock().spawn(part);
    }
}

impl Tied {
    /// To be kept as long as the check lasts.
    pub(super) fn end(&self) -> Ending {
        Ending(self.clone())
    }
}

/// Ends them.
pub(super) struct Ending(Tied);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.0.lock().abort_all();
    }
}

async fn by_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    to: SocketAddr,
    probe: &HttpProbe,
    tools: &Tools,
    stage: &Stage,
) -> Checked {
    stage.set("request");
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|error| at_request(&error))?;
    let request = request(to, probe, Version::HTTP_11)?;
    let answered = async {
        let answer = sender.send_request(request).await;
        judge(
            answer.map_err(|error| at_request(&error))?,
            probe,
            tools,
            stage,
        )
        .await
    };
    beside(connection, answered).await
}

async fn by_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    to: SocketAddr,
    probe: &HttpProbe,
    tools: &Tools,
    stage: &Stage,
) -> Checked {
    stage.set("request");
    let tied = Tied::default();
    let _ending = tied.end();
    let opened = http2::handshake(tied, TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|error| at_request(&error))?;
    let request = request(to, probe, Version::HTTP_2)?;
    let answered = async {
        let answer = sender.send_request(request).await;
        judge(
            answer.map_err(|error| at_request(&error))?,
            probe,
            tools,
            stage,
        )
        .await
    };
    beside(connection, answered).await
}

/// Has a connection go on until the answer is judged.
pub(super) async fn beside<E: Error>(
    connection: impl Future<Output = Result<(), E>>,
    answered: impl Future<Output = Checked>,
) -> Checked {
    tokio::pin!(answered);
    tokio::select! {
        biased;
        checked = &mut answered => checked,
        // It may have ended with the whole answer; if not, the request has failed with it.
        _ = connection => answered.await,
    }
}

/// `host`, else where the check goes.
pub(super) fn host_of(to: SocketAddr, host: Option<&str>, usual_port: u16) -> String {
    match host {
        Some(host) => host.to_owned(),
        None if to.port() == usual_port && to.is_ipv6() => format!("[{}]", to.ip()),
        None if to.port() == usual_port => to.ip().to_string(),
        None => to.to_string(),
    }
}

fn request(
    to: SocketAddr,
    probe: &HttpProbe,
    version: Version,
) -> Result<Request<Empty<Bytes>>, Failure> {
    let (scheme, usual_port) = match probe.tls {
        Some(_) => ("https", 443),
        None => ("http", 80),
    };
    let host = host_of(to, probe.host.as_deref(), usual_port);
    let mut request = Request::builder().method(probe.method.as_str());
    // HTTP/2 has the host in the address.
    request = match version {
        Version::HTTP_2 => {
            let uri = Uri::builder().scheme(scheme).authority(host.as_str());
            match uri.path_and_query(probe.path.as_str()).build() {
                Ok(uri) => request.uri(uri),
                Err(why) => return not_made(format!("request: {why}")),
            }
        }
        _ => request
            .uri(probe.path.as_str())
            .header(HOST, host)
            .header(CONNECTION, "close"),
    };
    let mut names = probe.headers.iter().map(|(name, _)| name.as_str());
    if !names.any(|name| name == USER_AGENT.as_str()) {
        request = request.header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")));
    }
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::new());
    request.or_else(|why| not_made(format!("request: {why}")))
}

async fn judge(
    answer: Response<Incoming>,
    probe: &HttpProbe,
    tools: &Tools,
    stage: &Stage,
) -> Checked {
    let status = answer.status().as_u16();
    let mut ranges = probe.status.iter();
    if !ranges.any(|(first, last)| (*first..=*last).contains(&status)) {
        return failed(format!("status {status}"));
    }
    let Some(wanted) = &probe.body else {
        return Ok(format!("status {status}"));
    };
    stage.set("body");
    let mut body = answer.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| at_request(&error))?;
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(data);
        }
        if read.len() >= MOST {
            break;
        }
    }
    let (is_right, written) = match wanted {
        Body::Text(text) => (contains(&read, text.as_bytes()), text),
        Body::Regex(pattern) => (tools.matches(pattern, &read)?, pattern),
    };
    match is_right {
        true => Ok(format!("status {status}, body as expected")),
        false => failed(format!(
            "status {status}, body {} has no {written:?}",
            excerpt(&read)
        )),
    }
}

/// What hyper says, with its reason.
pub(super) fn at_request(error: &impl Error) -> Failure {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(why) = source {
        if let Some(why) = why.downcast_ref::<std::io::Error>() {
            return Failure::at("request", why);
        }
        words = why.to_string();
        source = why.source();
    }
    Failure::Real(format!("request: {words}"))
}

//! Checks of gRPC servers: `grpc.health.v1.Health/Check` (the gRPC health checking protocol).

use super::http::{Tied, at_request, beside, host_of};
use super::way::To;
use super::words::{Checked, Failure, failed, not_made};
use super::{Stage, Tools, tcp};
use crate::config::GrpcProbe;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, TE, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use prost::Message;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};

/// As much of an answer is read.
const MOST: usize = 64 << 10;

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) async fn check(to: &To, probe: &GrpcProbe, tools: &Tools, stage: &Stage) -> Checked {
    let (stream, to) = (tcp::connect(to, stage).await?, to.real);
    let Some(tls) = &probe.tls else {
        return ask(stream, to, probe, stage).await;
    };
    let tools_tls = tools.tls()?;
    let stream = tools_tls.connect(stream, to, tls, &[b"h2"], stage).await?;
    ask(stream, to, probe, stage).await
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    to: SocketAddr,
    probe: &GrpcProbe,
    stage: &Stage,
) -> Checked {
    stage.set("request");
    let tied = Tied::default();
    let _ending = tied.end();
    let opened = http2::handshake(tied, TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|error| at_request(&error))?;
    let (scheme, usual_port) = match probe.tls {
        Some(_) => ("https", 443),
        None => ("http", 80),
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(host_of(to, probe.host.as_deref(), usual_port))
        .path_and_query("/grpc.health.v1.Health/Check");
    let uri = uri
        .build()
        .or_else(|why| not_made(format!("request: {why}")))?;
    let question = HealthCheckRequest {
        service: probe.service.clone(),
    };
    let question = question.encode_to_vec();
    // Not compressed, and its length.
    let mut body = vec![0];
    body.extend_from_slice(&(question.len() as u32).to_be_bytes());
    body.extend_from_slice(&question);
    let request = Request::post(uri)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)));
    let request = request.or_else(|why| not_made(format!("request: {why}")))?;
    let answered = async {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| at_request(&error))?;
        if answer.status().as_u16() != 200 {
            return failed(format!("status {}", answer.status().as_u16()));
        }
        let code = |headers: &hyper::HeaderMap| {
            let code = headers.get("grpc-status")?.to_str().ok()?;
            code.parse::<u16>().ok()
        };
        let mut status = code(answer.headers());
        let mut body = answer.into_body();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| at_request(&error))?;
            if let Some(data) = frame.data_ref() {
                read.extend_from_slice(data);
            }
            if let Some(trailers) = frame.trailers_ref() {
                status = status.or(code(trailers));
            }
            if read.len() >= MOST {
                return failed("the answer is too long");
            }
        }
        judge(status, &read)
    };
    beside(connection, answered).await
}

fn judge(status: Option<u16>, body: &[u8]) -> Checked {
    match status {
        Some(0) => {}
        // NOT_FOUND: the server does not know the service.
        Some(5) => return failed("the server does not know this service"),
        Some(12) => return failed("the server has no health checking (grpc.health.v1)"),
        Some(code) => return failed(format!("gRPC status {code}")),
        None => return failed("an answer without gRPC status"),
    }
    let message = body
        .get(5..)
        .and_then(|message| HealthCheckResponse::decode(message).ok());
    match message.map(|message| message.status) {
        Some(1) => Ok("SERVING".to_owned()),
        Some(2) => failed("NOT_SERVING"),
        Some(3) => failed("SERVICE_UNKNOWN"),
        Some(_) => failed("UNKNOWN"),
        None => Err(Failure::Real("no answer of the health protocol".to_owned())),
    }
}

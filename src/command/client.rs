//! How the tools talk to a running daemon: HTTP over TCP, TLS or a unix socket.

pub(super) use super::at::{Address, At};
use super::at::{tls, token};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::Timeout;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no weir answers at {0} ({1}); is it running? --api or WEIR_API says where it listens")]
    NotRunning(Address, io::Error),
    #[error("what answers at {0} is no weir: {1}; --api or WEIR_API says where weir listens")]
    NotWeir(Address, String),
    #[error("weir closed the connection before it answered ({0}); ask again")]
    Closed(Address),
    #[error(
        "weir closed the connection in the middle of its answer ({0}): it ended, or was read too slowly"
    )]
    CutShort(Address),
    #[error("weir has too much to do to answer at {0} ({1}); ask again")]
    Busy(Address, io::Error),
    #[error(
        "what listens at {0} does not answer: it is no weir, or it hangs; --api or WEIR_API says where weir listens"
    )]
    Silent(Address),
    #[error("{0} answers otherwise than this weir expects: {1}; is it of another version?")]
    OtherVersion(Address, serde_json::Error),
    #[error("no TLS with {0}: {1}")]
    NoTls(Address, io::Error),
    #[error("{0}")]
    Refused(String),
    /// There is no such service, real server or page.
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Asks, and hands the answer's body to `take`, piece by piece.
pub(super) fn get(
    address: &Address,
    path: &str,
    take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Error> {
    call(address, (Method::GET, JSON), path, String::new(), take)
}

/// Why a row ends a list.
pub(super) enum Stop {
    Unreadable(serde_json::Error),
    Io(io::Error),
}

impl From<serde_json::Error> for Stop {
    fn from(why: serde_json::Error) -> Self {
        Stop::Unreadable(why)
    }
}

impl From<io::Error> for Stop {
    fn from(why: io::Error) -> Self {
        Stop::Io(why)
    }
}

/// Asks for a list, and takes its rows as they come.
pub(super) fn each<T: DeserializeOwned>(
    address: &Address,
    path: &str,
    mut take: impl FnMut(T) -> io::Result<()>,
) -> Result<(), Error> {
    each_line(address, path, |line| {
        Ok(take(serde_json::from_slice(line)?)?)
    })
}

/// Asks for a list, and takes its rows as they come: each is a line of its own.
pub(super) fn each_line(
    address: &Address,
    path: &str,
    take: impl FnMut(&[u8]) -> Result<(), Stop>,
) -> Result<(), Error> {
    by_line(address, (Method::GET, path), String::new(), take)
}

/// Posts JSON, and takes the answer's objects as they come: each is a line of its own.
pub(super) fn post_lines(
    address: &Address,
    path: &str,
    body: String,
    take: impl FnMut(&[u8]) -> Result<(), Stop>,
) -> Result<(), Error> {
    by_line(address, (Method::POST, path), body, take)
}

fn by_line(
    address: &Address,
    (method, path): (Method, &str),
    body: String,
    mut take: impl FnMut(&[u8]) -> Result<(), Stop>,
) -> Result<(), Error> {
    let mut rest = Vec::new();
    let mut unreadable = None;
    let got = call(address, (method, JSON), path, body, |piece| {
        rest.extend_from_slice(piece);
        let Some(end) = rest.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(());
        };
        for line in rest[..end].split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b",").unwrap_or(line);
            if line.starts_with(b"{") {
                match take(line) {
                    Ok(()) => {}
                    Err(Stop::Io(why)) => return Err(why),
                    Err(Stop::Unreadable(why)) => {
                        unreadable = Some(why);
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                }
            }
        }
        rest.drain(..=end);
        Ok(())
    });
    match unreadable {
        Some(why) => Err(Error::OtherVersion(address.clone(), why)),
        None => got,
    }
}

/// Asks for server-sent events, and takes the data of each as it comes, until the daemon ends.
pub(super) fn follow<T: DeserializeOwned>(
    address: &Address,
    path: &str,
    mut take: impl FnMut(T) -> io::Result<()>,
) -> Result<(), Error> {
    let mut rest = Vec::new();
    let mut unreadable = None;
    let got = get(address, path, |piece| {
        rest.extend_from_slice(piece);
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ") else {
                continue;
            };
            match serde_json::from_slice(data) {
                Ok(row) => take(row)?,
                Err(why) => {
                    unreadable = Some(why);
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        Ok(())
    });
    match unreadable {
        Some(why) => Err(Error::OtherVersion(address.clone(), why)),
        None => got,
    }
}

/// Asks for a list.
pub(super) fn rows<T: DeserializeOwned>(address: &Address, path: &str) -> Result<Vec<T>, Error> {
    let mut rows = Vec::new();
    each(address, path, |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// Posts JSON; the answer.
pub(super) fn post(address: &Address, path: &str, body: String) -> Result<Vec<u8>, Error> {
    answer(address, Method::POST, path, body)
}

/// Puts TOML; the answer.
pub(super) fn put(address: &Address, path: &str, body: String) -> Result<Vec<u8>, Error> {
    answer(address, Method::PUT, path, body)
}

/// Puts JSON; the answer.
pub(super) fn put_json(address: &Address, path: &str, body: String) -> Result<Vec<u8>, Error> {
    let mut answer = Vec::new();
    let request = (Method::PUT, JSON);
    call(address, request, path, body, |piece| {
        answer.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(answer)
}

/// Patches by JSON; the answer.
pub(super) fn patch(address: &Address, path: &str, body: String) -> Result<Vec<u8>, Error> {
    answer(address, Method::PATCH, path, body)
}

pub(super) fn delete(address: &Address, path: &str) -> Result<Vec<u8>, Error> {
    answer(address, Method::DELETE, path, String::new())
}

fn answer(address: &Address, method: Method, path: &str, body: String) -> Result<Vec<u8>, Error> {
    let mut answer = Vec::new();
    let content_type = match method {
        Method::PUT => "application/toml",
        _ => JSON,
    };
    call(address, (method, content_type), path, body, |piece| {
        answer.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(answer)
}

fn call(
    address: &Address,
    (method, content_type): (Method, &'static str),
    path: &str,
    body: String,
    take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let body = Bytes::from(body);
    runtime.block_on(async {
        let end = Instant::now() + RETRYING;
        loop {
            let asked = match address {
                Address::Tcp(socket) => match TcpStream::connect(socket).await {
                    Ok(stream) => {
                        ask(address, stream, (&method, content_type), path, body.clone()).await
                    }
                    Err(why) => Err(Error::NotRunning(address.clone(), why)),
                },
                Address::Https(host, port) => match secured(address, host, *port).await {
                    Ok(stream) => {
                        ask(address, stream, (&method, content_type), path, body.clone()).await
                    }
                    Err(why) => Err(why),
                },
                Address::Unix(socket) => match queued(socket) {
                    Ok(stream) => {
                        ask(address, stream, (&method, content_type), path, body.clone()).await
                    }
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                        Err(Error::Busy(address.clone(), why))
                    }
                    Err(why) => Err(Error::NotRunning(address.clone(), why)),
                },
            };
            match asked {
                Ok(answer) => return read(address, path, answer, take).await,
                Err(why) if why.may_pass(&method) && Instant::now() < end => sleep(PAUSE).await,
                Err(why) => return Err(why),
            }
        }
    })
}

/// A connection to a unix socket, at its turn where as many wait to be accepted as may: those who block are let in one after the
/// other, and those who do not (EAGAIN) may never be.
fn queued(socket: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let stream = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::sockopt::set_socket_timeout(&stream, Timeout::Send, Some(CONNECTING))?;
    net::connect(&stream, &SocketAddrUnix::new(socket)?)?;
    let stream = std::os::unix::net::UnixStream::from(stream);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// A connection by TLS, to a daemon whose certificate is for that name or address.
async fn secured(
    address: &Address,
    host: &str,
    port: u16,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| Error::Refused(format!("{host:?} is no name of a host")))?;
    let connector = TlsConnector::from(tls()?);
    let connected = async {
        let stream = TcpStream::connect((host, port)).await;
        let stream = stream.map_err(|why| Error::NotRunning(address.clone(), why))?;
        let secured = connector.connect(name, stream).await;
        secured.map_err(|why| Error::NoTls(address.clone(), why))
    };
    let connected = tokio::time::timeout(CONNECTING, connected).await;
    connected.map_err(|_| Error::Silent(address.clone()))?
}

/// How long a connection by TLS, or the turn of one to a unix socket, may take.
const CONNECTING: Duration = Duration::from_secs(10);
const JSON: &str = "application/json";

/// How long, and how often, what does not answer is asked again.
const RETRYING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

impl Error {
    /// Whether the same request may be answered in a moment: weir starts, or its places are all taken.
    fn may_pass(&self, method: &Method) -> bool {
        match self {
            Error::Busy(..) => true,
            // Repeating a deletion that was made, but not answered, would end with an error.
            Error::Closed(_) => *method != Method::DELETE,
            Error::NotRunning(Address::Unix(_), why) => {
                why.kind() == io::ErrorKind::ConnectionRefused
            }
            _ => false,
        }
    }
}

/// Whether the other end closed the connection, and answered nothing.
fn is_closed(why: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    let cause = std::error::Error::source(why).and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_reset =
        |cause: &io::Error| matches!(cause.kind(), BrokenPipe | ConnectionReset | NotConnected);
    why.is_incomplete_message()
        || why.is_canceled()
        || why.is_closed()
        || cause.is_some_and(is_reset)
}

/// Whether the connection ended before the answer's body did.
fn is_cut(why: &hyper::Error) -> bool {
    let cause = std::error::Error::source(why).and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_end = |cause: &io::Error| cause.kind() == io::ErrorKind::UnexpectedEof;
    is_closed(why) || cause.is_some_and(is_end)
}

/// Text for the query of an address.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(byte);
    text.bytes()
        .map(|byte| {
            if plain(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// The beginning of the answer.
async fn ask(
    address: &Address,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (method, content_type): (&Method, &str),
    path: &str,
    body: Bytes,
) -> Result<Response<Incoming>, Error> {
    let broken = |why: hyper::Error| match is_closed(&why) {
        true => Error::Closed(address.clone()),
        false => Error::NotWeir(address.clone(), why.to_string()),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tokio::spawn(connection);
    // A list is begun at once; a change may be a large file.
    let patience = match *method {
        Method::GET => Duration::from_secs(10),
        _ => Duration::from_secs(300),
    };
    let mut request = Request::builder()
        .method(method.clone())
        .uri(path)
        .header(header::HOST, address.host())
        .header(header::CONTENT_TYPE, content_type);
    if let Some(token) = token(address)? {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::new(body))
        .map_err(|why| Error::Refused(why.to_string()))?;
    let answer = tokio::time::timeout(patience, sender.send_request(request)).await;
    answer
        .map_err(|_| Error::Silent(address.clone()))?
        .map_err(broken)
}

async fn read(
    address: &Address,
    path: &str,
    mut answer: Response<Incoming>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Error> {
    let broken = |why: hyper::Error| Error::NotWeir(address.clone(), why.to_string());
    let cut = |why: hyper::Error| match is_cut(&why) {
        true => Error::CutShort(address.clone()),
        false => broken(why),
    };
    let has = |name, value: &str| {
        let found = answer.headers().get(name);
        found.is_some_and(|found| found.as_bytes() == value.as_bytes())
    };
    let types = [
        "application/json",
        "application/problem+json",
        "application/toml",
        "application/jsonl",
        "text/event-stream",
    ];
    let has_type = types.iter().any(|it| has(header::CONTENT_TYPE, it));
    // Every answer of the API says both.
    if !has(header::SERVER, "weir") || !has_type {
        let server = answer.headers().get(header::SERVER);
        let server = server.and_then(|server| server.to_str().ok());
        let server = server.map_or(String::new(), |server| format!(" of {server:?}"));
        let status = answer.status();
        return Err(Error::NotWeir(
            address.clone(),
            format!("an answer{server} to {path} ({status})"),
        ));
    }
    if answer.status() != StatusCode::OK {
        return Err(refusal(answer).await);
    }
    while let Some(frame) = answer.frame().await {
        if let Ok(piece) = frame.map_err(cut)?.into_data() {
            take(&piece)?;
        }
    }
    Ok(())
}

/// What the daemon says of a request that it does not grant.
async fn refusal(answer: Response<Incoming>) -> Error {
    let status = answer.status();
    let body = answer
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    // Of an invalid file: every error, as `weir check` prints them. A weir of before problem details has `error` alone.
    let text = ["text", "detail", "error"];
    let text = text
        .iter()
        .find_map(|member| told[member].as_str())
        .map(|text| text.trim_end().to_owned());
    let text = text.unwrap_or_else(|| format!("the daemon answered {status}"));
    match status {
        StatusCode::NOT_FOUND => Error::Missing(text),
        _ => Error::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_a_query_is_encoded() {
        assert_eq!(encode("tcp:192.0.2.80:80"), "tcp:192.0.2.80:80");
        assert_eq!(encode("a b&c=ä"), "a%20b%26c%3D%C3%A4");
    }
}

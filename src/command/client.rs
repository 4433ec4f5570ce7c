//! How the tools talk to a running daemon: HTTP over TCP or a unix socket.

use crate::api::listen::{connect, reachable};
use crate::config::{self, Api, Listen};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};

/// Where the daemon's API is.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    // Not a doc comment: rustdoc would take `[api]` for a link.
    #[arg(
        long,
        env = "WEIR_API",
        value_name = "ADDR",
        help = "The daemon's [api] control or listen: unix:/path, or an address and port; default: the control socket, \
                else 127.0.0.1:9900"
    )]
    pub api: Option<Address>,
    /// The daemon's configuration file: asks the control socket that it names, whatever else is wrong in it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl At {
    /// The daemon's address: of `--config`, else of `--api` or `WEIR_API`, else where a weir is by default.
    pub(super) fn address(&self) -> Result<Address, Error> {
        if let Some(file) = &self.config {
            return of_file(file);
        }
        IS_NAMED.store(self.api.is_some(), Relaxed);
        Ok(self.api.clone().unwrap_or_else(Address::found))
    }

    /// The same for a command that is given a configuration, whose control socket is asked unless another daemon is named.
    pub(super) fn address_for(&self, file: &Path) -> Result<Address, Error> {
        match (&self.config, &self.api) {
            (None, None) => of_file(file),
            _ => self.address(),
        }
    }
}

/// Where a configuration says that changes are taken; what it does not say is as by default.
fn of_file(file: &Path) -> Result<Address, Error> {
    let api = config::api(file)
        .map_err(|wrong| Error::Refused(wrong.to_string().trim_end().to_owned()))?;
    match (api.control, api.listen) {
        (Some(_), _) if api.control_is_default => Ok(Address::found()),
        (Some(path), _) | (None, Listen::Unix(path)) => Ok(Address::Unix(path)),
        (None, Listen::Tcp(address)) => Ok(Address::Tcp(reachable(address))),
        (None, Listen::Off) => Err(Error::Refused(format!(
            "{}: [api] has neither a `control` socket nor `listen`: such a weir takes SIGHUP only",
            file.display()
        ))),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Default for Address {
    /// The default of `[api] listen`.
    fn default() -> Self {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 9900)))
    }
}

impl Address {
    /// The default of `[api] control` where a weir of this network namespace answers there, else that of `listen`: a
    /// namespace has its own 127.0.0.1, and all of them have one /run.
    pub(super) fn found() -> Address {
        let control = PathBuf::from(Api::CONTROL);
        let answers = match connect(&control) {
            Ok(stream) => !is_of_another_namespace(&stream),
            // A weir listens there, and its queue of connections is full.
            Err(why) => why.kind() == io::ErrorKind::WouldBlock,
        };
        match answers {
            true => Address::Unix(control),
            false => Address::default(),
        }
    }
}

/// Whether the process at the other end is known to be in another network namespace.
fn is_of_another_namespace(stream: &std::os::unix::net::UnixStream) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(stream) else {
        return false;
    };
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
    let theirs = namespace(&peer.pid.as_raw_nonzero().to_string());
    matches!((namespace("self"), theirs), (Ok(here), Ok(there)) if here != there)
}

/// Whether `--api` or `WEIR_API` gave the daemon's address.
static IS_NAMED: AtomicBool = AtomicBool::new(false);

/// The token in the file that WEIR_TOKEN_FILE names. It goes only to a TCP address that `--api` or `WEIR_API` gave: while weir
/// is down, any local user can listen on the default address and would get it.
fn token(address: &Address) -> Result<Option<String>, Error> {
    if !matches!(address, Address::Tcp(_)) || !IS_NAMED.load(Relaxed) {
        return Ok(None);
    }
    let Some(file) = std::env::var_os("WEIR_TOKEN_FILE") else {
        return Ok(None);
    };
    let unreadable = |why| {
        let file = PathBuf::from(&file);
        Error::Refused(format!("WEIR_TOKEN_FILE: {}: {why}", file.display()))
    };
    let text = std::fs::read_to_string(&file).map_err(unreadable)?;
    Ok(Some(text.trim().to_owned()))
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: needs a path behind it"),
            Some(path) => Ok(Address::Unix(path.into())),
            None => text
                .parse()
                .map(Address::Tcp)
                .map_err(|_| "use 127.0.0.1:9900 or unix:/run/weir/weir.sock"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no weir answers at {0} ({1}); is it running? --api or WEIR_API says where it listens")]
    NotRunning(Address, io::Error),
    #[error("what answers at {0} is no weir: {1}; --api or WEIR_API says where weir listens")]
    NotWeir(Address, String),
    #[error("weir closed the connection before it answered ({0}); ask again")]
    Closed(Address),
    #[error("weir has too much to do to answer at {0} ({1}); ask again")]
    Busy(Address, io::Error),
    #[error(
        "what listens at {0} does not answer: it is no weir, or it hangs; --api or WEIR_API says where weir listens"
    )]
    Silent(Address),
    #[error("{0} answers otherwise than this weir expects: {1}; is it of another version?")]
    OtherVersion(Address, serde_json::Error),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Asks, and hands the answer's body to `take`, piece by piece.
pub(super) fn get(
    address: &Address,
    path: &str,
    take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Error> {
    call(address, Method::GET, path, String::new(), take)
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
    mut take: impl FnMut(&[u8]) -> Result<(), Stop>,
) -> Result<(), Error> {
    let mut rest = Vec::new();
    let mut unreadable = None;
    let got = get(address, path, |piece| {
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

pub(super) fn delete(address: &Address, path: &str) -> Result<Vec<u8>, Error> {
    answer(address, Method::DELETE, path, String::new())
}

fn answer(address: &Address, method: Method, path: &str, body: String) -> Result<Vec<u8>, Error> {
    let mut answer = Vec::new();
    call(address, method, path, body, |piece| {
        answer.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(answer)
}

fn call(
    address: &Address,
    method: Method,
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
                    Ok(stream) => ask(address, stream, &method, path, body.clone()).await,
                    Err(why) => Err(Error::NotRunning(address.clone(), why)),
                },
                Address::Unix(socket) => match UnixStream::connect(socket).await {
                    Ok(stream) => ask(address, stream, &method, path, body.clone()).await,
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
    method: &Method,
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
    let host = match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let content_type = match *method {
        Method::PUT => "application/toml",
        _ => "application/json",
    };
    // A list is begun at once; a change may be a large file.
    let patience = match *method {
        Method::GET => Duration::from_secs(10),
        _ => Duration::from_secs(300),
    };
    let mut request = Request::builder()
        .method(method.clone())
        .uri(path)
        .header(header::HOST, host)
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
    let has = |name, value: &str| {
        let found = answer.headers().get(name);
        found.is_some_and(|found| found.as_bytes() == value.as_bytes())
    };
    let types = [
        "application/json",
        "application/problem+json",
        "application/toml",
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
        if let Ok(piece) = frame.map_err(broken)?.into_data() {
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
    Error::Refused(text.unwrap_or_else(|| format!("the daemon answered {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in ["127.0.0.1:9900", "[::1]:9900", "unix:/run/weir/weir.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "9900", "localhost:9900", "unix:", "/run/weir.sock"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert_eq!(Address::default().to_string(), "127.0.0.1:9900");
    }

    #[test]
    fn text_in_a_query_is_encoded() {
        assert_eq!(encode("tcp:192.0.2.80:80"), "tcp:192.0.2.80:80");
        assert_eq!(encode("a b&c=ä"), "a%20b%26c%3D%C3%A4");
    }
}

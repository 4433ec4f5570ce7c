//! Who may ask for what.
//!
//! Changes come by the control socket, whose permissions say who may use it, or with the token. `listen` is for reading: on
//! loopback everything, beyond it the metrics and whether weir is well.

use super::answer::error;
use super::listen::Listener;
use crate::config;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The shortest token that takes too long to guess.
const SHORTEST: usize = 16;
const LONGEST: u64 = 4096;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// As the kernel tells (SO_PEERCRED).
    Process {
        uid: u32,
        pid: Option<i32>,
    },
}

impl Peer {
    /// Whether lines of the daemon's files may be shown to it: root and the daemon's own user could read them anyway.
    pub(crate) fn may_see_files(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        matches!(*self, Peer::Process { uid, .. } if uid == 0 || uid == own)
    }
}

impl Peer {
    pub(crate) fn is_root(&self) -> bool {
        matches!(*self, Peer::Process { uid: 0, .. })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Process { uid, pid, .. } => {
                write!(f, "uid {uid}")?;
                pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
            }
        }
    }
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    /// Whether weir is well.
    Health,
    Metrics,
    Read,
    Change,
}

impl Wish {
    fn of(method: &Method, path: &str) -> Wish {
        match (method, path) {
            (&Method::GET | &Method::HEAD, "/health" | "/ready") => Wish::Health,
            (&Method::GET | &Method::HEAD, "/metrics") => Wish::Metrics,
            (&Method::GET | &Method::HEAD, _) => Wish::Read,
            _ => Wish::Change,
        }
    }
}

/// What one listener grants.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Everything, to everyone who gets here.
    is_control: bool,
    is_local: bool,
    token_file: Option<PathBuf>,
    public_metrics: bool,
    /// What to tell who is refused.
    control: Option<PathBuf>,
}

/// Why a request is not granted.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// A token would help.
    Unauthorized(&'static str),
    Forbidden(String),
}

impl Door {
    pub(crate) fn control() -> Door {
        Door {
            is_control: true,
            is_local: true,
            token_file: None,
            public_metrics: true,
            control: None,
        }
    }

    /// That of `listen`.
    pub(crate) fn listen(listener: &Listener, api: &config::Api) -> Door {
        Door {
            is_control: false,
            is_local: listener.is_local(),
            token_file: api.token_file.clone(),
            public_metrics: api.public_metrics,
            control: api.control.clone(),
        }
    }

    fn judge(&self, wish: Wish, bearer: Option<&str>) -> Result<(), Refusal> {
        if self.is_control || wish == Wish::Health {
            return Ok(());
        }
        if let (Some(file), Some(bearer)) = (&self.token_file, bearer) {
            let Ok(token) = token(file) else {
                return Err(Refusal::Unauthorized("the token file cannot be read"));
            };
            return match constant_time_eq::constant_time_eq(token.as_bytes(), bearer.as_bytes()) {
                true => Ok(()),
                false => Err(Refusal::Unauthorized("this is not the token")),
            };
        }
        let has_token = self.token_file.is_some();
        let granted = match (self.is_local, has_token) {
            (true, _) => Wish::Read,
            (false, false) => Wish::Metrics,
            (false, true) if self.public_metrics => Wish::Metrics,
            (false, true) => Wish::Health,
        };
        match wish {
            wish if wish <= granted => Ok(()),
            _ if has_token => Err(Refusal::Unauthorized(
                "this takes the token of [api] token_file",
            )),
            Wish::Change => Err(Refusal::Forbidden(match &self.control {
                Some(path) => format!(
                    "changes come by the control socket, unix:{}: be root or in its group; or with a token ([api] token_file)",
                    path.display()
                ),
                None => "changes need a control socket ([api] control) or a token ([api] token_file)"
                    .to_owned(),
            })),
            _ => Err(Refusal::Forbidden(
                "beyond loopback there are /metrics, /health and /ready; more takes a token ([api] token_file)"
                    .to_owned(),
            )),
        }
    }
}

/// The token in a file.
///
/// # Errors
/// If it cannot be read, or has no token in it that is worth the name.
pub(crate) fn token(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(LONGEST).read_to_string(&mut text)?;
    let token = text.trim();
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    match token.len() >= SHORTEST && is_plain {
        true => Ok(token.to_owned()),
        false => Err(io::Error::other(format!(
            "a token has at least {SHORTEST} printable characters, and no spaces"
        ))),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let told = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = told.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether who asks may also read lists: what `/ready` says of a service in more words than yes and no.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayRead(pub bool);

/// Lets through what the door grants, and tells the log who has changed something.
pub(super) async fn guard(
    State(door): State<Arc<Door>>,
    mut request: Request,
    next: Next,
) -> Response {
    let wish = Wish::of(request.method(), request.uri().path());
    if wish == Wish::Health {
        let may_read = door.judge(Wish::Read, bearer(request.headers())).is_ok();
        request.extensions_mut().insert(MayRead(may_read));
    }
    match door.judge(wish, bearer(request.headers())) {
        Ok(()) => {}
        Err(Refusal::Unauthorized(why)) => return error(StatusCode::UNAUTHORIZED, why),
        Err(Refusal::Forbidden(why)) => return error(StatusCode::FORBIDDEN, &why),
    }
    if wish != Wish::Change {
        return next.run(request).await;
    }
    let by = request.extensions().get::<Peer>().copied();
    let what = format!("{} {}", request.method(), request.uri().path());
    // A change is logged even if its caller hangs up meanwhile.
    let done = tokio::spawn(async move {
        let response = next.run(request).await;
        let by = by.map_or("?".to_owned(), |peer| peer.to_string());
        let status = response.status();
        match status.is_success() {
            true => tracing::info!(by, status = status.as_u16(), "{what}"),
            // A place of its own in the log's limit: refusals hide no change.
            false => tracing::info!(by, status = status.as_u16(), "{what}: refused"),
        }
        response
    });
    match done.await {
        Ok(response) => response,
        Err(_) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "weir panicked over this request: its log says where",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn every_door_grants_what_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        let door = |is_local, has_token: bool, public_metrics| Door {
            is_control: false,
            is_local,
            token_file: has_token.then(|| file.clone()),
            public_metrics,
            control: Some("/run/weir/weir.sock".into()),
        };
        use Wish::{Change, Health, Metrics, Read};
        /// The door, and the most that it grants: without a token, with a wrong one, with the right one.
        type Case = (Door, [Wish; 3]);
        let cases: [Case; 6] = [
            (Door::control(), [Change, Change, Change]),
            (door(true, false, false), [Read, Read, Read]),
            (door(true, true, false), [Read, Health, Change]),
            (door(false, false, false), [Metrics, Metrics, Metrics]),
            (door(false, true, false), [Health, Health, Change]),
            (door(false, true, true), [Metrics, Health, Change]),
        ];
        for (door, granted) in cases {
            let bearers = [None, Some("0123456789abcdeF"), Some(TOKEN)];
            for (bearer, most) in bearers.into_iter().zip(granted) {
                for wish in [Health, Metrics, Read, Change] {
                    let is_granted = door.judge(wish, bearer).is_ok();
                    assert_eq!(is_granted, wish <= most, "{door:?} {wish:?} {bearer:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_get_is_a_change() {
        for (method, path, wish) in [
            (Method::GET, "/health", Wish::Health),
            (Method::HEAD, "/ready", Wish::Health),
            (Method::GET, "/metrics", Wish::Metrics),
            (Method::GET, "/v1/services", Wish::Read),
            (Method::GET, "/metrics/", Wish::Read),
            (Method::POST, "/health", Wish::Change),
            (Method::POST, "/v1/plan", Wish::Change),
            (Method::PUT, "/v1/services", Wish::Change),
            (Method::DELETE, "/v1/services", Wish::Change),
            (Method::OPTIONS, "/v1/services", Wish::Change),
        ] {
            assert_eq!(Wish::of(&method, path), wish, "{method} {path}");
        }
    }

    #[test]
    fn a_token_is_long_and_printable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for (text, is_token) in [
            ("", false),
            ("short\n", false),
            ("0123456789abcde\n", false),
            ("0123456789abcdef", true),
            ("  0123456789abcdef\r\n", true),
            ("0123456789 abcdef", false),
            ("0123456789äbcdefg", false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(token(&file).is_ok(), is_token, "{text:?}");
        }
        assert!(token(&folder.path().join("none")).is_err());
    }

    #[test]
    fn files_are_shown_to_root_and_the_daemons_own_user() {
        let process = |uid| Peer::Process { uid, pid: None };
        assert!(process(0).may_see_files());
        assert!(process(rustix::process::geteuid().as_raw()).may_see_files());
        assert!(!process(65534).may_see_files());
        assert!(!Peer::Tcp(([127, 0, 0, 1], 1).into()).may_see_files());
    }
}

//! Who may ask for what.
//!
//! Changes come by the control socket, whose permissions say who may use it, or with a token for changes. `listen` is for
//! reading: on loopback everything, beyond it the metrics and whether weir is well.

use super::answer::error;
use super::listen::Listener;
use super::tokens::{Token, Tokens};
use super::users;
use crate::config;
use crate::control::ASKED_BY;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

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

/// The subject of the certificate that a TLS client has shown, for the log.
#[derive(Clone, Debug)]
pub(crate) struct Subject(pub Arc<str>);

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

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    /// Whether weir is well; and the status page, which says nothing until it has read the lists.
    Health,
    Metrics,
    Read,
    Change,
}

impl Wish {
    fn of(method: &Method, path: &str) -> Wish {
        match (method, path) {
            (&Method::GET | &Method::HEAD, "/" | "/health" | "/ready") => Wish::Health,
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
            is_local: listener.is_local(),
            ..Door::local(api)
        }
    }

    /// That of `listen` on loopback.
    pub(crate) fn local(api: &config::Api) -> Door {
        Door {
            is_control: false,
            is_local: true,
            token_file: api.token_file.clone(),
            public_metrics: api.public_metrics,
            control: api.control.clone(),
        }
    }

    /// Whether a wish is granted; by which token, if by one.
    fn judge(&self, wish: Wish, bearer: Option<&str>) -> Result<Option<Token>, Refusal> {
        if self.is_control || wish == Wish::Health {
            return Ok(None);
        }
        if let (Some(file), Some(bearer)) = (&self.token_file, bearer) {
            let Ok((tokens, _)) = Tokens::read(file) else {
                return Err(Refusal::Unauthorized(
                    "the token file cannot be used: weir's log says why at a reload",
                ));
            };
            return match tokens.find(bearer) {
                Some(token) if wish == Wish::Change && !token.may_change => {
                    let name = &token.name;
                    Err(Refusal::Forbidden(format!(
                        "the token {name:?} is for reading: changes take one for `write`"
                    )))
                }
                Some(token) => Ok(Some(token.clone())),
                None => Err(Refusal::Unauthorized(
                    "this is no token of [api] token_file",
                )),
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
            wish if wish <= granted => Ok(None),
            _ if has_token => Err(Refusal::Unauthorized(
                "this takes a token of [api] token_file",
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

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let told = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = told.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Characters of an address in a line of the log.
const MOST_PATH: usize = 200;

/// Who asks, for the log: the token's name, the certificate's subject, and where it comes from; or the user of the process at the
/// other end.
async fn asker(peer: Option<Peer>, subject: Option<&Subject>, token: Option<&Token>) -> String {
    let from = match peer {
        None => "?".to_owned(),
        Some(Peer::Process { uid, pid }) => {
            let user = users::name(uid).await;
            let user = user.map_or(String::new(), |name| format!(" ({name})"));
            let pid = pid.map_or(String::new(), |pid| format!(", pid {pid}"));
            format!("uid {uid}{user}{pid}")
        }
        Some(Peer::Tcp(address)) => address.to_string(),
    };
    let token = token.map(|token| format!("token {}, ", token.name));
    let subject = subject.map(|subject| format!("certificate {}, ", subject.0));
    token.unwrap_or_default() + &subject.unwrap_or_default() + &from
}

/// Whether who asks may also read lists: what `/ready` says of a service in more words than yes and no.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayRead(pub bool);

/// Whether who asks would be granted a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayChange(pub bool);

/// The address that says so.
pub(super) const STATUS: &str = "/v1/status";

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
    if request.uri().path() == STATUS {
        let may_change = door.judge(Wish::Change, bearer(request.headers())).is_ok();
        request.extensions_mut().insert(MayChange(may_change));
    }
    let token = match door.judge(wish, bearer(request.headers())) {
        Ok(token) => token,
        Err(Refusal::Unauthorized(why)) => return error(StatusCode::UNAUTHORIZED, why),
        Err(Refusal::Forbidden(why)) => return error(StatusCode::FORBIDDEN, &why),
    };
    if wish != Wish::Change {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>().copied();
    let subject = request.extensions().get::<Subject>().cloned();
    // As much of it as a line needs.
    let path: String = request.uri().path().chars().take(MOST_PATH).collect();
    let what = format!("{} {path}", request.method());
    // A change is logged even if its caller hangs up meanwhile.
    let done = tokio::spawn(async move {
        let by = asker(peer, subject.as_ref(), token.as_ref()).await;
        let response = ASKED_BY.scope(by.as_str().into(), next.run(request)).await;
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
    const READER: &str = "fedcba9876543210";

    #[test]
    fn every_door_grants_what_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("ops:write:{TOKEN}\ngrafana:read:{READER}\n")).unwrap();
        let door = |is_local, has_token: bool, public_metrics| Door {
            is_control: false,
            is_local,
            token_file: has_token.then(|| file.clone()),
            public_metrics,
            control: Some("/run/weir/weir.sock".into()),
        };
        use Wish::{Change, Health, Metrics, Read};
        /// The door, and the most that it grants: without a token, with a wrong one, with one for reading, with one for changes.
        type Case = (Door, [Wish; 4]);
        let cases: [Case; 6] = [
            (Door::control(), [Change, Change, Change, Change]),
            (door(true, false, false), [Read, Read, Read, Read]),
            (door(true, true, false), [Read, Health, Read, Change]),
            (
                door(false, false, false),
                [Metrics, Metrics, Metrics, Metrics],
            ),
            (door(false, true, false), [Health, Health, Read, Change]),
            (door(false, true, true), [Metrics, Health, Read, Change]),
        ];
        for (door, granted) in cases {
            let bearers = [None, Some("0123456789abcdeF"), Some(READER), Some(TOKEN)];
            for (bearer, most) in bearers.into_iter().zip(granted) {
                for wish in [Health, Metrics, Read, Change] {
                    let is_granted = door.judge(wish, bearer).is_ok();
                    assert_eq!(is_granted, wish <= most, "{door:?} {wish:?} {bearer:?}");
                }
            }
        }
        // No token would help where its own is for reading: 403, not 401.
        let refused = door(false, true, false).judge(Change, Some(READER));
        let expected = "the token \"grafana\" is for reading: changes take one for `write`";
        assert_eq!(refused, Err(Refusal::Forbidden(expected.to_owned())));
        // With a file that cannot be used every token is refused.
        for text in ["", "ops:wirte:0123456789abcdef"] {
            std::fs::write(&file, text).unwrap();
            assert!(door(true, true, true).judge(Read, Some(TOKEN)).is_err());
        }
    }

    #[tokio::test]
    async fn who_asks_is_named_by_the_token_or_the_user() {
        let token = Token {
            name: "ci".into(),
            may_change: true,
        };
        let root = Peer::Process {
            uid: 0,
            pid: Some(7),
        };
        let stranger = Peer::Process {
            uid: 4_000_000_000,
            pid: None,
        };
        let tcp = Peer::Tcp(([192, 0, 2, 1], 5).into());
        let subject = Subject("CN=ops".into());
        for (peer, subject, token, expected) in [
            (Some(root), None, None, "uid 0 (root), pid 7"),
            (Some(stranger), None, None, "uid 4000000000"),
            (Some(tcp), None, None, "192.0.2.1:5"),
            (Some(tcp), None, Some(&token), "token ci, 192.0.2.1:5"),
            (
                Some(tcp),
                Some(&subject),
                Some(&token),
                "token ci, certificate CN=ops, 192.0.2.1:5",
            ),
            (None, None, None, "?"),
        ] {
            assert_eq!(asker(peer, subject, token).await, expected);
        }
    }

    #[test]
    fn what_is_no_get_is_a_change() {
        for (method, path, wish) in [
            (Method::GET, "/health", Wish::Health),
            (Method::HEAD, "/ready", Wish::Health),
            (Method::GET, "/", Wish::Health),
            (Method::POST, "/", Wish::Change),
            (Method::GET, "/metrics", Wish::Metrics),
            (Method::GET, "/v1/services", Wish::Read),
            (Method::GET, "/metrics/", Wish::Read),
            (Method::POST, "/health", Wish::Change),
            (Method::POST, "/v1/plan", Wish::Change),
            (Method::POST, "/v1/capture", Wish::Change),
            (Method::PUT, "/v1/services", Wish::Change),
            (Method::DELETE, "/v1/services", Wish::Change),
            (Method::OPTIONS, "/v1/services", Wish::Change),
        ] {
            assert_eq!(Wish::of(&method, path), wish, "{method} {path}");
        }
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

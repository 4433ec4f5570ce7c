//! Answers on a listener: so many connections at once and no more, none of which may hold its place for nothing.

use super::access::{Peer, Subject};
use super::answer::PROBLEM;
use super::listen::{Listener, SERVER};
use super::secrets::Tls;
use super::tls;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ServerConfig;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower_service::Service;

/// How long a connection may be without a whole request.
const HEAD: Duration = Duration::from_secs(20);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How a record begins that begins a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// How long, and how many bytes, a client without TLS may send on after its answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGERING: u64 = 64 << 10;
/// How long a reader may take nothing of its answer, and a writer send nothing of its body.
const STALL: Duration = Duration::from_secs(20);
/// Between two attempts where no connection can be accepted (EMFILE, ENFILE).
const PAUSE: Duration = Duration::from_millis(100);

/// Places that only root gets when all others are taken.
const ROOTS: usize = 16;

/// The places for connections. When all are taken, one of who has the most of them gives way: the one that has waited for a
/// request for longest; then the one whose request has been coming in for longest. Root's give way to root only.
struct Places {
    most: usize,
    taken: Mutex<Vec<Arc<Place>>>,
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Unknown,
    User(u32),
    Host(IpAddr),
}

impl Owner {
    fn of(peer: Option<&Peer>) -> Owner {
        match peer {
            None => Owner::Unknown,
            Some(Peer::Process { uid, .. }) => Owner::User(*uid),
            Some(Peer::Tcp(address)) => Owner::Host(address.ip()),
        }
    }

    fn is_root(self) -> bool {
        self == Owner::User(0)
    }
}

struct Place {
    owner: Owner,
    /// A request has begun to come.
    is_asked: AtomicBool,
    /// And is there as a whole.
    is_answering: AtomicBool,
    gives_way: Notify,
}

impl Places {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Places {
            most,
            taken: Mutex::default(),
        })
    }

    /// None: every connection that could give way has a request.
    fn take(self: &Arc<Self>, owner: Owner) -> Option<Taken> {
        let mut taken = self.taken.lock();
        if taken.len() >= self.most {
            match Self::to_give_way(&taken, owner) {
                Some(first) => taken.remove(first).gives_way.notify_one(),
                None if owner.is_root() && taken.len() < self.most + ROOTS => {}
                None => return None,
            }
        }
        let place = Arc::new(Place {
            owner,
            is_asked: AtomicBool::default(),
            is_answering: AtomicBool::default(),
            gives_way: Notify::new(),
        });
        taken.push(place.clone());
        Some(Taken {
            places: self.clone(),
            place,
        })
    }

    /// Which connection gives way to a new one of `owner`.
    fn to_give_way(taken: &[Arc<Place>], owner: Owner) -> Option<usize> {
        // The new one counts as well.
        let mut held = HashMap::from([(owner, 1)]);
        for place in taken {
            *held.entry(place.owner).or_insert(0) += 1;
        }
        let may = |place: &Place| {
            !place.is_answering.load(Relaxed) && (owner.is_root() || !place.owner.is_root())
        };
        let candidates = taken.iter().enumerate().filter(|(_, place)| may(place));
        let first = candidates.min_by_key(|(_, place)| {
            let (is_asked, held) = (place.is_asked.load(Relaxed), held[&place.owner]);
            (place.owner.is_root(), Reverse(held), is_asked)
        });
        first.map(|(n, _)| n)
    }
}

/// A place, until it is dropped.
struct Taken {
    places: Arc<Places>,
    place: Arc<Place>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

/// A request, until it is dropped.
pub(super) struct Receipt(Arc<Place>);

impl Receipt {
    fn at(place: &Arc<Place>) -> Arc<Self> {
        place.is_asked.store(true, Relaxed);
        Arc::new(Receipt(place.clone()))
    }

    /// All of it is there: its connection gives way to no other until it is answered.
    pub(super) fn received(&self) {
        self.0.is_answering.store(true, Relaxed);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.0.is_asked.store(false, Relaxed);
        self.0.is_answering.store(false, Relaxed);
    }
}

/// Answers until the runtime ends. To be called within it. `tls`: of a TCP address, what its connections are taken with.
pub(crate) fn serve(
    listener: Listener,
    router: Router,
    most: usize,
    tls: Option<Tls>,
) -> io::Result<()> {
    let places = Places::new(most);
    match listener {
        Listener::Tcp(listener, _) => {
            let listener = TcpListener::from_std(listener)?;
            tokio::spawn(async move {
                loop {
                    let accepted = listener.accept().await;
                    let accepted = accepted.map(|(stream, from)| (stream, Some(Peer::Tcp(from))));
                    let Some((stream, peer, taken)) = welcome(accepted, &places).await else {
                        continue;
                    };
                    let router = router.clone();
                    match &tls {
                        None => tokio::spawn(converse(stream, peer, None, router, taken)),
                        Some(tls) => {
                            let config = tls.read().clone();
                            tokio::spawn(converse_securely(stream, config, peer, router, taken))
                        }
                    };
                }
            });
        }
        Listener::Unix(listener, file) => {
            let listener = UnixListener::from_std(listener)?;
            tokio::spawn(async move {
                let _file = file;
                loop {
                    let accepted = listener.accept().await.map(|(stream, _)| {
                        let peer = stream.peer_cred().ok().map(|peer| Peer::Process {
                            uid: peer.uid(),
                            pid: peer.pid(),
                        });
                        (stream, peer)
                    });
                    if let Some((stream, peer, taken)) = welcome(accepted, &places).await {
                        tokio::spawn(converse(stream, peer, None, router.clone(), taken));
                    }
                }
            });
        }
    }
    Ok(())
}

/// A connection that was accepted, with its place, if there is one for it.
async fn welcome<S>(
    accepted: io::Result<(S, Option<Peer>)>,
    places: &Arc<Places>,
) -> Option<(S, Option<Peer>, Taken)> {
    match accepted {
        Ok((stream, peer)) => {
            let taken = places.take(Owner::of(peer.as_ref()))?;
            Some((stream, peer, taken))
        }
        Err(why) => {
            tracing::debug!("the API accepts no connection: {why}");
            sleep(PAUSE).await;
            None
        }
    }
}

/// All requests of one connection over TLS. Until its handshake is over it is one without a request.
async fn converse_securely(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    peer: Option<Peer>,
    router: Router,
    taken: Taken,
) {
    let secured = tokio::select! {
        secured = timeout(HANDSHAKE, secure(stream, config)) => secured,
        () = taken.place.gives_way.notified() => return,
    };
    if let Ok(Some(stream)) = secured {
        let shown = stream.get_ref().1.peer_certificates();
        let subject = shown.and_then(<[_]>::first).and_then(tls::subject);
        converse(stream, peer, subject, router, taken).await;
    }
}

/// A connection after its handshake; none: it failed, as the other end knows, or was none. A client that begins without TLS
/// is told what it lacks.
async fn secure(mut stream: TcpStream, config: Arc<ServerConfig>) -> Option<TlsStream<TcpStream>> {
    let mut first = [TLS_HANDSHAKE];
    let seen = stream.peek(&mut first).await.ok()?;
    if seen == 0 {
        return None;
    }
    if first[0] == TLS_HANDSHAKE {
        return TlsAcceptor::from(config).accept(stream).await.ok();
    }
    let body = "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"this address takes TLS \
                only: ask by https://\",\"error\":\"this address takes TLS only: ask by https://\"}\n";
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nserver: {SERVER}\r\ncontent-type: {PROBLEM}\r\nconnection: close\r\ncontent-length: \
         {length}\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()?;
    // Closed with bytes unread, the client would get a reset in the place of the answer.
    let rest = &mut tokio::io::sink();
    let _ = timeout(LINGER, tokio::io::copy(&mut stream.take(LINGERING), rest)).await;
    None
}

/// All requests of one connection.
async fn converse<S>(
    stream: S,
    peer: Option<Peer>,
    subject: Option<Subject>,
    router: Router,
    taken: Taken,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL));
    let place = taken.place.clone();
    let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
        let receipt = Receipt::at(&place);
        if request.body().is_end_stream() {
            receipt.received();
        }
        request.extensions_mut().insert(receipt.clone());
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        if let Some(subject) = &subject {
            request.extensions_mut().insert(subject.clone());
        }
        let mut router = router.clone();
        async move {
            let request: Request = request.map(Body::new);
            let answer = router.call(request).await;
            // Until the last piece is written.
            answer.map(|answer| {
                answer.map(|body| {
                    body.map_frame(move |frame| {
                        let _until_then = &receipt;
                        frame
                    })
                })
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Box::pin(stream)), answer);
    tokio::select! {
        // Whatever broke it, the other end knows as well.
        _ = connection => {}
        () = taken.place.gives_way.notified() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Owner = Owner::User(0);
    const USER: Owner = Owner::User(1);

    #[test]
    fn the_user_with_the_most_connections_gives_way_and_root_to_root_alone() {
        let gave_way = |taken: &Taken| {
            let places = taken.places.taken.lock();
            !places.iter().any(|place| Arc::ptr_eq(place, &taken.place))
        };
        let places = Places::new(4);
        let root = places.take(ROOT).unwrap();
        let other = places.take(Owner::User(2)).unwrap();
        let mut many = vec![places.take(USER).unwrap(), places.take(USER).unwrap()];
        // Again and again: only what is its own.
        for _ in 0..10 {
            let first = many.len() - 2;
            many.push(places.take(USER).unwrap());
            assert!(gave_way(&many[first]) && !gave_way(&root) && !gave_way(&other));
        }
        // The user with the most connections loses one, even if a request is coming in on it.
        let _coming = [&many[10], &many[11]].map(|taken| Receipt::at(&taken.place));
        let _third = places.take(Owner::User(3)).unwrap();
        assert!(gave_way(&many[10]) && !gave_way(&other));
        let another = places.take(ROOT).unwrap();
        assert!(gave_way(&other) && !gave_way(&root) && !gave_way(&another));
        assert!(!gave_way(&many[11]));

        let places = Places::new(2);
        let roots = [places.take(ROOT).unwrap(), places.take(ROOT).unwrap()];
        assert!(places.take(USER).is_none());
        let _root = places.take(ROOT).unwrap();
        assert!(gave_way(&roots[0]) && !gave_way(&roots[1]));
    }

    #[test]
    fn the_connection_idle_for_longest_gives_way_and_none_that_is_being_answered() {
        let places = Places::new(3);
        let take = || places.take(USER);
        let first = take().unwrap();
        let second = take().unwrap();
        let third = take().unwrap();
        let answer = |taken: &Taken| {
            let receipt = Receipt::at(&taken.place);
            receipt.received();
            receipt
        };
        let busy = answer(&first);
        let gave_way = |taken: &Taken| {
            let places = taken.places.taken.lock();
            !places.iter().any(|place| Arc::ptr_eq(place, &taken.place))
        };
        let fourth = take().unwrap();
        assert!(gave_way(&second) && !gave_way(&first) && !gave_way(&third));
        drop(busy);
        // A request that comes in is worth more than none.
        let coming = Receipt::at(&first.place);
        let fifth = take().unwrap();
        assert!(gave_way(&third) && !gave_way(&first) && !gave_way(&fourth));
        let _busy = [&fourth, &fifth].map(answer);
        let sixth = take().unwrap();
        assert!(gave_way(&first));
        let _busy = answer(&sixth);
        assert!(take().is_none());
        // Those that gave way leave no place twice.
        drop((coming, first, second, third));
        assert!(take().is_none());
        // Root gets in all the same, as often as it is bearable.
        let roots = (0..ROOTS).map(|_| {
            let root = places.take(ROOT).unwrap();
            (answer(&root), root)
        });
        let roots: Vec<_> = roots.collect();
        assert!(places.take(ROOT).is_none() && take().is_none());
        drop(roots);
        drop(fourth);
        assert!(take().is_some());
    }
}

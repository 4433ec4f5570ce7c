//! Answers on a listener: so many connections at once and no more, none of which may hold its place for nothing.

use super::access::Peer;
use super::listen::Listener;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_io_timeout::TimeoutStream;
use tower_service::Service;

/// How long a connection may be without a whole request.
const HEAD: Duration = Duration::from_secs(20);
/// How long a reader may take nothing of its answer, and a writer send nothing of its body.
const STALL: Duration = Duration::from_secs(20);
/// Between two attempts where no connection can be accepted (EMFILE, ENFILE).
const PAUSE: Duration = Duration::from_millis(100);

/// The places for connections. When all are taken, the one that has waited for a request for longest gives way.
struct Places {
    most: usize,
    taken: Mutex<Vec<Arc<Place>>>,
}

#[derive(Default)]
struct Place {
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

    /// None: every connection has a request.
    fn take(self: &Arc<Self>) -> Option<Taken> {
        let mut taken = self.taken.lock();
        if taken.len() >= self.most {
            let idle = |place: &Arc<Place>| !place.is_answering.load(Relaxed);
            let first = taken.iter().position(idle)?;
            taken.remove(first).gives_way.notify_one();
        }
        let place = Arc::<Place>::default();
        taken.push(place.clone());
        Some(Taken {
            places: self.clone(),
            place,
        })
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

/// That a request is being answered, until it is dropped.
struct Answering(Arc<Place>);

impl Answering {
    fn at(place: &Arc<Place>) -> Self {
        place.is_answering.store(true, Relaxed);
        Answering(place.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.is_answering.store(false, Relaxed);
    }
}

/// Answers until the runtime ends. To be called within it.
pub fn serve(listener: Listener, router: Router, most: usize) -> io::Result<()> {
    let places = Places::new(most);
    match listener {
        Listener::Tcp(listener, _) => {
            let listener = TcpListener::from_std(listener)?;
            tokio::spawn(async move {
                loop {
                    let accepted = listener.accept().await;
                    let accepted = accepted.map(|(stream, from)| (stream, Some(Peer::Tcp(from))));
                    welcome(accepted, &router, &places).await;
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
                    welcome(accepted, &router, &places).await;
                }
            });
        }
    }
    Ok(())
}

/// Gives a connection a task of its own, if there is a place for it.
async fn welcome<S>(accepted: io::Result<(S, Option<Peer>)>, router: &Router, places: &Arc<Places>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    match accepted {
        Ok((stream, peer)) => {
            if let Some(taken) = places.take() {
                tokio::spawn(converse(stream, peer, router.clone(), taken));
            }
        }
        Err(why) => {
            tracing::debug!("the API accepts no connection: {why}");
            sleep(PAUSE).await;
        }
    }
}

/// All requests of one connection.
async fn converse<S>(stream: S, peer: Option<Peer>, router: Router, taken: Taken)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL));
    let place = taken.place.clone();
    let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
        let answering = Answering::at(&place);
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let mut router = router.clone();
        async move {
            let request: Request = request.map(Body::new);
            let answer = router.call(request).await;
            // Until the last piece is written.
            answer.map(|answer| {
                answer.map(|body| {
                    body.map_frame(move |frame| {
                        let _until_then = &answering;
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

    #[test]
    fn who_waits_for_longest_gives_way_and_nobody_who_is_answered() {
        let places = Places::new(3);
        let first = places.take().unwrap();
        let second = places.take().unwrap();
        let third = places.take().unwrap();
        let busy = Answering::at(&first.place);
        let gave_way = |taken: &Taken| {
            let places = taken.places.taken.lock();
            !places.iter().any(|place| Arc::ptr_eq(place, &taken.place))
        };
        let fourth = places.take().unwrap();
        assert!(gave_way(&second) && !gave_way(&first) && !gave_way(&third));
        drop(busy);
        let fifth = places.take().unwrap();
        assert!(gave_way(&first) && !gave_way(&third) && !gave_way(&fourth));
        let _busy = [&third, &fourth, &fifth].map(|taken| Answering::at(&taken.place));
        assert!(places.take().is_none());
        // Those that gave way leave no place twice.
        drop((first, second));
        assert!(places.take().is_none());
        drop(third);
        assert!(places.take().is_some());
    }
}

//! The API's handlers over a control without devices, workers and sockets: for the fuzz target `api` and the tests of its body.

use crate::api::access::{Door, Peer};
use crate::api::secrets::Secrets;
use crate::api::{self, Api};
use crate::config::{self, Config, Loaded};
use crate::control::{Control, Handle, Job};
use crate::io::dpdk::Clock;
use crate::model::{Device, Model};
use crate::net::Mac;
use crate::stats::Stats;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tower_service::Service;

/// How long nothing may come of an answer that has no end (events as they happen).
const ENDLESS: Duration = Duration::from_millis(50);
/// The world that configurations are checked against.
const CONTEXT: config::Context<'static> = config::Context {
    cpus: None,
    devices: false,
};

/// Which door a request comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The control socket: everything is granted.
    Control,
    /// A TCP address on loopback, without a token.
    Listen,
}

/// An answer, with as much of its body as there was.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// A daemon's API, asked without a socket.
pub struct Harness {
    runtime: Runtime,
    control: Control,
    jobs: mpsc::Receiver<Job>,
    routers: [Router; 2],
}

/// What the API may change, at one moment.
#[derive(Debug, PartialEq)]
pub struct State {
    config: Config,
    /// What operators have said of real servers.
    said: String,
}

impl Harness {
    /// Of a configuration that is valid; its file does not exist.
    ///
    /// # Panics
    /// If it is not valid, or the machine gives no memory.
    pub fn new(text: &str) -> Harness {
        let loaded = match config::parse(text, "harness.toml", &CONTEXT) {
            Ok(loaded) => loaded,
            Err(wrong) => panic!("{wrong}"),
        };
        let (secrets, _) = match Secrets::start(&loaded) {
            Ok(secrets) => secrets,
            Err(wrong) => panic!("{wrong}"),
        };
        let Loaded { config, known, .. } = loaded;
        let runtime = Builder::new_current_thread().enable_all().build();
        let (runtime, stats) = match (runtime, Stats::new(1)) {
            (Ok(runtime), Ok(stats)) => (runtime, Arc::new(stats)),
            (runtime, stats) => panic!("{:?}, {:?}", runtime.err(), stats.err()),
        };
        let clock = Clock::of_hertz(1_000_000_000);
        let device = |n: u8| Device {
            mac: Mac([2, 0, 0, 0, 0, n]),
            any_mac: false,
        };
        let devices = (0..config.ports.len()).map(|n| device(n as u8)).collect();
        let (model, _) = Model::new(&config, devices, stats, 1, clock.now());
        let mut control = Control::new(model, vec![], vec![], vec![], vec![], clock);
        control.set_origin("harness.toml", known);
        let (handle, jobs) = Handle::new();
        let file = Path::new("/nonexistent/harness.toml");
        let api = Api::new(handle, file, CONTEXT, secrets);
        let listen = Door::local(&config.api);
        let routers = [
            api::router(api.clone(), Door::control(), false),
            api::router(api, listen, true),
        ];
        Harness {
            runtime,
            control,
            jobs,
            routers,
        }
    }

    /// Asks, and takes the control thread's jobs meanwhile. None: what is asked is no request that HTTP could carry.
    pub fn ask(
        &mut self,
        by: By,
        method: &str,
        target: &str,
        content_type: &str,
        body: &[u8],
    ) -> Option<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost")
            .header("content-type", content_type)
            .body(Body::from(body.to_vec()))
            .ok()?;
        let mut request = request;
        let (router, peer) = match by {
            By::Control => (&mut self.routers[0], Peer::Process { uid: 0, pid: None }),
            By::Listen => {
                let peer = Peer::Tcp(([127, 0, 0, 1], 1).into());
                (&mut self.routers[1], peer)
            }
        };
        request.extensions_mut().insert(peer);
        let (control, jobs) = (&mut self.control, &mut self.jobs);
        self.runtime.block_on(async {
            let work = async {
                while let Some(job) = jobs.recv().await {
                    job(control);
                }
            };
            tokio::select! {
                answer = answer(router, request) => Some(answer),
                () = work => None,
            }
        })
    }

    pub fn state(&self) -> State {
        State {
            config: self.control.config().clone(),
            said: self.control.said(),
        }
    }
}

async fn answer(router: &mut Router, request: Request<Body>) -> Answer {
    let Ok(mut answer) = router.call(request).await;
    let content_type = |headers: &HeaderMap| {
        let told = headers.get("content-type")?.to_str().ok()?;
        Some(told.to_owned())
    };
    let mut taken = Answer {
        status: answer.status().as_u16(),
        content_type: content_type(answer.headers()).unwrap_or_default(),
        body: Vec::new(),
    };
    let is_endless = taken.content_type == "text/event-stream";
    let patience = if is_endless { ENDLESS } else { Duration::MAX };
    while let Ok(Some(Ok(frame))) = timeout(patience, answer.frame()).await {
        if let Ok(piece) = frame.into_data() {
            taken.body.extend_from_slice(&piece);
        }
    }
    taken
}

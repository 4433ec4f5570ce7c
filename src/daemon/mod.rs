//! `weir run`: starts everything, takes the control thread's turns, and stops everything again.

mod companions;
pub mod harness;
mod keep;
pub mod machine;
mod memory;
pub mod preflight;

use crate::api::access::Door;
use crate::api::listen::{self, Listener};
use crate::api::reload::{From, reload};
use crate::api::secrets::Secrets;
use crate::api::serve::serve;
use crate::api::{self, Api};
use crate::arch::{self, NoMemory};
use crate::config::{self, Config, Diagnostic, Diagnostics, Idle, PortConfig, Severity};
use crate::control::{ASKED_BY, Control, Handle, Job, Turn, WorkerHandle, state_file};
use crate::director::{Director, Restored, Room, Shared};
use crate::harden::{self, Role};
use crate::host::WorkerEnd;
use crate::io::dpdk::{self, Clock, Interrupts, Lcore, MbufPool, RxQueue};
use crate::log;
use crate::model::{Device, Model};
use crate::net::Vlan;
use crate::probe::Checks;
use crate::record::Unkept;
use crate::stats::Stats;
use crate::units::WorkerId;
use crate::via::Ways;
use crate::worker::{Inlet, Ports, Worker, rings};
use companions::{companions, start_host};
use keep::Former;
use machine::{Machine, WorkerQueues};
use memory::{Available, Shortage};
use preflight::{Refusal, at_device};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Config(Diagnostics),
    #[error("[api] {key}: {why}")]
    Api {
        key: &'static str,
        why: listen::BindError,
    },
    #[error("{}", one_a_line(.0))]
    Devices(Vec<Refusal>),
    #[error(transparent)]
    Dpdk(#[from] dpdk::Error),
    #[error(transparent)]
    Memory(#[from] Shortage),
    #[error(
        "[limits] connections = {connections}: {why} for the connection table of worker {worker}{available}: lower \
         `connections`, or give the process more (ulimit -v, vm.overcommit_memory)"
    )]
    Table {
        connections: usize,
        worker: WorkerId,
        why: NoMemory,
        available: Free,
    },
    #[error(
        "{why} for the addresses of the counters of {workers} [dpdk] workers: use fewer, or give the process more \
         (ulimit -v)"
    )]
    Counters { workers: usize, why: NoMemory },
    #[error("connections_file = {path:?}: {why}")]
    Unkept { path: PathBuf, why: Unkept },
    #[error("{0}")]
    Host(String),
    #[error("the control thread cannot start: {0}")]
    Runtime(#[from] io::Error),
}

impl Failure {
    /// What is amiss with devices is told at the lines that name them.
    fn at_devices(self, loaded: (&Config, &[Diagnostic])) -> Failure {
        let at = |port: Option<&str>, message| at_device(loaded, port, Severity::Error, message);
        match self {
            Failure::Devices(refusals) => {
                let refusals = refusals.iter();
                Failure::Config(refusals.map(|it| at(it.port(), it.to_string())).collect())
            }
            Failure::Dpdk(error) if error.port().is_some() => {
                Failure::Config(at(error.port(), error.to_string()).into())
            }
            other => other,
        }
    }
}

fn one_a_line(refusals: &[Refusal]) -> String {
    let lines: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    lines.join("\nerror: ")
}

/// What is free, as a part of a sentence, where the kernel says it.
#[derive(Debug)]
pub struct Free(Option<Available>);

impl fmt::Display for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(available) => write!(f, ", {available}"),
            None => Ok(()),
        }
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Before any packet is touched.
pub fn run(file: &Path, context: config::Context<'static>) -> Result<(), Failure> {
    arch::map_large_buffers();
    let loaded = config::load(file, &context).map_err(Failure::Config)?;
    if !loaded.warnings.is_empty() {
        log::say(loaded.warnings.text(log::is_coloured()).trim_end());
    }
    let (secrets, doubts) = Secrets::start(&loaded).map_err(Failure::Config)?;
    if !doubts.is_empty() {
        log::say(doubts.text(log::is_coloured()).trim_end());
    }
    let (config, devices, known) = (loaded.config, loaded.devices, loaded.known);
    harden::limits();
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let signals = Signals::new()?;
    let starting = Arc::new(AtomicBool::new(true));
    end_at_a_signal(&starting, 0);
    let doors = doors(&config)?;
    let mut former = Former::of(&config)?;
    let machine = Machine::start(&config, former.as_mut());
    let mut machine = machine.map_err(|failure| failure.at_devices((&config, &devices)))?;
    let _locks = std::mem::take(&mut machine.locks);
    log::move_to(config.dpdk.main_lcore);
    let stop = Arc::new(AtomicBool::new(false));
    let ways = Arc::new(Ways::new(companions(&config, &machine)));
    let (host, worker_ends) = runtime
        .block_on(start_host(&config, &machine, &ways))
        .map_err(Failure::Host)?;
    let (mut control, workers) = start(&config, machine, former, worker_ends, &stop)?;
    control.set_host(host);
    control.set_origin(&file.display().to_string(), known);
    control.follow_connection_log();
    // Dropped before the workers' devices and tables are.
    let _together = Together;

    let (handle, jobs) = Handle::new();
    // As clients of the API may name it.
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let api = Api::new(handle.clone(), &whole, context, secrets);
    let reload_file = || {
        let (api, file) = (api.clone(), From::File(file.into()));
        tokio::spawn(ASKED_BY.scope("SIGHUP".into(), async move {
            if let Err(refused) = reload(&api, file, None).await {
                tracing::error!("reload refused, nothing has changed: {refused}");
            }
        }));
    };
    for (listener, _) in &doors {
        let by = if listener.is_tcp() && config.api.tls.is_some() {
            ", by TLS"
        } else {
            ""
        };
        tracing::info!("API on {listener}{by}");
    }
    control.set_checks(Checks::start(ways.clone())?, ways);
    harden::drop_privileges(Role::Control);
    let serving = Serving::start(doors, api.clone())?;
    starting.store(false, Relaxed);
    tracing::info!("ready");
    let manager = Manager::ready();
    let why = runtime.block_on(take_turns(
        &mut control,
        jobs,
        signals,
        &manager,
        reload_file,
    ));
    // A second signal ends the process at once, without closing the devices.
    end_at_a_signal(&Arc::new(AtomicBool::new(true)), 1);
    tracing::info!("{why}: stopping");
    drop(serving);
    manager.tell(NotifyState::Stopping);
    #[cfg(debug_assertions)]
    crate::control::inject::stop();
    // First: routers stop to send packets while they are still forwarded.
    runtime.block_on(control.withdraw());
    stop.store(true, Relaxed);
    for worker in workers {
        worker.join();
    }
    control.stop();
    // The last owners of the devices: net_tap's interfaces go with them.
    drop(control);
    // Does not wait for a file that is being read for a reload.
    runtime.shutdown_background();
    tracing::info!("stopped");
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The sockets of the API, and what each grants.
fn doors(config: &Config) -> Result<Vec<(Listener, Door)>, Failure> {
    let api = &config.api;
    let failed = |key| move |why| Failure::Api { key, why };
    let control = Listener::bind_control(api).map_err(failed("control"))?;
    let listen = Listener::bind(&api.listen).map_err(failed("listen"))?;
    let listen = listen.map(|listener| {
        let door = Door::listen(&listener, api);
        (listener, door)
    });
    let control = control.map(|listener| (listener, Door::control()));
    Ok(control.into_iter().chain(listen).collect())
}

/// The API at work, on a thread of its own; dropped, it ends.
struct Serving {
    ends: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Connections of each listener.
    const MOST: usize = 128;

    fn start(doors: Vec<(Listener, Door)>, api: Api) -> io::Result<Serving> {
        let runtime = runtime()?;
        let (ends, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("api".to_owned());
        let thread = thread.spawn(move || {
            let entered = runtime.enter();
            for (listener, door) in doors {
                let (name, is_loopback) = (listener.to_string(), listener.is_loopback());
                let router = api::router(api.clone(), door, is_loopback);
                let tls = api.secrets.tls();
                if let Err(why) = serve(listener, router, Self::MOST, tls) {
                    tracing::error!("no API on {name}: {why}");
                }
            }
            // Both an order and the loss of who gives it end it.
            let _ = runtime.block_on(ended);
            drop(entered);
            runtime.shutdown_background();
        })?;
        Ok(Serving {
            ends: Some(ends),
            thread: Some(thread),
        })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            // It has said why, if it panicked.
            let _ = thread.join();
        }
    }
}

/// As long as `holds`, SIGTERM and SIGINT end the process at once, with that exit code: what it holds goes with it, but for
/// its unix sockets, which the next weir finds left behind.
fn end_at_a_signal(holds: &Arc<AtomicBool>, code: i32) {
    for signal in [SIGTERM, SIGINT] {
        if let Err(why) =
            signal_hook::flag::register_conditional_shutdown(signal, code, holds.clone())
        {
            tracing::warn!("signals are not heard now: {why}");
        }
    }
}

/// What workers use must not be dropped while they run. So a panic that comes this far ends the process.
struct Together;

impl Drop for Together {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::flush();
            std::process::abort();
        }
    }
}

/// Makes the first tables and sends the workers off: none of them before every one has its memory, and what it takes over of a
/// former process.
fn start(
    config: &Config,
    machine: Machine,
    former: Option<Former>,
    worker_ends: Vec<Option<WorkerEnd>>,
    stop: &Arc<AtomicBool>,
) -> Result<(Control, Vec<Lcore<()>>), Failure> {
    let Machine {
        eal,
        pools,
        devices,
        doors,
        outlets,
        unsteered,
        steering,
        workers,
        ..
    } = machine;
    let clock = Clock::new(&eal);
    let stats = Stats::new(workers.len()).map_err(|why| Failure::Counters {
        workers: workers.len(),
        why,
    })?;
    let stats = Arc::new(stats);
    let macs = config.ports.iter().map(|port| Device {
        mac: devices[port.on.index()].mac(),
        any_mac: false,
    });
    let macs = macs.collect();
    let seed = RandomState::new().hash_one(0);
    let (mut model, readers) =
        Model::with_beginnings(config, macs, stats.clone(), seed, Some(seed), clock.now());
    if let Some(path) = state_file::path(config) {
        state_file::restore(&mut model, &path, clock.now());
    }
    let capacity = config.limits.connections.div_ceil(workers.len());
    let room = Room::shared(config, capacity, workers.len());
    let keep = match former {
        None => None,
        Some(former) => Some(former.keep(config, &mut model, &steering, room, clock.now())?),
    };

    let shared = Shared::new(stats.clone(), steering, seed);

    for port in &config.ports {
        log_port(port, &devices[port.on.index()]);
    }
    for (device, unsteered) in devices.iter().zip(&unsteered) {
        let port = device.name();
        match unsteered {
            _ if workers.len() == 1 => {}
            None => tracing::info!(port, "replies steered by RSS"),
            Some(why) => tracing::info!(port, %why, "replies steered by software"),
        }
    }
    tracing::info!(
        mbufs = pools.iter().map(MbufPool::size).sum::<usize>(),
        pools = pools.len(),
        hugepages = eal.hugepages(),
        services = config.services.len(),
        "memory"
    );
    let mut handles = Vec::new();
    let mut lcores = Vec::new();
    let mut gates = Vec::new();
    let (made, tables_made) = sync_channel(workers.len());
    let rings = rings(workers.len());
    let _together = Together;
    for (n, ((((WorkerQueues { pool, rx, tx }, mut tables), cpu), rings), host)) in workers
        .into_iter()
        .zip(readers)
        .zip(&config.dpdk.workers)
        .zip(rings)
        .zip(worker_ends)
        .enumerate()
    {
        let id = WorkerId(n as u8);
        let idle = config.dpdk.idle;
        let queues: Vec<_> = rx
            .iter()
            .map(|(number, queue)| (queue.port(), *number))
            .collect();
        let names = queues
            .iter()
            .map(|(port, number)| format!("{}/{number}", config.ports[port.index()].name));
        let interrupts = match idle {
            Idle::Poll => None,
            Idle::Adaptive => Interrupts::of(rx.iter().map(|(_, queue)| queue)),
        };
        let inlet = |(_, queue): (usize, RxQueue)| Inlet {
            door: doors[queue.device().index()].clone(),
            queue,
        };
        let rx: Vec<_> = rx.into_iter().map(inlet).collect();
        let outlets = outlets.clone();
        tracing::info!(
            worker = n,
            lcore = cpu,
            queues = names.collect::<Vec<_>>().join(" "),
            idle = match (idle, &interrupts) {
                (Idle::Poll, _) => "polls",
                (Idle::Adaptive, None) => "sleeps",
                (Idle::Adaptive, Some(_)) => "sleeps until packets come",
            },
            connections = room.total(),
            memory_mb = room.table_bytes() >> 20,
            "worker"
        );
        let handle = WorkerHandle::new(*cpu, queues, room.total());
        let (mailbox, shared, stop) = (handle.mailbox.clone(), shared.clone(), stop.clone());
        handles.push(handle);
        let (gate, opened) = sync_channel::<()>(1);
        gates.push(gate);
        let made = made.clone();
        let keeping = keep.as_ref().map(|keep| keep.keeping.clone());
        let kept = keep
            .as_ref()
            .and_then(|keep| Some((keep.kept.clone()?, keep.origin)));
        lcores.push(eal.launch(id, move || {
            // On the worker's lcore, so that its memory is near to it.
            let stats = shared.stats.clone();
            let made_in = Director::keeping(id, room, shared, mailbox, keeping.as_deref());
            let mut director = match made_in {
                Ok(director) => director,
                Err(why) => {
                    let _ = made.send(Err((id, why)));
                    return;
                }
            };
            // From the first tables on.
            tables.quiescent();
            let restored = kept.map_or_else(Restored::default, |(kept, origin)| {
                director.restore(&kept, origin, tables.read(), clock.now())
            });
            // Gives the former file's memory back.
            drop(keeping);
            // Before weir is ready: packets never meet a worker with privileges.
            harden::drop_privileges(Role::Worker);
            // Both fail only when the start is given up.
            if made.send(Ok(restored)).is_err() || opened.recv().is_err() {
                return;
            }
            Worker {
                director,
                tables,
                rx,
                inbox: rings.from,
                ports: Ports::new(id, stats, pool, (tx, &outlets), rings.to, host),
                clock,
                idle,
                interrupts,
                stop,
            }
            .run();
        })?);
    }
    let outcomes = tables_made.iter().take(lcores.len());
    let restored = outcomes.collect::<Result<Vec<Restored>, _>>();
    let complete = |all: Vec<Restored>| {
        let mut sum = Restored::default();
        all.into_iter().for_each(|one| sum += one);
        keep.map_or(Ok(()), |keep| keep.complete(sum))
    };
    let completed = match restored {
        Ok(all) => complete(all),
        Err((worker, why)) => Err(Failure::Table {
            connections: config.limits.connections,
            worker,
            why,
            available: Free(Available::now()),
        }),
    };
    if let Err(failure) = completed {
        // The workers that have their tables end, and the devices close with the last queue.
        drop(gates);
        lcores.into_iter().for_each(Lcore::join);
        return Err(failure);
    }
    for gate in gates {
        // There is room: it is the first message.
        let _ = gate.send(());
    }
    let control = Control::new(model, handles, devices, unsteered, pools, clock);
    Ok((control, lcores))
}

fn log_port(port: &PortConfig, device: &dpdk::Device) {
    tracing::info!(
        port = port.name,
        device = port.device,
        driver = device.driver(),
        mac = %device.mac(),
        mtu = port.mtu,
        queues = %format_args!("{} rx, {} tx", device.rx_queues(), device.tx_queues()),
        link = if device.link().up { "up" } else { "not up yet" },
        "port"
    );
    if port.vlan != Vlan::Untagged {
        tracing::info!(port = port.name, vlan = %port.vlan, tags = device.tagging(), "VLAN");
    }
}

/// systemd, or another process that started weir and takes notifications (`sd_notify(3)`).
struct Manager {
    /// How often it wants a sign of life.
    every: Option<Duration>,
}

impl Manager {
    fn ready() -> Self {
        // Twice in the time that it waits.
        let every = sd_notify::watchdog_enabled().map(|wait| wait / 2);
        let manager = Manager { every };
        manager.tell(NotifyState::Ready);
        manager
    }

    fn tell(&self, what: NotifyState<'_>) {
        if let Err(error) = sd_notify::notify(&[what]) {
            tracing::warn!("the service manager cannot be told: {error}");
        }
    }

    /// Waits until a sign of life is due, for ever if none is wanted.
    async fn due(&self) {
        match self.every {
            Some(every) => sleep(every).await,
            None => std::future::pending().await,
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// How soon the next turn is due when something happened, and when nothing did.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(4);
/// And when it panicked.
const MUCH_LATER: Duration = Duration::from_millis(100);
/// How long a worker is given to answer before it is looked for again.
const MOMENT: Duration = Duration::from_micros(20);

/// Takes turns and jobs until a signal says to stop; says which.
async fn take_turns(
    control: &mut Control,
    mut jobs: mpsc::Receiver<Job>,
    mut signals: Signals,
    manager: &Manager,
    reload: impl Fn(),
) -> &'static str {
    let mut turn = control.turn();
    let due = manager.due();
    tokio::pin!(due);
    loop {
        tokio::select! {
            () = pause(turn) => {}
            () = &mut due => {
                // A worker that hangs, a device that is gone: then weir is to be started anew.
                if control.complaint().is_none() {
                    manager.tell(NotifyState::Watchdog);
                }
                due.set(manager.due());
            }
            Some(job) = jobs.recv() => job(control),
            _ = signals.terminate.recv() => return "SIGTERM",
            _ = signals.interrupt.recv() => return "SIGINT",
            _ = signals.hangup.recv() => reload(),
        }
        turn = control.turn();
    }
}

async fn pause(turn: Turn) {
    match turn {
        // Shorter than the runtime's clock can tell.
        Turn::Urgent => {
            tokio::task::yield_now().await;
            std::thread::sleep(MOMENT);
        }
        Turn::Busy => sleep(SOON).await,
        Turn::Idle => sleep(LATER).await,
        Turn::Failed => sleep(MUCH_LATER).await,
    }
}

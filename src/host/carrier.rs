//! The thread that carries packets between the workers' rings and the kernel's TAPs.

use super::{FromHost, HostEnd, WorkerEnd, ends};
use crate::harden::{self, Role};
use crate::io::dpdk::Mbuf;
use crate::net::Mac;
use crate::packet::{BURST, Burst, Packet};
use crate::stats::{Counter, MAX_PORTS};
use crate::units::PortId;
use crate::via::{Answer, Translator};
use crate::wire::ethernet;
use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Instant;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// How long a packet for the host may lie in its ring before the idle thread looks.
const NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000,
};

/// Frames read from a TAP before the next one has its turn.
const TOGETHER: usize = 32;

/// A companion interface.
pub struct Tap {
    device: SyncDevice,
    port: PortId,
    mac: Mac,
    /// Bytes of the longest frame.
    longest: usize,
    /// The interface was removed from outside.
    gone: bool,
}

impl Tap {
    /// Makes an interface for a port: up, with its MAC address and MTU. It goes with the process.
    ///
    /// # Errors
    /// For a person: which interface, and why not.
    pub fn new(name: &str, port: PortId, mac: Mac, mtu: u16) -> Result<Tap, String> {
        let explain = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    ": weir needs the capability CAP_NET_ADMIN and /dev/net/tun for it"
                }
                io::ErrorKind::ResourceBusy | io::ErrorKind::AlreadyExists => {
                    ": something else has an interface of that name"
                }
                io::ErrorKind::NotFound => ": load the kernel's module tun",
                _ => "",
            };
            format!("companion {name:?}: {error}{remedy}")
        };
        let build = || {
            let device = DeviceBuilder::new()
                .name(name)
                .layer(Layer::L2)
                .mac_addr(mac.0)
                .mtu(mtu)
                .enable(true)
                .build_sync()?;
            device.set_nonblocking(true)?;
            Ok(device)
        };
        let device = build().map_err(explain)?;
        Ok(Tap {
            device,
            port,
            mac,
            longest: usize::from(mtu) + 14,
            gone: false,
        })
    }

    /// The kernel's number of the interface.
    pub fn index(&self) -> io::Result<u32> {
        self.device.if_index()
    }
}

/// What went through the companions, by port.
#[derive(Debug, Default)]
pub struct HostStats {
    pub to_host: [Counter; MAX_PORTS],
    pub from_host: [Counter; MAX_PORTS],
    /// The kernel did not take them.
    pub refused: [Counter; MAX_PORTS],
    /// The interface was removed from outside: 1.
    pub gone: [Counter; MAX_PORTS],
    /// The thread panicked, and carries nothing any more: 1.
    pub panicked: Counter,
}

/// The running thread: ends when this is dropped.
pub struct Carrier {
    pub stats: Arc<HostStats>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    #[cfg(debug_assertions)]
    panic: Arc<AtomicBool>,
}

impl Carrier {
    /// Starts the thread; returns the ends of `workers` workers. `ports`: how many there are.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(
        taps: Vec<Tap>,
        workers: usize,
        ports: usize,
        checks: Translator,
    ) -> io::Result<(Carrier, Vec<WorkerEnd>)> {
        let companion = |port| {
            let tap = taps.iter().find(|tap| tap.port.index() == port);
            tap.map(|tap| tap.mac)
        };
        let companions = (0..ports).map(companion).collect();
        let (worker_ends, host_end) = ends(workers, companions);
        let (stats, stop) = (Arc::<HostStats>::default(), Arc::<AtomicBool>::default());
        let work = Work {
            taps,
            end: host_end,
            stats: stats.clone(),
            checks,
            empty: None,
            back: VecDeque::new(),
            #[cfg(debug_assertions)]
            panic: Arc::default(),
        };
        #[cfg(debug_assertions)]
        let panic = work.panic.clone();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("companion".into())
            .spawn(move || {
                harden::drop_privileges(Role::Control);
                work.run(&stopped);
            })?;
        let carrier = Carrier {
            stats,
            stop,
            thread: Some(thread),
            #[cfg(debug_assertions)]
            panic,
        };
        Ok((carrier, worker_ends))
    }

    /// For tests: has the thread panic.
    #[cfg(debug_assertions)]
    pub fn panic(&self) {
        self.panic.store(true, Relaxed);
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been logged already.
            let _ = thread.join();
        }
    }
}

struct Work {
    taps: Vec<Tap>,
    end: HostEnd,
    stats: Arc<HostStats>,
    /// What health checks send that take the way of clients' packets, and what comes back.
    checks: Translator,
    /// An empty mbuf at hand.
    empty: Option<Mbuf>,
    /// What the first worker's ring has no room for yet.
    back: VecDeque<FromHost>,
    #[cfg(debug_assertions)]
    panic: Arc<AtomicBool>,
}

impl Work {
    fn run(self, stop: &AtomicBool) {
        let mut work = ManuallyDrop::new(self);
        match catch_unwind(AssertUnwindSafe(|| work.carry(stop))) {
            Ok(()) => drop(ManuallyDrop::into_inner(work)),
            // Its mbufs stay where they are, since the workers go on; the host has no way through weir any more.
            Err(_) => work.stats.panicked.set(1),
        }
    }

    fn carry(&mut self, stop: &AtomicBool) {
        while !stop.load(Relaxed) {
            let now = Instant::now();
            self.checks.tick(now);
            let carried = self.carry_up(now) + self.carry_down(now);
            self.hand_back();
            #[cfg(debug_assertions)]
            if self.panic.load(Relaxed) {
                panic!("injected into the companions' thread");
            }
            if carried == 0 {
                self.nap();
            }
        }
    }

    fn carry_up(&mut self, now: Instant) -> usize {
        // The first worker does not take used mbufs: then it is no time for more.
        if self.back.len() > BURST {
            return 0;
        }
        let mut carried = 0;
        for ring in &mut self.end.to_host {
            let mut burst = Burst::<Mbuf>::new();
            carried += ring.take(&mut burst);
            for mut packet in burst {
                match self.checks.hear(&mut packet, now) {
                    Answer::No => {}
                    Answer::Of(port) => packet.set_port(port),
                    Answer::Stray => {
                        self.back.push_back(FromHost::Used(packet));
                        continue;
                    }
                }
                let port = packet.port();
                if let Some(tap) = self.taps.iter().find(|tap| tap.port == port) {
                    // A full queue of the kernel's loses packets, as any.
                    let counters = match tap.device.send(packet.data()) {
                        Ok(_) => &self.stats.to_host,
                        Err(_) => &self.stats.refused,
                    };
                    counters[port.index()].add(1);
                }
                self.back.push_back(FromHost::Used(packet));
            }
        }
        carried
    }

    fn carry_down(&mut self, now: Instant) -> usize {
        let mut carried = 0;
        for tap in self.taps.iter_mut().filter(|tap| !tap.gone) {
            for _ in 0..TOGETHER {
                if self.empty.is_none() {
                    let mut one = ArrayVec::<Mbuf, 1>::new();
                    self.end.empty.take(&mut one);
                    self.empty = one.pop();
                }
                let Some(frame) = &mut self.empty else {
                    return carried;
                };
                if !frame.resize(tap.longest) {
                    return carried;
                }
                let length = match tap.device.recv(frame.data_mut()) {
                    Ok(length) => length,
                    Err(why) => {
                        let nothing = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
                        // EBADFD and the like: there is no interface behind it any more.
                        if !nothing.contains(&why.kind()) {
                            tap.gone = true;
                            self.stats.gone[tap.port.index()].set(1);
                        }
                        break;
                    }
                };
                // Only as the port: nothing else may use its wire.
                let source = ethernet::source(frame.data());
                let is_ours = source == Some(tap.mac) && frame.resize(length);
                if is_ours && let Some(mut frame) = self.empty.take() {
                    self.stats.from_host[tap.port.index()].add(1);
                    carried += 1;
                    let out = match Translator::is_check(frame.data()) {
                        false => Some(tap.port),
                        true => self.checks.send(&mut frame, now),
                    };
                    self.back.push_back(match out {
                        Some(port) => {
                            frame.set_port(port);
                            FromHost::Frame(frame)
                        }
                        None => FromHost::Unsent(frame),
                    });
                }
            }
        }
        carried
    }

    fn hand_back(&mut self) {
        while let Some(each) = self.back.pop_front() {
            if let Err(each) = self.end.from_host.push(each) {
                self.back.push_front(each);
                break;
            }
        }
        self.end.from_host.publish();
    }

    /// Until the kernel has a frame, or for a moment.
    fn nap(&self) {
        let fds = self.taps.iter().filter(|tap| !tap.gone);
        let mut fds: Vec<_> = fds
            .map(|tap| PollFd::from_borrowed_fd(tap.device.as_fd(), PollFlags::IN))
            .collect();
        // Interrupted or not, the next look tells.
        let _ = poll(&mut fds, Some(&NAP));
        if self.empty.is_none() && fds.iter().any(|fd| !fd.revents().is_empty()) {
            // There are frames, but nothing to put them in: the worker has to lend some first.
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }
}

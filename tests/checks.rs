//! Health checks in numbers, on loopback: what they cost, and that none is lost. Not timed, so not run by itself:
//!
//!     cargo test --test checks -- --ignored --nocapture

#![allow(clippy::print_stdout)] // The figures.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir::bench::{Bench, Setup};
use weir::config::{
    CheckWay, Exchange, HealthConfig, HealthTemplates, HealthUse, HttpProbe, ModeConfig, Probe,
    Protocol, RealConfig, SchedulerConfig, ServiceConfig, WhenUnavailable,
};
use weir::probe::Checks;

/// The processor time that threads of a name have used.
fn processor_time(name: &str) -> Duration {
    // Linux's USER_HZ.
    let ticks = 100;
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let folder = task.unwrap().path();
        let read = |file| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        if read("comm").trim() == name {
            let stat = read("stat");
            let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            sum += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    Duration::from_secs_f64(sum as f64 / f64::from(ticks))
}

/// A server that answers every connection to any loopback address, if it is asked anything.
fn serve(answer: &'static [u8]) -> u16 {
    let (sender, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("0.0.0.0:0".parse().unwrap()).unwrap();
            let listener: TcpListener = socket.listen(4096).unwrap();
            sender.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if !answer.is_empty() {
                    tokio::spawn(async move {
                        let mut asked = [0; 1024];
                        let _ = stream.read(&mut asked).await;
                        let _ = stream.write_all(answer).await;
                        let _ = stream.read(&mut asked).await;
                    });
                }
            }
        });
    });
    port.recv().unwrap()
}

fn services(
    number: u32,
    reals: u32,
    different: u32,
    health: HealthConfig,
    port: u16,
) -> Vec<Arc<ServiceConfig>> {
    let health = Arc::new(health);
    let service = |n: u32| {
        let real = |place: u32| {
            let which = (n * reals + place) % different;
            RealConfig {
                address: Ipv4Addr::from(0x7f01_0000 + which).into(),
                port,
                weight: 1,
                thresholds: None,
                server_id: None,
            }
        };
        Arc::new(ServiceConfig {
            name: format!("s{n}"),
            protocol: Protocol::Tcp,
            address: Ipv4Addr::from(0x0a00_0000 + n).into(),
            port: 80,
            last_port: 0,
            mode: ModeConfig::Nat,
            scheduler: SchedulerConfig::Rr,
            flags: Default::default(),
            persistence: None,
            when_unavailable: WhenUnavailable::Refuse,
            unknown_tcp: None,
            tcp_mss: None,
            quic: None,
            client_address: Default::default(),
            health: Some(HealthUse::Own(health.clone())),
            slow_start: None,
            on_down: Default::default(),
            timeouts: Default::default(),
            on_idle: Default::default(),
            one_packet: false,
            histograms: false,
            connection_log: true,
            availability: Default::default(),
            announce: Default::default(),
            fallback: Vec::new(),
            on_drain: None,
            passive: None,
            pool: None,
            allow: None,
            deny: None,
            limits: None,
            reals: (0..reals).map(real).collect(),
        })
    };
    (0..number).map(service).collect()
}

fn every_second(probe: Probe) -> HealthConfig {
    HealthConfig {
        probe,
        port: None,
        via: CheckWay::Host,
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
    }
}

/// One at a time: each wants both of a small machine's cores.
static MACHINE: Mutex<()> = Mutex::new(());

/// Runs checks for 10 s after a start; says what they cost.
fn measure(what: &str, services: Vec<Arc<ServiceConfig>>) {
    let _machine = MACHINE.lock();
    let mut checks = Checks::start(Arc::default()).unwrap();
    let begun = Instant::now();
    checks.configure(services, Arc::new(HealthTemplates::new()));
    while checks.counts().checks == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!(
        "{what}: {} checks configured in {:?}",
        checks.counts().checks,
        begun.elapsed()
    );
    let mut changes = 0;
    let mut drain = |checks: &mut Checks| {
        while let Some(change) = checks.next_change() {
            changes += change.targets.len();
        }
    };
    std::thread::sleep(Duration::from_secs(3));
    drain(&mut checks);
    let (before, used) = (checks.counts(), processor_time("health"));
    let measured = Instant::now();
    std::thread::sleep(Duration::from_secs(10));
    let (after, took) = (checks.counts(), measured.elapsed().as_secs_f64());
    let share = (processor_time("health") - used).as_secs_f64() / took;
    drain(&mut checks);
    println!(
        "{what}: {:.0} checks a second, {:.1} % of a core; real servers told {changes}; {after:?}",
        (after.passed - before.passed) as f64 / took,
        share * 100.0,
    );
    assert_eq!((after.not_made, after.down), (0, 0), "{after:?}");
    assert!(after.failed * 1000 <= after.passed, "{after:?}");
    assert!(after.passed - before.passed > before.checks * 5);
    let begun = Instant::now();
    drop(checks);
    println!("{what}: ended in {:?}", begun.elapsed());
}

#[test]
#[ignore = "measures what checks cost, which other tests beside it would distort; scripts/test --full runs it"]
fn ten_thousand_tcp_checks_a_second() {
    let port = serve(b"");
    let health = every_second(Probe::Tcp(Exchange::default()));
    measure("tcp", services(1250, 8, 10_000, health, port));
}

#[test]
#[ignore = "measures what checks cost, which other tests beside it would distort; scripts/test --full runs it"]
fn five_thousand_http_checks_a_second() {
    let port = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let health = every_second(Probe::Http(HttpProbe {
        method: "GET".into(),
        path: "/".into(),
        host: None,
        headers: vec![],
        status: vec![(200, 399)],
        body: None,
        tls: None,
    }));
    measure("http", services(625, 8, 5000, health, port));
}

#[test]
#[ignore = "measures what checks cost, which other tests beside it would distort; scripts/test --full runs it"]
fn twenty_thousand_services_share_checks() {
    let port = serve(b"");
    let health = every_second(Probe::Tcp(Exchange::default()));
    measure(
        "20,000 services x 8",
        services(20_000, 8, 2000, health, port),
    );
}

/// The threads of this process.
fn threads() -> HashSet<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.parse().unwrap()).collect()
}

/// Lets a thread run on one CPU, or on all others.
fn pin(thread: i32, cpu: usize, only: bool) {
    let mut set = CpuSet::new();
    let all = std::thread::available_parallelism().unwrap().get();
    let is_one = |other: &usize| (*other == cpu) == only;
    (0..all)
        .filter(is_one)
        .for_each(|cpu| set.set(cpu).unwrap());
    sched_setaffinity(Pid::from_raw(thread), &set).unwrap();
}

/// How long a worker does not poll at most within 20 ms, with checks beside it and without, in turns: on a machine that others
/// use, the figures without say how much is theirs.
#[test]
#[ignore = "measures what checks cost, which other tests beside it would distort; scripts/test --full runs it"]
fn no_worker_notices_ten_thousand_tcp_checks_a_second() {
    const WINDOW: Duration = Duration::from_millis(20);
    let _machine = MACHINE.lock();
    let cpus = std::thread::available_parallelism().unwrap().get();
    if cpus < 2 {
        println!("a worker has a CPU of its own, and there is one");
        return;
    }
    // The server that is checked, and the checks, have the other CPUs, as the threads of a daemon have.
    pin(0, 0, false);
    let port = serve(b"");
    let health = every_second(Probe::Tcp(Exchange::default()));
    let many = services(1250, 8, 10_000, health, port);
    let mut checks = Checks::start(Arc::default()).unwrap();
    let mut bench = Bench::new(&Setup::new("dr", "udp").config(), 1024);
    let before = threads();
    let mut gaps = [Vec::new(), Vec::new()];
    let mut made = 0;
    bench.beside(|beside| {
        let worker = threads();
        let mut worker = worker.difference(&before);
        pin(*worker.next().unwrap(), 0, true);
        assert_eq!(worker.next(), None);
        for round in 0..12 {
            let is_checked = round % 2 == 1;
            let services = if is_checked { many.clone() } else { vec![] };
            checks.configure(services, Arc::new(HealthTemplates::new()));
            std::thread::sleep(Duration::from_secs(2));
            let passed = checks.counts().passed;
            for _ in 0..100 {
                let gap = beside.longest_gap(|_, _| std::thread::sleep(WINDOW));
                gaps[usize::from(is_checked)].push(gap);
            }
            made += checks.counts().passed - passed;
            while checks.next_change().is_some() {}
        }
    });
    let [without, with] = gaps.map(|mut gaps| {
        gaps.sort_unstable_by(f64::total_cmp);
        [50, 90, 99].map(|percent| gaps[gaps.len() * percent / 100] / 1e3)
    });
    println!(
        "longest time between two polls within {WINDOW:?}, of half, 90 % and 99 % of the times at most, in µs: \
         {without:.1?} without checks, {with:.1?} beside {:.0} checks a second",
        made as f64 / 12.0
    );
    assert!(made > 12 * 5000, "{made} checks within 12 s");
    assert!(with[0] < without[0] * 2.0 + 50.0);
}

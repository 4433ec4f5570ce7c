//! The wrappers on real DPDK: ordinary memory, virtual devices, no root needed.
//!
//! The EAL starts once in a process, so each test runs itself again as a process of its own.

#[path = "../skip/mod.rs"]
mod skip;
mod starting;
mod vlan;

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir::config::{Hugepages, Queues};
use weir::io::dpdk::{
    Clock, Device, DeviceConfig, Eal, EalConfig, Error, Flushed, MbufPool, TxBuffer,
    choose_hugepages, usable_cpus,
};
use weir::io::pci::Dma;
use weir::net::Mac;
use weir::packet::{BURST, Burst, Packet, Sent};
use weir::steering::{DEFAULT_KEY, Steering};
use weir::units::{DeviceId, PortId, WorkerId};

const ALONE: &str = "WEIR_TEST_ALONE";

/// Runs `body` in a fresh process: this test binary, with this one test.
fn alone(test: &str, body: impl FnOnce()) {
    run(Command::new(std::env::current_exe().unwrap()), test, body);
}

/// As [`alone`], in a network namespace that ends with the process. Only root makes those: others skip the test.
fn alone_in_namespace(test: &str, body: impl FnOnce()) {
    let unshare = |what: &Path| {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(what);
        command
    };
    if !unshare(Path::new("true"))
        .status()
        .is_ok_and(|status| status.success())
    {
        return skip::skip("network namespaces take root");
    }
    run(unshare(&std::env::current_exe().unwrap()), test, body);
}

fn run(mut command: Command, test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let output = command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(
        stdout.contains("1 passed"),
        "the test did not run in its process:\n{stdout}"
    );
    assert!(!stdout.contains("EAL:"), "DPDK writes on stdout:\n{stdout}");
}

/// Both the control thread and the worker on the first CPU: works on any machine.
fn eal() -> Eal {
    let cpu = usable_cpus()[0];
    let eal = Eal::init(&EalConfig {
        workers: &[cpu],
        main_lcore: cpu,

        ..ORDINARY
    })
    .unwrap();
    assert!(!eal.hugepages());
    eal
}

const ORDINARY: EalConfig = EalConfig {
    workers: &[],
    main_lcore: 0,
    hugepages: false,
    memory_mb: 64,
    devices: &[],
    extra_args: &[],
    file_prefix: "weir-test",
};

#[test]
fn a_worker_that_panics_ends_the_process_before_anything_of_its_is_dropped() {
    struct Tables;
    impl Drop for Tables {
        fn drop(&mut self) {
            weir::log::say("the worker's tables are dropped");
            weir::log::flush();
        }
    }
    if std::env::var_os(ALONE).is_some() {
        let _log = weir::log::start().unwrap();
        let eal = eal();
        let _worker = eal.launch(WorkerId(0), || {
            let _tables = Tables;
            panic!("injected");
        });
        std::thread::sleep(Duration::from_secs(20));
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg("a_worker_that_panics_ends_the_process_before_anything_of_its_is_dropped")
        .env(ALONE, "1")
        // It would name this test.
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    assert!(text.contains("panic: injected"), "{text}");
    assert!(text.contains("a worker has panicked"), "{text}");
    assert!(!text.contains("dropped"), "{text}");
}

/// The word after `key` in the output of `ip link show`.
fn after(text: &str, key: &str) -> String {
    let mut words = text.split_whitespace().skip_while(|word| *word != key);
    words.nth(1).unwrap_or_default().to_owned()
}

fn port(id: u8, device: &str) -> DeviceConfig<'_> {
    DeviceConfig {
        dma: Dma::Kernel,
        id: DeviceId(id),
        port: PortId(id),
        name: "wan",
        vlans: &[],
        device,
        mac: None,
        mtu: 1500,
        queues: Queues::Auto,
        workers: 1,
        one_pool: true,
        interrupts: false,
        rss_key: &DEFAULT_KEY,
    }
}

/// Frames of every length from 60 bytes on, each with bytes of its own.
fn frames(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| {
            (0..60 + n % 1400)
                .map(|byte| (n * 31 + byte * 7) as u8)
                .collect()
        })
        .collect()
}

fn write_capture(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for (n, frame) in frames.iter().enumerate() {
        let time = Duration::from_millis(n as u64);
        writer
            .write_packet(&PcapPacket::new(time, frame.len() as u32, frame))
            .unwrap();
    }
}

fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    std::iter::from_fn(|| {
        reader
            .next_packet()
            .map(|packet| packet.unwrap().data.into_owned())
    })
    .collect()
}

#[test]
fn a_capture_passes_through_unchanged_and_every_mbuf_comes_back() {
    alone(
        "a_capture_passes_through_unchanged_and_every_mbuf_comes_back",
        || {
            let directory = tempfile::tempdir().unwrap();
            let (input, output) = (
                directory.path().join("in.pcap"),
                directory.path().join("out.pcap"),
            );
            let frames = frames(1000);
            write_capture(&input, &frames);

            let eal = eal();
            let pool = MbufPool::new(&eal, 4095, 1500, -1).unwrap();
            let device = format!(
                "net_pcap0,rx_pcap={},tx_pcap={}",
                input.display(),
                output.display()
            );
            let mut port = Device::attach(
                &eal,
                &DeviceConfig {
                    mac: Some(Mac([2, 0, 0, 0, 0, 9])),
                    ..port(7, &device)
                },
            )
            .unwrap();
            assert_eq!(
                (port.driver(), port.mac()),
                ("net_pcap", Mac([2, 0, 0, 0, 0, 9]))
            );
            let mut queues = port.start(&[pool]).unwrap();
            let (mut rx, mut tx) = (queues.rx.remove(0), queues.tx.remove(0));

            let (mut burst, mut buffer, mut flushed) =
                (Burst::new(), TxBuffer::default(), Flushed::default());
            while rx.burst(&mut burst) > 0 {
                for mbuf in burst.drain(..) {
                    assert_eq!(
                        mbuf.port(),
                        PortId(7),
                        "weir's number of the port, not DPDK's"
                    );
                    assert!(mbuf.is_contiguous() && mbuf.frame_len() == mbuf.data().len());
                    let kind = if mbuf.data().len() % 2 == 0 {
                        Sent::Forwarded
                    } else {
                        Sent::Answered
                    };
                    if buffer.push(mbuf, kind) {
                        flushed += buffer.flush(&mut tx);
                    }
                }
            }
            flushed += buffer.flush(&mut tx);

            assert_eq!((flushed.sent.forwarded, flushed.sent.answered), (500, 500));
            assert_eq!(flushed.refused, Default::default());
            let stats = port.stats().unwrap();
            assert_eq!(
                (stats.rx_packets, stats.tx_packets, stats.rx_no_mbuf),
                (1000, 1000, 0)
            );
            assert_eq!(pool.available(), pool.size(), "mbufs are lost");
            drop((port, rx, tx)); // closes the device, which completes the file
            assert!(
                read_capture(&output) == frames,
                "the frames changed on their way"
            );
        },
    );
}

#[test]
fn what_the_device_refuses_is_counted_and_freed() {
    alone("what_the_device_refuses_is_counted_and_freed", || {
        let eal = eal();
        let pool = MbufPool::new(&eal, 8191, 1500, -1).unwrap();
        // Its transmit ring is its receive ring, of a fixed length: full after a while.
        let mut port = Device::attach(&eal, &port(0, "net_ring0")).unwrap();
        let mut queues = port.start(&[pool]).unwrap();
        let (mut rx, mut tx) = (queues.rx.remove(0), queues.tx.remove(0));

        let (mut buffer, mut flushed, mut offered) = (TxBuffer::default(), Flushed::default(), 0);
        while flushed.refused.originated == 0 {
            let mut mbuf = pool
                .alloc(PortId(0))
                .expect("the ring is shorter than the pool");
            assert!(mbuf.resize(60));
            mbuf.data_mut().fill(offered as u8);
            offered += 1;
            if buffer.push(mbuf, Sent::Originated) {
                flushed += buffer.flush(&mut tx);
            }
        }
        assert_eq!(
            flushed.sent.originated + flushed.refused.originated,
            offered
        );
        assert_eq!(
            pool.available() as u64,
            pool.size() as u64 - flushed.sent.originated
        );

        let (mut burst, mut received) = (Burst::new(), 0u64);
        while rx.burst(&mut burst) > 0 {
            assert!(burst.len() <= BURST);
            for mbuf in burst.drain(..) {
                assert_eq!(mbuf.data(), [received as u8; 60], "in order");
                received += 1;
            }
        }
        assert_eq!(received, flushed.sent.originated);
        assert_eq!(pool.available(), pool.size(), "mbufs are lost");
    });
}

#[test]
fn frames_that_find_no_mbuf_are_counted_and_those_after_them_arrive() {
    alone(
        "frames_that_find_no_mbuf_are_counted_and_those_after_them_arrive",
        || {
            let directory = tempfile::tempdir().unwrap();
            let input = directory.path().join("in.pcap");
            let frames = frames(100);
            write_capture(&input, &frames);
            let eal = eal();
            let pool = MbufPool::new(&eal, 1023, 1500, -1).unwrap();
            let device = format!("net_pcap0,rx_pcap={}", input.display());
            let mut port = Device::attach(&eal, &port(0, &device)).unwrap();
            let mut rx = port.start(&[pool]).unwrap().rx.remove(0);

            let held: Vec<_> = std::iter::from_fn(|| pool.alloc(PortId(0))).collect();
            let mut burst = Burst::new();
            assert_eq!(rx.burst(&mut burst), 0);
            let lost = port.stats().unwrap().rx_no_mbuf;
            assert!(lost > 0, "it is not counted");
            drop(held);
            let mut received = Vec::new();
            while rx.burst(&mut burst) > 0 {
                received.extend(burst.drain(..).map(|mbuf| mbuf.data().to_vec()));
            }
            assert!(received == frames[lost as usize..], "the others arrive");
            assert_eq!(port.stats().unwrap().rx_no_mbuf, lost);
            drop((port, rx));
            assert_eq!(pool.available(), pool.size(), "mbufs are lost");
        },
    );
}

#[test]
fn a_worker_takes_its_queues_to_its_lcore_and_returns_what_it_found() {
    alone(
        "a_worker_takes_its_queues_to_its_lcore_and_returns_what_it_found",
        || {
            let eal = eal();
            let pool = MbufPool::new(&eal, 1023, 1500, -1).unwrap();
            let mut port = Device::attach(&eal, &port(0, "net_null0,size=64")).unwrap();
            let mut rx = port.start(&[pool]).unwrap().rx.remove(0);
            let (clock, before) = (Clock::new(&eal), Clock::new(&eal).now());
            let ready = Arc::new(AtomicBool::new(false));
            let announce = Arc::clone(&ready);
            let worker = eal.launch(WorkerId(0), move || {
                announce.store(true, Ordering::Release);
                let mut burst = Burst::new();
                (rx.burst(&mut burst), burst[0].data().len(), clock.now())
            });
            let (received, length, time) = worker.unwrap().join();
            assert!(ready.load(Ordering::Acquire));
            assert_eq!((received, length), (BURST, 64));
            assert!(before <= time && time <= clock.now());
            assert!(matches!(
                eal.launch(WorkerId(1), || ()),
                Err(Error::Lcore { .. })
            ));
            drop(port);
            assert_eq!(pool.available(), pool.size(), "mbufs are lost");
        },
    );
}

#[test]
fn an_mbuf_grows_to_its_room_at_either_end_and_no_further() {
    alone(
        "an_mbuf_grows_to_its_room_at_either_end_and_no_further",
        || {
            let eal = eal();
            let pool = MbufPool::new(&eal, 63, 9000, -1).unwrap();
            let mut mbuf = pool.alloc(PortId(3)).unwrap();
            assert_eq!((mbuf.port(), mbuf.data().len()), (PortId(3), 0));
            assert!(mbuf.resize(9018));
            mbuf.data_mut().fill(0xab);
            assert!(!mbuf.resize(20_000));
            assert_eq!((mbuf.data().len(), mbuf.frame_len()), (9018, 9018));
            assert!(mbuf.resize(42) && mbuf.data() == [0xab; 42]);

            mbuf.data_mut()[..2].copy_from_slice(&[1, 2]);
            assert!(!mbuf.trim_front(42) && mbuf.trim_front(1));
            assert_eq!(
                (mbuf.data()[0], mbuf.data().len(), mbuf.frame_len()),
                (2, 41, 41)
            );
            // What DPDK leaves before a frame, and the byte that was taken away.
            assert!(!mbuf.grow_front(130) && mbuf.grow_front(129));
            assert_eq!((mbuf.data().len(), mbuf.frame_len()), (170, 170));
            assert_eq!(mbuf.data()[128..131], [1, 2, 0xab]);
            assert!(!mbuf.grow_front(1) && mbuf.trim_front(128) && mbuf.data()[..2] == [1, 2]);

            let others: Vec<_> = std::iter::from_fn(|| pool.alloc(PortId(0))).collect();
            assert_eq!((others.len(), pool.available()), (62, 0));
            drop((mbuf, others));
            assert_eq!(pool.available(), 63);
        },
    );
}

#[test]
fn a_device_that_hashes_spreads_packets_as_it_is_told_and_others_say_why_not() {
    alone(
        "a_device_that_hashes_spreads_packets_as_it_is_told_and_others_say_why_not",
        || {
            let eal = eal();
            let pool = MbufPool::new(&eal, 8192, 1500, -1).unwrap();
            let start = |id, device, queues| {
                let config = DeviceConfig {
                    queues: Queues::Pairs(queues),
                    workers: queues,
                    ..port(id, device)
                };
                let mut port = Device::attach(&eal, &config).unwrap();
                let queues = port.start(&[pool]).unwrap();
                (port, queues)
            };
            let steering = Steering::new(DEFAULT_KEY, 3);
            let table: Vec<u16> = steering.table().iter().map(|w| w.0.into()).collect();
            let (hashes, _queues) = start(0, "net_null0", 3);
            assert_eq!(hashes.indirections(), 128);
            assert_eq!(hashes.spread(&DEFAULT_KEY, &table), Ok(()));
            assert_eq!(hashes.hash_key(), Some(DEFAULT_KEY));
            let mut other = DEFAULT_KEY;
            other[3] ^= 1;
            let error = hashes.spread(&other, &table).unwrap_err();
            assert!(error.contains("of its own"), "{error}");
            let (few, _queues) = start(1, "net_null1", 2);
            let error = few.spread(&DEFAULT_KEY, &table).unwrap_err();
            assert!(error.contains("fewer receive queues (2)"), "{error}");
            let (none, _queues) = start(2, "net_ring0", 2);
            let error = none.spread(&DEFAULT_KEY, &table).unwrap_err();
            assert!(error.contains("does not hash"), "{error}");
        },
    );
}

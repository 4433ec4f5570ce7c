//! VLAN tags, long frames and frames in several mbufs, by real drivers.

use super::{alone, alone_in_namespace, eal, port, read_capture, write_capture};
use std::process::Command;
use std::sync::Arc;
use weir::config::{self, Context};
use weir::director::family::V4;
use weir::director::parse::{Parsed, receive};
use weir::door::{Door, tag};
use weir::io::dpdk::{Device, DeviceConfig, Error, Mbuf, MbufPool, RxQueue, TxBuffer, TxQueue};
use weir::model::{self, Model};
use weir::net::{Mac, TagPriorities, Vlan};
use weir::packet::{Burst, Packet, Sent};
use weir::stats::Stats;
use weir::units::{PortId, Time};
use weir::verdict::DropReason;
use weir::wire::vlan::control;

const STACKED: Vlan = Vlan::Stacked {
    outer: 300,
    inner: 400,
};

/// A frame of so many bytes behind these tags: EtherType, priority, identifier.
fn frame(tags: &[(u16, u8, u16)], payload: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1];
    for &(kind, priority, id) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(control(priority, id).to_be_bytes());
    }
    frame.extend([0x88, 0xb5]);
    frame.extend((0..payload).map(|n| n as u8));
    frame
}

fn receive_all(rx: &mut RxQueue) -> Vec<Mbuf> {
    let (mut burst, mut all) = (Burst::new(), Vec::new());
    while rx.burst(&mut burst) > 0 {
        all.extend(burst.drain(..));
    }
    all
}

fn send(tx: &mut TxQueue, frame: Mbuf) {
    let mut buffer = TxBuffer::default();
    assert!(!buffer.push(frame, Sent::Forwarded));
    assert_eq!(buffer.flush(tx).sent.forwarded, 1);
}

#[test]
fn tags_come_off_mbufs_and_go_on_again() {
    alone("vlan::tags_come_off_mbufs_and_go_on_again", || {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let vlans = [Vlan::Untagged, Vlan::Tagged(100), STACKED];
        let frames = [
            frame(&[], 60),
            frame(&[(0x8100, 5, 100)], 9000),
            frame(&[(0x88a8, 3, 300), (0x8100, 6, 400)], 1),
            frame(&[(0x8100, 0, 101)], 60),
        ];
        write_capture(&path("in.pcap"), &frames);
        let eal = eal();
        let pool = MbufPool::new(&eal, 255, 9000, -1).unwrap();
        let device = format!(
            "net_pcap0,rx_pcap={},tx_pcap={}",
            path("in.pcap").display(),
            path("out.pcap").display()
        );
        let config = DeviceConfig {
            vlans: &vlans,
            mtu: 9000,
            ..port(0, &device)
        };
        let mut device = Device::attach(&eal, &config).unwrap();
        assert!(!device.inserts_tags() && device.tagging() == "by software");
        let mut queues = device.start(&[pool]).unwrap();
        let door = Door::new(&[
            (PortId(0), vlans[0]),
            (PortId(1), vlans[1]),
            (PortId(2), vlans[2]),
        ]);
        let door = door.unwrap();
        let mut entered = Vec::new();
        for mut mbuf in receive_all(&mut queues.rx[0]) {
            assert_eq!(
                (mbuf.stripped_tag(), mbuf.priorities()),
                (None, TagPriorities::default())
            );
            let whole = mbuf.data().to_vec();
            let found = door.enter(&mut mbuf, None);
            entered.push(found);
            let Ok(port) = found else { continue };
            assert_eq!(mbuf.data()[..14], frame(&[], 0));
            assert!(mbuf.is_contiguous() && mbuf.frame_len() == mbuf.data().len());
            assert!(tag(&mut mbuf, vlans[port.index()]));
            assert_eq!(mbuf.data(), whole);
            send(&mut queues.tx[0], mbuf);
        }
        let ports = [Ok(PortId(0)), Ok(PortId(1)), Ok(PortId(2))];
        assert_eq!(entered[..3], ports);
        assert_eq!(entered[3..], [Err(DropReason::OtherVlan)]);
        // Where the headroom is used up there is no room for a tag, and the frame is not sent.
        let mut mbuf = pool.alloc(PortId(1)).unwrap();
        assert!(mbuf.resize(60));
        while mbuf.grow_front(1) {}
        let mut buffer = TxBuffer::default();
        assert!(!buffer.push(mbuf, Sent::Answered));
        let lost = buffer.prepare(|mbuf| tag(mbuf, vlans[1]));
        assert_eq!(Sent::ALL.map(|kind| lost.of(kind)), [0, 1, 0]);
        assert!(buffer.is_empty());
        drop((device, queues));
        assert_eq!(read_capture(&path("out.pcap")), frames[..3]);
        assert_eq!(pool.available(), pool.size(), "mbufs are lost");
    });
}

/// `net_af_packet` takes tags off, and puts them on, as NICs do.
#[test]
fn a_driver_takes_tags_off_and_puts_them_on() {
    alone_in_namespace("vlan::a_driver_takes_tags_off_and_puts_them_on", || {
        let ip = |arguments: &str| {
            let status = Command::new("ip").args(arguments.split(' ')).status();
            assert!(status.unwrap().success(), "ip {arguments}");
        };
        ip("link add wa type veth peer name wb");
        // Nothing of the kernel's own on the wire.
        let sysctl = [
            "-q",
            "-w",
            "net.ipv6.conf.wa.disable_ipv6=1",
            "net.ipv6.conf.wb.disable_ipv6=1",
        ];
        let _ = Command::new("sysctl").args(sysctl).status();
        ip("link set wa up");
        ip("link set wb up");
        let eal = eal();
        let pool = MbufPool::new(&eal, 8191, 1500, -1).unwrap();
        let attach = |id, device: &str, vlans: &[Vlan]| {
            let config = DeviceConfig {
                vlans,
                ..port(id, device)
            };
            let mut device = Device::attach(&eal, &config).unwrap();
            let queues = device.start(&[pool]).unwrap();
            (device, queues)
        };
        let vlans = [Vlan::Tagged(100), Vlan::Untagged];
        let (nic, mut queues) = attach(0, "net_af_packet0,iface=wa", &vlans);
        assert_eq!((nic.inserts_tags(), nic.tagging()), (true, "by the device"));
        let (_wire, mut wire) = attach(1, "net_pcap0,rx_iface_in=wb,tx_iface=wb", &[]);

        let sent = frame(&[(0x8100, 5, 100)], 60);
        let mut mbuf = pool.alloc(PortId(1)).unwrap();
        assert!(mbuf.resize(sent.len()));
        mbuf.data_mut().copy_from_slice(&sent);
        send(&mut wire.tx[0], mbuf);
        let within = |what: &dyn Fn() -> Vec<Mbuf>| {
            let tries = std::iter::repeat_with(what).take(200);
            let found = tries.inspect(|found| {
                if found.is_empty() {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            });
            found
                .flatten()
                .next()
                .expect("the frame comes within two seconds")
        };
        let queues = std::cell::RefCell::new(&mut queues);
        let mut mbuf = within(&|| receive_all(&mut queues.borrow_mut().rx[0]));
        let stripped = mbuf.stripped_tag();
        assert_eq!(stripped, Some(control(5, 100)));
        assert_eq!(mbuf.data(), frame(&[], 60));
        let door = Door::new(&[(PortId(4), vlans[0]), (PortId(5), vlans[1])]).unwrap();
        assert_eq!(door.enter(&mut mbuf, stripped), Ok(PortId(4)));
        assert_eq!(
            (mbuf.data(), mbuf.priorities().outer),
            (&frame(&[], 60)[..], 5)
        );

        mbuf.insert_tag(control(mbuf.priorities().outer, 100));
        send(&mut queues.borrow_mut().tx[0], mbuf);
        let wire = std::cell::RefCell::new(&mut wire);
        let back = within(&|| receive_all(&mut wire.borrow_mut().rx[0]));
        assert_eq!(back.data(), sent);
    });
}

#[test]
fn what_a_driver_does_not_take_as_an_mtu_is_refused_with_its_limit() {
    alone_in_namespace(
        "vlan::what_a_driver_does_not_take_as_an_mtu_is_refused_with_its_limit",
        || {
            let eal = eal();
            let attach = |id, device: &str, mtu| {
                let config = DeviceConfig {
                    mtu,
                    vlans: &[STACKED],
                    ..port(id, device)
                };
                Device::attach(&eal, &config).map(|_| ())
            };
            match attach(0, "net_tap0,iface=wtest0", 9000) {
                Err(Error::Mtu { mtu: 9000, max, .. }) => {
                    assert!((1500..9000).contains(&max));
                    let most = attach(4, "net_tap1,iface=wtest1", max);
                    assert!(most.is_ok(), "{most:?}");
                }
                // Later lines of DPDK have a net_tap that takes it.
                other => assert!(other.is_ok(), "{other:?}"),
            }
            assert!(attach(1, "net_null1", 9000).is_ok());
            assert!(attach(2, "net_null2", MbufPool::MAX_MTU).is_ok());
            let error = attach(3, "net_null3", MbufPool::MAX_MTU + 1).unwrap_err();
            assert!(matches!(error, Error::Mtu { .. }), "{error}");
        },
    );
}

/// An IPv4 packet of a UDP datagram, with a trailer.
fn packet(length: usize, trailer: usize) -> Vec<u8> {
    let mut frame = frame(&[], 0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let mut header = [
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 203, 0, 113, 7, 192, 0, 2, 80,
    ];
    header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    let words = header
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    let udp = (length - 20) as u16;
    frame.extend([4, 0, 0, 53]);
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(14 + length + trailer, 7);
    frame
}

/// A frame that is longer than an mbuf comes in several. It is refused where the packet goes on beyond the first, and
/// otherwise leaves as it came.
#[test]
fn a_frame_in_several_mbufs_is_never_mangled() {
    alone("vlan::a_frame_in_several_mbufs_is_never_mangled", || {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let frames = [packet(4000, 0), packet(100, 4000), packet(1500, 0)];
        write_capture(&path("in.pcap"), &frames);
        let text =
            "[[port]]\nname = \"wan\"\ndevice = \"net_null0\"\naddresses = [\"198.51.100.1/24\"]\n";
        let context = Context {
            cpus: None,
            devices: true,
        };
        let config = config::parse(text, "test", &context).unwrap().config;
        let device = model::Device {
            mac: Mac([2, 0, 0, 0, 0, 9]),
            any_mac: false,
        };
        let stats = Arc::new(Stats::new(1).unwrap());
        let (model, _readers) = Model::new(&config, vec![device], stats, 1, Time::default());
        let wan = model.tables().port(PortId(0));

        let eal = eal();
        let pool = MbufPool::new(&eal, 255, 1500, -1).unwrap();
        let device = format!(
            "net_pcap0,rx_pcap={},tx_pcap={}",
            path("in.pcap").display(),
            path("out.pcap").display()
        );
        let mut device = Device::attach(&eal, &port(0, &device)).unwrap();
        let mut queues = device.start(&[pool]).unwrap();
        let mut all = receive_all(&mut queues.rx[0]);
        assert_eq!(
            all.iter().map(Mbuf::frame_len).collect::<Vec<_>>(),
            [4014, 4114, 1514]
        );
        assert_eq!(
            all.iter().map(Mbuf::is_contiguous).collect::<Vec<_>>(),
            [false, false, true]
        );
        let parsed: Vec<_> = all
            .iter_mut()
            .map(|mbuf| receive::<V4, _>(mbuf, wan))
            .collect();
        assert_eq!(parsed[0], Parsed::Bad(DropReason::Truncated));
        for parsed in &parsed[1..] {
            assert!(matches!(parsed, Parsed::Flow(_)), "{parsed:?}");
        }
        assert!(
            !all[1].resize(60) && !all[1].resize(5000),
            "its length stays"
        );
        for mbuf in all.drain(1..) {
            send(&mut queues.tx[0], mbuf);
        }
        drop((all, device, queues));
        assert_eq!(read_capture(&path("out.pcap")), frames[1..]);
        assert_eq!(pool.available(), pool.size(), "mbufs are lost");
    });
}

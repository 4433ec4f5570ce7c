//! A flood of ARP packets costs the hosts that weir works with nothing.

use super::frames::{WEIR_LAN, WEIR_WAN, arp, arp_of, udp};
use super::{SECOND, T, parse};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use weir::net::{Mac, ethertype};
use weir::replay::{Decision, Replay};
use weir::resolver::neighbours::MAX_STRANGERS;
use weir::units::{PortId, Time};
use weir::verdict::Verdict;
use weir::wire::arp as wire;
use weir::wire::ethernet::Ethernet;

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const CLIENTS: u32 = 100;
const SERVERS: u32 = 100;

/// weir's address on a port, and the n-th host of its subnet.
fn on(port: PortId, n: u32) -> Ipv4Addr {
    let network = if port == WAN {
        0xc612_0000
    } else {
        0x0a00_0000
    };
    Ipv4Addr::from_bits(network + n)
}

fn client(n: u32) -> Ipv4Addr {
    on(WAN, 100 + n)
}

fn server(n: u32) -> Ipv4Addr {
    on(LAN, 100 + n)
}

fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    Mac([2, 9, a, b, c, d])
}

fn packet(
    port: PortId,
    operation: u16,
    sender: Ipv4Addr,
    sender_mac: Mac,
    target: Ipv4Addr,
) -> Vec<u8> {
    let to = if port == WAN { WEIR_WAN } else { WEIR_LAN };
    let (sender_ip, target_ip, target_mac) = (sender, target, Mac::default());
    let repr = wire::Repr {
        operation,
        sender_mac,
        sender_ip,
        target_mac,
        target_ip,
    };
    arp(to, repr)
}

/// weir, and the hosts around it, which answer its questions.
struct Link {
    replay: Replay,
    now: u64,
    /// The IPv4 frames that weir sent, by the MAC address that they went to.
    got: HashMap<Mac, u32>,
}

impl Link {
    fn receive(&mut self, port: PortId, frame: &[u8]) -> Decision {
        let decision = self.replay.receive(port, frame, Time::from_nanos(self.now));
        loop {
            let frames: Vec<_> = self.replay.take_frames().collect();
            let mut answers = Vec::new();
            for frame in &frames {
                let bytes = frame.bytes();
                let ethernet = Ethernet::new_checked(bytes).unwrap();
                if ethernet.ethertype() == ethertype::IPV4 {
                    *self.got.entry(ethernet.destination()).or_default() += 1;
                }
                let Some(question) = arp_of(bytes) else {
                    continue;
                };
                let is_host =
                    (0..100).any(|n| [client(n), server(n)].contains(&question.target_ip));
                if question.operation == wire::REQUEST && is_host {
                    let (host, weir) = (question.target_ip, question.sender_ip);
                    answers.push((
                        frame.port,
                        packet(frame.port, wire::REPLY, host, mac(host), weir),
                    ));
                }
            }
            if answers.is_empty() {
                return decision;
            }
            for (port, answer) in answers {
                self.replay
                    .receive(port, &answer, Time::from_nanos(self.now));
            }
        }
    }
}

#[test]
fn sixty_thousand_made_up_hosts_leave_clients_and_servers_alone() {
    let reals: String = (0..SERVERS)
        .map(|n| format!("[[service.real]]\naddress = \"{}\"\n", server(n)))
        .collect();
    let text = format!(
        r#"
[[port]]
name = "wan"
device = "none"
addresses = ["198.18.0.1/15"]
[[port]]
name = "lan"
device = "none"
addresses = ["10.0.0.1/15"]
[[service]]
address = "{VIP}"
port = 53
protocol = "udp"
mode = "nat"
scheduler = "rr"
{reals}"#
    );
    let config = parse(&text);
    let mut link = Link {
        replay: Replay::new(&config, 1, 200_000, Time::from_nanos(T)).unwrap(),
        now: T,
        got: HashMap::new(),
    };
    let mut exchanges = 0;
    for n in 0..60_000 {
        // 5,000 a second, on both links.
        link.now += SECOND / 5000;
        let port = if n % 2 == 0 { WAN } else { LAN };
        let (stranger, forged) = (
            on(port, 0x1000 + n),
            Mac([2, 8, 0, 0, (n >> 8) as u8, n as u8]),
        );
        link.receive(
            port,
            &packet(port, wire::REQUEST, stranger, forged, on(port, 1)),
        );
        // And each of them claims some host's address.
        let victim = if port == WAN {
            client(n / 2 % CLIENTS)
        } else {
            server(n / 2 % SERVERS)
        };
        link.receive(port, &packet(port, wire::REQUEST, victim, forged, victim));
        if n % 60 != 0 {
            continue;
        }
        let n = n / 60 % CLIENTS;
        let question = link.receive(WAN, &udp((client(n), 1000), (VIP, 53), b"who?"));
        let real = server(CLIENTS - 1 - n);
        let answer = link.receive(LAN, &udp((real, 53), (client(n), 1000), b"me"));
        let is_first = exchanges < CLIENTS;
        for decision in [question, answer] {
            let is_right = match decision.verdict {
                Verdict::Forward(_) => true,
                // A host that weir does not know yet is asked for; what waits goes with its answer.
                Verdict::Queue(_) => is_first,
                _ => false,
            };
            assert!(is_right, "exchange {exchanges}: {decision:?}");
        }
        exchanges += 1;
    }
    assert_eq!(exchanges, 1000);
    for n in 0..100 {
        let got = [client(n), server(n)].map(|host| link.got.get(&mac(host)).copied());
        assert_eq!(
            got,
            [Some(10), Some(10)],
            "{n}: each packet at its own host"
        );
    }
    let known = link.replay.model().resolver.neighbours();
    let known = known.iter().count();
    assert!(known <= 2 * MAX_STRANGERS + 200, "{known} neighbours");
}

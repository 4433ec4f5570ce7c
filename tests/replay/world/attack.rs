//! Attackers: each sends packets of one kind at a steady rate, from addresses that are not its own.

use super::packet::{ACK, Address, FIN, LAN, Packet, RST, SYN, WAN};
use super::setup::CLOSED;
use super::{Actions, MILLISECOND, Random, SECOND};
use std::net::Ipv4Addr;
use weir::units::PortId;

#[derive(Clone, Debug)]
pub enum Kind {
    /// SYNs of made-up senders.
    Syn,
    /// SYNs of made-up senders, each followed by an ACK with a number that is guessed, so much later (nanoseconds).
    BlindAck { after: u64 },
    /// Datagrams of made-up senders.
    Udp,
    /// To the ports of a client, in turn: a reset (or a FIN) and a SYN, with numbers that are guessed.
    Sweep {
        client: Ipv4Addr,
        ports: std::ops::Range<u16>,
        first: Ends,
    },
    /// Echo requests of made-up senders.
    Echo,
    /// ARP requests for an address of the LAN port, of strangers on its link.
    Arp,
    /// SYNs of made-up senders to a port of the VIP that has no service.
    Closed,
}

/// What a sweep's first packet of each port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    Rst,
    Fin,
}

#[derive(Clone, Debug)]
pub struct Attack {
    pub kind: Kind,
    pub to: Address,
    /// Attempts a second: a SYN with all that follows it counts once.
    pub rate: u64,
    pub from: u64,
    pub until: u64,
    sent: u64,
}

impl Attack {
    pub fn new(kind: Kind, to: Address, rate: u64, from: u64, until: u64) -> Self {
        Attack {
            kind,
            to,
            rate,
            from,
            until,
            sent: 0,
        }
    }

    /// When the next attempt is due.
    pub fn due(&self) -> Option<u64> {
        let turn = SECOND / self.rate;
        // Not in step with whatever else happens at even intervals.
        let jitter = u64::from(Random(self.sent + 1).word()) % turn.max(1);
        Some(self.from + self.sent * SECOND / self.rate + jitter).filter(|due| *due < self.until)
    }

    /// The port of weir where its packets come in.
    pub fn port(&self) -> PortId {
        match self.kind {
            Kind::Arp => LAN,
            _ => WAN,
        }
    }

    pub fn attempt(&mut self, now: u64, random: &mut Random, actions: &mut Actions) {
        let n = self.sent;
        self.sent += 1;
        match &self.kind {
            Kind::Syn => {
                let from = random.sender();
                actions.send(Packet::tcp(from, self.to, SYN, random.word(), 0));
            }
            Kind::BlindAck { after } => {
                let (from, sequence) = (random.sender(), random.word());
                actions.send(Packet::tcp(from, self.to, SYN, sequence, 0));
                let next = sequence.wrapping_add(1);
                let ack = Packet::tcp(from, self.to, ACK, next, random.word());
                actions.send_at(now + after.max(&MILLISECOND), ack);
            }
            Kind::Udp => {
                let (from, word) = (random.sender(), random.word());
                actions.send(Packet::udp(from, self.to, word.into()));
            }
            Kind::Sweep {
                client,
                ports,
                first,
            } => {
                let ends = match first {
                    Ends::Rst => RST,
                    Ends::Fin => FIN | ACK,
                };
                let port = ports.start + (n % ports.len() as u64) as u16;
                for flags in [ends, SYN] {
                    let from = (*client, port);
                    let (sequence, ack) = (random.word(), random.word());
                    actions.send(Packet::tcp(from, self.to, flags, sequence, ack));
                }
            }
            Kind::Echo => actions.send(Packet::echo(random.sender(), self.to.0)),
            Kind::Arp => {
                // Of the port's own subnet, 10.0.0.0/16.
                let sender = Ipv4Addr::from_bits(0x0a00_8000 | random.word() & 0x7fff);
                actions.send(Packet::arp_request(sender, self.to.0));
            }
            Kind::Closed => {
                let to = (self.to.0, CLOSED);
                actions.send(Packet::tcp(random.sender(), to, SYN, random.word(), 0));
            }
        }
    }
}

impl Random {
    /// An address that no host has.
    fn sender(&mut self) -> Address {
        let word = self.word();
        // 16.0.0.0/4 has none of the addresses that clients and real servers use here.
        let address = Ipv4Addr::from_bits(0x1000_0000 | word & 0x0fff_ffff);
        (address, 1024 | (self.word() >> 16) as u16)
    }
}

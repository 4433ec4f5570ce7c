//! Frames to receive, and capture files to receive them from, made byte by byte.

use std::net::Ipv4Addr;
use weir::net::{Mac, ethertype, protocol};
use weir::wire::crc32c::crc32c;
use weir::wire::ethernet::Ethernet;
use weir::wire::tcp::Flags;
use weir::wire::{arp, ethernet, ipv4, tcp, udp};

pub const WEIR_WAN: Mac = Mac([0x02, b'w', b'e', b'i', b'r', 1]);
pub const WEIR_LAN: Mac = Mac([0x02, b'w', b'e', b'i', b'r', 2]);
pub const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xc1]);
pub const REAL_MAC: Mac = Mac([2, 0, 0, 0, 1, 0x11]);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
pub const REAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
pub const LAN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const SYN: u8 = 2;
pub const ACK: u8 = 16;

/// An address and a port.
pub type End = (Ipv4Addr, u16);

/// A frame between two ends; `write` writes the header of the upper layer, which is so long, in front of the payload.
fn ipv4(
    (source, destination): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    header: usize,
    payload: &[u8],
    write: impl FnOnce(&mut [u8], u64) -> Option<()>,
) -> Vec<u8> {
    let (to, from) = if source == REAL {
        (WEIR_LAN, REAL_MAC)
    } else {
        (WEIR_WAN, CLIENT_MAC)
    };
    let ip = ipv4::Repr {
        identification: 7,
        dont_fragment: true,
        ..ipv4::Repr::new(source, destination, protocol)
    };
    let l4_at = ethernet::HEADER_LEN + ipv4::HEADER_LEN;
    let mut frame = [&vec![0; l4_at + header][..], payload].concat();
    ethernet::emit(&mut frame, to, from, ethertype::IPV4).unwrap();
    ip.emit(&mut frame[ethernet::HEADER_LEN..]).unwrap();
    let l4 = &mut frame[l4_at..];
    let pseudo = ip.pseudo_header(l4.len() as u16);
    write(l4, pseudo).unwrap();
    frame
}

pub fn segment(from: End, to: End, flags: u8) -> Vec<u8> {
    numbered(from, to, flags, 1, 0)
}

/// A segment with these numbers.
pub fn numbered(from: End, to: End, flags: u8, sequence: u32, acknowledged: u32) -> Vec<u8> {
    numbered_data(from, to, flags, (sequence, acknowledged), &[])
}

/// A segment with data.
pub fn data(from: End, to: End) -> Vec<u8> {
    numbered_data(from, to, ACK, (1, 0), b"data")
}

/// A segment with these numbers and data.
pub fn numbered_data(
    from: End,
    to: End,
    flags: u8,
    (sequence, acknowledged): (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let segment = tcp::Repr {
        source_port: from.1,
        destination_port: to.1,
        sequence,
        acknowledged,
        flags: Flags(flags),
        window: 0x2000,
    };
    let (addresses, header) = ((from.0, to.0), tcp::HEADER_LEN);
    ipv4(addresses, protocol::TCP, header, payload, |l4, pseudo| {
        segment.emit(l4, pseudo)
    })
}

/// A segment of the client to port 80 of the VIP.
pub fn tcp(client_port: u16, flags: u8) -> Vec<u8> {
    segment((CLIENT, client_port), (VIP, 80), flags)
}

pub fn udp(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    let datagram = udp::Repr {
        source_port: from.1,
        destination_port: to.1,
    };
    let (addresses, header) = ((from.0, to.0), udp::HEADER_LEN);
    ipv4(addresses, protocol::UDP, header, payload, |l4, pseudo| {
        datagram.emit(l4, pseudo)
    })
}

/// From where to where a frame is, and its protocol. None of what is no whole TCP or UDP packet.
pub fn ends(frame: &[u8]) -> Option<(End, End, u8)> {
    let ip = ipv4::in_frame(frame)?;
    let (from, to) = ip.ports()?;
    let (source, destination) = (ip.source(), ip.destination());
    Some(((source, from), (destination, to), ip.protocol()))
}

/// A question of the client to port 53 of the VIP.
pub fn query(client_port: u16) -> Vec<u8> {
    udp((CLIENT, client_port), (VIP, 53), b"who?")
}

pub fn arp(to: Mac, repr: arp::Repr) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN + arp::LEN];
    ethernet::emit(&mut frame, to, repr.sender_mac, ethertype::ARP).unwrap();
    repr.emit(&mut frame[ethernet::HEADER_LEN..]).unwrap();
    frame
}

/// The packet of an ARP frame.
pub fn arp_of(frame: &[u8]) -> Option<arp::Repr> {
    let frame = Ethernet::new_checked(frame).ok()?;
    let is_arp = frame.ethertype() == ethertype::ARP;
    is_arp.then(|| arp::Repr::parse(frame.payload()).ok())?
}

/// The real server answers weir's ARP request.
pub fn arp_answer() -> Vec<u8> {
    let (operation, sender_mac, target_mac) = (arp::REPLY, REAL_MAC, WEIR_LAN);
    arp(
        WEIR_LAN,
        arp::Repr {
            operation,
            sender_mac,
            sender_ip: REAL,
            target_mac,
            target_ip: LAN,
        },
    )
}

/// The client asks for its gateway.
pub fn arp_question() -> Vec<u8> {
    let (sender_mac, target_ip) = (CLIENT_MAC, Ipv4Addr::new(198, 51, 100, 1));
    let (operation, target_mac) = (arp::REQUEST, Mac::default());
    arp(
        Mac::BROADCAST,
        arp::Repr {
            operation,
            sender_mac,
            sender_ip: CLIENT,
            target_mac,
            target_ip,
        },
    )
}

/// What weir asks when it looks for the real server.
pub fn is_arp_request_for_real(frame: &[u8]) -> bool {
    let to_all = frame.starts_with(&Mac::BROADCAST.0);
    to_all && arp_of(frame).is_some_and(|question| question.target_ip == REAL)
}

/// Frames with their times in nanoseconds.
pub type Timed = Vec<(u64, Vec<u8>)>;

/// A classic pcap. `unit`: nanoseconds in a unit of its timestamps.
pub fn pcap(frames: &Timed, big_endian: bool, unit: u64, linktype: u32) -> Vec<u8> {
    let word = |word: u32| {
        if big_endian {
            word.to_be_bytes()
        } else {
            word.to_le_bytes()
        }
    };
    let half = |half: u16| {
        if big_endian {
            half.to_be_bytes()
        } else {
            half.to_le_bytes()
        }
    };
    let magic = if unit == 1 { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut file = word(magic).to_vec();
    file.extend([half(2), half(4)].concat());
    file.extend([word(0), word(0), word(65_535), word(linktype)].concat());
    for (time, frame) in frames {
        file.extend(word((time / 1_000_000_000) as u32));
        file.extend(word((time % 1_000_000_000 / unit) as u32));
        file.extend(word(frame.len() as u32).repeat(2));
        file.extend(frame);
    }
    file
}

/// A pcapng section, block by block.
pub struct PcapNg {
    pub bytes: Vec<u8>,
    big_endian: bool,
}

impl PcapNg {
    pub fn new(big_endian: bool) -> Self {
        let mut section = PcapNg {
            bytes: Vec::new(),
            big_endian,
        };
        let version = [section.half(1), section.half(0)].concat();
        let body = [&section.word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat();
        section.block(0x0a0d_0d0a, &body);
        section
    }

    fn word(&self, word: u32) -> [u8; 4] {
        if self.big_endian {
            word.to_be_bytes()
        } else {
            word.to_le_bytes()
        }
    }

    fn half(&self, half: u16) -> [u8; 2] {
        if self.big_endian {
            half.to_be_bytes()
        } else {
            half.to_le_bytes()
        }
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) {
        let length = self.word(12 + body.len().next_multiple_of(4) as u32);
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        self.bytes
            .extend([&self.word(kind), &length, body, &padding, &length].concat());
    }

    /// `resolution`, `offset`: of its timestamps, where they are not microseconds since 1970.
    pub fn interface(
        &mut self,
        linktype: u16,
        snap_length: u32,
        resolution: Option<u8>,
        offset: i64,
    ) {
        let mut body = [&self.half(linktype)[..], &[0, 0], &self.word(snap_length)].concat();
        if let Some(resolution) = resolution {
            body.extend([self.half(9), self.half(1)].concat());
            body.extend([resolution, 0, 0, 0]);
        }
        let offset = if self.big_endian {
            offset.to_be_bytes()
        } else {
            offset.to_le_bytes()
        };
        body.extend([self.half(14), self.half(8)].concat());
        body.extend(offset);
        body.extend([0; 4]);
        self.block(1, &body);
    }

    pub fn packet(&mut self, interface: u32, time: u64, frame: &[u8]) {
        let length = self.word(frame.len() as u32);
        let time = [self.word((time >> 32) as u32), self.word(time as u32)].concat();
        let body = [&self.word(interface), &time[..], &length, &length, frame].concat();
        self.block(6, &body);
    }

    pub fn simple_packet(&mut self, length: u32, captured: &[u8]) {
        let body = [&self.word(length), captured].concat();
        self.block(3, &body);
    }
}

/// An SCTP packet with this verification tag and one chunk: its type and flags, and what is in it.
pub fn sctp(from: End, to: End, tag: u32, (kind, flags): (u8, u8), value: &[u8]) -> Vec<u8> {
    let mut packet = [from.1, to.1].map(u16::to_be_bytes).concat();
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([kind, flags]);
    packet.extend((4 + value.len() as u16).to_be_bytes());
    packet.extend(value);
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    ipv4((from.0, to.0), protocol::SCTP, 0, &packet, |_, _| Some(()))
}

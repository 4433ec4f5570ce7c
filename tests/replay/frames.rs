//! Frames to receive, and capture files to receive them from, made byte by byte.

use std::net::Ipv4Addr;
use weir::wire::checksum::{fold, partial, pseudo_header_v4};
use weir::wire::{Mac, arp};

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

fn ethernet(to: Mac, from: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &ethertype.to_be_bytes(), payload].concat()
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, mut l4: Vec<u8>) -> Vec<u8> {
    let checksum_at = if protocol == 6 { 16 } else { 6 };
    let sum = pseudo_header_v4(source, destination, protocol, l4.len() as u16) + partial(&l4);
    l4[checksum_at..checksum_at + 2].copy_from_slice(&(!fold(sum)).to_be_bytes());
    let length = (20 + l4.len()) as u16;
    let mut header = vec![0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, protocol, 0, 0];
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header.extend(source.octets());
    header.extend(destination.octets());
    let checksum = !fold(partial(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let (to, from) = if source == REAL {
        (WEIR_LAN, REAL_MAC)
    } else {
        (WEIR_WAN, CLIENT_MAC)
    };
    ethernet(to, from, 0x0800, &[header, l4].concat())
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

pub fn segment(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8) -> Vec<u8> {
    numbered(from, to, flags, 1, 0)
}

/// A segment with these numbers.
pub fn numbered(
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    flags: u8,
    sequence: u32,
    acknowledged: u32,
) -> Vec<u8> {
    let mut l4 = ports(from.1, to.1);
    l4.extend([sequence.to_be_bytes(), acknowledged.to_be_bytes()].concat());
    l4.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    ipv4(from.0, to.0, 6, l4)
}

/// A segment with data.
pub fn data(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut l4 = ports(from.1, to.1);
    l4.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, ACK, 0x20, 0, 0, 0, 0, 0]);
    l4.extend(b"data");
    ipv4(from.0, to.0, 6, l4)
}

/// A segment of the client to port 80 of the VIP.
pub fn tcp(client_port: u16, flags: u8) -> Vec<u8> {
    segment((CLIENT, client_port), (VIP, 80), flags)
}

pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut l4 = ports(from.1, to.1);
    l4.extend((8 + payload.len() as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(payload);
    ipv4(from.0, to.0, 17, l4)
}

/// A question of the client to port 53 of the VIP.
pub fn query(client_port: u16) -> Vec<u8> {
    udp((CLIENT, client_port), (VIP, 53), b"who?")
}

pub fn arp(to: Mac, repr: arp::Repr) -> Vec<u8> {
    let mut payload = [0; arp::LEN];
    repr.emit(&mut payload).unwrap();
    ethernet(to, repr.sender_mac, 0x0806, &payload)
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
    frame[..6] == Mac::BROADCAST.0 && frame[12..14] == [8, 6] && frame[38..42] == REAL.octets()
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

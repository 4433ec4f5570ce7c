//! Frames and captures, made and checked without weir's own code: the tests do not believe what they test.

pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

type Ip = [u8; 4];
type Mac = [u8; 6];

const CLIENT_MAC: Mac = [2, 0, 0, 0, 9, 7];
/// Of the port that receives.
const WAN_MAC: Mac = [2, 0, 0, 0, 0, 1];
const BROADCAST: Mac = [0xff; 6];

/// RFC 1071.
fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ethernet(destination: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination, &CLIENT_MAC, &kind.to_be_bytes()[..], payload].concat()
}

fn ipv4(source: Ip, destination: Ip, protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let mut header = vec![
        0x45, 0, length[0], length[1], 0, 1, 0x40, 0, ttl, protocol, 0, 0,
    ];
    header.extend(source);
    header.extend(destination);
    let sum = checksum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    ethernet(WAN_MAC, 0x0800, &[&header, payload].concat())
}

/// A TCP segment without data.
pub fn tcp(source: (Ip, u16), destination: (Ip, u16), flags: u8, ttl: u8) -> Vec<u8> {
    let mut segment = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    let sum = checksum(&[&pseudo(source.0, destination.0, &segment), &segment]).to_be_bytes();
    segment[16..18].copy_from_slice(&sum);
    ipv4(source.0, destination.0, 6, ttl, &segment)
}

fn pseudo(source: Ip, destination: Ip, segment: &[u8]) -> Vec<u8> {
    [
        &source,
        &destination,
        &[0, 6][..],
        &(segment.len() as u16).to_be_bytes(),
    ]
    .concat()
}

pub fn echo_request(source: Ip, destination: Ip) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 1, 0, 1, b'w', b'e', b'i', b'r'];
    let sum = checksum(&[&message]).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    ipv4(source, destination, 1, 64, &message)
}

pub fn arp_request(sender: Ip, target: Ip) -> Vec<u8> {
    let addresses = [&CLIENT_MAC[..], &sender, &[0; 6], &target].concat();
    ethernet(
        BROADCAST,
        0x0806,
        &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &addresses].concat(),
    )
}

/// A classic pcap file, in the byte order of network and with a microsecond between two frames.
pub fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_be_bytes()).collect() };
    let mut file = words(&[0xa1b2_c3d4, 0x0002_0004, 0, 0, 65_535, 1]);
    for (n, frame) in frames.iter().enumerate() {
        file.extend(words(&[
            1,
            n as u32,
            frame.len() as u32,
            frame.len() as u32,
        ]));
        file.extend(frame);
    }
    file
}

/// The frames of a classic pcap file of this machine's byte order.
pub fn frames(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut rest) = (Vec::new(), &file[24..]);
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

pub fn is_ipv4(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0]
}

pub fn is_tcp(frame: &[u8]) -> bool {
    is_ipv4(frame) && frame[23] == 6
}

/// What a frame with a TCP segment says.
#[derive(Debug)]
pub struct Tcp {
    pub destination_mac: Mac,
    pub source_mac: Mac,
    pub ttl: u8,
    pub source: (Ip, u16),
    pub destination: (Ip, u16),
    pub flags: u8,
}

impl Tcp {
    /// Both checksums have to be right.
    pub fn parse(frame: &[u8]) -> Tcp {
        assert!(is_tcp(frame), "{frame:02x?}");
        let header = &frame[14..34];
        let length = usize::from(u16::from_be_bytes(array(header, 2)));
        let segment = &frame[34..14 + length];
        let (source, destination) = (array(header, 12), array(header, 16));
        assert_eq!(checksum(&[header]), 0, "IPv4 checksum: {frame:02x?}");
        assert_eq!(
            checksum(&[&pseudo(source, destination, segment), segment]),
            0,
            "TCP checksum: {frame:02x?}"
        );
        Tcp {
            destination_mac: array(frame, 0),
            source_mac: array(frame, 6),
            ttl: header[8],
            source: (source, u16::from_be_bytes(array(segment, 0))),
            destination: (destination, u16::from_be_bytes(array(segment, 2))),
            flags: segment[13],
        }
    }
}

/// What an ARP packet says.
#[derive(Clone, Debug)]
pub struct Arp {
    pub destination_mac: Mac,
    pub operation: u16,
    pub sender_mac: Mac,
    pub sender: Ip,
    pub target: Ip,
}

impl Arp {
    pub fn parse(frame: &[u8]) -> Option<Arp> {
        (frame[12..14] == [8, 6]).then(|| Arp {
            destination_mac: array(frame, 0),
            operation: u16::from_be_bytes(array(frame, 20)),
            sender_mac: array(frame, 22),
            sender: array(frame, 28),
            target: array(frame, 38),
        })
    }
}

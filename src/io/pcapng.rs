//! Writes pcapng: an interface a port, and packets with comments.
//!
//! Format: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>. Little-endian, timestamps in nanoseconds.

use std::io::{self, Write};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const ETHERNET: u16 = 1;

/// Options of every block, of a section, of an interface, of a packet.
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const PACKET_ID: u16 = 5;

/// The longest value of an option, in bytes.
const LONGEST: usize = u16::MAX as usize;

/// Which way a frame goes, from the machine's point of view (bits 0 and 1 of epb_flags).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Inbound = 1,
    Outbound = 2,
}

/// A frame, and what is said of it.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// By the order of [`Writer::interface`].
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// As much of it as was kept, and how long it was.
    pub frame: &'a [u8],
    pub length: usize,
    pub direction: Direction,
    /// The same number for a packet wherever it is seen.
    pub id: u64,
    pub comment: &'a str,
}

/// Writes one section.
pub struct Writer<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins the section.
    ///
    /// # Errors
    /// Those of `out`, here and elsewhere.
    pub fn new(out: W, application: &str, comment: &str) -> io::Result<Self> {
        let mut writer = Writer { out, bytes: 0 };
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4du32.to_le_bytes());
        body.extend(1u16.to_le_bytes());
        body.extend(0u16.to_le_bytes());
        // Not known beforehand.
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, COMMENT, comment.as_bytes());
        option(&mut body, APPLICATION, application.as_bytes());
        writer.block(SECTION, body)?;
        Ok(writer)
    }

    /// Describes the next interface: before its first packet. `snaplen`: bytes of a frame that are kept.
    pub fn interface(&mut self, name: &str, snaplen: u32) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend(ETHERNET.to_le_bytes());
        body.extend(0u16.to_le_bytes());
        body.extend(snaplen.to_le_bytes());
        option(&mut body, NAME, name.as_bytes());
        // Negative powers of ten.
        option(&mut body, RESOLUTION, &[9]);
        self.block(INTERFACE, body)
    }

    pub fn packet(&mut self, captured: &Captured) -> io::Result<()> {
        let body = packet(captured);
        self.block(ENHANCED_PACKET, body)
    }

    /// How long the file would be with another packet, in bytes.
    pub fn bytes_with(&self, captured: &Captured) -> u64 {
        self.bytes + framed(packet(captured).len()) as u64
    }

    /// Written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// `body`: of whole words; options, if it has any, without their end.
    fn block(&mut self, kind: u32, mut body: Vec<u8>) -> io::Result<()> {
        // opt_endofopt
        body.extend([0; 4]);
        let length = framed(body.len() - 4) as u32;
        let [kind, length] = [kind, length].map(u32::to_le_bytes);
        self.out
            .write_all(&[&kind[..], &length, &body, &length].concat())?;
        self.bytes += u64::from(u32::from_le_bytes(length));
        Ok(())
    }
}

/// The length of a block: its body and the end of the options, its kind, and twice its length.
fn framed(body: usize) -> usize {
    body + 16
}

fn packet(captured: &Captured) -> Vec<u8> {
    let Captured {
        interface,
        time,
        frame,
        length,
        direction,
        id,
        comment,
    } = *captured;
    let mut body = Vec::with_capacity(frame.len() + comment.len() + 64);
    let numbers = [
        interface,
        (time >> 32) as u32,
        time as u32,
        frame.len() as u32,
        length as u32,
    ];
    numbers
        .iter()
        .for_each(|number| body.extend(number.to_le_bytes()));
    body.extend(frame);
    pad(&mut body);
    option(&mut body, COMMENT, comment.as_bytes());
    option(&mut body, FLAGS, &(direction as u32).to_le_bytes());
    option(&mut body, PACKET_ID, &id.to_le_bytes());
    body
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    // Text is cut between two letters.
    let mut length = value.len().min(LONGEST);
    while length < value.len() && length > 0 && value[length] & 0xc0 == 0x80 {
        length -= 1;
    }
    body.extend(code.to_le_bytes());
    body.extend((length as u16).to_le_bytes());
    body.extend(&value[..length]);
    pad(body);
}

/// To a whole word of 32 bits.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::pcap::Capture;
    use pcap_parser::{Block, PcapNGOption, parse_block_le};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// The blocks of a file.
    fn blocks(file: &[u8]) -> Vec<Block<'_>> {
        let (mut blocks, mut rest) = (Vec::new(), file);
        while !rest.is_empty() {
            let (after, block) = parse_block_le(rest).unwrap();
            blocks.push(block);
            rest = after;
        }
        blocks
    }

    fn text(options: &[PcapNGOption], code: u16) -> Option<String> {
        let found = options.iter().find(|option| option.code.0 == code)?;
        let value = &found.value[..usize::from(found.len)];
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            packets in vec((0..2u32, 0..4_000_000_000_000_000_000u64, vec(any::<u8>(), 0..70), 0..9000usize, ".{0,40}"), 0..8),
        ) {
            let mut file = Vec::new();
            let mut writer = Writer::new(&mut file, "weir", "tcp port 80").unwrap();
            writer.interface("wan", 64).unwrap();
            writer.interface("länge", 64).unwrap();
            for (n, (interface, time, frame, more, comment)) in packets.iter().enumerate() {
                let captured = Captured {
                    interface: *interface,
                    time: *time,
                    frame,
                    length: frame.len() + more,
                    direction: if n % 2 == 0 { Direction::Inbound } else { Direction::Outbound },
                    id: n as u64,
                    comment,
                };
                let expected = writer.bytes_with(&captured);
                writer.packet(&captured).unwrap();
                prop_assert_eq!(writer.bytes(), expected);
            }
            prop_assert_eq!(writer.bytes(), file.len() as u64);
            let blocks = blocks(&file);
            prop_assert_eq!(blocks.len(), 3 + packets.len());
            let names = [(1, "wan"), (2, "länge")];
            for (n, name) in names {
                let Block::InterfaceDescription(block) = &blocks[n] else { panic!("{n}") };
                prop_assert_eq!(text(&block.options, NAME).unwrap(), name);
                prop_assert_eq!(block.if_tsresol, 9);
            }
            for (n, (interface, time, frame, more, comment)) in packets.iter().enumerate() {
                let Block::EnhancedPacket(block) = &blocks[3 + n] else { panic!("{n}") };
                prop_assert_eq!(block.if_id, *interface);
                prop_assert_eq!(u64::from(block.ts_high) << 32 | u64::from(block.ts_low), *time);
                prop_assert_eq!(block.caplen as usize, frame.len());
                prop_assert_eq!(block.origlen as usize, frame.len() + more);
                prop_assert_eq!(&block.data[..frame.len()], &frame[..]);
                prop_assert_eq!(&text(&block.options, COMMENT).unwrap(), comment);
            }
            // As `weir replay` reads it.
            let capture = Capture::parse(file).unwrap();
            let read: Vec<_> = capture.frames().map(|(time, frame)| (time.nanos(), frame.to_vec())).collect();
            let expected: Vec<_> = packets.iter().map(|it| (it.1, it.2.clone())).collect();
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn a_long_comment_is_cut_between_letters() {
        let comment = "ü".repeat(40_000);
        let mut body = Vec::new();
        option(&mut body, COMMENT, comment.as_bytes());
        assert_eq!(u16::from_le_bytes([body[2], body[3]]), 65_534);
        assert_eq!(body.len() % 4, 0);
        assert!(std::str::from_utf8(&body[4..4 + 65_534]).is_ok());
    }
}

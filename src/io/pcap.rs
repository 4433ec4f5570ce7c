//! Capture files: reads classic pcap and pcapng, writes classic pcap.
//!
//! A capture is read as a whole, so that whatever is wrong with it is said before the first packet is processed.
//! Formats: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html> and
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>.

use crate::units::Time;
use pcap_parser::{
    Block, InterfaceDescriptionBlock, LegacyPcapBlock, Linktype, PcapError, PcapHeader, nom,
};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What timestamps are counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    #[default]
    Micro,
    /// Anything finer is rounded down to this.
    Nano,
}

/// A capture file, read and checked.
#[derive(Debug, Default)]
pub struct Capture {
    bytes: Vec<u8>,
    frames: Vec<Place>,
    resolution: Resolution,
}

/// Where a frame is, and when it was captured.
#[derive(Clone, Copy, Debug)]
struct Place {
    time: Time,
    start: usize,
    length: usize,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct CaptureError {
    pub file: PathBuf,
    pub problem: Problem,
}

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("is neither a pcap nor a pcapng file")]
    NotACapture,
    #[error("is compressed: unpack it first (gunzip, zstd -d, xz -d)")]
    Compressed,
    #[error("has link type {}, not Ethernet: capture on one Ethernet interface (tcpdump -i eth0), not on `any`", linktype(*.0))]
    NotEthernet(Linktype),
    #[error(
        "is cut short at byte {at}, in the record after packet {packets}: `tcpdump -r FILE -w NEW` keeps what is whole"
    )]
    CutShort { at: usize, packets: usize },
    #[error("is damaged at byte {at}, in the record after packet {packets}: capture it anew")]
    Damaged { at: usize, packets: usize },
    #[error(
        "has a timestamp before 1970 or after 2106 at byte {at}, packet {packets}: shift it with `editcap -t`"
    )]
    TimeOutOfRange { at: usize, packets: usize },
    #[error("has obsolete Packet Blocks: convert it with `editcap FILE NEW`")]
    ObsoleteBlock,
}

fn linktype(linktype: Linktype) -> String {
    // The crate knows few names; the number is what the registry is searched by.
    format!("{} ({linktype})", linktype.0)
}

impl Capture {
    /// Reads a file of either format.
    pub fn open(file: &Path) -> Result<Self, CaptureError> {
        let read = || Self::parse(std::fs::read(file)?);
        read().map_err(|problem| CaptureError {
            file: file.to_owned(),
            problem,
        })
    }

    /// Takes the bytes of a file of either format.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Problem> {
        let mut capture = Capture {
            bytes,
            ..Capture::default()
        };
        match capture.bytes.first_chunk::<4>() {
            Some(
                [0xd4, 0xc3, 0xb2, 0xa1]
                | [0x4d, 0x3c, 0xb2, 0xa1]
                | [0xa1, 0xb2, 0xc3, 0xd4]
                | [0xa1, 0xb2, 0x3c, 0x4d],
            ) => {
                capture.read_pcap()?;
            }
            Some([0x0a, 0x0d, 0x0d, 0x0a]) => capture.read_pcapng()?,
            Some([0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0xfd, b'7', b'z', b'X']) => {
                return Err(Problem::Compressed);
            }
            _ => return Err(Problem::NotACapture),
        }
        Ok(capture)
    }

    /// The frames in the order of the file, as much of each as was captured.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = (Time, &[u8])> {
        self.frames.iter().map(|place| {
            (
                place.time,
                &self.bytes[place.start..place.start + place.length],
            )
        })
    }

    /// What the timestamps of its frames are counted in; where its interfaces differ, the finest.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    fn read_pcap(&mut self) -> Result<(), Problem> {
        let whole = self.bytes.len();
        let (mut rest, header) =
            pcap_parser::parse_pcap_header(&self.bytes).map_err(|error| stopped(&error, 0, 0))?;
        ethernet(link_layer(&header))?;
        let (resolution, unit) = match header.is_nanosecond_precision() {
            true => (Resolution::Nano, 1),
            false => (Resolution::Micro, 1000),
        };
        let next = if header.is_bigendian() {
            pcap_parser::parse_pcap_frame_be
        } else {
            pcap_parser::parse_pcap_frame
        };
        while !rest.is_empty() {
            let at = whole - rest.len();
            let packets = self.frames.len();
            let (after, record): (_, LegacyPcapBlock) =
                next(rest).map_err(|error| stopped(&error, at, packets))?;
            let nanos = u64::from(record.ts_sec) * 1_000_000_000 + u64::from(record.ts_usec) * unit;
            let start = whole - after.len() - record.data.len();
            self.frames.push(Place {
                time: Time::from_nanos(nanos),
                start,
                length: record.data.len(),
            });
            self.resolution = resolution;
            rest = after;
        }
        Ok(())
    }

    fn read_pcapng(&mut self) -> Result<(), Problem> {
        let whole = self.bytes.len();
        let mut rest = &self.bytes[..];
        let mut big_endian = false;
        let mut interfaces: Vec<Interface> = Vec::new();
        while !rest.is_empty() {
            let at = whole - rest.len();
            let packets = self.frames.len();
            let damaged = Problem::Damaged { at, packets };
            let next = if big_endian {
                pcap_parser::parse_block_be
            } else {
                pcap_parser::parse_block_le
            };
            let (after, block) = next(rest).map_err(|error| stopped(&error, at, packets))?;
            match block {
                Block::SectionHeader(section) => {
                    big_endian = section.big_endian();
                    interfaces.clear();
                }
                Block::InterfaceDescription(interface) => {
                    interfaces.push(Interface::new(&interface, big_endian))
                }
                Block::EnhancedPacket(packet) => {
                    let interface = interfaces.get(packet.if_id as usize).ok_or(damaged)?;
                    ethernet(interface.linktype)?;
                    let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                    let time = interface
                        .time(units)
                        .ok_or(Problem::TimeOutOfRange { at, packets })?;
                    // The block begins with its type, length, interface, timestamp and lengths.
                    self.frames.push(Place {
                        time,
                        start: at + 28,
                        length: packet.caplen as usize,
                    });
                    self.resolution = self.resolution.max(interface.resolution());
                }
                Block::SimplePacket(packet) => {
                    let interface = interfaces.first().ok_or(damaged)?;
                    ethernet(interface.linktype)?;
                    // It has no timestamp: it came right after the packet before it.
                    let time = self
                        .frames
                        .last()
                        .map_or(Time::default(), |before| before.time);
                    let length = packet
                        .data
                        .len()
                        .min(packet.origlen as usize)
                        .min(interface.snap_length);
                    self.frames.push(Place {
                        time,
                        start: at + 12,
                        length,
                    });
                }
                Block::Unknown(block) if OBSOLETE_PACKET_BLOCK.contains(&block.block_type) => {
                    return Err(Problem::ObsoleteBlock);
                }
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }
}

/// Its type in either byte order: the crate reads that of an unknown block as little-endian.
const OBSOLETE_PACKET_BLOCK: [u32; 2] = [2, 2u32.swap_bytes()];

/// The link type without what shares its field: the length of the frame check sequence.
fn link_layer(header: &PcapHeader) -> Linktype {
    Linktype(header.network.0 & 0xffff)
}

fn ethernet(linktype: Linktype) -> Result<(), Problem> {
    if linktype == Linktype::ETHERNET {
        Ok(())
    } else {
        Err(Problem::NotEthernet(linktype))
    }
}

/// What it means that the parser could not go on at byte `at`.
fn stopped(error: &nom::Err<PcapError<&[u8]>>, at: usize, packets: usize) -> Problem {
    match error {
        nom::Err::Incomplete(_) => Problem::CutShort { at, packets },
        _ => Problem::Damaged { at, packets },
    }
}

/// An interface of a pcapng section.
struct Interface {
    linktype: Linktype,
    /// Bytes kept of each packet.
    snap_length: usize,
    /// `if_tsresol`: a negative power of 10, or, with the highest bit set, of 2.
    ts_resolution: u8,
    /// `if_tsoffset`: seconds to add.
    ts_offset: i64,
}

impl Interface {
    fn new(block: &InterfaceDescriptionBlock, big_endian: bool) -> Self {
        Interface {
            linktype: block.linktype,
            snap_length: if block.snaplen == 0 {
                usize::MAX
            } else {
                block.snaplen as usize
            },
            ts_resolution: block.if_tsresol,
            // The crate reads it as little-endian in every section.
            ts_offset: if big_endian {
                block.if_tsoffset.swap_bytes()
            } else {
                block.if_tsoffset
            },
        }
    }

    fn resolution(&self) -> Resolution {
        match self.ts_resolution {
            0..=6 | 0x80 => Resolution::Micro,
            _ => Resolution::Nano,
        }
    }

    /// The time of a timestamp; none outside of what a classic pcap can say.
    fn time(&self, units: u64) -> Option<Time> {
        const SECOND: u128 = 1_000_000_000;
        let exponent = u32::from(self.ts_resolution & 0x7f);
        let per_second = match self.ts_resolution & 0x80 {
            0 => 10u128.checked_pow(exponent),
            _ => 1u128.checked_shl(exponent),
        };
        // Where a second has more units than fit, all of them together are nothing.
        let nanos = per_second.map_or(0, |per_second| u128::from(units) * SECOND / per_second);
        let nanos = i128::try_from(nanos).ok()? + i128::from(self.ts_offset) * SECOND as i128;
        let nanos = u64::try_from(nanos).ok()?;
        (nanos < (1 << 32) * SECOND as u64).then_some(Time::from_nanos(nanos))
    }
}

/// Writes a classic pcap of Ethernet frames. The same frames give the same bytes, on any machine.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    resolution: Resolution,
}

impl<W: Write> Writer<W> {
    pub fn new(mut out: W, resolution: Resolution) -> io::Result<Self> {
        /// As tcpdump's.
        const SNAP_LENGTH: u32 = 262_144;
        let magic: u32 = match resolution {
            Resolution::Micro => 0xa1b2_c3d4,
            Resolution::Nano => 0xa1b2_3c4d,
        };
        // Version 2.4; no time zone, no accuracy.
        for word in [
            magic,
            4 << 16 | 2,
            0,
            0,
            SNAP_LENGTH,
            Linktype::ETHERNET.0 as u32,
        ] {
            out.write_all(&word.to_le_bytes())?;
        }
        Ok(Writer { out, resolution })
    }

    pub fn write(&mut self, time: Time, frame: &[u8]) -> io::Result<()> {
        let nanos = time.nanos() % 1_000_000_000;
        let fraction = match self.resolution {
            Resolution::Micro => nanos / 1000,
            Resolution::Nano => nanos,
        };
        let (seconds, length) = ((time.nanos() / 1_000_000_000) as u32, frame.len() as u32);
        for word in [seconds, fraction as u32, length, length] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(frame)
    }

    /// Writes out what is buffered: a file that is dropped instead hides a full disk.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

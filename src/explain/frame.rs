//! The frame of a packet that is asked about: from its words, or from its bytes in hex.

use super::words::{Upper, Words, Wrong};
use crate::net::{Mac, ethertype, protocol};
use crate::wire::checksum::{fold, partial};
use crate::wire::{ethernet, icmp, icmpv6, ipv4, ipv6, sctp, tcp, udp};
use std::net::IpAddr;
use std::str::FromStr;

/// Where packets in words come from: a locally administered address that no port of weir has.
const SENDER: Mac = Mac([0x02, b's', b'e', b'n', b'd', 0]);

/// The longest frame: a header of two VLAN tags, and the longest IP packet.
const LONGEST: usize = ethernet::HEADER_LEN + 8 + 65_535;

/// A packet that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Words(Words),
    /// An Ethernet frame as it is on the wire.
    Frame(Vec<u8>),
}

impl FromStr for Asked {
    type Err = Wrong;

    /// Words begin with a protocol's name, none of which is a number in hex.
    fn from_str(text: &str) -> Result<Asked, Wrong> {
        let is_hex = |letter: char| {
            letter.is_ascii_hexdigit() || letter.is_whitespace() || ":-".contains(letter)
        };
        let start = text.trim_start();
        let first = start.strip_prefix("0x").unwrap_or(start);
        let word: String = first.chars().take_while(|it| !it.is_whitespace()).collect();
        let is_frame = start != first || !word.is_empty() && word.chars().all(is_hex);
        match is_frame {
            true => hex(text).map(Asked::Frame),
            false => text.parse().map(Asked::Words),
        }
    }
}

/// Lines as `tcpdump -XX` writes them, without what is not a frame's: an offset and a colon ahead of the bytes, and behind two spaces
/// what they are as letters. All else stays in its column.
fn without_offsets(text: &str) -> String {
    let line = |line: &str| {
        let bytes = line.trim_start();
        let offset = bytes.strip_prefix("0x").and_then(|it| it.split_once(':'));
        match offset {
            Some((digits, rest)) if digits.len() == 4 => {
                let before = line.len() - rest.len();
                let spaces = rest.len() - rest.trim_start().len();
                let bytes = rest[spaces..].split("  ").next().unwrap_or_default();
                format!("{}{bytes}\n", " ".repeat(before + spaces))
            }
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// Bytes in hex, as sniffers write them: with or without white space, colons or dashes between.
fn hex(text: &str) -> Result<Vec<u8>, Wrong> {
    let text = &without_offsets(text);
    let mut bytes = Vec::new();
    // Of the byte that has its first digit.
    let mut half: Option<(u8, usize)> = None;
    let skipped = text.chars().take_while(|it| it.is_whitespace()).count();
    let prefix = if text.trim_start().starts_with("0x") {
        2
    } else {
        0
    };
    let wrong = |column, why: String, help: &str| Wrong {
        column,
        width: 1,
        why,
        help: help.to_owned(),
    };
    const DIGITS: &str = "write two digits a byte, from the destination MAC address on, with or without spaces or colons between";
    for (column, letter) in text.chars().enumerate().skip(skipped + prefix) {
        match (letter.to_digit(16), half) {
            (Some(digit), None) => half = Some((digit as u8, column)),
            (Some(digit), Some((high, _))) => {
                if bytes.len() == LONGEST {
                    let why = format!("a frame has at most {LONGEST} bytes");
                    return Err(wrong(column, why, "leave out what is behind the IP packet"));
                }
                bytes.push(high << 4 | digit as u8);
                half = None;
            }
            (None, None) if letter.is_whitespace() || ":-".contains(letter) => {}
            (None, Some((_, at))) if letter.is_whitespace() || ":-".contains(letter) => {
                return Err(wrong(at, "a byte has a single digit".into(), DIGITS));
            }
            (None, _) => {
                return Err(wrong(
                    column,
                    format!("`{letter}` is no digit of hex"),
                    DIGITS,
                ));
            }
        }
    }
    match half {
        Some((_, at)) => Err(wrong(at, "the last byte has a single digit".into(), DIGITS)),
        None if bytes.len() < ethernet::HEADER_LEN => Err(wrong(
            text.trim_end().chars().count(),
            format!("{} bytes are no Ethernet frame", bytes.len()),
            "a frame begins with two MAC addresses and an EtherType, 14 bytes; an IP packet alone can be described in words",
        )),
        None => Ok(bytes),
    }
}

/// The Ethernet frame of a packet in words, without tags; `to`: the port's MAC address.
pub fn frame(words: &Words, to: Mac) -> Vec<u8> {
    let l4 = match words.upper {
        Upper::Tcp { mss: Some(_), .. } => tcp::HEADER_LEN + MSS_LEN,
        Upper::Tcp { mss: None, .. } => tcp::HEADER_LEN,
        Upper::Udp => udp::HEADER_LEN,
        Upper::Sctp { chunk, .. } => sctp::LEAST_LEN + chunk.fields().len(),
        Upper::Icmp { .. } => icmp::HEADER_LEN,
    };
    let (ip, kind, number) = match words.source.ip() {
        IpAddr::V4(_) => (ipv4::HEADER_LEN, ethertype::IPV4, protocol::ICMP),
        IpAddr::V6(_) => (ipv6::HEADER_LEN, ethertype::IPV6, protocol::ICMPV6),
    };
    let number = match words.upper {
        Upper::Tcp { .. } => protocol::TCP,
        Upper::Udp => protocol::UDP,
        Upper::Sctp { .. } => protocol::SCTP,
        Upper::Icmp { .. } => number,
    };
    let l4_at = ethernet::HEADER_LEN + ip;
    let length = l4 + usize::from(words.length);
    let length = match words.upper {
        // RFC 9260 section 3.2: chunks are padded.
        Upper::Sctp { .. } => length.next_multiple_of(4),
        _ => length,
    };
    let mut frame = vec![0; l4_at + length];
    // The buffer is as long as its headers: nothing fails.
    let _ = ethernet::emit(&mut frame, to, SENDER, kind);
    let packet = &mut frame[ethernet::HEADER_LEN..];
    let pseudo = match (words.source.ip(), words.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = ipv4::Repr {
                tos: words.dscp << 2,
                ttl: words.ttl,
                dont_fragment: words.dont_fragment,
                ..ipv4::Repr::new(source, destination, number)
            };
            let _ = header.emit(packet);
            header.pseudo_header(length as u16)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = ipv6::Repr {
                traffic_class: words.dscp << 2,
                hop_limit: words.ttl,
                ..ipv6::Repr::new(source, destination, number)
            };
            let _ = header.emit(packet);
            header.pseudo_header(length as u32)
        }
        // Words have both addresses of one family.
        _ => 0,
    };
    emit_upper(words, &mut frame[l4_at..], pseudo);
    frame
}

/// The MSS option's bytes.
const MSS_LEN: usize = 4;

fn emit_upper(words: &Words, bytes: &mut [u8], pseudo: u64) {
    let ports = (words.source.port(), words.destination.port());
    let _ = match words.upper {
        Upper::Udp => udp::Repr {
            source_port: ports.0,
            destination_port: ports.1,
        }
        .emit(bytes, pseudo),
        Upper::Sctp { chunk, tag } => {
            let fields = chunk.fields();
            bytes[sctp::LEAST_LEN..][..fields.len()].copy_from_slice(fields);
            sctp::Repr {
                source_port: ports.0,
                destination_port: ports.1,
                tag: tag.unwrap_or(chunk.usual_tag()),
                kind: chunk.kind(),
                is_reflected: false,
            }
            .emit_around(bytes, fields.len() + usize::from(words.length))
        }
        Upper::Icmp { kind, code } => match words.source.ip() {
            IpAddr::V4(_) => icmp::Repr {
                kind,
                code,
                rest: 0,
            }
            .emit(bytes),
            IpAddr::V6(_) => icmpv6::Repr {
                kind,
                code,
                rest: 0,
            }
            .emit(bytes, pseudo),
        },
        Upper::Tcp {
            flags,
            sequence,
            acknowledged,
            mss,
        } => {
            let header = tcp::Repr {
                source_port: ports.0,
                destination_port: ports.1,
                sequence,
                acknowledged,
                flags,
                window: u16::MAX,
            };
            let emitted = header.emit(bytes, pseudo);
            if let Some(mss) = mss {
                add_mss(bytes, mss, pseudo);
            }
            emitted
        }
    };
}

/// Writes the MSS option behind a header that was written without options.
fn add_mss(segment: &mut [u8], mss: u16, pseudo: u64) {
    const WORDS: u8 = ((tcp::HEADER_LEN + MSS_LEN) / 4) as u8;
    let [high, low] = mss.to_be_bytes();
    segment[tcp::HEADER_LEN..][..MSS_LEN].copy_from_slice(&[2, MSS_LEN as u8, high, low]);
    // RFC 9293 section 3.1: the data offset, and the checksum.
    segment[12] = WORDS << 4;
    segment[16..18].fill(0);
    let checksum = !fold(pseudo + partial(segment));
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Chunk;
    use super::super::seen::Seen;
    use super::*;

    #[test]
    fn every_checksum_of_what_words_become_is_right() {
        for text in [
            "tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN mss=1460 len=3 dscp=46 df",
            "tcp 203.0.113.5:1234 > 192.0.2.80:80 ACK len=1001 seq=7 ack=9",
            "udp 203.0.113.5:1234 > 192.0.2.80:53 len=65475",
            "udp [2001:db8::5]:53 > [2001:db8::80]:53 len=65475",
            "icmp 203.0.113.5 > 192.0.2.80",
            "icmp 2001:db8::5 > 2001:db8::80 ttl=3 dscp=1",
            "tcp [2001:db8::5]:53 > [2001:db8::80]:53 mss=1 SYN ACK",
            "sctp 203.0.113.5:1000 > 192.0.2.80:36412 DATA len=65475 tag=9",
            "sctp [2001:db8::5]:1000 > [2001:db8::80]:36412 SHUTDOWN-COMPLETE",
        ] {
            let words: Words = text.parse().unwrap();
            let frame = frame(&words, Mac([2, 0, 0, 0, 0, 1]));
            match (ipv4::in_frame(&frame), ipv6::in_frame(&frame)) {
                (Some(packet), None) => {
                    assert!(
                        packet.is_header_right() && packet.is_l4_checksum_right(),
                        "{text}"
                    );
                }
                (None, Some(packet)) => {
                    let upper = packet.upper_layer().unwrap();
                    assert!(packet.is_l4_checksum_right(&upper), "{text}");
                }
                _ => panic!("{text}"),
            }
            // What is seen in it is what was said.
            let seen = Seen::of(&frame, None);
            let (source, destination) = seen.ends().unwrap();
            assert_eq!(
                (source, destination),
                (words.source, words.destination),
                "{text}"
            );
        }
    }

    /// Each chunk, with as many bytes behind its fields: a host takes it, and it is what was said.
    #[test]
    fn a_chunk_is_what_it_is_called() {
        for (chunk, length) in Chunk::all().flat_map(|it| (0..5).map(move |length| (it, length))) {
            let text = format!("sctp 203.0.113.5:1000 > 192.0.2.80:36412 {chunk} len={length}");
            let frame = frame(&text.parse().unwrap(), Mac([2, 0, 0, 0, 0, 1]));
            let packet = ipv4::in_frame(&frame).unwrap();
            let packet = sctp::Sctp::new_checked(packet.payload()).unwrap();
            assert!(packet.is_checksum_right(), "{text}");
            assert_eq!(packet.event(), sctp::Event::of(chunk.kind()), "{text}");
            assert_eq!(packet.tag(), chunk.usual_tag(), "{text}");
            let begins = matches!(packet.event(), sctp::Event::Init | sctp::Event::InitAck);
            assert_eq!(packet.initiate_tag(), begins.then_some(1), "{text}");
        }
    }

    #[test]
    fn bytes_are_read_as_sniffers_write_them() {
        let bytes: Vec<u8> = (0..20).collect();
        for text in [
            "000102030405060708090a0b0c0d0e0f10111213",
            "0x000102030405060708090A0B0C0D0E0F10111213",
            "\t0x0000:  0001 0203 0405 0607 0809 0a0b 0c0d 0e0f  ................\n\t0x0010:  1011 1213                                ....",
            "0x0000: 0001 0203 0405 0607 0809 0a0b 0c0d 0e0f 1011 1213",
            " 00:01:02:03:04:05 06-07 08 09 0a 0b 0c 0d 0e 0f\n10 11 12 13 ",
        ] {
            assert_eq!(text.parse(), Ok(Asked::Frame(bytes.clone())), "{text}");
        }
        for (text, column, why) in [
            ("00 01 2", 6, "a single digit"),
            ("00 1 02", 3, "a single digit"),
            ("00 01 0g", 7, "no digit of hex"),
            ("0x", 2, "0 bytes are no Ethernet frame"),
            ("00 01 02", 8, "3 bytes are no Ethernet frame"),
        ] {
            let wrong = text.parse::<Asked>().unwrap_err();
            assert!(wrong.why.contains(why), "{text}: {}", wrong.why);
            assert_eq!(wrong.column, column, "{text}");
        }
        let long = "00".repeat(LONGEST + 1);
        assert!(long.parse::<Asked>().is_err());
    }
}

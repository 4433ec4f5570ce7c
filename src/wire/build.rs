//! The frames that weir writes itself: ARP, and answers to packets that it does not forward.
//!
//! Each returns the frame's length, or nothing where the frame does not fit or no such answer is due.

use super::checksum::Delta;
use super::ethernet::{self, Ethernet};
use super::ipv4::{self, Ipv4};
use super::sctp::Sctp;
use super::tcp::{Flags, Tcp};
use super::{Mac, arp, icmp, sctp, tcp};
use crate::net::{ethertype, protocol};
use std::net::Ipv4Addr;

const ETH: usize = ethernet::HEADER_LEN;
const IPV4_LEN: usize = ipv4::HEADER_LEN;
/// RFC 1812 section 4.3.2.3: an ICMP error is at most so long, and quotes as much as fits.
pub const ICMP_ERROR_MAX: usize = 576;
/// RFC 1812 section 4.3.2.5: errors have precedence "internetwork control".
const TOS_CONTROL: u8 = 0xc0;

/// Asks `to` (the broadcast address, or one host to confirm) for the MAC address of `target`.
pub fn arp_request(
    frame: &mut [u8],
    to: Mac,
    mac: Mac,
    source: Ipv4Addr,
    target: Ipv4Addr,
) -> Option<usize> {
    let repr = arp::Repr {
        operation: arp::REQUEST,
        sender_mac: mac,
        sender_ip: source,
        target_mac: Mac::default(),
        target_ip: target,
    };
    emit_arp(frame, to, &repr)
}

/// Tells all hosts on the link that `address` is at `mac` (RFC 5227 section 2.3: an announcement is a request).
pub fn gratuitous_arp(frame: &mut [u8], mac: Mac, address: Ipv4Addr) -> Option<usize> {
    arp_request(frame, Mac::BROADCAST, mac, address, address)
}

fn emit_arp(frame: &mut [u8], to: Mac, repr: &arp::Repr) -> Option<usize> {
    ethernet::emit(frame, to, repr.sender_mac, ethertype::ARP)?;
    repr.emit(&mut frame[ETH..])?;
    Some(ETH + arp::LEN)
}

/// Turns an ARP request into the reply that its target address is at `mac`.
pub fn arp_reply_in_place(frame: &mut [u8], mac: Mac) -> Option<usize> {
    let request = arp::Repr::parse(frame.get(ETH..)?).ok()?;
    let reply = arp::Repr {
        operation: arp::REPLY,
        sender_mac: mac,
        sender_ip: request.target_ip,
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
    };
    emit_arp(frame, request.sender_mac, &reply)
}

/// Turns an ICMP echo request with a right checksum into its reply (RFC 792), back to the MAC address that it came from.
/// The IP header's options stay, as RFC 1122 section 3.2.2.6 asks of most of them.
pub fn echo_reply_in_place(frame: &mut [u8], mac: Mac) -> Option<usize> {
    let length = frame.len();
    let mut ethernet = Ethernet::new_checked(frame).ok()?;
    ethernet.set_destination(ethernet.source());
    ethernet.set_source(mac);
    let mut ip = Ipv4::new_checked(ethernet.payload_mut()).ok()?;
    let (source, destination) = (ip.source(), ip.destination());
    ip.set_source(destination);
    ip.set_destination(source);
    ip.set_ttl(ipv4::DEFAULT_TTL);
    ip.fill_checksum();
    let message = ip.payload_mut();
    let request = icmp::Icmp::new_checked(&*message).ok()?;
    let reply = icmp::Repr {
        kind: icmp::ECHO_REPLY,
        code: request.code(),
        rest: request.rest(),
    };
    reply.emit(message)?;
    Some(length)
}

/// Turns a fragment of an echo request into that of its reply. `message`: where the ICMP header is in the frame, of the first
/// fragment; the checksum changes by the type, so that a wrong one stays wrong.
pub fn echo_reply_fragment_in_place(
    frame: &mut [u8],
    mac: Mac,
    message: Option<usize>,
) -> Option<()> {
    if let Some(message) = message {
        set_type(frame.get_mut(message..)?, icmp::ECHO_REPLY)?;
    }
    let mut ethernet = Ethernet::new_checked(frame).ok()?;
    ethernet.set_destination(ethernet.source());
    ethernet.set_source(mac);
    let mut ip = Ipv4::new_checked(ethernet.payload_mut()).ok()?;
    let (source, destination) = (ip.source(), ip.destination());
    ip.set_source(destination);
    ip.set_destination(source);
    ip.set_ttl(ipv4::DEFAULT_TTL);
    ip.fill_checksum();
    Some(())
}

/// Gives an ICMP message, or the first part of one, another type.
pub(super) fn set_type(message: &mut [u8], kind: u8) -> Option<()> {
    let [old, code, checksum @ ..] = message.first_chunk_mut::<4>()?;
    let word = |kind| u16::from_be_bytes([kind, *code]);
    Delta::ZERO
        .replace_u16(word(*old), word(kind))
        .apply(checksum);
    *old = kind;
    Some(())
}

/// The reset that a TCP segment without a connection gets (RFC 9293 section 3.10.7.1), from the segment's
/// destination. None for a reset.
pub fn tcp_reset(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize> {
    let ip = ipv4::in_frame(offending)?;
    let reset = reset_for(&Tcp::new_checked(ip.payload()).ok()?)?;
    let macs = (ethernet::source(offending)?, mac);
    emit_reset(frame, macs, ip.destination(), ip.source(), &reset)
}

/// What an SCTP packet without an association gets (RFC 9260 section 8.4), from the packet's destination. None where that is
/// nothing.
pub fn sctp_refusal(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize> {
    let about = ipv4::in_frame(offending)?;
    let refusal = sctp::Repr::refusal(&Sctp::new_checked(about.payload()).ok()?)?;
    let frame = frame.get_mut(..ETH + IPV4_LEN + sctp::LEAST_LEN)?;
    let ip = ipv4::Repr {
        dont_fragment: true,
        ..ipv4::Repr::new(about.destination(), about.source(), protocol::SCTP)
    };
    ethernet::emit(frame, ethernet::source(offending)?, mac, ethertype::IPV4)?;
    ip.emit(&mut frame[ETH..])?;
    refusal.emit(&mut frame[ETH + IPV4_LEN..])?;
    Some(frame.len())
}

/// The reset that answers a segment. None for a reset.
pub(super) fn reset_for(segment: &Tcp<&[u8]>) -> Option<tcp::Repr> {
    let flags = segment.flags();
    if flags.rst() {
        return None;
    }
    let (sequence, acknowledged, reply_flags) = if flags.ack() {
        (segment.acknowledged(), 0, Flags::RST)
    } else {
        let end = segment.sequence().wrapping_add(segment.sequence_length());
        (0, end, Flags::RST | Flags::ACK)
    };
    Some(tcp::Repr {
        source_port: segment.destination_port(),
        destination_port: segment.source_port(),
        sequence,
        acknowledged,
        flags: Flags(reply_flags),
        window: 0,
    })
}

/// The length of the frame of [`reset`].
pub const RESET_LEN: usize = ETH + IPV4_LEN + tcp::HEADER_LEN;

/// A reset that answers nothing: from the second MAC address to the first, from an address and port to another.
pub fn reset(
    frame: &mut [u8],
    macs: (Mac, Mac),
    (source, source_port): (Ipv4Addr, u16),
    (destination, destination_port): (Ipv4Addr, u16),
    sequence: u32,
) -> Option<usize> {
    let reset = tcp::Repr {
        source_port,
        destination_port,
        sequence,
        flags: Flags(Flags::RST),
        ..tcp::Repr::default()
    };
    emit_reset(frame, macs, source, destination, &reset)
}

fn emit_reset(
    frame: &mut [u8],
    (to, from): (Mac, Mac),
    source: Ipv4Addr,
    destination: Ipv4Addr,
    reset: &tcp::Repr,
) -> Option<usize> {
    let frame = frame.get_mut(..RESET_LEN)?;
    let ip = ipv4::Repr {
        dont_fragment: true,
        ..ipv4::Repr::new(source, destination, protocol::TCP)
    };
    ethernet::emit(frame, to, from, ethertype::IPV4)?;
    ip.emit(&mut frame[ETH..])?;
    let pseudo = ip.pseudo_header(tcp::HEADER_LEN as u16);
    reset.emit(&mut frame[ETH + IPV4_LEN..], pseudo)?;
    Some(RESET_LEN)
}

/// An ICMP error about a packet, quoting as much of it as fits in 576 bytes. `rest` is the second word of the header
/// (the next hop's MTU in its low half, with "fragmentation needed").
pub fn icmp_error(
    frame: &mut [u8],
    offending: &[u8],
    mac: Mac,
    from: Ipv4Addr,
    kind: u8,
    code: u8,
    rest: u32,
) -> Option<usize> {
    let about = ipv4::in_frame(offending)?;
    let ends = (from, about.source());
    let length = icmp_error_of(frame, ends, (kind, code, rest), about.packet())?;
    ethernet::emit(frame, ethernet::source(offending)?, mac, ethertype::IPV4)?;
    Some(length)
}

/// As [`icmp_error`], with no MAC addresses yet, from an address to another, about a packet whose end may be missing.
pub fn icmp_error_of(
    frame: &mut [u8],
    (from, to): (Ipv4Addr, Ipv4Addr),
    (kind, code, rest): (u8, u8, u32),
    quoted: &[u8],
) -> Option<usize> {
    const ROOM: usize = ICMP_ERROR_MAX - IPV4_LEN - icmp::HEADER_LEN;
    let quoted = &quoted[..quoted.len().min(ROOM)];
    let length = ETH + IPV4_LEN + icmp::HEADER_LEN + quoted.len();
    let frame = frame.get_mut(..length)?;
    let nowhere = Mac([0; 6]);
    ethernet::emit(frame, nowhere, nowhere, ethertype::IPV4)?;
    let ip = ipv4::Repr {
        tos: TOS_CONTROL,
        ..ipv4::Repr::new(from, to, protocol::ICMP)
    };
    ip.emit(&mut frame[ETH..])?;
    let message = &mut frame[ETH + IPV4_LEN..];
    message[icmp::HEADER_LEN..].copy_from_slice(quoted);
    icmp::Repr { kind, code, rest }.emit(message)?;
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::{fold, partial, pseudo_header_v4, sum};
    use proptest::prelude::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
    const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 1, 7]);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A TCP segment of the client's.
    fn segment(flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) -> Vec<u8> {
        let mut frame = [&[0; RESET_LEN][..], data].concat();
        ethernet::emit(&mut frame, MAC, CLIENT_MAC, ethertype::IPV4).unwrap();
        let ip = ipv4::Repr::new(CLIENT, VIP, protocol::TCP);
        ip.emit(&mut frame[ETH..]).unwrap();
        let tcp = tcp::Repr {
            source_port: 40_000,
            destination_port: 80,
            sequence,
            acknowledged,
            flags: Flags(flags),
            window: 0,
        };
        let segment = &mut frame[ETH + IPV4_LEN..];
        let pseudo = ip.pseudo_header(segment.len() as u16);
        tcp.emit(segment, pseudo).unwrap();
        frame
    }

    fn reset_for(offending: &[u8]) -> Option<(u32, u32, u8)> {
        let mut frame = [0; 200];
        let length = tcp_reset(&mut frame, offending, MAC)?;
        let tcp = &frame[ETH + IPV4_LEN..length];
        assert_eq!(
            frame[..14],
            [2, 0, 0, 0, 1, 7, 2, 0, 0, 0, 0, 1, 8, 0],
            "back to where it came from"
        );
        assert_eq!(sum(&frame[ETH..ETH + IPV4_LEN]), 0xffff);
        assert_eq!(
            fold(pseudo_header_v4(VIP, CLIENT, 6, 20) + partial(tcp)),
            0xffff
        );
        assert_eq!(tcp[..4], [0x00, 0x50, 0x9c, 0x40]);
        let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
        Some((word(4), word(8), tcp[13]))
    }

    #[test]
    fn resets_have_the_numbers_of_rfc_9293() {
        assert_eq!(
            reset_for(&segment(0x02, 1000, 0, &[])),
            Some((0, 1001, 0x14)),
            "a SYN"
        );
        assert_eq!(
            reset_for(&segment(0x02, u32::MAX, 0, b"abc")),
            Some((0, 3, 0x14)),
            "a SYN with data, wrapping"
        );
        assert_eq!(
            reset_for(&segment(0x18, 1000, 77, b"abc")),
            Some((77, 0, 0x04)),
            "data"
        );
        assert_eq!(
            reset_for(&segment(0x04, 1000, 77, &[])),
            None,
            "a reset is not answered"
        );
    }

    proptest! {
        #[test]
        fn icmp_errors_quote_what_fits_and_check_out(length in 0usize..1500, rest: u32) {
            let offending = segment(0x18, 1, 2, &vec![0xa5; length]);
            let mut frame = [0; 1600];
            let length = icmp_error(&mut frame, &offending, MAC, VIP, icmp::DESTINATION_UNREACHABLE, icmp::PORT_UNREACHABLE, rest).unwrap();
            prop_assert!(length <= ETH + ICMP_ERROR_MAX);
            prop_assert_eq!(sum(&frame[ETH..ETH + IPV4_LEN]), 0xffff);
            let message = icmp::Icmp::new_checked(&frame[ETH + IPV4_LEN..length]).unwrap();
            prop_assert!(message.is_error());
            prop_assert_eq!(sum(&frame[ETH + IPV4_LEN..length]), 0xffff);
            let quoted = &frame[ETH + IPV4_LEN + 8..length];
            prop_assert_eq!(quoted, &offending[ETH..ETH + quoted.len()]);
        }

        #[test]
        fn echo_replies_check_out(data in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut frame = [&[0; ETH + IPV4_LEN + icmp::HEADER_LEN][..], &data].concat();
            ethernet::emit(&mut frame, MAC, CLIENT_MAC, ethertype::IPV4).unwrap();
            let ip = ipv4::Repr::new(CLIENT, VIP, protocol::ICMP);
            ip.emit(&mut frame[ETH..]).unwrap();
            let request = icmp::Repr { kind: icmp::ECHO_REQUEST, code: 0, rest: 0x1234_0001 };
            request.emit(&mut frame[ETH + IPV4_LEN..]).unwrap();
            let length = echo_reply_in_place(&mut frame, MAC).unwrap();
            prop_assert_eq!(length, frame.len());
            prop_assert_eq!(sum(&frame[ETH..ETH + IPV4_LEN]), 0xffff);
            prop_assert_eq!(sum(&frame[ETH + IPV4_LEN..]), 0xffff);
            prop_assert_eq!(&frame[ETH + 12..ETH + 20], &[192, 0, 2, 80, 198, 51, 100, 7]);
            prop_assert_eq!(frame[ETH + IPV4_LEN], icmp::ECHO_REPLY);
        }

        #[test]
        fn arbitrary_and_cut_frames_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), cut in 0usize..70) {
            let mut frame = [0; 700];
            let whole = segment(0x02, 1, 0, b"data");
            for offending in [&bytes[..], &whole[..whole.len().min(cut)]] {
                let _ = tcp_reset(&mut frame, offending, MAC);
                let _ = icmp_error(&mut frame, offending, MAC, VIP, 3, 3, 0);
            }
            let _ = arp_reply_in_place(&mut bytes.clone(), MAC);
            let _ = echo_reply_in_place(&mut bytes, MAC);
        }
    }
}

//! The IPv6 frames that weir writes itself: answers to packets that it does not forward. As [`build`](super::build).

use super::build::{reset_for, set_type};
use super::ethernet::{self, Ethernet};
use super::ipv6::{self, Ipv6};
use super::sctp::Sctp;
use super::tcp::{Flags, Tcp};
use super::{Mac, icmpv6, sctp, tcp};
use crate::net::{ethertype, protocol};
use std::net::Ipv6Addr;

const ETH: usize = ethernet::HEADER_LEN;
const IPV6_LEN: usize = ipv6::HEADER_LEN;
/// RFC 4443 section 2.4 (c): an error is at most so long, and quotes as much as fits.
pub const ICMPV6_ERROR_MAX: usize = 1280;

/// Turns an ICMPv6 echo request with a right checksum into its reply (RFC 4443 section 4.2), back to the MAC address that
/// it came from. Extension headers stay.
pub fn echo_reply_in_place(frame: &mut [u8], mac: Mac) -> Option<usize> {
    let length = frame.len();
    let mut ethernet = Ethernet::new_checked(frame).ok()?;
    ethernet.set_destination(ethernet.source());
    ethernet.set_source(mac);
    let packet = ethernet.payload_mut();
    let whole = Ipv6::new_checked(&*packet).ok()?;
    let upper = whole.upper_layer().ok()?;
    let (source, destination) = (whole.source(), whole.destination());
    let start = IPV6_LEN + upper.extensions;
    let end = start + upper.payload.len();
    let request = icmpv6::Icmpv6::new_checked(upper.payload).ok()?;
    if upper.protocol != protocol::ICMPV6 || upper.is_fragment() || !request.is_echo_request() {
        return None;
    }
    let reply = icmpv6::Repr {
        kind: icmpv6::ECHO_REPLY,
        code: request.code(),
        rest: request.rest(),
    };
    let back = ipv6::Repr::new(destination, source, protocol::ICMPV6);
    let pseudo = back.pseudo_header((end - start) as u32);
    reply.emit(packet.get_mut(start..end)?, pseudo)?;
    let mut ip = Ipv6::new_checked(packet).ok()?;
    ip.set_source(destination);
    ip.set_destination(source);
    ip.set_hop_limit(back.hop_limit);
    Some(length)
}

/// As [`build::echo_reply_fragment_in_place`](super::build::echo_reply_fragment_in_place), whose checksum does not change with
/// the addresses: it covers both.
pub fn echo_reply_fragment_in_place(
    frame: &mut [u8],
    mac: Mac,
    message: Option<usize>,
) -> Option<()> {
    if let Some(message) = message {
        set_type(frame.get_mut(message..)?, icmpv6::ECHO_REPLY)?;
    }
    let mut ethernet = Ethernet::new_checked(frame).ok()?;
    ethernet.set_destination(ethernet.source());
    ethernet.set_source(mac);
    let mut ip = Ipv6::new_checked(ethernet.payload_mut()).ok()?;
    let (source, destination) = (ip.source(), ip.destination());
    ip.set_source(destination);
    ip.set_destination(source);
    ip.set_hop_limit(ipv6::DEFAULT_HOP_LIMIT);
    Some(())
}

/// The reset that a TCP segment without a connection gets, see [`build::tcp_reset`](super::build::tcp_reset).
pub fn tcp_reset(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize> {
    let ip = ipv6::in_frame(offending)?;
    let upper = ip.upper_layer().ok()?;
    let reset = reset_for(&Tcp::new_checked(upper.payload).ok()?)?;
    let macs = (ethernet::source(offending)?, mac);
    emit_reset(frame, macs, ip.destination(), ip.source(), &reset)
}

/// What an SCTP packet without an association gets, see [`build::sctp_refusal`](super::build::sctp_refusal).
pub fn sctp_refusal(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize> {
    let about = ipv6::in_frame(offending)?;
    let upper = about.upper_layer().ok()?;
    let refusal = sctp::Repr::refusal(&Sctp::new_checked(upper.payload).ok()?)?;
    let frame = frame.get_mut(..ETH + IPV6_LEN + sctp::LEAST_LEN)?;
    let ip = ipv6::Repr::new(about.destination(), about.source(), protocol::SCTP);
    ethernet::emit(frame, ethernet::source(offending)?, mac, ethertype::IPV6)?;
    ip.emit(&mut frame[ETH..])?;
    refusal.emit(&mut frame[ETH + IPV6_LEN..])?;
    Some(frame.len())
}

/// The length of the frame of [`reset`].
pub const RESET_LEN: usize = ETH + IPV6_LEN + tcp::HEADER_LEN;

/// A reset that answers nothing: from the second MAC address to the first, from an address and port to another.
pub fn reset(
    frame: &mut [u8],
    macs: (Mac, Mac),
    (source, source_port): (Ipv6Addr, u16),
    (destination, destination_port): (Ipv6Addr, u16),
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
    source: Ipv6Addr,
    destination: Ipv6Addr,
    reset: &tcp::Repr,
) -> Option<usize> {
    let frame = frame.get_mut(..RESET_LEN)?;
    let ip = ipv6::Repr::new(source, destination, protocol::TCP);
    ethernet::emit(frame, to, from, ethertype::IPV6)?;
    ip.emit(&mut frame[ETH..])?;
    let pseudo = ip.pseudo_header(tcp::HEADER_LEN as u32);
    reset.emit(&mut frame[ETH + IPV6_LEN..], pseudo)?;
    Some(RESET_LEN)
}

/// An ICMPv6 error about a packet, quoting as much of it as fits in 1280 bytes. `rest` is the second word of the header
/// (the MTU, with "packet too big"). None about an ICMPv6 error, a redirect, or a packet to a group (RFC 4443 section
/// 2.4 (e)), of which weir forwards none.
pub fn icmpv6_error(
    frame: &mut [u8],
    offending: &[u8],
    mac: Mac,
    from: Ipv6Addr,
    kind: u8,
    code: u8,
    rest: u32,
) -> Option<usize> {
    let about = ipv6::in_frame(offending)?;
    let upper = about.upper_layer().ok()?;
    let is_silent = upper.protocol == protocol::ICMPV6
        && icmpv6::Icmpv6::new_checked(upper.payload)
            .is_ok_and(|message| message.is_error() || message.kind() == icmpv6::REDIRECT);
    if is_silent || about.destination().is_multicast() {
        return None;
    }
    let ends = (from, about.source());
    let length = icmpv6_error_of(frame, ends, (kind, code, rest), about.packet())?;
    ethernet::emit(frame, ethernet::source(offending)?, mac, ethertype::IPV6)?;
    Some(length)
}

/// As [`icmpv6_error`], with no MAC addresses yet, from an address to another, about a packet whose end may be missing.
pub fn icmpv6_error_of(
    frame: &mut [u8],
    (from, to): (Ipv6Addr, Ipv6Addr),
    (kind, code, rest): (u8, u8, u32),
    quoted: &[u8],
) -> Option<usize> {
    const ROOM: usize = ICMPV6_ERROR_MAX - IPV6_LEN - icmpv6::HEADER_LEN;
    let quoted = &quoted[..quoted.len().min(ROOM)];
    let length = ETH + IPV6_LEN + icmpv6::HEADER_LEN + quoted.len();
    let frame = frame.get_mut(..length)?;
    let nowhere = Mac([0; 6]);
    ethernet::emit(frame, nowhere, nowhere, ethertype::IPV6)?;
    let ip = ipv6::Repr::new(from, to, protocol::ICMPV6);
    ip.emit(&mut frame[ETH..])?;
    let message = &mut frame[ETH + IPV6_LEN..];
    message[icmpv6::HEADER_LEN..].copy_from_slice(quoted);
    let pseudo = ip.pseudo_header(message.len() as u32);
    icmpv6::Repr { kind, code, rest }.emit(message, pseudo)?;
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 1, 7]);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn client() -> Ipv6Addr {
        "2001:db8:51::7".parse().unwrap()
    }

    fn vip() -> Ipv6Addr {
        "2001:db8:2::80".parse().unwrap()
    }

    /// A TCP segment of the client's.
    fn segment(flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) -> Vec<u8> {
        let mut frame = [&[0; RESET_LEN][..], data].concat();
        ethernet::emit(&mut frame, MAC, CLIENT_MAC, ethertype::IPV6).unwrap();
        let ip = ipv6::Repr::new(client(), vip(), protocol::TCP);
        ip.emit(&mut frame[ETH..]).unwrap();
        let tcp = tcp::Repr {
            source_port: 40_000,
            destination_port: 80,
            sequence,
            acknowledged,
            flags: Flags(flags),
            window: 0,
        };
        let segment = &mut frame[ETH + IPV6_LEN..];
        let pseudo = ip.pseudo_header(segment.len() as u32);
        tcp.emit(segment, pseudo).unwrap();
        frame
    }

    /// The upper layer of an answer, whose addresses and checksum are right.
    fn answer(frame: &[u8]) -> (u8, Vec<u8>) {
        assert_eq!(ethernet::source(frame), Some(MAC));
        assert_eq!(frame[..6], CLIENT_MAC.0);
        let ip = ipv6::in_frame(frame).unwrap();
        assert_eq!(
            (ip.source(), ip.destination(), ip.hop_limit()),
            (vip(), client(), 64)
        );
        let upper = ip.upper_layer().unwrap();
        assert!(ip.is_l4_checksum_right(&upper));
        (upper.protocol, upper.payload.to_vec())
    }

    #[test]
    fn resets_have_the_numbers_of_rfc_9293() {
        for (flags, sequence, data, expected) in [
            (0x02, 1000, &b""[..], Some((0, 1001, 0x14))),
            (0x02, u32::MAX, b"abc", Some((0, 3, 0x14))),
            (0x18, 1000, b"abc", Some((77, 0, 0x04))),
            (0x04, 1000, b"", None),
        ] {
            let mut frame = [0; 200];
            let length = tcp_reset(&mut frame, &segment(flags, sequence, 77, data), MAC);
            let numbers = length.map(|length| {
                let (protocol, bytes) = answer(&frame[..length]);
                assert_eq!(protocol, protocol::TCP);
                let tcp = Tcp::new_checked(&bytes[..]).unwrap();
                assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 40_000));
                (tcp.sequence(), tcp.acknowledged(), tcp.flags().0)
            });
            assert_eq!(numbers, expected, "{flags:#x}");
        }
    }

    proptest! {
        #[test]
        fn errors_quote_what_fits_and_check_out(length in 0usize..1800, rest: u32) {
            let offending = segment(0x18, 1, 2, &vec![0xa5; length]);
            let mut frame = [0; 1600];
            let length = icmpv6_error(&mut frame, &offending, MAC, vip(), icmpv6::PACKET_TOO_BIG, 0, rest).unwrap();
            prop_assert!(length <= ETH + ICMPV6_ERROR_MAX);
            let (protocol, bytes) = answer(&frame[..length]);
            let message = icmpv6::Icmpv6::new_checked(&bytes[..]).unwrap();
            prop_assert_eq!((protocol, message.mtu()), (protocol::ICMPV6, Some(rest)));
            prop_assert_eq!(message.data(), &offending[ETH..ETH + message.data().len()]);
            let is_whole = message.data().len() == offending.len() - ETH;
            prop_assert!(is_whole || length == ETH + ICMPV6_ERROR_MAX);
            // No error about an error.
            prop_assert_eq!(icmpv6_error(&mut [0; 1600], &frame[..length], MAC, vip(), 1, 4, 0), None);
        }

        #[test]
        fn echo_replies_check_out(data in prop::collection::vec(any::<u8>(), 0..100), with_options: bool) {
            let options: &[u8] = if with_options { &[58, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
            let message = [&[0; icmpv6::HEADER_LEN][..], &data].concat();
            let start = ETH + IPV6_LEN + options.len();
            let mut frame = [&[0; ETH + IPV6_LEN][..], options, &message].concat();
            ethernet::emit(&mut frame, MAC, CLIENT_MAC, ethertype::IPV6).unwrap();
            let next_header = if with_options { protocol::DESTINATION_OPTIONS } else { protocol::ICMPV6 };
            let ip = ipv6::Repr { hop_limit: 3, ..ipv6::Repr::new(client(), vip(), next_header) };
            ip.emit(&mut frame[ETH..]).unwrap();
            let request = icmpv6::Repr { kind: icmpv6::ECHO_REQUEST, code: 0, rest: 0x1234_0001 };
            let pseudo = crate::wire::checksum::pseudo_header_v6(client(), vip(), 58, message.len() as u32);
            request.emit(&mut frame[start..], pseudo).unwrap();
            let length = echo_reply_in_place(&mut frame, MAC).unwrap();
            prop_assert_eq!(length, frame.len());
            let (protocol, bytes) = answer(&frame);
            let reply = icmpv6::Icmpv6::new_checked(&bytes[..]).unwrap();
            prop_assert_eq!((protocol, reply.kind(), reply.rest()), (protocol::ICMPV6, icmpv6::ECHO_REPLY, 0x1234_0001));
            prop_assert_eq!(reply.data(), &data[..]);
        }

        #[test]
        fn arbitrary_and_cut_frames_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), cut in 0usize..90) {
            let mut frame = [0; 1400];
            let whole = segment(0x02, 1, 0, b"data");
            if let Some(ethertype) = bytes.get_mut(12..14) {
                ethertype.copy_from_slice(&ethertype::IPV6.to_be_bytes());
            }
            for offending in [&bytes[..], &whole[..whole.len().min(cut)]] {
                let _ = tcp_reset(&mut frame, offending, MAC);
                let _ = icmpv6_error(&mut frame, offending, MAC, vip(), 1, 4, 0);
            }
            let _ = echo_reply_in_place(&mut bytes, MAC);
        }
    }
}

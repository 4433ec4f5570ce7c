//! The frames that weir writes itself: ARP, and answers to packets that it does not forward.
//!
//! Each returns the frame's length, or nothing where the frame does not fit or no such answer is due.

use super::checksum::{fold, partial, pseudo_header_v4, sum};
use super::ethernet::{self, ETHERTYPE_ARP, ETHERTYPE_IPV4};
use super::ipv4::{self, Ipv4};
use super::tcp::Flags;
use super::{Mac, arp, icmp, tcp};
use std::net::Ipv4Addr;

const ETH: usize = ethernet::HEADER_LEN;
const IPV4_LEN: usize = ipv4::HEADER_LEN;
/// RFC 1812 section 4.3.2.3: an ICMP error is at most so long, and quotes as much as fits.
const ICMP_ERROR_MAX: usize = 576;
/// As the kernel sends its own (`sysctl_ip_default_ttl`).
const TTL: u8 = 64;
/// RFC 1812 section 4.3.2.5: errors have precedence "internetwork control".
const TOS_CONTROL: u8 = 0xc0;

/// Asks `to` (everybody, or one host to confirm) for the MAC address of `target`.
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

/// Tells everybody that `address` is at `mac` (RFC 5227 section 2.3: an announcement is a request).
pub fn gratuitous_arp(frame: &mut [u8], mac: Mac, address: Ipv4Addr) -> Option<usize> {
    arp_request(frame, Mac::BROADCAST, mac, address, address)
}

fn emit_arp(frame: &mut [u8], to: Mac, repr: &arp::Repr) -> Option<usize> {
    ethernet::emit(frame, to, repr.sender_mac, ETHERTYPE_ARP)?;
    repr.emit(&mut frame[ETH..])?;
    Some(ETH + arp::LEN)
}

/// Turns an ARP request into the reply that its target address is at `mac`.
pub fn arp_reply_in_place(frame: &mut [u8], mac: Mac) -> Option<usize> {
    let request = arp::Repr::parse(frame.get(ETH..)?)?;
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
    let asker = ethernet::source(frame)?;
    ethernet::emit(frame, asker, mac, ETHERTYPE_IPV4)?;
    let packet = &mut frame[ETH..];
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    if header_length < IPV4_LEN || packet.len() < header_length + icmp::HEADER_LEN {
        return None;
    }
    let (header, message) = packet.split_at_mut(header_length);
    let (source, rest) = header[12..].split_at_mut(4);
    source.swap_with_slice(&mut rest[..4]);
    header[8] = TTL;
    header[10..12].fill(0);
    let checksum = !sum(header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    message[0] = icmp::ECHO_REPLY;
    message[2..4].fill(0);
    let checksum = !sum(message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    Some(length)
}

/// The reset that a TCP segment without a connection gets (RFC 9293 section 3.10.7.1), from the segment's
/// destination. None for a reset.
pub fn tcp_reset(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize> {
    let ip = Ipv4::of(offending)?;
    let segment = ip.payload;
    let header = segment.first_chunk::<{ tcp::HEADER_LEN }>()?;
    let flags = Flags(header[13]);
    if flags.rst() {
        return None;
    }
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let data = segment
        .len()
        .checked_sub(usize::from(header[12] >> 4) * 4)?;
    let (sequence, acknowledged, reply_flags) = if flags.ack() {
        (word(8), 0, Flags::RST)
    } else {
        // SEG.LEN counts SYN and FIN.
        let length = data as u32 + u32::from(flags.syn()) + u32::from(flags.fin());
        (0, word(4).wrapping_add(length), Flags::RST | Flags::ACK)
    };
    let length = ETH + IPV4_LEN + tcp::HEADER_LEN;
    let frame = frame.get_mut(..length)?;
    ethernet::emit(frame, ethernet::source(offending)?, mac, ETHERTYPE_IPV4)?;
    let reset = &mut frame[ETH + IPV4_LEN..];
    reset.fill(0);
    reset[0..2].copy_from_slice(&header[2..4]);
    reset[2..4].copy_from_slice(&header[0..2]);
    reset[4..8].copy_from_slice(&sequence.to_be_bytes());
    reset[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    reset[12] = (tcp::HEADER_LEN as u8 / 4) << 4;
    reset[13] = reply_flags;
    let pseudo = pseudo_header_v4(ip.destination, ip.source, 6, tcp::HEADER_LEN as u16);
    let checksum = !fold(pseudo + partial(reset));
    reset[16..18].copy_from_slice(&checksum.to_be_bytes());
    emit_ipv4(&mut frame[ETH..], ip.destination, ip.source, 6, 0, true);
    Some(length)
}

/// The length of the frame of [`reset`].
pub const RESET_LEN: usize = ETH + IPV4_LEN + tcp::HEADER_LEN;

/// A reset that answers nothing: from the second MAC address to the first, from an address and port to another.
pub fn reset(
    frame: &mut [u8],
    (to, from): (Mac, Mac),
    (source, source_port): (Ipv4Addr, u16),
    (destination, destination_port): (Ipv4Addr, u16),
    sequence: u32,
) -> Option<usize> {
    let frame = frame.get_mut(..RESET_LEN)?;
    ethernet::emit(frame, to, from, ETHERTYPE_IPV4)?;
    let segment = &mut frame[ETH + IPV4_LEN..];
    segment.fill(0);
    segment[0..2].copy_from_slice(&source_port.to_be_bytes());
    segment[2..4].copy_from_slice(&destination_port.to_be_bytes());
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[12] = (tcp::HEADER_LEN as u8 / 4) << 4;
    segment[13] = Flags::RST;
    let pseudo = pseudo_header_v4(source, destination, 6, tcp::HEADER_LEN as u16);
    let checksum = !fold(pseudo + partial(segment));
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    emit_ipv4(&mut frame[ETH..], source, destination, 6, 0, true);
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
    let ip = Ipv4::of(offending)?;
    let quoted = &ip.packet[..ip
        .packet
        .len()
        .min(ICMP_ERROR_MAX - IPV4_LEN - icmp::HEADER_LEN)];
    let length = ETH + IPV4_LEN + icmp::HEADER_LEN + quoted.len();
    let frame = frame.get_mut(..length)?;
    ethernet::emit(frame, ethernet::source(offending)?, mac, ETHERTYPE_IPV4)?;
    let message = &mut frame[ETH + IPV4_LEN..];
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..8].copy_from_slice(&rest.to_be_bytes());
    message[8..].copy_from_slice(quoted);
    let checksum = !sum(message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    emit_ipv4(&mut frame[ETH..], from, ip.source, 1, TOS_CONTROL, false);
    Some(length)
}

/// Writes the header of a packet that fills `packet`.
fn emit_ipv4(
    packet: &mut [u8],
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    tos: u8,
    dont_fragment: bool,
) {
    let length = packet.len() as u16;
    let Some(header) = packet.first_chunk_mut::<IPV4_LEN>() else {
        return;
    };
    header.fill(0);
    header[0] = 0x45;
    header[1] = tos;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[6] = if dont_fragment { 0x40 } else { 0 };
    header[8] = TTL;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let checksum = !sum(header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
    const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 1, 7]);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A TCP segment of the client's.
    fn segment(flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETH + IPV4_LEN + tcp::HEADER_LEN + data.len()];
        ethernet::emit(&mut frame, MAC, CLIENT_MAC, ETHERTYPE_IPV4).unwrap();
        let tcp = &mut frame[ETH + IPV4_LEN..];
        tcp[0..4].copy_from_slice(&[0x9c, 0x40, 0x00, 0x50]);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp[13] = flags;
        tcp[20..].copy_from_slice(data);
        emit_ipv4(&mut frame[ETH..], CLIENT, VIP, 6, 0, true);
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
            let mut frame = vec![0; ETH + IPV4_LEN + 8 + data.len()];
            ethernet::emit(&mut frame, MAC, CLIENT_MAC, ETHERTYPE_IPV4).unwrap();
            frame[ETH + IPV4_LEN] = icmp::ECHO_REQUEST;
            frame[ETH + IPV4_LEN + 8..].copy_from_slice(&data);
            let checksum = !sum(&frame[ETH + IPV4_LEN..]);
            frame[ETH + IPV4_LEN + 2..][..2].copy_from_slice(&checksum.to_be_bytes());
            emit_ipv4(&mut frame[ETH..], CLIENT, VIP, 1, 0, false);
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

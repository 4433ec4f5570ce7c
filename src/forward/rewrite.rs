//! Applies a connection's translation to a frame: the one routine of all modes.

use crate::conn::Connection;
use crate::wire::Mac;
use crate::wire::checksum::Delta;

const PROTOCOL_TCP: u8 = 6;

/// Where the headers of a checked IPv4 frame are, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub ip: u8,
    pub l4: u8,
}

/// Puts the addresses of the connection's other side into the frame, corrects both checksums by what changed
/// (RFC 1624), and takes one from the TTL.
///
/// The frame must have passed [`crate::director::parse`], and its TTL must be above 1; of a shorter one, whatever
/// is missing is left alone.
#[inline(always)]
pub fn translate(frame: &mut [u8], layout: Layout, connection: &Connection, reply: bool) {
    let (ip_delta, l4_delta, to) = if reply {
        // What the client sent to, answering it.
        (
            connection.ip_delta.inverse(),
            connection.l4_delta.inverse(),
            connection.request.reversed(),
        )
    } else {
        (
            connection.ip_delta,
            connection.l4_delta,
            connection.reply.reversed(),
        )
    };
    let Some((head, l4)) = frame.split_at_mut_checked(usize::from(layout.l4)) else {
        return;
    };
    let Some(ip) = head
        .get_mut(usize::from(layout.ip)..)
        .and_then(<[u8]>::first_chunk_mut::<20>)
    else {
        return;
    };
    ip[12..16].copy_from_slice(&to.source().octets());
    ip[16..20].copy_from_slice(&to.destination().octets());
    let checksum = decrement_ttl(ip, ip_delta);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());

    let Some(ports) = l4.first_chunk_mut::<8>() else {
        return;
    };
    ports[0..2].copy_from_slice(&to.source_port().to_be_bytes());
    ports[2..4].copy_from_slice(&to.destination_port().to_be_bytes());
    if ip[9] == PROTOCOL_TCP {
        if let Some(field) = l4.get_mut(16..18) {
            let checksum = l4_delta.apply(u16::from_be_bytes([field[0], field[1]]));
            field.copy_from_slice(&checksum.to_be_bytes());
        }
    } else {
        let checksum = l4_delta.apply_udp(u16::from_be_bytes([ports[6], ports[7]]));
        ports[6..8].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Takes one from the TTL of an IPv4 header that goes on with its addresses unchanged.
#[inline(always)]
pub fn pass(frame: &mut [u8], layout: Layout) {
    let Some(ip) = frame
        .get_mut(usize::from(layout.ip)..)
        .and_then(<[u8]>::first_chunk_mut::<20>)
    else {
        return;
    };
    let checksum = decrement_ttl(ip, Delta::ZERO);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Takes one from the TTL; returns the header checksum after that and after `delta`.
#[inline(always)]
fn decrement_ttl(ip: &mut [u8; 20], delta: Delta) -> u16 {
    let before = u16::from_be_bytes([ip[8], ip[9]]);
    ip[8] = ip[8].wrapping_sub(1);
    let after = u16::from_be_bytes([ip[8], ip[9]]);
    delta
        .replace_u16(before, after)
        .apply(u16::from_be_bytes([ip[10], ip[11]]))
}

/// Sets both MAC addresses.
#[inline(always)]
pub fn set_macs(frame: &mut [u8], destination: Mac, source: Mac) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        macs[..6].copy_from_slice(&destination.0);
        macs[6..].copy_from_slice(&source.0);
    }
}

//! Sends a packet that is longer than its way allows in fragments.
//!
//! An IPv4 packet is cut as a router does (RFC 791 section 3.2). An IPv6 packet is cut by its sender alone, which weir is of two
//! kinds: of one that it has made of an IPv4 packet, which has a fragment header already, and of which RFC 7915 section 4 wants
//! fragments of at most 1,280 bytes; and of one that it has wrapped a packet in, on a way that does not take all that every IPv6
//! link takes and the headers before it (RFC 2473 section 7.1 (b), RFC 4213 section 3.2.2).

use crate::net::{LEAST_MTU_V6, ethertype, protocol};
use crate::packet::{Packet, Sent, Sink};
use crate::units::PortId;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::extension::{self, Fragment};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};

const ETH: usize = ethernet::HEADER_LEN;
const V6_HEADERS: usize = ipv6::HEADER_LEN + extension::FRAGMENT_LEN;
/// The longest headers of a fragment, with that of Ethernet.
const MOST: usize = ETH + ipv4::MAX_HEADER_LEN;

/// The headers of a fragment, all but what differs from one to the next.
struct Headers {
    bytes: [u8; MOST],
    len: usize,
}

impl Headers {
    fn new(ethernet: &[u8], ip: &[u8]) -> Option<Self> {
        let len = ethernet.len() + ip.len();
        let mut bytes = [0; MOST];
        let (before, rest) = bytes.get_mut(..len)?.split_at_mut(ethernet.len());
        before.copy_from_slice(ethernet);
        rest.copy_from_slice(ip);
        Some(Headers { bytes, len })
    }
}

/// How a packet is cut.
struct Cut {
    first: Headers,
    later: Headers,
    /// Where the data begin in the frame, and how many bytes there are.
    at: usize,
    data: usize,
    /// What the packet itself is of its datagram.
    whole: Fragment,
    /// The longest that a fragment may be, without Ethernet's header.
    mtu: usize,
    is_v6: bool,
}

impl Cut {
    /// None of a packet that fits, or that must not be cut. `number`: of one that weir has wrapped a packet in.
    fn of(frame: &[u8], mtu: u16, number: Option<u32>) -> Option<Cut> {
        let header = frame.get(..ETH)?;
        let ethernet = Ethernet::new_checked(frame).ok()?;
        match ethernet.ethertype() {
            ethertype::IPV4 => {
                let ip = Ipv4::new_checked(ethernet.payload()).ok()?;
                if ip.total_length() <= mtu {
                    return None;
                }
                let (later, length) = ip.later_header();
                Some(Cut {
                    first: Headers::new(header, ip.packet().get(..ip.header_len())?)?,
                    later: Headers::new(header, later.get(..length)?)?,
                    at: ETH + ip.header_len(),
                    data: ip.payload().len(),
                    whole: Fragment {
                        offset: ip.fragment_offset(),
                        more: ip.more_fragments(),
                        identification: 0,
                        next_header: 0,
                    },
                    mtu: mtu.into(),
                    is_v6: false,
                })
            }
            ethertype::IPV6 => {
                let ip = Ipv6::new_checked(ethernet.payload()).ok()?;
                if ip.packet().len() <= mtu.into() {
                    return None;
                }
                if let Some(number) = number {
                    return Cut::of_own(header, &ip, mtu, number);
                }
                if ip.next_header() != protocol::FRAGMENT {
                    return None;
                }
                let whole = ip.upper_layer().ok()?.fragment?;
                let headers = || Headers::new(header, ip.packet().get(..V6_HEADERS)?);
                Some(Cut {
                    first: headers()?,
                    later: headers()?,
                    at: ETH + V6_HEADERS,
                    data: ip.packet().len().checked_sub(V6_HEADERS)?,
                    whole,
                    mtu: LEAST_MTU_V6 as usize,
                    is_v6: true,
                })
            }
            _ => None,
        }
    }

    /// Of an IPv6 packet without extension headers, whose fragments have this number.
    fn of_own(ethernet: &[u8], ip: &Ipv6<&[u8]>, mtu: u16, number: u32) -> Option<Cut> {
        let mut header = [0; V6_HEADERS];
        let before = ip.packet().first_chunk::<{ ipv6::HEADER_LEN }>()?;
        *header.first_chunk_mut()? = *before;
        Ipv6::new_quoted(&mut header[..])
            .ok()?
            .set_next_header(protocol::FRAGMENT);
        Some(Cut {
            first: Headers::new(ethernet, &header)?,
            later: Headers::new(ethernet, &header)?,
            at: ETH + ipv6::HEADER_LEN,
            data: ip.packet().len() - ipv6::HEADER_LEN,
            whole: Fragment {
                offset: 0,
                more: false,
                identification: number,
                next_header: ip.next_header(),
            },
            mtu: mtu.into(),
            is_v6: true,
        })
    }

    fn headers(&self, offset: usize) -> &Headers {
        match offset {
            0 => &self.first,
            _ => &self.later,
        }
    }

    /// How many bytes of data the fragment at this place has.
    fn length(&self, offset: usize) -> usize {
        let room = self.mtu.saturating_sub(self.headers(offset).len - ETH);
        let rest = self.data - offset;
        if rest <= room { rest } else { room & !7 }
    }

    /// Writes the headers of the fragment whose data begin at `offset` of the packet's. None if the frame is too short.
    fn write(&self, frame: &mut [u8], offset: usize) -> Option<()> {
        let Headers { bytes, len } = self.headers(offset);
        frame.get_mut(..*len)?.copy_from_slice(&bytes[..*len]);
        let more = self.whole.more || offset + self.length(offset) < self.data;
        let place = self.whole.offset.checked_add(offset as u16)?;
        let packet = &mut frame[ETH..];
        if self.is_v6 {
            let length = (packet.len() - ipv6::HEADER_LEN) as u16;
            Ipv6::new_quoted(&mut *packet)
                .ok()?
                .set_payload_length(length);
            let fragment = Fragment {
                offset: place,
                more,
                ..self.whole
            };
            fragment.emit(packet.get_mut(ipv6::HEADER_LEN..)?.first_chunk_mut()?);
        } else {
            let length = packet.len() as u16;
            let mut ip = Ipv4::new_quoted(packet).ok()?;
            ip.set_total_length(length);
            ip.set_fragment(place, more);
            ip.fill_checksum();
        }
        Some(())
    }
}

/// Sends a frame, in fragments if its packet is longer than `mtu`. Returns false where a buffer is missing; what was not
/// sent by then is freed.
///
/// The last fragment is the packet itself, so that the received packet ends where it is counted; the others are fresh ones.
pub fn send<S: Sink>(packet: S::Packet, port: PortId, mtu: u16, sink: &mut S) -> bool {
    send_cut(Cut::of(packet.data(), mtu, None), packet, port, sink)
}

/// As [`send`], of a packet that weir has wrapped another in, without options and extension headers. `number` is that of its
/// fragments if it is of IPv6.
pub fn send_own<S: Sink>(
    packet: S::Packet,
    port: PortId,
    mtu: u16,
    number: u32,
    sink: &mut S,
) -> bool {
    send_cut(
        Cut::of(packet.data(), mtu, Some(number)),
        packet,
        port,
        sink,
    )
}

fn send_cut<S: Sink>(cut: Option<Cut>, mut packet: S::Packet, port: PortId, sink: &mut S) -> bool {
    let Some(cut) = cut else {
        sink.send(port, packet, Sent::Forwarded);
        return true;
    };
    let mut offset = 0;
    loop {
        let length = cut.length(offset);
        let headers = cut.headers(offset).len;
        // No room for data: the headers alone are longer than the MTU.
        if length == 0 {
            return false;
        }
        if offset + length == cut.data {
            let is_placed = packet.trim_front(cut.at + offset - headers)
                && packet.resize(headers + length)
                && cut.write(packet.data_mut(), offset).is_some();
            if is_placed {
                sink.send(port, packet, Sent::Forwarded);
            }
            return is_placed;
        }
        let Some(mut piece) = sink.alloc(port) else {
            return false;
        };
        let from = cut.at + offset;
        let data = packet.data().get(from..from + length);
        let (true, Some(data)) = (piece.resize(headers + length), data) else {
            return false;
        };
        piece.data_mut()[headers..].copy_from_slice(data);
        if cut.write(piece.data_mut(), offset).is_none() {
            return false;
        }
        piece.set_priorities(packet.priorities());
        sink.send(port, piece, Sent::Originated);
        offset += length;
    }
}
#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;

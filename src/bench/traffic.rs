//! Frames of many flows, in random order.

use super::{BUFFER, HEADROOM, LONGEST, six};
use crate::net::{Mac, ethertype, protocol};
use crate::units::PortId;
use crate::wire::tcp::Flags;
use crate::wire::{ethernet, ipv4, tcp, udp};
use std::net::Ipv4Addr;

/// One flow's packet: what differs from the template.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub port: PortId,
    /// The frame is its [twin](six::frame) of IPv6.
    pub is_six: bool,
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
}

/// Bytes of the longest headers: of TCP over IPv6.
const HEADERS: usize = 74;

/// A header as it is on the wire, and where its packet comes in.
#[derive(Clone, Copy)]
struct Header {
    bytes: [u8; HEADERS],
    length: usize,
    port: PortId,
}

/// An endless stream of frames: every flow once, in random order, then again in the same order.
pub struct Traffic {
    headers: Vec<Header>,
    next: usize,
    /// Of the random numbers: the same in every run.
    state: u64,
}

impl Traffic {
    /// `length`: of each frame, in bytes; IPv6 ones are 20 longer. `flags`: of TCP, or none for UDP.
    pub fn new(flows: impl IntoIterator<Item = Flow>, flags: Option<u8>, length: usize) -> Self {
        let headers = flows
            .into_iter()
            .map(|flow| header(&flow, flags, length))
            .collect();
        let mut traffic = Traffic {
            headers,
            next: 0,
            state: 0x9e37_79b9_7f4a_7c15,
        };
        traffic.shuffle();
        traffic
    }

    /// These frames, in their order; of each, the headers and the length.
    pub fn of_frames(frames: impl IntoIterator<Item = (PortId, Vec<u8>)>) -> Self {
        let frames = frames.into_iter();
        Traffic {
            headers: frames
                .map(|(port, frame)| Header::of(&frame, port))
                .collect(),
            next: 0,
            state: 1,
        }
    }

    /// Another order of the flows (Fisher-Yates): not the one in which their connections were made, and stand in memory.
    pub fn shuffle(&mut self) {
        for n in (1..self.headers.len()).rev() {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let other = (self.state % (n as u64 + 1)) as usize;
            self.headers.swap(n, other);
        }
        self.next = 0;
    }

    /// How far it has come: for [`go_to`](Self::go_to).
    pub(super) fn place(&self) -> usize {
        self.next
    }

    pub(super) fn go_to(&mut self, place: usize) {
        self.next = place;
    }

    /// Writes the next frame, behind the headroom; returns where it comes in and its length.
    #[inline(always)]
    pub(super) fn next(&mut self, buffer: &mut [u8; BUFFER]) -> (PortId, usize) {
        let header = &self.headers[self.next];
        // What this waits for beside a director would count as the director's.
        if let Some(later) = self.headers.get(self.next + 64) {
            crate::arch::prefetch(later);
        }
        self.next += 1;
        if self.next == self.headers.len() {
            self.next = 0;
        }
        buffer[HEADROOM..HEADROOM + HEADERS].copy_from_slice(&header.bytes);
        (header.port, header.length)
    }
}

fn header(flow: &Flow, flags: Option<u8>, length: usize) -> Header {
    Header::of(&frame(flow, flags, length), flow.port)
}

impl Header {
    fn of(whole: &[u8], port: PortId) -> Self {
        let mut bytes = [0; HEADERS];
        let known = whole.len().min(HEADERS);
        bytes[..known].copy_from_slice(&whole[..known]);
        Header {
            bytes,
            length: whole.len().min(LONGEST),
            port,
        }
    }
}

/// A whole frame with zeros for payload, its checksums right.
pub fn frame(flow: &Flow, flags: Option<u8>, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length.max(54)];
    let ip = ipv4::Repr::new(
        flow.source.0,
        flow.destination.0,
        flags.map_or(protocol::UDP, |_| protocol::TCP),
    );
    let (source_port, destination_port) = (flow.source.1, flow.destination.1);
    let to = super::mac(flow.port);
    let written = ethernet::emit(&mut frame, to, Mac([2, 0, 0, 0, 9, 9]), ethertype::IPV4)
        .and_then(|()| ip.emit(&mut frame[14..]))
        .and_then(|()| {
            let l4 = &mut frame[14 + ipv4::HEADER_LEN..];
            let pseudo = ip.pseudo_header(l4.len() as u16);
            match flags {
                Some(flags) => tcp::Repr {
                    source_port,
                    destination_port,
                    flags: Flags(flags),
                    ..tcp::Repr::default()
                }
                .emit(l4, pseudo),
                None => udp::Repr {
                    source_port,
                    destination_port,
                }
                .emit(l4, pseudo),
            }
        });
    debug_assert!(written.is_some());
    match flow.is_six {
        true => six::frame(&frame).expect("a flow's frame"),
        false => frame,
    }
}

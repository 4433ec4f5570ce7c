//! The dataplane's pieces, each alone: where a packet's time goes is in docs/performance.md.
//!
//! `cargo bench` runs them all, `cargo bench find` those with that name. What comes in bursts is counted by the packet.

mod connections;
mod parse;
mod publish;
mod rewrite;
mod schedulers;

use divan::counter::ItemsCount;
use std::net::Ipv4Addr;
use weir::conn::{FlowKey, Key};
use weir::net::protocol::UDP;
use weir::net::{Mac, ethertype};
use weir::packet::BURST;
use weir::wire::{ethernet, ipv4, udp};

fn main() {
    divan::main();
}

fn per_packet() -> ItemsCount {
    ItemsCount::new(BURST)
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

/// Numbers without order, the same in every run (splitmix64).
fn scatter(n: usize) -> u64 {
    let mut x = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// The request key of the n-th client: addresses and ports all over.
fn request(n: usize) -> FlowKey {
    let dice = scatter(n);
    let client = Ipv4Addr::from_bits(0x0b00_0000 + (dice as u32 >> 4));
    FlowKey::new(client, 1024 | (dice >> 40) as u16, VIP, 53, UDP)
}

/// A 60-byte UDP frame of that client to the VIP.
fn frame(n: usize) -> Vec<u8> {
    let key = request(n);
    let mut frame = vec![0; 60];
    ethernet::emit(&mut frame, MAC, Mac::default(), ethertype::IPV4);
    let ip = ipv4::Repr::new(key.source(), key.destination(), key.protocol());
    ip.emit(&mut frame[ethernet::HEADER_LEN..]);
    let datagram = &mut frame[ethernet::HEADER_LEN + ipv4::HEADER_LEN..];
    let pseudo = ip.pseudo_header(datagram.len() as u16);
    let header = udp::Repr {
        source_port: key.source_port(),
        destination_port: key.destination_port(),
    };
    header.emit(datagram, pseudo);
    frame
}

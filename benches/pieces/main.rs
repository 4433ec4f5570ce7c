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
use weir::conn::FlowKey;
use weir::packet::BURST;

fn main() {
    divan::main();
}

fn per_packet() -> ItemsCount {
    ItemsCount::new(BURST)
}

const MAC: weir::wire::Mac = weir::wire::Mac([2, 0, 0, 0, 0, 1]);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
const UDP: u8 = 17;

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
    frame[..6].copy_from_slice(&MAC.0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let ip = &mut frame[14..];
    ip[..10].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, UDP]);
    ip[12..16].copy_from_slice(&key.source().octets());
    ip[16..20].copy_from_slice(&key.destination().octets());
    let checksum = !weir::wire::checksum::sum(&ip[..20]);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip[20..22].copy_from_slice(&key.source_port().to_be_bytes());
    ip[22..24].copy_from_slice(&key.destination_port().to_be_bytes());
    ip[24..26].copy_from_slice(&26u16.to_be_bytes());
    ip[26..28].copy_from_slice(&[0x12, 0x34]);
    frame
}

//! Steering against code that is not weir's: DPDK's own `rte_softrss`.
#![allow(unsafe_code)]

use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use weir::conn::{FlowKey, Key};
use weir::net::{Mac, ethertype, protocol};
use weir::steering::{KEY_LEN, Steering};
use weir::wire::{ethernet, ipv4, ipv6};

/// The hash that DPDK computes over big-endian words, given here as bytes.
fn softrss(key: &[u8; KEY_LEN], input: &[u8]) -> u32 {
    // It takes words in the machine's order, and reads one word of the key beyond them.
    let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut words: Vec<u32> = input.chunks_exact(4).map(word).collect();
    let mut aligned: Vec<u32> = key
        .chunks_exact(4)
        .map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    assert!(words.len() < aligned.len());
    // SAFETY: both are arrays of words, as many as it is told, and the key has one more.
    unsafe {
        dpdk_sys::rte_softrss(
            words.as_mut_ptr(),
            words.len() as u32,
            aligned.as_mut_ptr().cast(),
        )
    }
}

fn key() -> impl Strategy<Value = [u8; KEY_LEN]> {
    prop_oneof![
        Just(weir::steering::DEFAULT_KEY),
        prop::collection::vec(any::<u8>(), KEY_LEN).prop_map(|bytes| bytes.try_into().unwrap()),
    ]
}

/// A frame of IPv4 with this protocol and these ports.
fn frame(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, ports: [u16; 2]) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[34..38].copy_from_slice(&ports.map(u16::to_be_bytes).concat());
    ethernet::emit(&mut frame, Mac([2; 6]), Mac([4; 6]), ethertype::IPV4).unwrap();
    let ip = ipv4::Repr::new(source, destination, protocol);
    ip.emit(&mut frame[14..]).unwrap();
    frame
}

/// The same of IPv6.
fn frame_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, ports: [u16; 2]) -> Vec<u8> {
    let mut frame = vec![0; 74];
    frame[54..58].copy_from_slice(&ports.map(u16::to_be_bytes).concat());
    ethernet::emit(&mut frame, Mac([2; 6]), Mac([4; 6]), ethertype::IPV6).unwrap();
    let ip = ipv6::Repr::new(source, destination, protocol);
    ip.emit(&mut frame[14..]).unwrap();
    frame
}

proptest! {
    #[test]
    fn the_owner_of_an_ipv4_flow_is_the_queue_that_a_nic_chooses(
        key in key(),
        addresses: [u32; 2],
        ports: [u16; 2],
        tcp: bool,
        workers in 2usize..17,
        size in prop::sample::select(vec![16, 64, 128]),
    ) {
        let steering = Steering::with_table(key, workers, size);
        let [source, destination] = addresses.map(Ipv4Addr::from_bits);
        let mut input = [source.octets(), destination.octets()].concat();
        let two = softrss(&key, &input) as usize % size % workers;
        input.extend(ports.map(u16::to_be_bytes).concat());
        let four = softrss(&key, &input) as usize % size % workers;

        let protocol = if tcp { protocol::TCP } else { protocol::UDP };
        let flow = FlowKey::new(source, ports[0], destination, ports[1], protocol);
        prop_assert_eq!(steering.owner(&flow).index(), four);
        prop_assert_eq!(steering.owner_of_addresses(source, destination).index(), two);

        let worker = |protocol| steering.worker_of(&frame(source, destination, protocol, ports));
        prop_assert_eq!(worker(protocol).index(), four);
        prop_assert_eq!(worker(protocol::ICMP).index(), two);
    }

    #[test]
    fn the_owner_of_an_ipv6_flow_is_the_queue_that_a_nic_chooses(
        key in key(),
        addresses: [u128; 2],
        ports: [u16; 2],
        workers in 2usize..17,
    ) {
        let steering = Steering::new(key, workers);
        let [source, destination] = addresses.map(Ipv6Addr::from_bits);
        let mut input = [source.octets(), destination.octets()].concat();
        let two = softrss(&key, &input) as usize % 128 % workers;
        input.extend(ports.map(u16::to_be_bytes).concat());
        let four = softrss(&key, &input) as usize % 128 % workers;
        let worker = |protocol| steering.worker_of(&frame_v6(source, destination, protocol, ports));
        prop_assert_eq!(worker(protocol::UDP).index(), four);
        prop_assert_eq!(worker(protocol::ICMPV6).index(), two);
    }
}

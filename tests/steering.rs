//! Steering against what no one here wrote: DPDK's own `rte_softrss`.
#![allow(unsafe_code)]

use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use weir::conn::FlowKey;
use weir::steering::{KEY_LEN, Steering};

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
    // SAFETY: both are arrays of words, as many as it is told of, and the key has one more.
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

/// An Ethernet frame with this Ethertype, IP header and ports.
fn frame(ethertype: u16, ip: &[u8], ports: [u16; 2]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(ip);
    frame.extend(ports.map(u16::to_be_bytes).concat());
    frame.resize(frame.len() + 16, 0);
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

        let protocol = if tcp { 6 } else { 17 };
        let flow = FlowKey::new(source, ports[0], destination, ports[1], protocol);
        prop_assert_eq!(steering.owner(&flow).index(), four);
        prop_assert_eq!(steering.owner_of_addresses(source, destination).index(), two);

        let mut ip = [0; 20];
        (ip[0], ip[9]) = (0x45, protocol);
        ip[12..].copy_from_slice(&input[..8]);
        prop_assert_eq!(steering.worker_of(&frame(0x0800, &ip, ports)).index(), four);
        ip[9] = 1;
        prop_assert_eq!(steering.worker_of(&frame(0x0800, &ip, ports)).index(), two);
    }

    #[test]
    fn the_owner_of_an_ipv6_flow_is_the_queue_that_a_nic_chooses(
        key in key(),
        addresses: [u128; 2],
        ports: [u16; 2],
        workers in 2usize..17,
    ) {
        let steering = Steering::new(key, workers);
        let mut ip = [0; 40];
        (ip[0], ip[6]) = (0x60, 17);
        ip[8..].copy_from_slice(&addresses.map(|address| Ipv6Addr::from_bits(address).octets()).concat());
        let mut input = ip[8..].to_vec();
        let two = softrss(&key, &input) as usize % 128 % workers;
        input.extend(ports.map(u16::to_be_bytes).concat());
        let four = softrss(&key, &input) as usize % 128 % workers;
        prop_assert_eq!(steering.worker_of(&frame(0x86dd, &ip, ports)).index(), four);
        ip[6] = 58;
        prop_assert_eq!(steering.worker_of(&frame(0x86dd, &ip, ports)).index(), two);
    }
}

//! Which worker a flow belongs to: receive-side scaling as NICs do it.
//!
//! The Toeplitz hash of a packet's addresses and ports selects an entry of an indirection table, and that a receive
//! queue, which is a worker's (Microsoft, "RSS hashing types" and "Verifying the RSS hash calculation"; DPDK's
//! `rte_softrss`). Devices that can be given the key and the table compute the same in hardware; where a device cannot,
//! or a packet came another way, it is computed here.

use crate::conn::{Address, Key};
use crate::net::{ethertype, protocol};
use crate::units::WorkerId;
use crate::wire::ethernet::Ethernet;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;

/// The key of Microsoft's specification, which is the default of most devices.
pub const DEFAULT_KEY: [u8; KEY_LEN] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Bytes of a key: as many as the longest input, two IPv6 addresses and two ports, and four more.
pub const KEY_LEN: usize = 40;

/// Entries of the indirection table: what most devices have, or a multiple of it.
pub const TABLE_SIZE: usize = 128;

/// Bytes of the longest input: two IPv6 addresses and two ports.
const INPUT: usize = 36;

/// The Toeplitz hash of up to `key.len() - 4` bytes, most significant bit first. The definition; slow.
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let is_set = |bit: &usize| input[bit / 8] >> (7 - bit % 8) & 1 == 1;
    (0..input.len() * 8)
        .filter(is_set)
        .fold(0, |hash, bit| hash ^ window(key, bit))
}

/// The 32 bits of the key that an input bit adds to the hash.
fn window(key: &[u8], bit: usize) -> u32 {
    let at = |n: usize| u64::from(key.get(bit / 8 + n).copied().unwrap_or(0));
    let bits = at(0) << 32 | at(1) << 24 | at(2) << 16 | at(3) << 8 | at(4);
    (bits >> (8 - bit % 8)) as u32
}

/// The input bit behind the last one of each field.
struct Fields {
    addresses: [usize; 2],
    ports: [usize; 2],
}

const FIELDS_V4: Fields = Fields {
    addresses: [32, 64],
    ports: [80, 96],
};
const FIELDS_V6: Fields = Fields {
    addresses: [128, 256],
    ports: [272, 288],
};
/// Of a key, what a field of IPv4 does not reach: its last one ends 32 bits before.
const BEYOND_V4: usize = 16;

/// A key that no client knows, from a source of random bytes: with a published one, clients choose addresses and ports
/// that all belong to one worker. Draws until a key is fair: some 65,000 times for each family, a few tens of milliseconds.
///
/// # Errors
/// Those of `random`.
pub fn draw_key<E>(
    mut random: impl FnMut(&mut [u8; KEY_LEN]) -> Result<(), E>,
) -> Result<[u8; KEY_LEN], E> {
    let mut key = [0; KEY_LEN];
    while !is_fair_to(&key, &FIELDS_V4) {
        random(&mut key)?;
    }
    while !is_fair_to(&key, &FIELDS_V6) {
        let mut fresh = [0; KEY_LEN];
        random(&mut fresh)?;
        key[BEYOND_V4..].copy_from_slice(&fresh[BEYOND_V4..]);
    }
    Ok(key)
}

/// Whether every worker gets its share of what differs in one field only: of local ports towards one real server from one
/// pool address, of ports of one client, of clients with one port.
///
/// The hash is linear over GF(2). So the lowest `k` bits of a field choose among `2^k` entries of the indirection table
/// evenly, each once, if and only if what they add to the lowest `k` bits of the hash are independent vectors. That is
/// asked of ports for every `k` up to the size of the table, so that a small pool has a port for each of few workers; and
/// of addresses for the whole table.
pub fn is_fair(key: &[u8; KEY_LEN]) -> bool {
    is_fair_to(key, &FIELDS_V4) && is_fair_to(key, &FIELDS_V6)
}

fn is_fair_to(key: &[u8; KEY_LEN], fields: &Fields) -> bool {
    const BITS: usize = TABLE_SIZE.ilog2() as usize;
    let Fields { addresses, ports } = fields;
    (1..=BITS).all(|bits| ports.iter().all(|end| spreads(key, *end, bits)))
        && addresses.iter().all(|end| spreads(key, *end, BITS))
}

/// Whether the `bits` input bits before `end` choose each value of as many lowest bits of the hash once.
fn spreads(key: &[u8; KEY_LEN], end: usize, bits: usize) -> bool {
    // By their highest bits, as Gaussian elimination finds them.
    let mut basis = [0u32; 32];
    (end - bits..end).all(|bit| {
        let mut vector = window(key, bit) & ((1 << bits) - 1);
        while vector != 0 {
            let pivot = &mut basis[vector.ilog2() as usize];
            if *pivot == 0 {
                *pivot = vector;
                return true;
            }
            vector ^= *pivot;
        }
        false
    })
}

/// A hash key and an indirection table.
pub struct Steering {
    workers: usize,
    key: [u8; KEY_LEN],
    /// What each value of each input byte adds to the hash, which is linear.
    parts: Box<[[u32; 256]; INPUT]>,
    table: [WorkerId; TABLE_SIZE],
}

impl Steering {
    /// As a NIC with this key and an indirection table of [`TABLE_SIZE`] entries spreads packets over as many queues as
    /// there are workers.
    pub fn new(key: [u8; KEY_LEN], workers: usize) -> Self {
        Self::with_table(key, workers, TABLE_SIZE)
    }

    /// As [`new`](Self::new), for the smaller table of a device: a power of two.
    ///
    /// # Panics
    /// Without a worker, or with another size.
    pub fn with_table(key: [u8; KEY_LEN], workers: usize, size: usize) -> Self {
        assert!(workers > 0, "no worker to choose");
        assert!(
            size.is_power_of_two() && size <= TABLE_SIZE,
            "the lowest bits of a hash choose an entry"
        );
        let mut parts = Box::new([[0; 256]; INPUT]);
        for (place, part) in parts.iter_mut().enumerate() {
            for (value, part) in (0..=u8::MAX).zip(part) {
                let mut input = [0; INPUT];
                input[place] = value;
                *part = toeplitz(&key, &input);
            }
        }
        Steering {
            workers,
            key,
            parts,
            table: std::array::from_fn(|entry| WorkerId((entry % size % workers) as u8)),
        }
    }

    /// How many workers share the flows.
    #[inline(always)]
    pub fn workers(&self) -> usize {
        self.workers
    }

    pub fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// The owner of each hash, by its lowest bits.
    pub fn table(&self) -> &[WorkerId; TABLE_SIZE] {
        &self.table
    }

    /// The owner of a TCP or UDP flow in this direction.
    #[inline]
    pub fn owner(&self, key: &impl Key) -> WorkerId {
        if self.workers == 1 {
            return WorkerId(0);
        }
        self.entry(self.hash(key.wire()))
    }

    /// The owner of all that goes from one address to another.
    pub fn owner_of_addresses<A: Address>(&self, source: A, destination: A) -> WorkerId {
        if self.workers == 1 {
            return WorkerId(0);
        }
        let input = source.wire().chain(destination.wire());
        self.entry(self.hash(input))
    }

    /// The owner of the fragments of one datagram: by what all of them have.
    pub fn owner_of_datagram<A: Address>(
        &self,
        source: A,
        destination: A,
        identification: u32,
    ) -> WorkerId {
        if self.workers == 1 {
            return WorkerId(0);
        }
        let addresses = source.wire().chain(destination.wire());
        self.entry(self.hash(addresses.chain(identification.to_be_bytes())))
    }

    /// Which worker's queue a NIC puts a frame into: by addresses and ports where there are some, by the addresses of other
    /// packets and of fragments, and into the first queue what is not IP.
    pub fn worker_of(&self, frame: &[u8]) -> WorkerId {
        self.entry(self.hash_of(frame).unwrap_or(0))
    }

    fn hash_of(&self, frame: &[u8]) -> Option<u32> {
        let ethernet = Ethernet::new_checked(frame).ok()?;
        match ethernet.ethertype() {
            ethertype::IPV4 => {
                let ip = Ipv4::new_checked(ethernet.payload()).ok()?;
                let addresses = [ip.source().octets(), ip.destination().octets()];
                let ports = ip.ports().into_iter().flat_map(|(from, to)| [from, to]);
                let ports = ports.flat_map(u16::to_be_bytes);
                Some(self.hash(addresses.into_iter().flatten().chain(ports)))
            }
            ethertype::IPV6 => {
                let ip = Ipv6::new_checked(ethernet.payload()).ok()?;
                let addresses = [ip.source().octets(), ip.destination().octets()];
                // Behind extension headers a NIC need not find any.
                let ports = match ip.next_header() {
                    protocol::TCP | protocol::UDP => ip.payload().first_chunk::<4>(),
                    _ => None,
                };
                let ports = ports.into_iter().flatten().copied();
                Some(self.hash(addresses.into_iter().flatten().chain(ports)))
            }
            _ => None,
        }
    }

    #[inline]
    fn hash(&self, input: impl Iterator<Item = u8>) -> u32 {
        self.parts
            .iter()
            .zip(input)
            .fold(0, |hash, (part, byte)| hash ^ part[usize::from(byte)])
    }

    #[inline]
    fn entry(&self, hash: u32) -> WorkerId {
        self.table[hash as usize % TABLE_SIZE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::{FlowKey, FlowKey6};
    use crate::wire::{Mac, ethernet, ipv4, ipv6};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    type Example = ((&'static str, u16), (&'static str, u16), u32, u32);

    /// Microsoft's examples: source, destination, the hash with ports, the hash without.
    const V4: [Example; 5] = [
        (
            ("66.9.149.187", 2794),
            ("161.142.100.80", 1766),
            0x51cc_c178,
            0x323e_8fc2,
        ),
        (
            ("199.92.111.2", 14_230),
            ("65.69.140.83", 4739),
            0xc626_b0ea,
            0xd718_262a,
        ),
        (
            ("24.19.198.95", 12_898),
            ("12.22.207.184", 38_024),
            0x5c2b_394a,
            0xd2d0_a5de,
        ),
        (
            ("38.27.205.30", 48_228),
            ("209.142.163.6", 2217),
            0xafc7_327f,
            0x8298_9176,
        ),
        (
            ("153.39.163.191", 44_251),
            ("202.188.127.2", 1303),
            0x10e8_28a2,
            0x5d18_09c5,
        ),
    ];
    const V6: [Example; 3] = [
        (
            ("3ffe:2501:200:1fff::7", 2794),
            ("3ffe:2501:200:3::1", 1766),
            0x4020_7d3d,
            0x2cc1_8cd5,
        ),
        (
            ("3ffe:501:8::260:97ff:fe40:efab", 14_230),
            ("ff02::1", 4739),
            0xdde5_1bbf,
            0x0f0c_461c,
        ),
        (
            ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44_251),
            ("fe80::200:f8ff:fe21:67cf", 38_024),
            0x02d1_feef,
            0x4b61_e985,
        ),
    ];

    fn key(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> FlowKey {
        FlowKey::new(
            source.0,
            source.1,
            destination.0,
            destination.1,
            protocol::UDP,
        )
    }

    #[test]
    fn hashes_are_those_of_the_specification() {
        let steering = Steering::new(DEFAULT_KEY, 4);
        let owner = |hash: u32| WorkerId((hash % 128 % 4) as u8);
        for ((source, source_port), (destination, destination_port), with, without) in V4 {
            let (source, destination): (Ipv4Addr, Ipv4Addr) =
                (source.parse().unwrap(), destination.parse().unwrap());
            let key = key((source, source_port), (destination, destination_port));
            assert_eq!(steering.owner(&key), owner(with));
            assert_eq!(
                steering.owner_of_addresses(source, destination),
                owner(without)
            );
            let mut input = [source.octets(), destination.octets()].concat();
            assert_eq!(toeplitz(&DEFAULT_KEY, &input), without);
            input.extend(source_port.to_be_bytes());
            input.extend(destination_port.to_be_bytes());
            assert_eq!(toeplitz(&DEFAULT_KEY, &input), with);
            assert_eq!(steering.hash(input.into_iter()), with);
        }
        for ((source, source_port), (destination, destination_port), with, without) in V6 {
            let (source, destination): (Ipv6Addr, Ipv6Addr) =
                (source.parse().unwrap(), destination.parse().unwrap());
            let mut input = [source.octets(), destination.octets()].concat();
            assert_eq!(toeplitz(&DEFAULT_KEY, &input), without);
            input.extend(source_port.to_be_bytes());
            input.extend(destination_port.to_be_bytes());
            assert_eq!(toeplitz(&DEFAULT_KEY, &input), with);
            let key = FlowKey6::new(source, source_port, destination, destination_port, 17);
            assert_eq!(steering.owner(&key), owner(with));
            let of_addresses = steering.owner_of_addresses(source, destination);
            assert_eq!(of_addresses, owner(without));
            assert_eq!(steering.hash(input.into_iter()), with);
        }
    }

    /// An IPv6 frame of TCP or UDP, or of a fragment.
    fn frame6(key: &FlowKey6, is_fragment: bool) -> Vec<u8> {
        let mut frame = vec![0; 74];
        ethernet::emit(&mut frame, Mac([2; 6]), Mac([4; 6]), ethertype::IPV6).unwrap();
        let next_header = match is_fragment {
            true => protocol::FRAGMENT,
            false => key.protocol(),
        };
        let ip = ipv6::Repr::new(key.source(), key.destination(), next_header);
        ip.emit(&mut frame[14..]).unwrap();
        frame[54..58].copy_from_slice(&key.wire_ports().to_le_bytes());
        frame
    }

    /// A frame of TCP or UDP, or of a fragment.
    fn frame(key: &FlowKey, is_fragment: bool) -> Vec<u8> {
        let mut frame = vec![0; 54];
        ethernet::emit(&mut frame, Mac([2; 6]), Mac([4; 6]), ethertype::IPV4).unwrap();
        let ip = ipv4::Repr::new(key.source(), key.destination(), key.protocol());
        ip.emit(&mut frame[14..]).unwrap();
        frame[20] = if is_fragment { 0x20 } else { 0x40 };
        frame[34..38].copy_from_slice(&key.wire_ports().to_le_bytes());
        frame
    }

    #[test]
    fn a_frame_goes_to_the_owner_of_its_flow_and_a_fragment_to_that_of_its_addresses() {
        let steering = Steering::new(DEFAULT_KEY, 7);
        for n in 0..200 {
            let (client, vip) = (Ipv4Addr::new(10, 0, 0, n), Ipv4Addr::new(192, 0, 2, 1));
            let key = key((client, 1000 + u16::from(n)), (vip, 53));
            assert_eq!(
                steering.worker_of(&frame(&key, false)),
                steering.owner(&key)
            );
            assert_eq!(
                steering.worker_of(&frame(&key, true)),
                steering.owner_of_addresses(client, vip)
            );
            let six = six(key);
            assert_eq!(
                steering.worker_of(&frame6(&six, false)),
                steering.owner(&six)
            );
            assert_eq!(
                steering.worker_of(&frame6(&six, true)),
                steering.owner_of_addresses(six.source(), six.destination())
            );
        }
        let mut arp = [0; 60];
        arp[12..14].copy_from_slice(&ethertype::ARP.to_be_bytes());
        assert_eq!(steering.worker_of(&arp), WorkerId(0));
    }

    #[test]
    fn every_worker_finds_a_local_port_among_few() {
        let pool = Ipv4Addr::new(10, 0, 0, 200);
        for workers in [1, 2, 4, 7] {
            let steering = Steering::new(DEFAULT_KEY, workers);
            for real in 0..=255 {
                let real = (Ipv4Addr::new(10, 0, 3, real), 8080);
                for worker in 0..workers {
                    let owns = |port| steering.owner(&key(real, (pool, port))).index() == worker;
                    assert!((40_000..40_128).any(owns), "{workers} workers, {worker}");
                }
            }
        }
    }

    /// A hundred keys, as a daemon draws them.
    fn drawn() -> impl Iterator<Item = [u8; KEY_LEN]> {
        let mut seed = 0u64;
        let mut word = move || {
            // splitmix64
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        };
        let mut random = move |key: &mut [u8; KEY_LEN]| {
            for bytes in key.chunks_exact_mut(8) {
                bytes.copy_from_slice(&word().to_le_bytes());
            }
            Ok::<_, ()>(())
        };
        (0..100).map(move |_| draw_key(&mut random).unwrap())
    }

    /// How many of these flows each worker owns.
    fn shares<K: Key>(steering: &Steering, flows: impl Iterator<Item = K>) -> Vec<usize> {
        let mut shares = vec![0; steering.workers()];
        flows.for_each(|flow| shares[steering.owner(&flow).index()] += 1);
        shares
    }

    /// A flow of IPv6 whose addresses end as that one's.
    fn six(flow: FlowKey) -> FlowKey6 {
        let at = |address: Ipv4Addr| {
            Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(address.to_bits()))
        };
        FlowKey6::new(
            at(flow.source()),
            flow.source_port(),
            at(flow.destination()),
            flow.destination_port(),
            flow.protocol(),
        )
    }

    #[test]
    fn with_a_drawn_key_every_worker_has_its_share_of_what_differs_in_one_field() {
        let (client, real) = (Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(10, 0, 3, 9));
        let pool = Ipv4Addr::new(10, 0, 0, 200);
        for drawn in drawn() {
            for workers in [2, 3, 4, 5, 8, 16, 33] {
                let steering = Steering::new(drawn, workers);
                let fair = 128 / workers..=128usize.div_ceil(workers);
                // A port or address of 128 in a row, from a multiple of 128 on.
                let local = (0..128).map(|n| key((real, 8080), (pool, 39_936 + n)));
                let ports = (0..128).map(|n| key((client, 51_200 + n), (pool, 53)));
                let clients =
                    (0..128).map(|n| key((Ipv4Addr::new(192, 0, 2, n), 123), (pool, 123)));
                let vips = (0..128).map(|n| key((client, 5060), (Ipv4Addr::new(192, 0, 2, n), 80)));
                for shares in [
                    shares(&steering, local.clone().map(six)),
                    shares(&steering, ports.clone().map(six)),
                    shares(&steering, clients.clone().map(six)),
                    shares(&steering, vips.clone().map(six)),
                    shares(&steering, local),
                    shares(&steering, ports),
                    shares(&steering, clients),
                    shares(&steering, vips),
                ] {
                    assert!(
                        shares.iter().all(|share| fair.contains(share)),
                        "{workers} workers: {shares:?}, key {drawn:02x?}"
                    );
                }
            }
            // Eight ports are two for each of four workers, wherever they begin.
            let steering = Steering::new(drawn, 4);
            for first in (40_000..40_800).step_by(8) {
                let few = (0..8).map(|n| key((real, 8080), (pool, first + n)));
                assert_eq!(
                    shares(&steering, few.clone().map(six)),
                    [2; 4],
                    "from {first}"
                );
                assert_eq!(shares(&steering, few), [2; 4], "from {first}");
            }
        }
    }

    #[test]
    fn flows_chosen_by_the_published_key_are_spread_by_a_drawn_one() {
        let vip = Ipv4Addr::new(192, 0, 2, 80);
        let published = Steering::new(DEFAULT_KEY, 4);
        let all = (0..16_000u32).map(|n| {
            let n = n.wrapping_mul(0x9e37_79b1);
            key((Ipv4Addr::from_bits(n), (n >> 7) as u16 | 1024), (vip, 443))
        });
        let chosen: Vec<_> = all
            .filter(|flow| published.owner(flow) == WorkerId(3))
            .collect();
        assert!(chosen.len() > 3_000);
        for drawn in drawn() {
            let shares = shares(&Steering::new(drawn, 4), chosen.iter().copied());
            let even = chosen.len() / 4;
            assert!(
                shares.iter().all(|share| share.abs_diff(even) < even / 5),
                "{shares:?} of {}, key {drawn:02x?}",
                chosen.len()
            );
        }
    }

    #[test]
    fn a_key_without_bits_where_they_count_is_not_fair() {
        let fair = drawn().next().unwrap();
        assert!(is_fair(&fair));
        assert!(!is_fair(&[0; KEY_LEN]));
        assert!(!is_fair(&[0xff; KEY_LEN]));
        // The lowest seven bits of each field add the key's bits from 19 before its end to 31 behind it.
        let fields = [
            FIELDS_V4.addresses,
            FIELDS_V4.ports,
            FIELDS_V6.addresses,
            FIELDS_V6.ports,
        ];
        for end in fields.into_iter().flatten() {
            let mut key = fair;
            for bit in end + 18..end + 31 {
                key[bit / 8] &= !(0x80 >> (bit % 8));
            }
            assert!(!is_fair(&key), "the field before bit {end}");
        }
    }

    proptest! {
        #[test]
        fn with_any_key_owners_are_those_of_the_definition(
            secret in prop::array::uniform32(any::<u8>()),
            source: (u32, u16),
            destination: (u32, u16),
            workers in 1usize..9,
            size in prop::sample::select(vec![64, 128]),
        ) {
            let mut whole = [0; KEY_LEN];
            whole[..32].copy_from_slice(&secret);
            let (source, destination) = (
                (Ipv4Addr::from_bits(source.0), source.1),
                (Ipv4Addr::from_bits(destination.0), destination.1),
            );
            let mut input = [source.0.octets(), destination.0.octets()].concat();
            input.extend([source.1.to_be_bytes(), destination.1.to_be_bytes()].concat());
            let steering = Steering::with_table(whole, workers, size);
            let expected = toeplitz(&whole, &input) as usize % size % workers;
            prop_assert_eq!(steering.owner(&key(source, destination)).index(), expected);
        }

        #[test]
        fn any_frame_has_a_worker(bytes in prop::collection::vec(any::<u8>(), 0..80), ip: bool, workers in 1usize..9) {
            let mut bytes = bytes;
            if ip && bytes.len() > 14 {
                bytes[12..14].copy_from_slice(&[8, 0]);
            }
            let worker = Steering::new(DEFAULT_KEY, workers).worker_of(&bytes);
            prop_assert!(worker.index() < workers);
        }
    }
}

//! An IPv6 connection entry: two cache lines. The dataplane forwards no IPv6 packets yet; the table holds them.

use super::state::State;
use super::table::Entry;
use crate::units::{Millis, RealId, ServiceId};
use crate::wire::checksum::Delta;
use std::net::Ipv6Addr;

/// As [`FlowKey`](super::FlowKey), of an IPv6 packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey6 {
    /// Source address, destination address; first byte lowest.
    addresses: [u64; 4],
    /// Source port, destination port, protocol.
    ports: u64,
}

impl FlowKey6 {
    pub fn new(
        source: Ipv6Addr,
        source_port: u16,
        destination: Ipv6Addr,
        destination_port: u16,
        protocol: u8,
    ) -> Self {
        let halves = |address: Ipv6Addr| {
            let word = address.to_bits().swap_bytes();
            [word as u64, (word >> 64) as u64]
        };
        let ([a, b], [c, d]) = (halves(source), halves(destination));
        FlowKey6 {
            addresses: [a, b, c, d],
            ports: u64::from(source_port.swap_bytes())
                | u64::from(destination_port.swap_bytes()) << 16
                | u64::from(protocol) << 32,
        }
    }

    /// Three folded multiplications, seeded as [`FlowKey::hash`](super::FlowKey::hash).
    #[inline(always)]
    pub fn hash(&self, seed: u64) -> u64 {
        let fold = |a: u64, b: u64| {
            let wide = u128::from(a) * u128::from(b);
            (wide >> 64) as u64 ^ wide as u64
        };
        let other = seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15;
        let [a, b, c, d] = self.addresses;
        let source = fold(a ^ seed, b ^ other);
        let destination = fold(c ^ other, d ^ seed.rotate_left(17));
        fold(source ^ self.ports ^ seed, destination ^ other)
    }
}

/// One connection. A request is found and decided on by the first cache line, a reply by both; what the packet becomes
/// is in the other direction's key.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Connection6 {
    pub request: FlowKey6,
    pub last_seen: Millis,
    pub real: RealId,
    pub service: ServiceId,
    pub hops: [u16; 2],
    pub route_generation: u16,
    pub state: State,
    is_two_way: bool,
    /// What a request's translation does to the checksum of TCP or UDP; an IPv6 header has none.
    pub l4_delta: Delta,
    _spare: u16,
    pub reply: FlowKey6,
    pub template: u32,
    pub controlled: u32,
}

const _: () = assert!(
    size_of::<Connection6>() == 128 && std::mem::offset_of!(Connection6, reply) == 64,
    "an IPv6 connection fills two cache lines, and its replies' key begins the second"
);

impl Connection6 {
    /// A new connection; without a reply key if its mode sees no replies.
    pub fn new(
        request: FlowKey6,
        reply: Option<FlowKey6>,
        service: ServiceId,
        real: RealId,
    ) -> Self {
        Connection6 {
            request,
            reply: reply.unwrap_or_default(),
            is_two_way: reply.is_some(),
            service,
            real,
            ..Self::FREE
        }
    }
}

impl Entry for Connection6 {
    type Key = FlowKey6;

    const FREE: Self = Connection6 {
        request: FlowKey6 {
            addresses: [0; 4],
            ports: 0,
        },
        last_seen: Millis(0),
        real: RealId(0),
        service: ServiceId(0),
        hops: [u16::MAX; 2],
        route_generation: 0,
        state: State::None,
        is_two_way: false,
        l4_delta: Delta::ZERO,
        _spare: 0,
        reply: FlowKey6 {
            addresses: [0; 4],
            ports: 0,
        },
        template: super::entry::NO_TEMPLATE,
        controlled: 0,
    };

    #[inline(always)]
    fn hash(key: &FlowKey6, seed: u64) -> u64 {
        key.hash(seed)
    }

    #[inline(always)]
    fn request(&self) -> &FlowKey6 {
        &self.request
    }

    #[inline(always)]
    fn reply(&self) -> &FlowKey6 {
        &self.reply
    }

    #[inline(always)]
    fn is_two_way(&self) -> bool {
        self.is_two_way
    }

    #[inline(always)]
    fn is_live(&self) -> bool {
        self.state != State::None
    }

    fn link(&self) -> u32 {
        self.last_seen.0
    }

    fn set_link(&mut self, number: u32) {
        self.last_seen.0 = number;
    }
}

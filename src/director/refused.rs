//! Remembers where packets without a connection are refused because a limit is reached, so that a flood costs less than
//! traffic: a further packet there is dropped for as long as the limit says no, and nothing is looked up for it.
//!
//! What is remembered is only what the destination decides, under one generation of the tables; each sender's own share
//! of the limit is asked every time.

use super::family::Family;
use super::limit::AnswerKind;
use super::parse::Flow;
use crate::conn::{Address, Key};
use crate::units::Generation;

/// Destinations, each in the one place that its key leads to.
const PLACES: usize = 256;

/// The destinations of one worker, the latest of each place.
pub(super) struct Refused<F: Family> {
    /// See [`key`].
    keys: Box<[Destination<F>; PLACES]>,
    /// Under which the keys were noted. None: there are none.
    generation: Option<Generation>,
}

/// An address, and what else of a packet to it decides; [`nowhere`]: none.
type Destination<F> = (<F as Family>::Address, u32);

fn nowhere<F: Family>() -> Destination<F> {
    (F::Address::UNSPECIFIED, 0)
}

impl<F: Family> Refused<F> {
    pub(super) fn new() -> Self {
        Refused {
            keys: Box::new([nowhere::<F>(); PLACES]),
            generation: None,
        }
    }

    /// Notes that the limit was reached for a packet to the flow's destination, whatever its source.
    #[cold]
    pub(super) fn note(&mut self, flow: &Flow<F>, generation: Generation) {
        if self.generation != Some(generation) {
            self.keys.fill(nowhere::<F>());
            self.generation = Some(generation);
        }
        if let Some((key, _)) = key(flow) {
            self.keys[place::<F>(key)] = key;
        }
    }

    /// Returns the kind of answer that a packet of no connection is due, if the limit for that was reached for an earlier
    /// one to the same destination.
    #[inline(always)]
    pub(super) fn answer(&self, flow: &Flow<F>, generation: Generation) -> Option<AnswerKind> {
        match self.generation == Some(generation) {
            true => self.find(flow),
            false => None,
        }
    }

    fn find(&self, flow: &Flow<F>) -> Option<AnswerKind> {
        let (key, kind) = key(flow)?;
        (self.keys[place::<F>(key)] == key).then_some(kind)
    }
}

/// What decides on a packet to a destination, the number not 0, and the answer that it gets. None: something
/// else decides, or it gets none.
#[inline]
fn key<F: Family>(flow: &Flow<F>) -> Option<(Destination<F>, AnswerKind)> {
    if flow.ttl <= 1 || flow.flags.rst() {
        return None;
    }
    let key = &flow.key;
    let kind = match super::has_handshake(flow) {
        true => AnswerKind::Reset,
        false => AnswerKind::IcmpError,
    };
    let service = u32::from(key.destination_port()) << 16 | u32::from(key.protocol()) << 1;
    let opens = u32::from(flow.flags.opens());
    Some(((key.destination(), service | opens), kind))
}

#[inline]
fn place<F: Family>((address, service): Destination<F>) -> usize {
    let key = address.word().rotate_left(32) ^ u64::from(service);
    // The golden ratio's digits: neighbouring addresses and ports go to different places.
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::FlowKey;
    use crate::net::protocol;
    use crate::wire::tcp::Flags;
    use proptest::prelude::*;
    use proptest::sample::select;
    use std::net::Ipv4Addr;

    /// A packet to this address and port, in one number, with these flags, of TCP if there are any.
    fn flow(to: u64, flags: Option<u8>, ttl: u8) -> Flow {
        let address = Ipv4Addr::from_bits((to >> 16) as u32);
        let protocol = flags.map_or(protocol::UDP, |_| protocol::TCP);
        let from = Ipv4Addr::new(203, 0, 113, 7);
        Flow {
            key: FlowKey::new(from, 5000, address, to as u16, protocol),
            flags: Flags(flags.unwrap_or(0)),
            ttl,
            ..Flow::default()
        }
    }

    /// What has to be the same of two packets for one decision, and the answer that is due; none where others decide.
    fn decided(flow: &Flow) -> Option<(Ipv4Addr, u16, u8, bool, AnswerKind)> {
        let key = &flow.key;
        let kind = match key.protocol() {
            protocol::TCP => AnswerKind::Reset,
            _ => AnswerKind::IcmpError,
        };
        let opens = flow.flags.opens();
        let destination = (key.destination(), key.destination_port(), key.protocol());
        let (address, port, protocol) = destination;
        let is_decided = flow.ttl > 1 && flow.flags.0 & Flags::RST == 0;
        is_decided.then_some((address, port, protocol, opens, kind))
    }

    /// Packets to destinations that are one bit apart, or none.
    fn flows() -> impl Strategy<Value = Vec<Flow>> {
        let bit = prop_oneof![Just(0), (0..48).prop_map(|bit| 1u64 << bit)];
        let rst = Flags::RST | Flags::ACK;
        let flags = select(vec![
            None,
            Some(Flags::SYN),
            Some(Flags::ACK),
            Some(0),
            Some(rst),
        ]);
        let ttl = select(vec![0, 1, 2, 64, 255]);
        let packets = prop::collection::vec((bit, flags, ttl), 1..40);
        (0..1u64 << 48, packets).prop_map(|(to, packets)| {
            let packet = |(bit, flags, ttl)| flow(to ^ bit, flags, ttl);
            packets.into_iter().map(packet).collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_refused_last_is_known_and_nothing_else(flows in flows(), change in 0usize..40) {
            let mut refused = Refused::new();
            let mut noted = Vec::new();
            for (n, flow) in flows.iter().enumerate() {
                let generation = Generation(1 + u64::from(n >= change));
                if n == change {
                    noted.clear();
                }
                refused.note(flow, generation);
                noted.extend(decided(flow));
                let kind = decided(flow).map(|decided| decided.4);
                prop_assert_eq!(refused.answer(flow, generation), kind);
                for other in &flows {
                    if let Some(kind) = refused.answer(other, generation) {
                        let decided = decided(other);
                        prop_assert!(decided.is_some_and(|decided| decided.4 == kind && noted.contains(&decided)));
                    }
                    prop_assert_eq!(refused.answer(other, Generation(3)), None);
                }
            }
        }
    }

    /// A scan of an address's ports, or of a prefix: most of the places are used.
    #[test]
    fn neighbouring_destinations_are_remembered_together() {
        for step in [1, 1 << 16] {
            let flows: Vec<_> = (0..PLACES as u64)
                .map(|n| flow((0xc000_0200 << 16 | 1000) + n * step, Some(Flags::SYN), 64))
                .collect();
            let mut refused = Refused::new();
            for flow in &flows {
                refused.note(flow, Generation(1));
            }
            let is_known = |flow: &&Flow| refused.answer(flow, Generation(1)).is_some();
            let known = flows.iter().filter(is_known).count();
            assert!(known > PLACES / 2, "{known} at distances of {step}");
        }
    }
}

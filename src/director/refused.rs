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
    pub fn new() -> Self {
        Refused {
            keys: Box::new([nowhere::<F>(); PLACES]),
            generation: None,
        }
    }

    /// Notes that the limit was reached for a packet to the flow's destination, whatever its source.
    #[cold]
    pub fn note(&mut self, flow: &Flow<F>, generation: Generation) {
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
    pub fn answer(&self, flow: &Flow<F>, generation: Generation) -> Option<AnswerKind> {
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
    let kind = match super::is_tcp(flow) {
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

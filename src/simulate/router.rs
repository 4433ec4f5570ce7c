//! The router in front of the directors: which of them a flow's packets come to.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};

/// How a router spreads flows over its next hops (the kernel's words for its next-hop groups).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Ecmp {
    /// By the hash modulo their number: any change of it moves flows between all of them
    Plain,
    /// By buckets, of which a change moves as few as it can
    Resilient,
}

/// Buckets of a resilient group.
const BUCKETS: usize = 128;

/// A group of next hops, by the numbers of the directors.
#[derive(Debug)]
pub(super) struct Router {
    ecmp: Ecmp,
    seed: u64,
    members: BTreeSet<usize>,
    /// Of a resilient group: whose each one is.
    buckets: Vec<Option<usize>>,
}

impl Router {
    pub(super) fn new(ecmp: Ecmp, seed: u64, members: impl Iterator<Item = usize>) -> Self {
        let mut router = Router {
            ecmp,
            seed,
            members: members.collect(),
            buckets: vec![None; BUCKETS],
        };
        router.level();
        router
    }

    pub(super) fn members(&self) -> &BTreeSet<usize> {
        &self.members
    }

    pub(super) fn add(&mut self, member: usize) {
        self.members.insert(member);
        self.level();
    }

    pub(super) fn remove(&mut self, member: usize) {
        self.members.remove(&member);
        for bucket in &mut self.buckets {
            bucket.take_if(|owner| *owner == member);
        }
        self.level();
    }

    /// Gives each member its share of the buckets: those of none first, then of those who have more than theirs.
    fn level(&mut self) {
        let Some(most) = self.buckets.len().checked_div(self.members.len()) else {
            return;
        };
        for &member in &self.members {
            while self.has(member) < most {
                let is_spare = |owner: &Option<usize>| match *owner {
                    None => true,
                    Some(owner) => self.has(owner) > most,
                };
                let none = self.buckets.iter().position(Option::is_none);
                match none.or_else(|| self.buckets.iter().position(is_spare)) {
                    Some(spare) => self.buckets[spare] = Some(member),
                    None => break,
                }
            }
        }
        // What is left of the division.
        let mut members = self.members.iter().cycle();
        for bucket in &mut self.buckets {
            if bucket.is_none() {
                *bucket = members.next().copied();
            }
        }
    }

    fn has(&self, member: usize) -> usize {
        let owners = self.buckets.iter().flatten();
        owners.filter(|owner| **owner == member).count()
    }

    /// The director that the packets of a flow come to; none: there is none.
    pub(super) fn pick(&self, flow: &[u8]) -> Option<usize> {
        let mut hasher = foldhash::fast::FixedState::with_seed(self.seed).build_hasher();
        hasher.write(flow);
        let hash = hasher.finish() as usize;
        match self.ecmp {
            Ecmp::Plain => {
                let place = hash.checked_rem(self.members.len())?;
                self.members.iter().nth(place).copied()
            }
            Ecmp::Resilient => self.buckets[hash % BUCKETS],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(router: &Router) -> Vec<usize> {
        let flows = (0..4000u32).map(u32::to_be_bytes);
        flows.map(|flow| router.pick(&flow).unwrap()).collect()
    }

    fn moved(before: &[usize], after: &[usize]) -> usize {
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    /// As was seen of the kernel: the loss of the first of N next hops moves half of all flows of a plain group, and 1/N of
    /// those of a resilient one, which are the lost one's.
    #[test]
    fn what_a_loss_moves() {
        for members in [2, 3, 4, 8] {
            for ecmp in [Ecmp::Plain, Ecmp::Resilient] {
                let mut router = Router::new(ecmp, 7, 0..members);
                let before = picks(&router);
                for member in 0..members {
                    let share = before.iter().filter(|pick| **pick == member).count();
                    let even = before.len() / members;
                    assert!(share > even * 4 / 5 && share < even * 6 / 5, "{share}");
                }
                router.remove(0);
                let after = picks(&router);
                let lost = before.iter().filter(|pick| **pick == 0).count();
                match ecmp {
                    Ecmp::Resilient => assert_eq!(moved(&before, &after), lost),
                    Ecmp::Plain => {
                        let expected = before.len() * (members - 1) / members;
                        let moved = moved(&before, &after);
                        assert!(moved * 20 > expected * 19 && moved < expected * 21 / 20);
                    }
                }
                router.add(0);
                let again = picks(&router);
                if ecmp == Ecmp::Plain {
                    assert_eq!(again, before);
                }
                assert!(moved(&after, &again) > 0);
            }
        }
    }

    #[test]
    fn none_is_picked_of_none() {
        for ecmp in [Ecmp::Plain, Ecmp::Resilient] {
            let mut router = Router::new(ecmp, 7, 0..1);
            assert_eq!(router.pick(b"flow"), Some(0));
            router.remove(0);
            assert_eq!(router.pick(b"flow"), None);
            router.add(4);
            assert_eq!(router.pick(b"flow"), Some(4));
        }
    }
}

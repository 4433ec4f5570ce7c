//! `sh`: by the client's address, so that a client always comes to the same real server (`ip_vs_sh.c`).
//!
//! 256 buckets are dealt to the real servers, as many in a row as their weight; a client's bucket is a hash of its
//! address, with `sh-port` of its address and port. A bucket whose real server has weight 0, or is not usable, passes its clients on,
//! each to the first live one of a walk of its own over the buckets (the kernel's `sh-fallback`).

use super::{Client, Cursor, Kind, Scheduler, Usable, has_weight};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "sh",
    description: "source hash: by the client's address",
    is_stateless: true,
    new: |reals, setting| {
        // A real server that gets nothing keeps its buckets: clients that hash to it move on to another, and return when it does.
        // Fewer would move those of all behind it.
        let buckets = deal(reals, |real| real.nominal.max(1));
        Box::new(SourceHash {
            buckets,
            by_port: setting.by_port,
        })
    },
};

const BITS: u32 = 8;
const BUCKETS: usize = 1 << BITS;

/// The place of each bucket's real server, which has as many in a row as `turns` says; empty without real servers.
pub(super) fn deal(reals: &[Real], turns: impl Fn(&Real) -> u16) -> Box<[u16]> {
    if reals.is_empty() {
        return Box::default();
    }
    let in_turn = (0..=u16::MAX)
        .zip(reals)
        .flat_map(|(place, real)| std::iter::repeat_n(place, usize::from(turns(real))));
    in_turn.cycle().take(BUCKETS).collect()
}

/// The kernel's `hash_32`: by its golden ratio, to a bucket's number.
fn hash(name: u32) -> u32 {
    name.wrapping_mul(0x61c8_8647) >> (32 - BITS)
}

/// The place of the real server of a name's bucket, or of the first bucket that has a usable one in the name's walk over all.
pub(super) fn pick(buckets: &[u16], name: u32, reals: &[Real], usable: &Usable) -> Option<usize> {
    if buckets.is_empty() {
        return None;
    }
    let hash = hash(name);
    let live = |offset: u32| {
        let place = usize::from(buckets[offset.wrapping_add(hash) as usize % BUCKETS]);
        let real = reals.get(place)?;
        (has_weight(real) && usable(real)).then_some(place)
    };
    live(0)
        // Starts at another bucket for each first one, so that a lost server's clients spread over all others.
        .or_else(|| (0..BUCKETS as u32).find_map(|offset| live(hash + offset)))
        // Large weights leave others without a bucket: those are taken before the client is refused.
        .or_else(|| {
            reals
                .iter()
                .position(|real| has_weight(real) && usable(real))
        })
}

#[derive(Debug)]
struct SourceHash {
    buckets: Box<[u16]>,
    by_port: bool,
}

impl Scheduler for SourceHash {
    fn pick(
        &self,
        reals: &[Real],
        client: Client,
        _: &Cursor,
        _: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let port = if self.by_port { client.port } else { 0 };
        // `ip_vs_sh_hashkey`.
        let name = client.address.wrapping_add(u32::from(port));
        pick(&self.buckets, name, reals, usable)
    }
}

#[cfg(test)]
mod tests {
    use super::Client;
    use crate::sched::testing::Lab;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// The real servers of clients 198.51.100.1, .2, …, by a second implementation of the kernel's rules.
    const ALIVE: &str = "CAABCBCCABACACACBCBCBABABACACACBCACBABCCACABBCAC";
    const WITHOUT_B: &str = "CAAACACCAAACACACACACAAAAAACACACACACAAACCACAAACAC";

    fn sequence(lab: &Lab) -> String {
        (0..48).map(|n| lab.connect(0xc633_6401 + n)).collect()
    }

    #[test]
    fn chooses_what_the_kernel_chooses() {
        assert_eq!(sequence(&Lab::new("sh", &[1, 1, 1])), ALIVE);
    }

    #[test]
    fn by_port_it_chooses_what_the_kernel_chooses() {
        for (weights, expected) in [
            (
                [1, 1, 1],
                "AABCBABABACACABBCBCBABABACABACBCAABABCCABACBCACBCBCBABABBCACACBC",
            ),
            (
                [3, 2, 1],
                "BABABBABABAAAABACACBABABBCBABABAABABACAABACACBCBABABBABABAAAACAC",
            ),
        ] {
            let lab = Lab::by_port("sh", &weights);
            let chosen = (20_000..20_064).map(|port| lab.connect_from(0x0a00_0102, port));
            assert_eq!(chosen.collect::<String>(), expected);
        }
    }

    #[test]
    fn a_quiesced_servers_clients_fall_where_the_kernel_lets_them_fall_and_come_back() {
        let mut lab = Lab::new("sh", &[1, 0, 1]);
        assert_eq!(sequence(&lab), WITHOUT_B);
        lab.reals[1].weight = 1;
        lab.changed();
        assert_eq!(sequence(&lab), ALIVE);
    }

    #[test]
    fn a_server_that_fails_moves_its_own_clients_only() {
        let mut lab = Lab::new("sh", &[10, 10, 10]);
        let before = sequence(&lab);
        for failed in 0..3 {
            lab.reals
                .iter_mut()
                .for_each(|real| real.weight = real.nominal);
            let name = (b'A' + lab.reals[failed].id.0 as u8) as char;
            lab.reals[failed].weight = 0;
            lab.changed();
            let after = sequence(&lab);
            let mut both = before.chars().zip(after.chars());
            assert!(
                both.all(|(before, after)| after != name && (before == name || before == after))
            );
        }
    }

    #[test]
    fn an_ipv6_client_has_the_bucket_of_its_folded_address() {
        let lab = Lab::new("sh", &[1, 1, 1]);
        for n in 0..48 {
            let folded = 0xc633_6401_u32 + n;
            // The four words of the address give it by exclusive or, as in the kernel's `ip_vs_sh_hashkey`.
            let words = [
                0x2001_0db8,
                0x1234_5678,
                n,
                folded ^ n ^ 0x2001_0db8 ^ 0x1234_5678,
            ];
            let bits = words
                .iter()
                .fold(0, |bits, word| bits << 32 | u128::from(*word));
            let pick = |address: IpAddr| lab.pick(Client::new(address, 1024));
            let v4 = pick(Ipv4Addr::from_bits(folded).into());
            assert_eq!(pick(Ipv6Addr::from_bits(bits).into()), v4);
        }
    }

    #[test]
    fn weights_are_respected() {
        let lab = Lab::new("sh", &[3, 2, 1]);
        let counts = (0..65_536u32).fold([0u32; 3], |mut counts, n| {
            let letter = lab.connect(0x0a00_0000 + n * 7);
            counts[usize::from(letter as u8 - b'A')] += 1;
            counts
        });
        assert!(
            counts[0] > 30_000 && counts[1] > 19_000 && counts[2] > 9_000,
            "{counts:?}"
        );
    }
}

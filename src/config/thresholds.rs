//! `max_connections` and `min_connections` of a real server: the kernel's connection thresholds (`ipvsadm -x`, `-y`).

use std::num::NonZeroU32;

/// How many connections a real server may have, active and inactive ones together, and below how many it gets new ones again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// With so many it gets no new connections.
    pub max: NonZeroU32,
    /// It gets new ones again when it has fewer than this; 0: fewer than three quarters of `max`.
    pub min: u32,
}

impl Thresholds {
    /// Whether a real server with so many connections is overloaded (`IP_VS_DEST_F_OVERLOAD`); `was`: it was before.
    pub fn is_overloaded(&self, was: bool, connections: u32) -> bool {
        let max = self.max.get();
        if !was {
            return connections >= max;
        }
        match self.min {
            // `ip_vs_unbind_dest`, in numbers that have room for the products.
            0 => u64::from(connections) * 4 >= u64::from(max) * 3,
            min => connections >= min,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_at_the_upper_threshold_until_it_is_below_the_lower_one() {
        for (max, min, below) in [
            (2, 1, 1),
            (10, 4, 4),
            (10, 0, 8),
            (1, 0, 1),
            (3, 3, 3),
            (u32::MAX, 0, 3_221_225_472),
        ] {
            let thresholds = Thresholds {
                max: NonZeroU32::new(max).unwrap(),
                min,
            };
            let of = |was, connections| thresholds.is_overloaded(was, connections);
            assert_eq!([of(false, max - 1), of(false, max)], [false, true], "{max}");
            assert_eq!(
                [of(true, below), of(true, below - 1)],
                [true, false],
                "{max} {min}"
            );
        }
    }
}

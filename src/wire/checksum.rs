//! The Internet checksum (RFC 1071), and its incremental update (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The ones' complement sum of the bytes as big-endian 16-bit words, the last one padded with zero; not inverted.
/// Over data that contains its own correct checksum it is 0xffff.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    fold(partial(bytes))
}

/// As [`sum`] of an IPv4 header without options, by two long words and one short. Only whether it is 0xffff has a
/// meaning: in the machine's byte order the sum has its bytes swapped (RFC 1071 section 2 (B)).
#[inline(always)]
pub fn is_header_right(header: &[u8; 20]) -> bool {
    let word = |at: usize| {
        u64::from(u32::from_ne_bytes([
            header[at],
            header[at + 1],
            header[at + 2],
            header[at + 3],
        ]))
    };
    let sum = word(0) + word(4) + word(8) + word(12) + word(16);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum == 0xffff || sum == 0x1fffe
}

/// As [`sum`], not folded, to be added to others.
#[inline]
pub fn partial(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(4);
    let mut sum = 0u64;
    for chunk in &mut chunks {
        sum += u64::from(u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
    }
    let mut last = [0; 4];
    let rest = chunks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

/// Folds the carries back in until 16 bits are left.
#[inline]
pub fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// As [`fold`], of the sum of at most 16 words of 32 bits.
#[inline(always)]
pub fn fold_few(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The pseudo header of TCP and UDP (RFC 9293 section 3.1, RFC 768), not folded.
pub fn pseudo_header_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> u64 {
    let halves = |address: Ipv4Addr| {
        u64::from(address.to_bits() >> 16) + u64::from(address.to_bits() & 0xffff)
    };
    halves(source) + halves(destination) + u64::from(protocol) + u64::from(length)
}

/// The pseudo header of upper layers over IPv6 (RFC 8200 section 8.1), not folded. `length`: of the upper layer, its header
/// counted.
pub fn pseudo_header_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> u64 {
    let addresses = partial(&source.octets()) + partial(&destination.octets());
    addresses + u64::from(length) + u64::from(protocol)
}

/// RFC 1071, to the letter: what the tests believe.
#[cfg(test)]
pub(super) fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What a change of some words does to a checksum that covers them: additive, in ones' complement arithmetic.
/// Applies to any checksum over the changed words, whatever the others are. It has the bytes of the wire: such sums are
/// the same in every byte order (RFC 1071 section 2 (B)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Delta(u16);

impl Delta {
    pub const ZERO: Delta = Delta(0);
    /// One less in the high byte of a word, as when a TTL above 0 goes down: ~m + m' whatever m is.
    pub const TTL: Delta = Delta(0xfeffu16.to_be());
    pub const TTL_TWICE: Delta = Delta(0xfdffu16.to_be());

    /// Both changes.
    #[inline(always)]
    #[must_use]
    pub fn and(self, other: Delta) -> Delta {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Delta(sum.wrapping_add(u16::from(carry)))
    }

    /// With one more 16-bit word changed.
    #[inline]
    #[must_use]
    pub fn replace_u16(self, old: u16, new: u16) -> Delta {
        // RFC 1624 equation 3: HC' = ~(~HC + ~m + m').
        self.and(Delta(!old.to_be())).and(Delta(new.to_be()))
    }

    /// With two more 16-bit words changed.
    #[inline]
    #[must_use]
    pub fn replace_u32(self, old: u32, new: u32) -> Delta {
        self.replace_u16((old >> 16) as u16, (new >> 16) as u16)
            .replace_u16(old as u16, new as u16)
    }

    /// The one whose memory had these bytes.
    pub fn from_memory(bytes: [u8; 2]) -> Delta {
        Delta(u16::from_ne_bytes(bytes))
    }

    /// Undoes this one.
    #[inline]
    #[must_use]
    pub fn inverse(self) -> Delta {
        Delta(!self.0)
    }

    /// Corrects a checksum field.
    #[inline(always)]
    pub fn apply(self, field: &mut [u8; 2]) {
        let sum = self.and(Delta(!u16::from_ne_bytes(*field)));
        *field = (!sum.0).to_ne_bytes();
    }

    /// Corrects a UDP checksum. RFC 768: 0 stands for no checksum, and stays; a computed 0 is sent as 0xffff.
    #[inline(always)]
    pub fn apply_udp(self, field: &mut [u8; 2]) {
        let before = u16::from_ne_bytes(*field);
        if before != 0 {
            // The largest is sent for the sum's ones' complement 0.
            let sum = self.and(Delta(!before)).0;
            *field = if sum == 0xffff { 0xffff } else { !sum }.to_ne_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(delta: Delta, checksum: u16) -> u16 {
        let mut field = checksum.to_be_bytes();
        delta.apply(&mut field);
        u16::from_be_bytes(field)
    }

    #[test]
    fn rfc_1071_example() {
        assert_eq!(
            sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0xddf2
        );
    }

    #[test]
    fn rfc_1624_corner() {
        // Section 4: HC = 0xdd2f, m = 0x5555, m' = 0x3285 gives 0, not 0xffff.
        assert_eq!(
            apply(Delta::ZERO.replace_u16(0x5555, 0x3285), 0xdd2f),
            0x0000
        );
    }

    proptest! {
        #[test]
        fn few_words_are_folded_in_fewer_steps(words in prop::collection::vec(
            prop_oneof![any::<u32>(), Just(u32::MAX), Just(0xffff), Just(0)], 0..=16
        )) {
            let sum = words.iter().map(|word| u64::from(*word)).sum();
            prop_assert_eq!(fold_few(sum), fold(sum));
        }

        #[test]
        fn a_right_header_is_told_from_a_wrong_one(mut header: [u8; 20], right: bool) {
            if right {
                header[10..12].fill(0);
                let checksum = !naive(&header);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            prop_assert_eq!(is_header_right(&header), naive(&header) == 0xffff);
        }

        #[test]
        fn the_ttl_delta_is_the_one_of_every_ttl(ttl in 1u8..=255, protocol: u8) {
            let word = |ttl| u16::from_be_bytes([ttl, protocol]);
            prop_assert_eq!(apply(Delta::ZERO.replace_u16(word(ttl), word(ttl - 1)), 0x1234), apply(Delta::TTL, 0x1234));
            prop_assert_eq!(apply(Delta::TTL_TWICE, 0x1234), apply(Delta::TTL, apply(Delta::TTL, 0x1234)));
        }

        /// RFC 8200 section 8.1, by the bytes of its figure.
        #[test]
        fn the_pseudo_header_of_ipv6_is_that_of_the_rfc(addresses: (u128, u128), protocol: u8, length: u32) {
            let (source, destination) = (Ipv6Addr::from_bits(addresses.0), Ipv6Addr::from_bits(addresses.1));
            let bytes = [
                &source.octets()[..], &destination.octets(), &length.to_be_bytes(), &[0, 0, 0, protocol],
            ].concat();
            prop_assert_eq!(fold(pseudo_header_v6(source, destination, protocol, length)), naive(&bytes));
        }

        #[test]
        fn sum_equals_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes), naive(&bytes));
        }

        /// With a checksum of 0x0000 and 0xffff among the cases, by words of these values.
        #[test]
        fn an_update_equals_a_full_computation(
            mut words in prop::collection::vec(prop_oneof![any::<u16>(), Just(0), Just(0xffff)], 2..20),
            new in prop_oneof![any::<u32>(), Just(0), Just(u32::MAX)],
        ) {
            let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
            let before = !naive(&bytes(&words));
            let old = u32::from(words[0]) << 16 | u32::from(words[1]);
            words[0] = (new >> 16) as u16;
            words[1] = new as u16;
            // A sum of data that is not all zero is never +0, so its checksum is never 0xffff.
            prop_assume!(words.iter().any(|&word| word != 0) && before != 0xffff);
            let delta = Delta::ZERO.replace_u32(old, new);
            prop_assert_eq!(apply(delta, before), !naive(&bytes(&words)));
            prop_assert_eq!(apply(delta.inverse(), apply(delta, before)), before);
        }

        #[test]
        fn no_udp_checksum_stays_none_and_none_comes_about(checksum: u16, old: u32, new: u32) {
            let mut field = checksum.to_be_bytes();
            Delta::ZERO.replace_u32(old, new).apply_udp(&mut field);
            prop_assert_eq!(field == [0, 0], checksum == 0);
        }
    }
}

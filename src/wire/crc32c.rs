//! CRC32C: what SCTP packets (RFC 9260 appendix A) and headers of the PROXY protocol are checked by.
//!
//! A CRC is linear: what a change of some bytes does to it depends on those bytes, and on how many follow them. So SCTP's is
//! corrected without a look at the data that stay, and a wrong one stays wrong.

/// Castagnoli's polynomial, lowest bit first: bit 31 is the coefficient of 1, and that of x^32 is not written.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The remainders of all bytes.
const REMAINDERS: [u32; 256] = {
    let mut remainders = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            remainder = times_x(remainder);
            bit += 1;
        }
        remainders[byte] = remainder;
        byte += 1;
    }
    remainders
};

/// What `2^n` zero bytes multiply a remainder by: x to the power of `8 * 2^n`.
const ZEROS: [u32; 16] = {
    let mut zeros = [1 << 23; 16];
    let mut n = 1;
    while n < zeros.len() {
        zeros[n] = product(zeros[n - 1], zeros[n - 1]);
        n += 1;
    }
    zeros
};

/// The CRC32C of some bytes (RFC 3720 appendix B.4).
pub fn crc32c(bytes: &[u8]) -> u32 {
    !remainder(u32::MAX, bytes)
}

/// The remainder of some bytes behind others with the remainder `before`.
pub fn remainder(before: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| REMAINDERS[(crc as u8 ^ byte) as usize] ^ crc >> 8;
    bytes.iter().fold(before, step)
}

/// What a change does to the CRC of a message, by exclusive or. `remainder`: that of all changed bits, from the first changed
/// byte on; `behind`: how many bytes follow the last one, less than 65,536.
pub fn change(remainder: u32, behind: usize) -> u32 {
    let powers = ZEROS.iter().enumerate();
    let powers = powers.filter(|(n, _)| behind >> n & 1 == 1);
    match remainder {
        0 => 0,
        _ => powers.fold(remainder, |change, (_, power)| product(change, *power)),
    }
}

const fn times_x(remainder: u32) -> u32 {
    match remainder & 1 {
        0 => remainder >> 1,
        _ => remainder >> 1 ^ POLYNOMIAL,
    }
}

/// The product of two remainders.
const fn product(a: u32, b: u32) -> u32 {
    let (mut left, mut power, mut product) = (a, b, 0);
    while left != 0 {
        if left >> 31 == 1 {
            product ^= power;
        }
        left <<= 1;
        power = times_x(power);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn crcs_are_those_of_rfc_3720() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, crc) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(crc32c(bytes), crc, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_change_is_what_it_makes_of_the_crc(
            mut message in prop::collection::vec(any::<u8>(), 1..3000),
            changed in prop::collection::vec(any::<u8>(), 1..40),
            at: prop::sample::Index,
        ) {
            let before = crc32c(&message);
            let at = at.index(message.len());
            let mut bits = Vec::new();
            for (old, new) in message[at..].iter_mut().zip(&changed) {
                bits.push(*old ^ new);
                *old = *new;
            }
            let behind = message.len() - at - bits.len();
            prop_assert_eq!(before ^ change(remainder(0, &bits), behind), crc32c(&message));
        }
    }

    #[test]
    fn the_longest_message_is_none_too_long() {
        let mut message = vec![7; 65_536];
        let before = crc32c(&message);
        message[0] ^= 0x55;
        let change = change(remainder(0, &[0x55]), 65_535);
        assert_eq!(before ^ change, crc32c(&message));
    }
}

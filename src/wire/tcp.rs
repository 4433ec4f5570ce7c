//! TCP (RFC 9293): what a load balancer looks at.

use super::Malformed;
use super::checksum::{Delta, fold, partial};
use super::field::{array, set_u16, set_u32, u16_of, u32_of};
use super::options::Options;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = field::OPTIONS_AT;
/// Bytes of the longest header: the data offset has four bits.
pub const MAX_HEADER_LEN: usize = 60;

pub(super) mod field {
    use crate::wire::field::Field;

    pub(in crate::wire) const SOURCE_PORT: Field = 0..2;
    pub(in crate::wire) const DESTINATION_PORT: Field = 2..4;
    pub(in crate::wire) const SEQUENCE: Field = 4..8;
    pub(in crate::wire) const ACKNOWLEDGED: Field = 8..12;
    /// The header's length in words of 32 bits, in the high half.
    pub(in crate::wire) const DATA_OFFSET: usize = 12;
    pub(in crate::wire) const FLAGS: usize = 13;
    pub(in crate::wire) const WINDOW: Field = 14..16;
    pub(in crate::wire) const CHECKSUM: Field = 16..18;
    pub(in crate::wire) const URGENT: Field = 18..20;
    pub(in crate::wire) const OPTIONS_AT: usize = 20;
}

/// The control bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
    pub const URGENT: u8 = 0x20;

    #[inline(always)]
    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    #[inline(always)]
    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    #[inline(always)]
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    #[inline(always)]
    pub fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// A SYN that opens a connection: nothing else of weight is set.
    #[inline(always)]
    pub fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }
}

/// A segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<T>(pub(super) T);

impl<T: AsRef<[u8]>> Tcp<T> {
    /// # Errors
    /// [`Malformed::Truncated`], or [`Malformed::HeaderLength`]: it is below 20 or beyond the segment.
    #[inline(always)]
    pub fn new_checked(segment: T) -> Result<Self, Malformed> {
        let tcp = Tcp(segment);
        let length = tcp.0.as_ref().len();
        if length < HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        // RFC 9293 section 3.1: the data offset is where the data begin, behind a header of five words at least.
        match (HEADER_LEN..=length).contains(&tcp.header_len()) {
            true => Ok(tcp),
            false => Err(Malformed::HeaderLength),
        }
    }

    #[inline(always)]
    pub fn source_port(&self) -> u16 {
        u16_of(self.0.as_ref(), field::SOURCE_PORT)
    }

    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        u16_of(self.0.as_ref(), field::DESTINATION_PORT)
    }

    #[inline(always)]
    pub fn sequence(&self) -> u32 {
        u32_of(self.0.as_ref(), field::SEQUENCE)
    }

    #[inline(always)]
    pub fn acknowledged(&self) -> u32 {
        u32_of(self.0.as_ref(), field::ACKNOWLEDGED)
    }

    /// Bytes of the header, options included.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.0.as_ref()[field::DATA_OFFSET] >> 4) * 4
    }

    #[inline(always)]
    pub fn flags(&self) -> Flags {
        Flags(self.0.as_ref()[field::FLAGS])
    }

    #[inline(always)]
    pub fn window(&self) -> u16 {
        u16_of(self.0.as_ref(), field::WINDOW)
    }

    #[inline(always)]
    pub fn checksum(&self) -> u16 {
        u16_of(self.0.as_ref(), field::CHECKSUM)
    }

    /// Whether the checksum is right. `pseudo`: of the IP header, with the segment's length.
    #[inline(always)]
    pub fn is_checksum_right(&self, pseudo: u64) -> bool {
        fold(pseudo + partial(self.0.as_ref())) == 0xffff
    }

    pub fn options(&self) -> Options<'_> {
        Options::new(&self.0.as_ref()[HEADER_LEN..self.header_len()])
    }

    /// The largest segment that the sender takes (RFC 9293 section 3.7.1). None if it does not say, or says it not in the
    /// form of the RFC: then it counts as not said.
    pub fn mss(&self) -> Option<u16> {
        self.mss_options()
            .next()
            .map(|said| u16::from_be_bytes(*said))
    }

    fn mss_options(&self) -> impl Iterator<Item = &[u8; 2]> {
        const MAXIMUM_SEGMENT_SIZE: u8 = 2;
        let options = self.options().map_while(Result::ok);
        let said = options.filter(|option| option.kind == MAXIMUM_SEGMENT_SIZE);
        said.filter_map(|option| option.data.try_into().ok())
    }

    /// How far it advances the sequence number: SEG.LEN counts SYN and FIN besides the data (RFC 9293 section 3.4).
    pub fn sequence_length(&self) -> u32 {
        let data = self.0.as_ref().len() - self.header_len();
        let flags = self.flags();
        data as u32 + u32::from(flags.syn()) + u32::from(flags.fin())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Tcp<T> {
    /// Lowers the largest segment that the sender says to take, if it says a larger one, and corrects the checksum by that
    /// (RFC 1624): a wrong one stays wrong.
    pub fn clamp_mss(&mut self, most: u16) {
        // Which of several counts is the receiver's to say.
        while let Some(at) = self.mss_above(most) {
            self.set_mss(at, most);
        }
    }

    fn set_mss(&mut self, at: usize, most: u16) {
        let segment = self.0.as_mut();
        let said = u16_of(segment, at..at + 2);
        set_u16(segment, at..at + 2, most);
        // Of two bytes that lie in two words the sum has the halves swapped (RFC 1071 section 2 (B)).
        let delta = match at % 2 {
            0 => Delta::ZERO.replace_u16(said, most),
            _ => Delta::ZERO.replace_u16(said.swap_bytes(), most.swap_bytes()),
        };
        let mut checksum = array(segment, field::CHECKSUM);
        delta.apply(&mut checksum);
        segment[field::CHECKSUM].copy_from_slice(&checksum);
    }

    /// Where the first number of an MSS option is that is larger than `most`.
    fn mss_above(&self, most: u16) -> Option<usize> {
        let said = self
            .mss_options()
            .find(|said| u16::from_be_bytes(**said) > most)?;
        let start = self.0.as_ref().as_ptr().addr();
        Some(said.as_ptr().addr() - start)
    }
}

impl<'a> Tcp<&'a [u8]> {
    #[inline(always)]
    pub fn payload(&self) -> &'a [u8] {
        &self.0[self.header_len()..]
    }
}

/// A header without options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repr {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: Flags,
    pub window: u16,
}

impl Repr {
    /// Writes the header of a segment that fills `segment`, whose payload is there. None if it does not fit.
    pub fn emit(&self, segment: &mut [u8], pseudo: u64) -> Option<()> {
        if segment.len() < HEADER_LEN {
            return None;
        }
        set_u16(segment, field::SOURCE_PORT, self.source_port);
        set_u16(segment, field::DESTINATION_PORT, self.destination_port);
        set_u32(segment, field::SEQUENCE, self.sequence);
        set_u32(segment, field::ACKNOWLEDGED, self.acknowledged);
        segment[field::DATA_OFFSET] = (HEADER_LEN as u8 / 4) << 4;
        segment[field::FLAGS] = self.flags.0;
        set_u16(segment, field::WINDOW, self.window);
        set_u16(segment, field::CHECKSUM, 0);
        set_u16(segment, field::URGENT, 0);
        let checksum = !fold(pseudo + partial(segment));
        set_u16(segment, field::CHECKSUM, checksum);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::naive;
    use proptest::prelude::*;

    proptest! {
        /// Wherever among the options it stands, and whether the checksum was right or not.
        #[test]
        fn only_a_larger_mss_is_lowered(
            before in prop::collection::vec(Just(1u8), 0..8),
            said: u16,
            most: u16,
            checksum: u16,
            is_right: bool,
            payload in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let [high, low] = said.to_be_bytes();
            let mut options = [&before[..], &[2, 4, high, low]].concat();
            options.resize(options.len().next_multiple_of(4), 0);
            let mut bytes = [&[0; HEADER_LEN][..], &options, &payload].concat();
            Repr { flags: Flags(Flags::SYN), ..Repr::default() }.emit(&mut bytes, 0).unwrap();
            bytes[field::DATA_OFFSET] = ((HEADER_LEN + options.len()) as u8) << 2;
            let right = |bytes: &[u8]| {
                let mut blank = bytes.to_vec();
                set_u16(&mut blank, field::CHECKSUM, 0);
                !naive(&blank)
            };
            let off = if is_right { 0 } else { checksum };
            let wrong = |right: u16| crate::wire::checksum::fold(u64::from(right) + u64::from(off));
            let value = wrong(right(&bytes));
            set_u16(&mut bytes, field::CHECKSUM, value);
            let mut clamped = bytes.clone();
            Tcp::new_checked(&mut clamped[..]).unwrap().clamp_mss(most);
            let tcp = Tcp::new_checked(&clamped[..]).unwrap();
            prop_assert_eq!(tcp.mss(), Some(said.min(most)));
            if said <= most {
                prop_assert_eq!(clamped, bytes);
            } else {
                // 0 and 0xffff are the same number in ones' complement.
                let expected = wrong(right(&clamped));
                prop_assert_eq!(tcp.checksum() % 0xffff, expected % 0xffff);
                prop_assert_eq!(&clamped[HEADER_LEN + options.len()..], &payload[..]);
            }
        }

        #[test]
        fn without_an_mss_nothing_changes(bytes in prop::collection::vec(any::<u8>(), 20..60), most: u16) {
            let Ok(tcp) = Tcp::new_checked(&bytes[..]) else { return Ok(()) };
            let said = tcp.mss();
            let mut clamped = bytes.clone();
            Tcp::new_checked(&mut clamped[..]).unwrap().clamp_mss(most);
            prop_assert_eq!(said.is_none_or(|said| said <= most), clamped == bytes);
        }

        #[test]
        fn what_is_emitted_is_read(
            ports: (u16, u16),
            numbers: (u32, u32),
            (flags, window) in (any::<u8>(), any::<u16>()),
            payload in prop::collection::vec(any::<u8>(), 0..50),
            pseudo in 0u64..0x4_0000,
        ) {
            let repr = Repr {
                source_port: ports.0,
                destination_port: ports.1,
                sequence: numbers.0,
                acknowledged: numbers.1,
                flags: Flags(flags),
                window,
            };
            let mut bytes = [&[0xa5; HEADER_LEN][..], &payload].concat();
            repr.emit(&mut bytes, pseudo).unwrap();
            let halves = [pseudo >> 16, pseudo & 0xffff].map(|half| (half as u16).to_be_bytes());
            prop_assert_eq!(naive(&[&halves.concat()[..], &bytes].concat()), 0xffff);
            let tcp = Tcp::new_checked(&bytes[..]).unwrap();
            let read = Repr {
                source_port: tcp.source_port(),
                destination_port: tcp.destination_port(),
                sequence: tcp.sequence(),
                acknowledged: tcp.acknowledged(),
                flags: tcp.flags(),
                window: tcp.window(),
            };
            prop_assert_eq!(read, repr);
            prop_assert_eq!(tcp.payload(), &payload[..]);
            prop_assert_eq!(tcp.options().count(), 0);
            prop_assert!(tcp.is_checksum_right(pseudo));
            prop_assert!(!tcp.is_checksum_right(pseudo + 1));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            match Tcp::new_checked(&bytes[..]) {
                Ok(tcp) => {
                    prop_assert_eq!(tcp.payload().len() + tcp.header_len(), bytes.len());
                    let _ = (tcp.mss(), tcp.options().count(), tcp.checksum());
                }
                Err(Malformed::Truncated) => prop_assert!(bytes.len() < HEADER_LEN),
                Err(why) => prop_assert_eq!(why, Malformed::HeaderLength),
            }
        }
    }

    #[test]
    fn the_mss_is_read_among_other_options() {
        let cases: &[(&[u8], Option<u16>)] = &[
            (&[], None),
            (&[2, 4, 0x05, 0xb4], Some(1460)),
            (
                &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 0x05, 0x00],
                Some(1280),
            ),
            // Behind the end of the list it is padding.
            (&[0, 2, 4, 5, 0xb4, 0, 0, 0], None),
            // Of another length.
            (&[2, 3, 5, 1], None),
            // Behind one that is malformed.
            (&[3, 1, 0, 0, 2, 4, 0x05, 0xb4], None),
        ];
        for (options, expected) in cases {
            let mut bytes = [&[0; HEADER_LEN][..], options].concat();
            bytes[field::DATA_OFFSET] = (bytes.len() as u8 / 4) << 4;
            let tcp = Tcp::new_checked(bytes).unwrap();
            assert_eq!(tcp.mss(), *expected, "{options:?}");
        }
    }

    #[test]
    fn the_header_length_is_within_the_segment() {
        for (words, length, expected) in [
            (4, 40, Some(Malformed::HeaderLength)),
            (5, 20, None),
            (6, 23, Some(Malformed::HeaderLength)),
            (6, 24, None),
            (15, 60, None),
            (5, 19, Some(Malformed::Truncated)),
        ] {
            let mut bytes = vec![0; length];
            bytes[field::DATA_OFFSET] = words << 4;
            assert_eq!(Tcp::new_checked(bytes).err(), expected, "{words}, {length}");
        }
    }
}

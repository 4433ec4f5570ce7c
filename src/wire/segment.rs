//! Changes of a TCP segment's header. Each corrects the checksum by what it changes (RFC 1624): a wrong one stays wrong.

use super::checksum::{Delta, sum};
use super::field::{array, u16_of, u32_of};
use super::tcp::{Flags, HEADER_LEN, Tcp, field};

/// Option kinds (RFC 9293 section 3.2, RFC 7323, RFC 2018, RFC 7413).
const END: u8 = 0;
pub const NO_OPERATION: u8 = 1;
const WINDOW_SCALE: u8 = 3;
const SACK: u8 = 5;
pub const FAST_OPEN: u8 = 34;
/// For experiments (RFC 4727): Fast Open's once, and TOA's (`TCPOPT_TOA`).
pub const EXPERIMENT: u8 = 254;

impl<T: AsRef<[u8]>> Tcp<T> {
    /// By how many bits the sender's windows are shifted, of a SYN that says so (RFC 7323 section 2.3).
    pub fn window_shift(&self) -> Option<u8> {
        let options = self.options().map_while(Result::ok);
        let mut said = options.filter(|option| option.kind == WINDOW_SCALE);
        said.find_map(|option| match option.data {
            [shift] => Some((*shift).min(14)),
            _ => None,
        })
    }

    /// Whether the urgent pointer counts.
    pub fn is_urgent(&self) -> bool {
        self.flags().0 & Flags::URGENT != 0
    }

    /// Where an option of a kind stands in the segment, its kind and length counted.
    fn place_of(&self, kind: u8, from: usize) -> Option<std::ops::Range<usize>> {
        let bytes = self.0.as_ref();
        let end = self.header_len();
        let mut at = from.max(HEADER_LEN);
        while at < end && bytes[at] != END {
            let length = match bytes[at] {
                NO_OPERATION => 1,
                _ => usize::from(*bytes.get(at + 1)?),
            };
            // Malformed: no receiver reads on.
            if bytes[at] != NO_OPERATION && (length < 2 || at + length > end) {
                return None;
            }
            if bytes[at] == kind {
                return Some(at..at + length);
            }
            at += length;
        }
        None
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Tcp<T> {
    /// Writes bytes of the header, all but the checksum.
    pub(super) fn replace(&mut self, at: usize, new: &[u8]) {
        let words = at & !1..(at + new.len()).next_multiple_of(2);
        let before = sum(&self.0.as_ref()[words.clone()]);
        let segment = self.0.as_mut();
        segment[at..at + new.len()].copy_from_slice(new);
        let after = sum(&segment[words]);
        self.correct(Delta::ZERO.replace_u16(before, after));
    }

    /// Corrects the checksum by a change of what it covers.
    pub fn correct(&mut self, delta: Delta) {
        let segment = self.0.as_mut();
        let mut checksum = array(segment, field::CHECKSUM);
        delta.apply(&mut checksum);
        segment[field::CHECKSUM].copy_from_slice(&checksum);
    }

    pub fn set_sequence(&mut self, sequence: u32) {
        self.replace(field::SEQUENCE.start, &sequence.to_be_bytes());
    }

    pub fn set_acknowledged(&mut self, acknowledged: u32) {
        self.replace(field::ACKNOWLEDGED.start, &acknowledged.to_be_bytes());
    }

    pub fn set_window(&mut self, window: u16) {
        self.replace(field::WINDOW.start, &window.to_be_bytes());
    }

    /// Takes control bits off.
    pub fn clear_flags(&mut self, flags: u8) {
        let left = self.0.as_ref()[field::FLAGS] & !flags;
        self.replace(field::FLAGS, &[left]);
    }

    /// The urgent pointer counts from the sequence number on (RFC 9293 section 3.8.5).
    pub fn move_urgent(&mut self, by: u16) {
        let pointer = u16_of(self.0.as_ref(), field::URGENT).saturating_add(by);
        self.replace(field::URGENT.start, &pointer.to_be_bytes());
    }

    /// Says that the header is longer by so many words of four bytes.
    pub fn lengthen_header(&mut self, words: u8) {
        let byte = self.0.as_ref()[field::DATA_OFFSET];
        self.replace(field::DATA_OFFSET, &[byte.wrapping_add(words << 4)]);
    }

    /// Writes all of the options anew, as many bytes as the header has for them.
    pub fn set_options(&mut self, options: &[u8]) {
        debug_assert_eq!(HEADER_LEN + options.len(), self.header_len());
        self.replace(HEADER_LEN, options);
    }

    /// Puts no operation in the place of every option of a kind. Returns whether there was one.
    pub fn blank_option(&mut self, kind: u8) -> bool {
        let mut any = false;
        let mut from = HEADER_LEN;
        while let Some(place) = self.place_of(kind, from) {
            // At most the 40 bytes that options have.
            self.replace(place.start, &[NO_OPERATION; 40][..place.len().min(40)]);
            from = place.end;
            any = true;
        }
        any
    }

    /// Gives the edges of the blocks that the sender has received out of order (RFC 2018 section 3) other numbers.
    pub fn map_sacks(&mut self, to: impl Fn(u32) -> u32) {
        let mut from = HEADER_LEN;
        while let Some(place) = self.place_of(SACK, from) {
            let mut at = place.start + 2;
            while at + 4 <= place.end {
                let edge = u32_of(self.0.as_ref(), at..at + 4);
                self.replace(at, &to(edge).to_be_bytes());
                at += 4;
            }
            from = place.end;
        }
    }

    /// Takes the blocks away that the sender has received out of order.
    pub fn blank_sacks(&mut self) {
        self.blank_option(SACK);
    }
}

#[cfg(test)]
mod tests {
    use super::super::checksum::naive;
    use super::super::tcp::Repr;
    use super::*;
    use proptest::prelude::*;

    /// A segment with options, and the error of its checksum.
    fn segment(options: &[u8], payload: &[u8], off: u16) -> Vec<u8> {
        let mut options = options.to_vec();
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let mut bytes = [&[0; HEADER_LEN][..], &options, payload].concat();
        let repr = Repr {
            source_port: 40_000,
            destination_port: 80,
            sequence: 0x1234_5678,
            acknowledged: 0x9abc_def0,
            flags: Flags(0x39),
            window: 0xfeed,
        };
        repr.emit(&mut bytes, 0).unwrap();
        bytes[field::DATA_OFFSET] = ((HEADER_LEN + options.len()) as u8) << 2;
        let right = checksum(&bytes);
        bytes[16..18].copy_from_slice(&right.wrapping_add(off).to_be_bytes());
        bytes
    }

    fn checksum(bytes: &[u8]) -> u16 {
        let mut blank = bytes.to_vec();
        blank[16..18].fill(0);
        !naive(&blank)
    }

    /// By how much a checksum is wrong, as ones' complement sums count.
    fn error(bytes: &[u8]) -> u32 {
        let said = u32::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        (said + u32::from(!checksum(bytes))) % 0xffff
    }

    #[derive(Clone, Debug)]
    enum Change {
        Sequence(u32),
        Acknowledged(u32),
        Window(u16),
        Clear(u8),
        Urgent(u16),
        Blank(u8),
        Sacks(u32),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            any::<u32>().prop_map(Change::Sequence),
            any::<u32>().prop_map(Change::Acknowledged),
            any::<u16>().prop_map(Change::Window),
            any::<u8>().prop_map(Change::Clear),
            any::<u16>().prop_map(Change::Urgent),
            prop_oneof![Just(254u8), Just(5), Just(8), any::<u8>()].prop_map(Change::Blank),
            any::<u32>().prop_map(Change::Sacks),
        ]
    }

    fn option() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(vec![1]),
            Just(vec![0]),
            any::<[u8; 6]>().prop_map(|data| [&[254, 8][..], &data].concat()),
            any::<[u8; 8]>().prop_map(|data| [&[5, 10][..], &data].concat()),
            any::<[u8; 8]>().prop_map(|data| [&[8, 10][..], &data].concat()),
            any::<(u8, u8)>().prop_map(|(kind, length)| vec![kind, length]),
        ]
    }

    proptest! {
        /// Whatever changes, by so much as the checksum was wrong it is wrong afterwards, and the payload stays.
        #[test]
        fn a_wrong_checksum_stays_as_wrong(
            options in prop::collection::vec(option(), 0..6),
            payload in prop::collection::vec(any::<u8>(), 0..9),
            off: u16,
            changes in prop::collection::vec(change(), 0..6),
        ) {
            let mut options = options.concat();
            options.truncate(40);
            let mut bytes = segment(&options, &payload, off);
            let before = error(&bytes);
            let headers = bytes.len() - payload.len();
            let mut tcp = Tcp::new_checked(&mut bytes[..]).unwrap();
            for change in changes {
                match change {
                    Change::Sequence(to) => tcp.set_sequence(to),
                    Change::Acknowledged(to) => tcp.set_acknowledged(to),
                    Change::Window(to) => tcp.set_window(to),
                    Change::Clear(flags) => tcp.clear_flags(flags),
                    Change::Urgent(by) => tcp.move_urgent(by),
                    Change::Blank(kind) => { tcp.blank_option(kind.max(2)); }
                    Change::Sacks(by) => tcp.map_sacks(|edge| edge.wrapping_sub(by)),
                }
            }
            prop_assert_eq!(error(&bytes), before);
            prop_assert_eq!(&bytes[headers..], &payload[..]);
        }

        /// No receiver finds an option of the kind any longer, and all others as they were.
        #[test]
        fn a_blanked_option_is_gone_and_no_other(options in prop::collection::vec(option(), 0..6)) {
            let mut options = options.concat();
            options.truncate(40);
            let mut bytes = segment(&options, &[], 0);
            let read = |bytes: &[u8]| -> Vec<(u8, Vec<u8>)> {
                let tcp = Tcp::new_checked(bytes).unwrap();
                let options = tcp.options().map_while(Result::ok);
                options.map(|option| (option.kind, option.data.to_vec())).collect()
            };
            let mut expected = read(&bytes);
            let before = expected.len();
            expected.retain(|(kind, _)| *kind != EXPERIMENT);
            let any = Tcp::new_checked(&mut bytes[..]).unwrap().blank_option(EXPERIMENT);
            prop_assert_eq!(any, expected.len() < before);
            prop_assert_eq!(read(&bytes), expected);
        }
    }

    #[test]
    fn edges_of_sacks_are_mapped_and_shifts_read() {
        let options = [
            &[1, 1, 5, 18][..],
            &7u32.to_be_bytes(),
            &9u32.to_be_bytes(),
            &100u32.to_be_bytes(),
            &u32::MAX.to_be_bytes(),
            &[3, 3, 15],
        ]
        .concat();
        let mut bytes = segment(&options, &[], 0);
        let mut tcp = Tcp::new_checked(&mut bytes[..]).unwrap();
        assert_eq!(tcp.window_shift(), Some(14));
        tcp.map_sacks(|edge| edge.wrapping_add(1));
        let edges: Vec<u32> = (0..4)
            .map(|n| u32_of(&bytes, 24 + 4 * n..28 + 4 * n))
            .collect();
        assert_eq!(edges, [8, 10, 101, 0]);
    }
}

//! What a real server behind fullnat is told of a connection's client, and how far that has got: kept beside the entry,
//! which has no room for it.
//!
//! A header in front of a TCP connection's data takes up sequence numbers that the client has not used. So the real
//! server's numbers for what the client sends are higher than the client's own, by the header's length, from the first
//! byte of data on:
//!
//! ```text
//! client        ISN | first … data …
//! real server   ISN | first … header … | first + length … data …
//! ```
//!
//! *Why the header arrives.* Every segment of the client's that begins at `first` goes on with the header in front, always
//! the same bytes, until the real server has acknowledged all of it; a segment that begins later goes on with its number
//! raised. The real server ends its handshake either by a segment that has the header, or by a later one of the client's.
//! In the first case nothing is lost. In the second the client has sent data that begin at `first`, which the real server
//! does not acknowledge before it has the header, since what it acknowledges grows without gaps; so the client sends
//! them again, and with them the header. The handshake's last ACK begins at `first`, so that a real server that speaks first
//! gets the header before any data; if that ACK is lost, the real server sends its SYN-ACK again, and the client its ACK. If only its
//! data are, and both are silent then, the header is sent again by a timer (`director/remind.rs`).
//!
//! *Why the streams stay whole.* A byte of the client's has one number at the real server, whatever segment it comes in;
//! duplicates and segments out of order are what they would be without weir. What the real server acknowledges of the header
//! is to the client an acknowledgement of `first`. While that is so, numbers of the header's own cannot be told from old
//! ones; once the real server has acknowledged [`FAR`] bytes more, all are lowered, so that they may wrap.

use crate::config::ClientAddress;
use crate::wire::{proxy, toa};

/// From so many acknowledged bytes on no number is one of the header's; less than half of what a number can say, with the
/// largest window taken off (RFC 7323 section 2.3: 2^30).
const FAR: u32 = 1 << 20;

/// How a real server is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum How {
    /// Not at all: the connection was made before its service had it so, or has it no longer.
    #[default]
    Not,
    /// By a header in front of a TCP connection's data.
    Header,
    /// By a header in front of each datagram.
    EachDatagram,
    /// By a TCP option.
    Option,
}

/// How far it has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    /// The real server has not answered the client's SYN: the client's first number is not known.
    #[default]
    Opening,
    /// Nothing has been told.
    Due,
    /// It has been told, and the real server has not acknowledged it.
    Sent,
    /// The real server has acknowledged it.
    Taken,
    /// No number is one of the header's any longer.
    Far,
}

/// What to do with a client's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on with its own number.
    AsItIs,
    /// It goes on with this number.
    Shift(u32),
    /// It begins with this number, that of the first byte of data, and has to tell the client's address.
    Tell(u32),
    /// A reset while it is not known whether the real server has the header: it goes on twice, with its own number and with
    /// this one. Only one of them is what the real server takes next, which is the only one that it believes (RFC 5961
    /// section 3.2).
    ResetBoth(u32),
}

/// Of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    how: How,
    stage: Stage,
    /// The length of the header or option in bytes.
    length: u8,
    /// By how many bits the real server's windows are shifted.
    shift: u8,
    /// The number of the client's first byte of data.
    first: u32,
}

impl Told {
    /// Of a new connection: `length` bytes are told by.
    pub fn new(how: How, length: usize) -> Self {
        Told {
            how,
            length: length as u8,
            ..Told::default()
        }
    }

    /// Of a new connection of a service, whose clients are of IPv6 or IPv4.
    pub fn of(service: ClientAddress, is_tcp: bool, is_v6: bool) -> Self {
        match service {
            ClientAddress::None => Told::default(),
            ClientAddress::ProxyV2 if is_tcp => Told::new(How::Header, proxy::length(is_v6)),
            ClientAddress::ProxyV2 => Told::new(How::EachDatagram, proxy::length(is_v6)),
            ClientAddress::Toa if is_tcp => Told::new(How::Option, toa::length(is_v6)),
            // The other half of a service of both protocols.
            ClientAddress::Toa => Told::default(),
        }
    }

    pub fn how(self) -> How {
        self.how
    }

    pub fn length(self) -> u16 {
        self.length.into()
    }

    /// As one number; 0 is that of the default.
    pub fn to_bits(self) -> u64 {
        let bytes = [self.how as u8, self.stage as u8, self.length, self.shift];
        u64::from(u32::from_le_bytes(bytes)) << 32 | u64::from(self.first)
    }

    /// What [`to_bits`](Self::to_bits) has made a number of.
    pub fn from_bits(bits: u64) -> Self {
        let [how, stage, length, shift] = ((bits >> 32) as u32).to_le_bytes();
        Told {
            how: match how {
                1 => How::Header,
                2 => How::EachDatagram,
                3 => How::Option,
                _ => How::Not,
            },
            stage: match stage {
                1 => Stage::Due,
                2 => Stage::Sent,
                3 => Stage::Taken,
                4 => Stage::Far,
                _ => Stage::Opening,
            },
            length,
            shift,
            first: bits as u32,
        }
    }

    /// The real server has answered a SYN: it acknowledges the client's initial number, and says how its windows are shifted.
    /// One that is repeated changes nothing. A real server that has acknowledged more answers no SYN of the same connection:
    /// it is another one, even if the client's number is the same.
    pub fn open(&mut self, acknowledged: u32, shift: u8) {
        if self.stage == Stage::Opening || self.first != acknowledged {
            self.first = acknowledged;
            self.stage = Stage::Due;
            self.shift = shift;
        } else if self.stage > Stage::Sent {
            self.stage = Stage::Sent;
            self.shift = shift;
        }
    }

    /// A client's SYN or reset goes on, by which the real server's connection may end unseen, and another one begin: whether it
    /// has been told is not known before it acknowledges something again.
    pub fn doubt(&mut self) {
        if self.stage == Stage::Taken {
            self.stage = Stage::Sent;
        }
    }

    /// What to do with a client's segment, no SYN.
    pub fn request(&self, sequence: u32, is_ack: bool, is_reset: bool) -> Step {
        let is_told = self.stage >= Stage::Taken;
        match self.how {
            How::Not | How::EachDatagram => Step::AsItIs,
            _ if self.stage == Stage::Opening => Step::AsItIs,
            How::Option => match !is_told && is_ack && !is_reset && sequence == self.first {
                true => Step::Tell(sequence),
                false => Step::AsItIs,
            },
            How::Header => {
                let shifted = sequence.wrapping_add(self.length.into());
                let begins = sequence.wrapping_sub(self.first) as i32 <= 0;
                match (is_told, is_reset) {
                    (true, _) => Step::Shift(shifted),
                    (false, true) if self.stage == Stage::Due => Step::AsItIs,
                    (false, true) => Step::ResetBoth(shifted),
                    (false, false) if begins && is_ack => Step::Tell(self.first),
                    (false, false) => Step::Shift(shifted),
                }
            }
        }
    }

    /// The client's address was told.
    pub fn set_sent(&mut self) {
        if self.stage == Stage::Due {
            self.stage = Stage::Sent;
        }
    }

    /// Whether the real server was told by a header that begins with this number, and has not acknowledged all of it.
    pub fn awaits(self, first: u32) -> bool {
        self.how == How::Header && self.stage == Stage::Sent && self.first == first
    }

    /// What the client is told that the real server has acknowledged, of a segment that is no SYN.
    pub fn acknowledge(&mut self, acknowledged: u32) -> u32 {
        let ahead = acknowledged.wrapping_sub(self.first);
        match self.how {
            How::Not | How::EachDatagram => {}
            _ if self.stage <= Stage::Due => {}
            How::Option => {
                if self.stage == Stage::Sent && ahead as i32 > 0 {
                    self.stage = Stage::Taken;
                }
            }
            How::Header => {
                if self.stage == Stage::Sent && ahead as i32 >= 0 && ahead >= u32::from(self.length)
                {
                    self.stage = Stage::Taken;
                }
                if self.stage == Stage::Taken && (FAR..1 << 31).contains(&ahead) {
                    self.stage = Stage::Far;
                }
            }
        }
        self.to_client(acknowledged)
    }

    /// The client's own number for one of the real server's: that of the first byte for the header's.
    pub fn to_client(&self, number: u32) -> u32 {
        let (length, ahead) = (u32::from(self.length), number.wrapping_sub(self.first));
        match (self.how, self.stage) {
            (How::Header, Stage::Far) => number.wrapping_sub(length),
            (How::Header, Stage::Due | Stage::Sent | Stage::Taken) => match ahead as i32 {
                ..0 => number,
                _ if ahead <= length => self.first,
                _ => number.wrapping_sub(length),
            },
            _ => number,
        }
    }

    /// The real server's number for the client's next one, as far as that is known.
    pub fn to_real(&self, number: u32) -> u32 {
        match (self.how, self.stage) {
            (How::Header, Stage::Taken | Stage::Far) => number.wrapping_add(self.length.into()),
            _ => number,
        }
    }

    /// Whether the real server lacks a part of the header, as far as its acknowledgement tells.
    pub fn is_missing(&self, acknowledged: u32) -> bool {
        self.missing(acknowledged) > 0
    }

    /// The window that the client has, of the real server's: the rest of the header is in it, too. `is_syn`: in a SYN windows
    /// are not shifted.
    pub fn window(&self, window: u16, acknowledged: u32, is_syn: bool) -> u16 {
        let unit = match is_syn {
            true => 1,
            false => 1 << self.shift.min(14),
        };
        let missing = self.missing(acknowledged).div_ceil(unit);
        window.saturating_sub(missing.min(u16::MAX.into()) as u16)
    }

    fn missing(&self, acknowledged: u32) -> u32 {
        let ahead = acknowledged.wrapping_sub(self.first);
        let length = u32::from(self.length);
        match self.how {
            How::Header if self.stage <= Stage::Sent && ahead < length => length - ahead,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stages() -> impl Strategy<Value = Told> {
        let how = prop_oneof![
            Just(How::Not),
            Just(How::Header),
            Just(How::EachDatagram),
            Just(How::Option)
        ];
        let stage = prop_oneof![
            Just(Stage::Opening),
            Just(Stage::Due),
            Just(Stage::Sent),
            Just(Stage::Taken),
            Just(Stage::Far)
        ];
        (how, stage, any::<u8>(), any::<u8>(), any::<u32>()).prop_map(
            |(how, stage, length, shift, first)| Told {
                how,
                stage,
                length,
                shift,
                first,
            },
        )
    }

    proptest! {
        #[test]
        fn it_is_the_number_that_it_is_written_as(told in stages()) {
            prop_assert_eq!(Told::from_bits(told.to_bits()), told);
        }

        /// Along a stream of any length from any number on, an acknowledgement of so many bytes is one of as many to the
        /// client, but for those of the header; and every number of the client's comes back as it was.
        #[test]
        fn numbers_are_mapped_there_and_back(
            first: u32,
            length in 8u8..=64,
            steps in prop::collection::vec(1u64..1 << 30, 1..12),
        ) {
            let mut told = Told::new(How::Header, length.into());
            told.open(first, 7);
            prop_assert_eq!(told.request(first, true, false), Step::Tell(first));
            told.set_sent();
            let length = u64::from(length);
            // Bytes of the real server's stream: the header and after it the client's.
            let mut stream = 0u64;
            for step in [1, length - 1, 1, 5].into_iter().chain(steps) {
                stream += step;
                let number = first.wrapping_add(stream as u32);
                let expected = first.wrapping_add(stream.saturating_sub(length) as u32);
                prop_assert_eq!(told.is_missing(number), stream < length);
                prop_assert_eq!(told.acknowledge(number), expected);
                if stream >= length {
                    prop_assert_eq!(told.request(expected, true, false), Step::Shift(number));
                    prop_assert_eq!(told.to_real(expected), number);
                }
            }
        }
    }

    #[test]
    fn a_reset_goes_with_the_numbers_that_the_real_server_may_take_next() {
        let mut told = Told::new(How::Header, 40);
        assert_eq!(told.request(1001, true, true), Step::AsItIs);
        told.open(1001, 0);
        assert_eq!(told.request(1001, false, true), Step::AsItIs);
        told.set_sent();
        assert_eq!(told.request(1001, false, true), Step::ResetBoth(1041));
        told.acknowledge(1041);
        assert_eq!(told.request(1001, false, true), Step::Shift(1041));
    }

    #[test]
    fn a_keepalive_before_any_data_tells_and_a_segment_without_acknowledgement_does_not() {
        let mut told = Told::new(How::Header, 40);
        told.open(0, 0);
        assert_eq!(told.request(u32::MAX, true, false), Step::Tell(0));
        assert_eq!(told.request(0, false, false), Step::Shift(40));
        assert_eq!(told.request(1, true, false), Step::Shift(41));
    }

    #[test]
    fn a_new_attempt_begins_anew_and_a_repeated_answer_does_not() {
        let mut told = Told::new(How::Header, 40);
        told.open(1001, 0);
        told.set_sent();
        told.open(1001, 0);
        told.acknowledge(1041);
        assert_eq!(told.request(1001, true, false), Step::Shift(1041));
        told.open(5001, 0);
        assert_eq!(told.request(5001, true, false), Step::Tell(5001));
    }

    /// However far a connection has got, and by whatever it has ended: what begins its successor's data is told.
    #[test]
    fn a_connection_with_the_numbers_of_the_last_is_told_as_well() {
        for (how, length) in [(How::Header, 40), (How::Option, 8)] {
            for acknowledged in [1001, 1041, 1100, 1001 + 2 * FAR] {
                for doubted in [false, true] {
                    let mut told = Told::new(how, length);
                    told.open(1001, 0);
                    told.set_sent();
                    told.acknowledge(acknowledged);
                    if doubted {
                        told.doubt();
                    }
                    told.open(1001, 0);
                    assert_eq!(told.request(1001, true, false), Step::Tell(1001));
                    if how == How::Header {
                        assert_eq!(told.request(961, true, false), Step::Tell(1001));
                        assert_eq!(told.acknowledge(1001), 1001);
                    }
                }
            }
        }
    }

    #[test]
    fn a_reset_that_the_real_server_does_not_take_changes_nothing_for_good() {
        let mut told = Told::new(How::Header, 40);
        told.open(1001, 0);
        told.set_sent();
        told.acknowledge(1051);
        told.doubt();
        assert_eq!(told.request(1011, true, false), Step::Shift(1051));
        assert_eq!(told.acknowledge(1061), 1021);
        assert_eq!(told.request(1001, true, false), Step::Shift(1041));
    }

    #[test]
    fn the_header_is_in_the_window() {
        let mut told = Told::new(How::Header, 40);
        told.open(1001, 4);
        for (window, acknowledged, is_syn, expected) in [
            (1000, 1001, true, 960),
            (39, 1001, true, 0),
            (1000, 1001, false, 997),
            (1000, 1040, false, 999),
            (1000, 1041, false, 1000),
        ] {
            assert_eq!(told.window(window, acknowledged, is_syn), expected);
        }
    }

    #[test]
    fn an_option_is_told_until_data_are_acknowledged() {
        let mut told = Told::new(How::Option, 8);
        told.open(1001, 0);
        for _ in 0..2 {
            assert_eq!(told.request(1001, true, false), Step::Tell(1001));
            told.set_sent();
            assert_eq!(told.acknowledge(1001), 1001);
        }
        assert_eq!(told.request(1002, true, false), Step::AsItIs);
        assert_eq!(told.acknowledge(1101), 1101);
        assert_eq!(told.request(1001, true, false), Step::AsItIs);
    }
}

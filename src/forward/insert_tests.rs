use super::*;
use crate::io::memory::Memory;
use crate::net::{Mac, ethertype, protocol};
use crate::units::PortId;
use crate::wire::checksum::{fold, partial};
use crate::wire::extension::{self, Fragment};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::segment::EXPERIMENT;
use proptest::prelude::*;

/// What a packet is made of.
#[derive(Clone, Debug)]
struct Made {
    is_v6: bool,
    is_tcp: bool,
    /// Words of IPv4 options; in IPv6, whether there is an extension header.
    extra: usize,
    options: Vec<u8>,
    data: Vec<u8>,
    /// By how much the checksum of TCP or UDP is wrong.
    off: u16,
    padding: usize,
}

impl Made {
    fn l4(&self) -> usize {
        let extra = match self.is_v6 {
            true => (self.extra % 2) * 8,
            false => self.extra * 4,
        };
        IP + extra + if self.is_v6 { 40 } else { 20 }
    }

    fn frame(&self) -> (Memory, Place) {
        let headers = match self.is_tcp {
            true => tcp::HEADER_LEN + self.options.len(),
            false => udp::HEADER_LEN,
        };
        let l4 = self.l4();
        let mut frame = vec![0; l4 + headers];
        frame.extend(&self.data);
        let end = frame.len();
        let upper = end - l4;
        let kind = if self.is_v6 {
            ethertype::IPV6
        } else {
            ethertype::IPV4
        };
        let protocol = if self.is_tcp {
            protocol::TCP
        } else {
            protocol::UDP
        };
        ethernet::emit(&mut frame, Mac([2; 6]), Mac([4; 6]), kind).unwrap();
        if self.is_tcp {
            let repr = tcp::Repr {
                source_port: 40_000,
                destination_port: 80,
                sequence: 1000,
                acknowledged: 2000,
                flags: Flags(0x18),
                window: 3000,
            };
            repr.emit(&mut frame[l4..], 0).unwrap();
            frame[l4 + 12] = (headers as u8) << 2;
            frame[l4 + 20..l4 + headers].copy_from_slice(&self.options);
        } else {
            frame[l4 + 2..l4 + 6].copy_from_slice(&[0, 80, 0, 0]);
            frame[l4 + 4..l4 + 6].copy_from_slice(&(upper as u16).to_be_bytes());
        }
        if self.is_v6 {
            let first = if self.extra % 2 == 1 { 60 } else { protocol };
            let ip = ipv6::Repr::new([1; 16].into(), [2; 16].into(), first);
            ip.emit(&mut frame[IP..]).unwrap();
            if self.extra % 2 == 1 {
                frame[IP + 40] = protocol;
                frame[IP + 42] = 1;
                frame[IP + 43] = 4;
            }
        } else {
            let ip = ipv4::Repr::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), protocol);
            ip.emit(&mut frame[IP..]).unwrap();
            frame[IP] += self.extra as u8;
            Ipv4::new_checked(&mut frame[IP..]).unwrap().fill_checksum();
        }
        let at = l4 + self.checksum_at();
        frame[at..at + 2].fill(0);
        let sum = !sum_of(&frame, l4, end);
        let sum = sum.wrapping_add(self.off);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        frame.extend(std::iter::repeat_n(0xee, self.padding));
        let place = Place {
            layout: Layout { l4: l4 as u16 },
            length: (end - IP) as u16,
        };
        (Memory::new(PortId(0), &frame), place)
    }

    fn checksum_at(&self) -> usize {
        if self.is_tcp { 16 } else { 6 }
    }

    /// By how much the checksum of a packet is wrong, as sums in ones' complement count.
    fn error(&self, frame: &[u8], place: Place) -> u32 {
        u32::from(sum_of(frame, place.l4(), place.end())) % 0xffff
    }
}

/// The sum that the checksum makes 0xffff.
fn sum_of(frame: &[u8], l4: usize, end: usize) -> u16 {
    let upper = &frame[l4..end];
    let protocol = if is_v6(frame) && frame[IP + 6] == 60 {
        frame[IP + 40]
    } else if is_v6(frame) {
        frame[IP + 6]
    } else {
        frame[IP + 9]
    };
    let pseudo = match is_v6(frame) {
        true => {
            let ip = Ipv6::new_checked(&frame[IP..end]).unwrap();
            ip.pseudo_header(protocol, upper.len() as u32)
        }
        false => Ipv4::new_checked(&frame[IP..end])
            .unwrap()
            .pseudo_header(upper.len() as u16),
    };
    fold(pseudo + partial(upper))
}

fn made(is_tcp: impl Strategy<Value = bool>) -> impl Strategy<Value = Made> {
    (
        any::<bool>(),
        is_tcp,
        0usize..=10,
        prop::collection::vec(any::<[u8; 4]>(), 0..=10),
        prop::collection::vec(any::<u8>(), 0..1400),
        prop_oneof![Just(0), any::<u16>()],
        0usize..9,
    )
        .prop_map(|(is_v6, is_tcp, extra, options, data, off, padding)| Made {
            is_v6,
            is_tcp,
            extra,
            options: options.concat(),
            data,
            off,
            padding,
        })
}

fn even(bytes: Vec<u8>) -> Vec<u8> {
    bytes[..bytes.len() & !1].to_vec()
}

/// The parts of a packet: what is before `at` of the layer above IP, and what is behind; and that IP tells its length.
fn split(packet: &Memory, place: Place, at: usize) -> (Vec<u8>, Vec<u8>) {
    let frame = packet.data();
    assert_eq!(frame.len(), place.end(), "no padding is left");
    let said = match is_v6(frame) {
        true => 40 + word(frame, V6_LENGTH).unwrap(),
        false => word(frame, V4_LENGTH).unwrap(),
    };
    assert_eq!(said, place.length);
    if !is_v6(frame) {
        assert!(Ipv4::new_checked(&frame[IP..]).unwrap().is_header_right());
    }
    let (before, after) = frame.split_at(place.l4() + at);
    (before.to_vec(), after.to_vec())
}

proptest! {
    #[test]
    fn a_header_is_put_before_a_segments_data(
        made in made(Just(true)),
        header in prop::collection::vec(any::<u8>(), 2..66).prop_map(even),
    ) {
        let (mut packet, place) = made.frame();
        let before = packet.data().to_vec();
        let length = before_data(&mut packet, place, &header).unwrap();
        let after = Place { length, ..place };
        prop_assert_eq!(usize::from(length - place.length), header.len());
        let headers = tcp::HEADER_LEN + made.options.len();
        let (_, data) = split(&packet, after, headers);
        prop_assert_eq!(&data, &[&header[..], &made.data].concat());
        prop_assert_eq!(made.error(packet.data(), after), made.error(&before, place));
    }

    #[test]
    fn an_option_is_put_before_the_others_where_there_is_room(
        made in made(Just(true)),
        is_long: bool,
    ) {
        let (mut packet, place) = made.frame();
        let before = packet.data().to_vec();
        let long = if is_long { 20 } else { 8 };
        let mut toa = vec![7; long];
        toa[..2].copy_from_slice(&[EXPERIMENT, long as u8]);
        prop_assume!(made.options.len() + toa.len() <= MAX_OPTIONS);
        let length = option(&mut packet, place, &toa).unwrap();
        let after = Place { length, ..place };
        let (_, rest) = split(&packet, after, tcp::HEADER_LEN);
        prop_assert_eq!(&rest, &[&toa[..], &made.options, &made.data].concat());
        let segment = segment(packet.data_mut(), after).unwrap();
        prop_assert_eq!(segment.header_len(), 20 + toa.len() + made.options.len());
        prop_assert_eq!(made.error(packet.data(), after), made.error(&before, place));
    }

    /// Where padding is all that leaves no room, it goes; what a receiver reads is the option and the others.
    #[test]
    fn an_option_takes_the_place_of_padding(
        made in made(Just(true)),
        others in prop::collection::vec((2u8..250, 0usize..9, 0usize..12), 0..5),
        words in 0usize..=10,
        is_ended: bool,
        is_long: bool,
    ) {
        let mut options = vec![];
        for (kind, length, padding) in others {
            options.extend(vec![NO_OPERATION; padding]);
            options.extend([kind, length as u8 + 2]);
            options.extend(vec![kind; length]);
        }
        prop_assume!(options.len() <= MAX_OPTIONS);
        let room = options.len().next_multiple_of(4).max(words * 4);
        options.resize(room, if is_ended { 0 } else { NO_OPERATION });
        let made = Made { options, padding: 0, ..made };
        let (mut packet, place) = made.frame();
        let before = packet.data().to_vec();
        let read = |packet: &mut Memory, place| -> Vec<(u8, Vec<u8>)> {
            let segment = segment(packet.data_mut(), place).unwrap();
            let options = segment.options().map(Result::unwrap);
            options.map(|option| (option.kind, option.data.to_vec())).collect()
        };
        let others = read(&mut packet, place);
        let long = if is_long { 20 } else { 8 };
        let mut toa = vec![7; long];
        toa[..2].copy_from_slice(&[EXPERIMENT, long as u8]);
        let needed = long + others.iter().map(|(_, data)| data.len() + 2).sum::<usize>();
        let length = option(&mut packet, place, &toa);
        prop_assert_eq!(length.is_some(), needed <= MAX_OPTIONS);
        let Some(length) = length else {
            prop_assert_eq!(packet.data(), &before[..], "nothing has changed");
            return Ok(());
        };
        let after = Place { length, ..place };
        let headers = segment(packet.data_mut(), after).unwrap().header_len();
        prop_assert_eq!(split(&packet, after, headers).1, made.data.clone());
        prop_assert!(length <= place.length + long as u16, "no more than was asked for");
        let all = [vec![(EXPERIMENT, vec![7; long - 2])], others].concat();
        prop_assert_eq!(read(&mut packet, after), all);
        prop_assert_eq!(made.error(packet.data(), after), made.error(&before, place));
    }

    #[test]
    fn data_are_taken_off_and_a_header_goes_alone(
        made in made(Just(true)),
        header in prop::collection::vec(any::<u8>(), 2..66).prop_map(even),
    ) {
        let (mut packet, place) = made.frame();
        let before = packet.data().to_vec();
        let headers = tcp::HEADER_LEN + made.options.len();
        let mut own = Memory::new(PortId(0), &[]);
        let length = alone(&mut own, &before, place, &header).unwrap();
        let after = Place { length, ..place };
        prop_assert_eq!(split(&own, after, headers).1, header);
        prop_assert_eq!(made.error(own.data(), after), made.error(&before, place));
        let length = without_data(&mut packet, place).unwrap();
        let after = Place { length, ..place };
        prop_assert!(split(&packet, after, headers).1.is_empty());
        prop_assert_eq!(made.error(packet.data(), after), made.error(&before, place));
    }

    #[test]
    fn a_header_is_put_before_a_datagram(
        made in made(Just(false)),
        header in prop::collection::vec(any::<u8>(), 2..66).prop_map(even),
    ) {
        let (mut packet, place) = made.frame();
        let before = packet.data().to_vec();
        // None that means "none".
        prop_assume!(word(&before, place.l4() + 6) != Some(0));
        let length = before_datagram(&mut packet, place, &header).unwrap();
        let after = Place { length, ..place };
        let (_, data) = split(&packet, after, udp::HEADER_LEN);
        prop_assert_eq!(&data, &[&header[..], &made.data].concat());
        prop_assert_eq!(word(packet.data(), place.l4() + 4), Some(length + IP as u16 - place.layout.l4));
        prop_assert_eq!(made.error(packet.data(), after), made.error(&before, place));
    }

    /// An IPv4 datagram without a checksum keeps none.
    #[test]
    fn no_checksum_stays_none(made in made(Just(false))) {
        let (mut packet, place) = made.frame();
        let at = place.l4() + 6;
        set_word(packet.data_mut(), at, 0);
        before_datagram(&mut packet, place, &[1; 40]).unwrap();
        prop_assert_eq!(word(packet.data(), at), Some(0));
    }

    /// Of any bytes, and of a place of any kind, nothing is worse than nothing.
    #[test]
    fn arbitrary_frames_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        l4: u16,
        length: u16,
    ) {
        for l4 in [l4, l4 % 128] {
            let place = Place { layout: Layout { l4 }, length: length % 200 };
            let packet = || Memory::new(PortId(0), &bytes);
            let _ = before_data(&mut packet(), place, &[1; 40]);
            let _ = option(&mut packet(), place, &[254, 8, 0, 0, 0, 0, 0, 0]);
            let _ = before_datagram(&mut packet(), place, &[1; 40]);
            let _ = without_data(&mut packet(), place);
            let _ = alone(&mut packet(), &bytes, place, &[1; 40]);
            let _ = behind(&mut bytes.clone(), place, 40);
        }
    }
}

#[test]
fn a_later_fragment_moves_behind_the_header_and_keeps_its_flags() {
    for is_v6 in [false, true] {
        for (offset, more, data, moved) in [
            (0x100u16, true, 80, Some(0x100 + 40)),
            (1480, false, 3, Some(1520)),
            (65_480, false, 15, Some(65_520)),
            (65_480, false, 16, None),
        ] {
            let headers = if is_v6 { 48 } else { 20 };
            let mut frame = vec![0; IP + headers + data];
            if is_v6 {
                let ip = ipv6::Repr::new([1; 16].into(), [2; 16].into(), protocol::FRAGMENT);
                ip.emit(&mut frame[IP..]).unwrap();
                let fragment = Fragment {
                    offset,
                    more,
                    identification: 77,
                    next_header: protocol::UDP,
                };
                fragment.emit(
                    frame[IP + 40..]
                        .first_chunk_mut::<{ extension::FRAGMENT_LEN }>()
                        .unwrap(),
                );
            } else {
                let ip = ipv4::Repr::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17);
                ip.emit(&mut frame[IP..]).unwrap();
                let mut ip = Ipv4::new_checked(&mut frame[IP..]).unwrap();
                ip.set_fragment(offset, more);
                ip.fill_checksum();
            }
            let place = Place {
                layout: Layout {
                    l4: (IP + headers) as u16,
                },
                length: (headers + data) as u16,
            };
            let done = behind(&mut frame, place, 40);
            assert_eq!(done.is_some(), moved.is_some());
            let expected = (moved.unwrap_or(offset), more);
            let found = match is_v6 {
                true => {
                    let ip = Ipv6::new_checked(&frame[IP..]).unwrap();
                    let fragment = ip.upper_layer().unwrap().fragment.unwrap();
                    assert_eq!(fragment.identification, 77);
                    (fragment.offset, fragment.more)
                }
                false => {
                    let ip = Ipv4::new_checked(&frame[IP..]).unwrap();
                    assert!(ip.is_header_right());
                    (ip.fragment_offset(), ip.more_fragments())
                }
            };
            assert_eq!(found, expected);
        }
    }
}

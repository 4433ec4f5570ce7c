//! Both formats, both byte orders, every resolution.

use super::frames::{PcapNg, Timed, pcap};
use proptest::prelude::*;
use weir::io::pcap::{Capture, Problem, Resolution, Writer};

fn read(bytes: Vec<u8>) -> (Timed, Resolution) {
    let capture = Capture::parse(bytes).unwrap();
    let frames = capture
        .frames()
        .map(|(time, frame)| (time.nanos(), frame.to_vec()))
        .collect();
    (frames, capture.resolution())
}

fn some_frames() -> Timed {
    vec![
        (1_700_000_000_123_456_000, vec![1; 60]),
        (1_700_000_000_999_999_000, vec![2; 61]),
        (5_000, vec![]),
    ]
}

#[test]
fn classic_captures_are_read_in_both_byte_orders_and_resolutions() {
    for big_endian in [false, true] {
        let frames = some_frames();
        assert_eq!(
            read(pcap(&frames, big_endian, 1000, 1)),
            (frames.clone(), Resolution::Micro)
        );
        // The length of a frame check sequence shares the link type's field.
        assert_eq!(
            read(pcap(&frames, big_endian, 1, 0x5400_0001)),
            (frames, Resolution::Nano)
        );
    }
}

#[test]
fn each_interface_of_a_pcapng_has_its_own_clock() {
    for big_endian in [false, true] {
        let mut file = PcapNg::new(big_endian);
        file.interface(1, 0, None, 0);
        file.interface(1, 0, Some(9), 0);
        file.interface(1, 0, Some(0x80 | 20), 1_700_000_000);
        file.interface(1, 0, Some(3), -1);
        file.block(0x0000_0bad, &[0; 7]);
        file.packet(0, 1_700_000_000_000_001, &[1; 60]);
        assert_eq!(
            Capture::parse(file.bytes.clone()).unwrap().resolution(),
            Resolution::Micro
        );
        file.packet(1, 1_700_000_000_000_000_003, &[2; 61]);
        file.packet(2, 3 << 19, &[3; 62]);
        file.packet(3, 5_001, &[4; 63]);
        // A second section has its own interfaces, in its own byte order.
        let mut second = PcapNg::new(!big_endian);
        second.interface(1, 0, Some(0), 0);
        second.packet(0, 7, &[5; 64]);
        file.bytes.extend(second.bytes);
        let expected = vec![
            (1_700_000_000_000_001_000, vec![1; 60]),
            (1_700_000_000_000_000_003, vec![2; 61]),
            (1_700_000_001_500_000_000, vec![3; 62]),
            (4_001_000_000, vec![4; 63]),
            (7_000_000_000, vec![5; 64]),
        ];
        assert_eq!(read(file.bytes), (expected, Resolution::Nano));
    }
}

#[test]
fn a_simple_packet_has_the_time_of_the_one_before_it_and_its_own_length() {
    let mut file = PcapNg::new(false);
    file.interface(1, 50, None, 0);
    file.packet(0, 9, &[1; 14]);
    file.simple_packet(21, &[2; 21]);
    file.simple_packet(1500, &[3; 50]);
    assert_eq!(
        read(file.bytes).0,
        [
            (9000, vec![1; 14]),
            (9000, vec![2; 21]),
            (9000, vec![3; 50])
        ]
    );
}

#[test]
fn an_interface_that_is_not_ethernet_matters_only_if_it_has_packets() {
    let mut file = PcapNg::new(false);
    file.interface(1, 0, None, 0);
    file.interface(113, 0, None, 0);
    file.packet(0, 9, &[1; 14]);
    assert_eq!(read(file.bytes.clone()).0.len(), 1);
    file.packet(1, 10, &[1; 14]);
    assert!(matches!(
        Capture::parse(file.bytes),
        Err(Problem::NotEthernet(_))
    ));
}

#[test]
fn what_cannot_be_read_is_named() {
    let mut orphan = PcapNg::new(false);
    orphan.packet(0, 9, &[1; 14]);
    assert!(matches!(
        Capture::parse(orphan.bytes),
        Err(Problem::Damaged { at: 28, packets: 0 })
    ));
    let mut late = PcapNg::new(false);
    late.interface(1, 0, Some(0), 0);
    late.packet(0, 1 << 32, &[1; 14]);
    assert!(matches!(
        Capture::parse(late.bytes),
        Err(Problem::TimeOutOfRange { packets: 0, .. })
    ));
    for big_endian in [false, true] {
        let mut obsolete = PcapNg::new(big_endian);
        obsolete.block(2, &[0; 24]);
        assert!(matches!(
            Capture::parse(obsolete.bytes),
            Err(Problem::ObsoleteBlock)
        ));
    }
    assert!(matches!(
        Capture::parse(vec![0x1f, 0x8b, 8, 0, 0]),
        Err(Problem::Compressed)
    ));
    assert!(matches!(Capture::parse(vec![]), Err(Problem::NotACapture)));
}

#[test]
fn a_file_cut_anywhere_within_a_record_is_refused() {
    let mut file = PcapNg::new(false);
    file.interface(1, 0, None, 0);
    file.packet(0, 9, &[1; 14]);
    for (bytes, records) in [
        (pcap(&some_frames(), false, 1000, 1), vec![24, 100, 177]),
        (file.bytes, vec![28, 64]),
    ] {
        for length in 4..bytes.len() {
            let result = Capture::parse(bytes[..length].to_vec());
            match records.contains(&length) {
                true => assert!(result.is_ok(), "{length}"),
                false => assert!(matches!(result, Err(Problem::CutShort { .. })), "{length}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(frames in prop::collection::vec((0..u64::from(u32::MAX) * 1_000_000_000, prop::collection::vec(any::<u8>(), 0..200)), 0..20)) {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Resolution::Nano).unwrap();
        for (time, frame) in &frames {
            writer.write(weir::units::Time::from_nanos(*time), frame).unwrap();
        }
        writer.finish().unwrap();
        let resolution = if frames.is_empty() { Resolution::Micro } else { Resolution::Nano };
        prop_assert_eq!(read(out), (frames, resolution));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), format in 0..3, from in 0..200usize) {
        let mut good = PcapNg::new(format == 1);
        good.interface(1, 0, Some(6), 0);
        good.packet(0, 9, &[1; 40]);
        good.simple_packet(40, &[1; 40]);
        let good = if format == 0 { pcap(&some_frames(), false, 1000, 1) } else { good.bytes };
        // Damaged from some byte on.
        let from = from.min(bytes.len()).min(good.len());
        bytes[..from].copy_from_slice(&good[..from]);
        if let Ok(capture) = Capture::parse(bytes) {
            prop_assert!(capture.frames().all(|(_, frame)| frame.len() <= 400));
        }
    }
}

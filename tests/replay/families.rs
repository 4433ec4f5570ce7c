//! IPv6 as good as IPv4: the same services by either fare alike.

use super::alike::fare_alike;
use super::bursts::{Families, Limits, Packet, bursts, flags, replay, reply, request};
use super::six;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use weir::replay::{Frame, Replay};
use weir::units::PortId;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The same services by IPv6 addresses decide the same, and send the same, as by IPv4 ones.
    #[test]
    fn both_families_fare_alike(
        connections in select(vec![16, 40, 10_000]),
        bursts in bursts(prop_oneof![
            6 => request(),
            3 => reply(),
            3 => (any::<Index>(), flags()).prop_map(|(which, flags)| Packet::Answer(which, flags)),
        ]),
    ) {
        let limits = Limits { connections, answers: 1_000_000, knows_all: true };
        let mut four = replay(&limits, Families::V4, 1);
        let mut twin = replay(&limits, Families::V6, 1);
        let twin_of = |_: PortId, frame: &[u8]| six::frame(frame).unwrap();
        let alike = |expected: &Frame, given: &Frame| {
            let twin = six::frame(expected.bytes()).unwrap();
            prop_assert_eq!(&twin[..], given.bytes());
            Ok(())
        };
        let count = |four: &Replay, six: &Replay| (four.connections().count(), six.connections6().count());
        fare_alike(&bursts, (&mut four, &mut twin), twin_of, alike, count)?;
    }
}

use super::*;
use crate::io::memory::Memory;
use proptest::prelude::*;

/// A tag as it stands in a frame: EtherType, priority with the drop eligible bit, identifier.
type Tag = (u16, u8, u16);

/// Identifiers of ports and of none, the one that is none, and the reserved one.
fn id() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![0, 1, 100, 200, 300, 4094, 4095])
}

fn tag_of_a_frame() -> impl Strategy<Value = Tag> {
    let kind = prop::sample::select(vec![ethertype::VLAN, ethertype::VLAN, ethertype::QINQ]);
    (kind, 0u8..16, id())
}

/// The ports of a device: VLANs, each once.
fn vlans() -> impl Strategy<Value = Vec<Vlan>> {
    let one = prop_oneof![
        Just(Vlan::Untagged),
        (1u16..3).prop_map(|n| Vlan::Tagged(n * 100)),
        Just(Vlan::Tagged(4094)),
        (1u16..3, 1u16..3).prop_map(|(outer, inner)| Vlan::Stacked {
            outer: outer * 100,
            inner: inner * 100
        }),
    ];
    prop::collection::vec(one, 1..8).prop_map(|mut all| {
        let mut seen = Vec::new();
        all.retain(|vlan| !seen.contains(vlan) && (seen.push(*vlan), true).1);
        all
    })
}

fn bytes_of(tags: &[Tag]) -> Vec<u8> {
    let tag = |&(kind, bits, id): &Tag| {
        let control = u16::from(bits) << 12 | id;
        [kind.to_be_bytes(), control.to_be_bytes()].concat()
    };
    tags.iter().flat_map(tag).collect()
}

/// What the documentation says: the VLAN that a stack of tags is in.
fn vlan_of(tags: &[Tag]) -> Option<Vlan> {
    match *tags {
        [] => Some(Vlan::Untagged),
        [(0x8100, _, 0)] => Some(Vlan::Untagged),
        [(0x8100, _, id)] => Some(Vlan::Tagged(id)),
        [(0x8100, _, id), (0x8100, _, 0)] if id != 0 => Some(Vlan::Tagged(id)),
        [(_, _, outer), (0x8100, _, inner)] => Some(Vlan::Stacked { outer, inner }),
        _ => None,
    }
}

const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

proptest! {
    /// A frame with any tags gets to the port of its VLAN without them, and to no other; the device may have taken the first
    /// one off.
    #[test]
    fn a_frame_enters_by_the_port_of_its_vlan(
        vlans in vlans(),
        tags in prop::collection::vec(tag_of_a_frame(), 0..4),
        strips: bool,
        rest in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let ports: Vec<_> = (0..).map(PortId).zip(vlans.iter().copied()).collect();
        let Some(door) = Door::new(&ports) else {
            prop_assert_eq!(&vlans[..], &[Vlan::Untagged][..]);
            return Ok(());
        };
        let untagged = [&ADDRESSES[..], &[8, 0], &rest].concat();
        let stripped = match tags.first() {
            Some(&(0x8100, bits, id)) if strips => Some(u16::from(bits) << 12 | id),
            _ => None,
        };
        let left = &tags[usize::from(stripped.is_some())..];
        let frame = [&ADDRESSES[..], &bytes_of(left), &untagged[12..]].concat();
        let mut packet = Memory::new(PortId(77), &frame);
        let found = door.enter(&mut packet, stripped);
        let expected = ports.iter().find(|(_, vlan)| vlan_of(&tags) == Some(*vlan));
        match expected {
            Some((port, _)) => {
                prop_assert_eq!(found, Ok(*port));
                prop_assert_eq!(packet.data(), &untagged[..]);
                let priority = |n: usize| tags.get(n).map_or(0, |(_, bits, _)| bits >> 1);
                let priorities = TagPriorities { outer: priority(0), inner: priority(1) };
                prop_assert_eq!(packet.priorities(), priorities);
            }
            None => {
                prop_assert_eq!(found, Err(DropReason::OtherVlan));
                prop_assert_eq!(packet.data(), &frame[..], "unchanged");
            }
        }
    }

    /// What goes out by a port comes in by it again, and is as it was, but that it is never drop eligible.
    #[test]
    fn tags_that_are_put_on_are_the_ports(
        vlans in vlans(),
        (outer, inner) in (0u8..8, 0u8..8),
        rest in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let untagged = [&ADDRESSES[..], &[8, 0], &rest].concat();
        for vlan in vlans {
            let mut packet = Memory::new(PortId(0), &untagged);
            packet.set_priorities(TagPriorities { outer, inner });
            prop_assert!(tag(&mut packet, vlan));
            let tags = match vlan {
                Vlan::Untagged => vec![],
                Vlan::Tagged(id) => vec![(0x8100, outer << 1, id)],
                Vlan::Stacked { outer: o, inner: i } => {
                    vec![(0x88a8, outer << 1, o), (0x8100, inner << 1, i)]
                }
            };
            let expected = [&ADDRESSES[..], &bytes_of(&tags), &untagged[12..]].concat();
            prop_assert_eq!(packet.data(), &expected[..]);
            if let Some(door) = Door::new(&[(PortId(3), vlan)]) {
                prop_assert_eq!(door.enter(&mut packet, None), Ok(PortId(3)));
                prop_assert_eq!(packet.data(), &untagged[..]);
            }
        }
    }

    #[test]
    fn a_frame_that_ends_within_its_tags_is_truncated(count in 0usize..2, cut in 1usize..6) {
        let tags: Vec<Tag> = (0..count).map(|_| (0x8100, 0, 100)).collect();
        let mut frame = [&ADDRESSES[..], &bytes_of(&tags), &[0x81, 0, 0, 100]].concat();
        frame.truncate(frame.len() - cut.min(4));
        if cut == 5 {
            frame.truncate(5);
        }
        let door = Door::new(&[(PortId(0), Vlan::Tagged(100)), (PortId(1), Vlan::Untagged)]).unwrap();
        let mut packet = Memory::new(PortId(0), &frame);
        prop_assert_eq!(door.enter(&mut packet, None), Err(DropReason::Truncated));
    }
}

#[test]
fn a_device_with_untagged_ports_only_has_no_door() {
    assert!(Door::new(&[]).is_none());
    assert!(Door::new(&[(PortId(0), Vlan::Untagged)]).is_none());
    let door = |vlans: &[Vlan]| {
        let ports: Vec<_> = (3..).map(PortId).zip(vlans.iter().copied()).collect();
        Door::new(&ports).unwrap()
    };
    let tagged = door(&[Vlan::Tagged(7), Vlan::Tagged(8)]);
    assert_eq!(tagged.default_port(), PortId(3));
    let mixed = door(&[Vlan::Tagged(7), Vlan::Untagged]);
    assert_eq!(mixed.default_port(), PortId(4));
}

#[test]
fn a_frame_without_room_for_tags_stays_as_it_is() {
    let frame = [&ADDRESSES[..], &[8, 0, 1]].concat();
    let mut packet = Memory::new(PortId(0), &frame);
    assert!(packet.grow_front(125));
    let before = packet.data().to_vec();
    assert!(!tag(&mut packet, Vlan::Tagged(7)));
    assert_eq!(packet.data(), before);
}

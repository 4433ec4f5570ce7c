//! The door between a device and the ports on it: by their VLAN tags received frames find their port, and there the tags
//! come off; on the way out the port's tags go on. Behind the door there are untagged frames only.

use crate::net::{TagPriorities, Vlan, ethertype};
use crate::packet::Packet;
use crate::units::PortId;
use crate::verdict::DropReason;
use crate::wire::vlan::{TAG_AT, TAG_LEN, control};
use arrayvec::ArrayVec;

/// What stands in the table of VLANs that no port has.
const NO_PORT: u8 = u8::MAX;

/// The door of a device with tagged ports.
#[derive(Debug)]
pub struct Door {
    untagged: Option<PortId>,
    /// By VLAN identifier, the port's number.
    tagged: Box<[u8]>,
    /// Outer and inner identifier.
    stacked: Vec<((u16, u16), PortId)>,
    first: PortId,
}

/// The tags of a frame, at most two, the outer one first.
struct Tags {
    /// Of each its EtherType, and its priority and identifier.
    tags: ArrayVec<(u16, u16), 2>,
    /// The bytes that they take in the frame.
    length: usize,
}

impl Door {
    /// The door of a device with these ports, each with a VLAN of its own; none where no port is tagged: such a device needs
    /// none.
    pub fn new(ports: &[(PortId, Vlan)]) -> Option<Door> {
        let is_needed = ports.iter().any(|(_, vlan)| *vlan != Vlan::Untagged);
        is_needed.then(|| Door::to(ports[0].0, ports))
    }

    /// The door to these ports. `first`: the device's first port.
    pub fn to(first: PortId, ports: &[(PortId, Vlan)]) -> Door {
        let mut door = Door {
            first,
            untagged: None,
            tagged: vec![NO_PORT; 1 << 12].into(),
            stacked: Vec::new(),
        };
        for &(port, vlan) in ports {
            match vlan {
                Vlan::Untagged => door.untagged = Some(port),
                Vlan::Tagged(id) => door.tagged[usize::from(id & 0xfff)] = port.0,
                Vlan::Stacked { outer, inner } => door.stacked.push(((outer, inner), port)),
            }
        }
        door
    }

    /// Returns the port that frames count on which belong to none: the untagged one, or the first where none is.
    pub fn default_port(&self) -> PortId {
        self.untagged.unwrap_or(self.first)
    }

    /// Takes a received frame's tags off, and notes their priorities; returns the port that it is for. `stripped`: priority and
    /// identifier of an 802.1Q tag that the device has taken off already.
    ///
    /// # Errors
    /// The reason to drop the frame: no port of the device has its tags, or it ends within them.
    #[inline]
    pub fn enter<P: Packet>(
        &self,
        packet: &mut P,
        stripped: Option<u16>,
    ) -> Result<PortId, DropReason> {
        let Tags { tags, length } = Tags::read(packet.data(), stripped)?;
        let port = self.port_of(&tags).ok_or(DropReason::OtherVlan)?;
        if length > 0 {
            // The addresses take the tags' place. Behind the tags there is an EtherType.
            packet.data_mut().copy_within(..TAG_AT, length);
            packet.trim_front(length);
        }
        let priority = |n: usize| tags.get(n).map_or(0, |(_, control)| (control >> 13) as u8);
        packet.set_priorities(TagPriorities {
            outer: priority(0),
            inner: priority(1),
        });
        Ok(port)
    }

    fn port_of(&self, tags: &[(u16, u16)]) -> Option<PortId> {
        let id = |control: u16| control & 0xfff;
        match *tags {
            [] => self.untagged,
            [(ethertype::VLAN, only)] if id(only) == 0 => self.untagged,
            [(ethertype::VLAN, only)] => self.tagged(id(only)),
            // In a VLAN, a tag that only gives a priority.
            [(ethertype::VLAN, outer), (ethertype::VLAN, inner)]
                if id(inner) == 0 && id(outer) != 0 =>
            {
                self.tagged(id(outer))
            }
            [(_, outer), (ethertype::VLAN, inner)] => {
                let ids = (id(outer), id(inner));
                let found = self.stacked.iter().find(|(stack, _)| *stack == ids);
                found.map(|&(_, port)| port)
            }
            _ => None,
        }
    }

    fn tagged(&self, id: u16) -> Option<PortId> {
        let port = self.tagged[usize::from(id)];
        (port != NO_PORT).then_some(PortId(port))
    }
}

impl Tags {
    fn read(frame: &[u8], stripped: Option<u16>) -> Result<Tags, DropReason> {
        let word = |at: usize| {
            let bytes = frame.get(at..at + 2).ok_or(DropReason::Truncated)?;
            Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let mut tags = ArrayVec::new();
        tags.extend(stripped.map(|control| (ethertype::VLAN, control)));
        let mut at = TAG_AT;
        loop {
            let kind = word(at)?;
            if !matches!(kind, ethertype::VLAN | ethertype::QINQ) {
                let length = at - TAG_AT;
                return Ok(Tags { tags, length });
            }
            let tag = (kind, word(at + 2)?);
            tags.try_push(tag).map_err(|_| DropReason::OtherVlan)?;
            at += TAG_LEN;
        }
    }
}

/// Puts the tags of a VLAN on a frame that is to leave, with the priorities that its tags had when it came. Returns false, and
/// changes nothing, where the buffer has no room for them.
pub fn tag<P: Packet>(packet: &mut P, vlan: Vlan) -> bool {
    let TagPriorities { outer, inner } = packet.priorities();
    let mut tags = ArrayVec::<(u16, u16), 2>::new();
    match vlan {
        Vlan::Untagged => return true,
        Vlan::Tagged(id) => tags.push((ethertype::VLAN, control(outer, id))),
        Vlan::Stacked {
            outer: outer_id,
            inner: inner_id,
        } => {
            tags.push((ethertype::QINQ, control(outer, outer_id)));
            tags.push((ethertype::VLAN, control(inner, inner_id)));
        }
    }
    let length = tags.len() * TAG_LEN;
    if packet.data().len() < TAG_AT || !packet.grow_front(length) {
        return false;
    }
    let frame = packet.data_mut();
    frame.copy_within(length..length + TAG_AT, 0);
    let places = frame[TAG_AT..TAG_AT + length].chunks_exact_mut(TAG_LEN);
    for (place, (kind, control)) in places.zip(tags) {
        place[..2].copy_from_slice(&kind.to_be_bytes());
        place[2..].copy_from_slice(&control.to_be_bytes());
    }
    true
}

#[cfg(test)]
mod tests;

//! VLAN tags (IEEE 802.1Q clause 9): between the source address and the EtherType of what is tagged.

use super::Malformed;
use super::ethernet::Ethernet;
use super::field::{set_u16, u16_of};
use crate::net::ethertype;

/// Bytes of a tag, its EtherType counted.
pub const TAG_LEN: usize = 4;
/// Where the first tag of a frame begins: behind both MAC addresses.
pub const TAG_AT: usize = 12;

/// From the end of the tag's own EtherType, as the payload of [`Ethernet`] begins.
mod field {
    use crate::wire::field::Field;
    use std::ops::RangeFrom;

    /// Priority (3 bits), drop eligible (1), VLAN identifier (12).
    pub(super) const CONTROL: Field = 0..2;
    pub(super) const ETHERTYPE: Field = 2..4;
    pub(super) const PAYLOAD: RangeFrom<usize> = 4..;
}

/// Returns what a tag says of a priority (0 to 7) and an identifier (0 to 4095), and not drop eligible; higher bits are cut off.
pub fn control(priority: u8, id: u16) -> u16 {
    u16::from(priority & 7) << 13 | id & 0x0fff
}

/// What follows the EtherType of a tag.
#[derive(Clone, Copy, Debug)]
pub struct Vlan<T>(T);

impl<T: AsRef<[u8]>> Vlan<T> {
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn new_checked(bytes: T) -> Result<Self, Malformed> {
        match bytes.as_ref().len() {
            ..TAG_LEN => Err(Malformed::Truncated),
            TAG_LEN.. => Ok(Vlan(bytes)),
        }
    }

    /// Priority, drop eligible and identifier.
    pub fn control(&self) -> u16 {
        u16_of(self.0.as_ref(), field::CONTROL)
    }

    pub fn priority(&self) -> u8 {
        (self.control() >> 13) as u8
    }

    pub fn is_drop_eligible(&self) -> bool {
        self.control() & 0x1000 != 0
    }

    pub fn id(&self) -> u16 {
        self.control() & 0x0fff
    }

    /// Whether the tag says nothing but a priority (IEEE 802.1Q clause 6.8.2: identifier 0).
    pub fn is_priority_only(&self) -> bool {
        self.id() == 0
    }

    /// Of what is tagged: another tag's too.
    pub fn ethertype(&self) -> u16 {
        u16_of(self.0.as_ref(), field::ETHERTYPE)
    }
}

impl<'a> Vlan<&'a [u8]> {
    pub fn payload(&self) -> &'a [u8] {
        &self.0[field::PAYLOAD]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Vlan<T> {
    /// Writes the priority (0 to 7) and the identifier (0 to 4095), and not drop eligible; higher bits are cut off.
    pub fn set_control(&mut self, priority: u8, id: u16) {
        set_u16(self.0.as_mut(), field::CONTROL, control(priority, id));
    }

    pub fn set_ethertype(&mut self, ethertype: u16) {
        set_u16(self.0.as_mut(), field::ETHERTYPE, ethertype);
    }
}

/// Whether the first tag of a frame is of 802.1Q and says nothing but a priority.
pub fn is_priority_tagged(frame: &[u8]) -> bool {
    let Ok(frame) = Ethernet::new_checked(frame) else {
        return false;
    };
    frame.ethertype() == ethertype::VLAN
        && Vlan::new_checked(frame.payload()).is_ok_and(|tag| tag.is_priority_only())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(priority in 0u8..8, id in 0u16..4096, ethertype: u16, drop: bool) {
            let mut bytes = [0; TAG_LEN + 3];
            let mut tag = Vlan::new_checked(&mut bytes).unwrap();
            tag.set_control(priority, id);
            tag.set_ethertype(ethertype);
            bytes[0] |= u8::from(drop) << 4;
            let tag = Vlan::new_checked(&bytes[..]).unwrap();
            prop_assert_eq!((tag.priority(), tag.id(), tag.is_drop_eligible()), (priority, id, drop));
            prop_assert_eq!(tag.is_priority_only(), id == 0);
            prop_assert_eq!(tag.ethertype(), ethertype);
            prop_assert_eq!(tag.payload(), &[0; 3]);
        }

        #[test]
        fn only_vlan_0_of_8021q_is_a_priority_tag(control: u16, kind in prop::sample::select(vec![
            ethertype::VLAN, ethertype::QINQ, ethertype::IPV4,
        ]), cut in 0usize..20) {
            let mut frame = [&[0; TAG_AT][..], &kind.to_be_bytes(), &control.to_be_bytes(), &[8, 0]].concat();
            frame.truncate(cut);
            let expected = kind == ethertype::VLAN && control & 0xfff == 0 && cut >= TAG_AT + 2 + TAG_LEN;
            prop_assert_eq!(is_priority_tagged(&frame), expected);
        }
    }
}

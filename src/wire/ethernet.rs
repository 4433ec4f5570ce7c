//! Ethernet II frames (IEEE 802.3 clause 3): destination, source, EtherType, payload.

use std::fmt;

/// Bytes before the payload, without tags.
pub const HEADER_LEN: usize = 14;

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_ARP: u16 = 0x0806;
pub const ETHERTYPE_VLAN: u16 = 0x8100;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
pub const ETHERTYPE_QINQ: u16 = 0x88a8;

/// A frame of fewer bytes, its checksum not counted, is filled up to so many (IEEE 802.3 clause 3.2.8).
pub const MIN_LEN: usize = 60;
/// Bytes of an 802.1Q tag.
pub const TAG_LEN: usize = 4;

/// A MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// A group address: multicast or broadcast.
    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a station can have it: neither a group address nor zero.
    pub fn is_station(&self) -> bool {
        !self.is_multicast() && *self != Mac::default()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Writes a header; the payload begins at [`HEADER_LEN`]. None if it does not fit.
pub fn emit(frame: &mut [u8], destination: Mac, source: Mac, ethertype: u16) -> Option<()> {
    let header = frame.first_chunk_mut::<HEADER_LEN>()?;
    header[..6].copy_from_slice(&destination.0);
    header[6..12].copy_from_slice(&source.0);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    Some(())
}

/// The source address of a frame.
pub fn source(frame: &[u8]) -> Option<Mac> {
    frame.get(6..12)?.try_into().ok().map(Mac)
}

/// Whether a frame has a priority tag: an 802.1Q tag with VLAN identifier 0, which says nothing but a priority
/// (IEEE 802.1Q clause 6.8.2).
pub fn is_priority_tagged(frame: &[u8]) -> bool {
    let Some(&[high, low, control, id, ..]) = frame.get(12..) else {
        return false;
    };
    u16::from_be_bytes([high, low]) == ETHERTYPE_VLAN && control & 0x0f == 0 && id == 0
}

//! Ethernet II frames (IEEE 802.3 clause 3): destination, source, EtherType, payload.

use super::field::{array, set_u16, u16_of};
use super::{Mac, Malformed};

/// Bytes before the payload, without tags.
pub const HEADER_LEN: usize = field::PAYLOAD.start;

/// A frame of fewer bytes, its checksum not counted, is filled up to so many (IEEE 802.3 clause 3.2.8).
pub const MIN_LEN: usize = 60;

mod field {
    use crate::wire::field::Field;
    use std::ops::RangeFrom;

    pub(super) const DESTINATION: Field = 0..6;
    pub(super) const SOURCE: Field = 6..12;
    pub(super) const ETHERTYPE: Field = 12..14;
    pub(super) const PAYLOAD: RangeFrom<usize> = 14..;
}

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<T>(T);

impl<T: AsRef<[u8]>> Ethernet<T> {
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn new_checked(frame: T) -> Result<Self, Malformed> {
        match frame.as_ref().len() {
            ..HEADER_LEN => Err(Malformed::Truncated),
            HEADER_LEN.. => Ok(Ethernet(frame)),
        }
    }

    #[inline(always)]
    pub fn destination(&self) -> Mac {
        Mac(array(self.0.as_ref(), field::DESTINATION))
    }

    #[inline(always)]
    pub fn source(&self) -> Mac {
        Mac(array(self.0.as_ref(), field::SOURCE))
    }

    #[inline(always)]
    pub fn ethertype(&self) -> u16 {
        u16_of(self.0.as_ref(), field::ETHERTYPE)
    }
}

impl<'a> Ethernet<&'a [u8]> {
    /// What follows the header, padding included.
    #[inline(always)]
    pub fn payload(&self) -> &'a [u8] {
        &self.0[field::PAYLOAD]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ethernet<T> {
    #[inline(always)]
    pub fn set_destination(&mut self, mac: Mac) {
        self.0.as_mut()[field::DESTINATION].copy_from_slice(&mac.0);
    }

    #[inline(always)]
    pub fn set_source(&mut self, mac: Mac) {
        self.0.as_mut()[field::SOURCE].copy_from_slice(&mac.0);
    }

    #[inline(always)]
    pub fn set_ethertype(&mut self, ethertype: u16) {
        set_u16(self.0.as_mut(), field::ETHERTYPE, ethertype);
    }

    #[inline(always)]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.0.as_mut()[field::PAYLOAD]
    }
}

/// Writes a header; the payload begins at [`HEADER_LEN`]. None if it does not fit.
pub fn emit(frame: &mut [u8], destination: Mac, source: Mac, ethertype: u16) -> Option<()> {
    let mut frame = Ethernet::new_checked(frame).ok()?;
    frame.set_destination(destination);
    frame.set_source(source);
    frame.set_ethertype(ethertype);
    Some(())
}

/// The source address of a frame.
pub fn source(frame: &[u8]) -> Option<Mac> {
    frame.get(field::SOURCE)?.try_into().ok().map(Mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_is_read(
            macs: ([u8; 6], [u8; 6]),
            ethertype: u16,
            payload in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut frame = [&[0; HEADER_LEN][..], &payload].concat();
            emit(&mut frame, Mac(macs.0), Mac(macs.1), ethertype).unwrap();
            let view = Ethernet::new_checked(&frame[..]).unwrap();
            prop_assert_eq!(view.destination(), Mac(macs.0));
            prop_assert_eq!(view.source(), Mac(macs.1));
            prop_assert_eq!(view.ethertype(), ethertype);
            prop_assert_eq!(view.payload(), &payload[..]);
        }

        #[test]
        fn a_cut_header_is_refused(length in 0..HEADER_LEN) {
            prop_assert_eq!(Ethernet::new_checked(vec![0; length]).err(), Some(Malformed::Truncated));
        }
    }
}

//! Reads and writes the fields of a header by their places.

use std::ops::Range;

/// Where a field is, in bytes from the start of its header.
pub(super) type Field = Range<usize>;

/// The bytes of a field that is `N` long. The view that asks has checked that it is there.
#[inline(always)]
pub(super) fn array<const N: usize>(bytes: &[u8], field: Field) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[field]);
    array
}

#[inline(always)]
pub(super) fn u16_of(bytes: &[u8], field: Field) -> u16 {
    let bytes = &bytes[field];
    u16::from_be_bytes([bytes[0], bytes[1]])
}

#[inline(always)]
pub(super) fn u32_of(bytes: &[u8], field: Field) -> u32 {
    let bytes = &bytes[field];
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[inline(always)]
pub(super) fn set_u16(bytes: &mut [u8], field: Field, value: u16) {
    let bytes = &mut bytes[field];
    [bytes[0], bytes[1]] = value.to_be_bytes();
}

#[inline(always)]
pub(super) fn set_u32(bytes: &mut [u8], field: Field, value: u32) {
    let bytes = &mut bytes[field];
    [bytes[0], bytes[1], bytes[2], bytes[3]] = value.to_be_bytes();
}

//! IPv6 extension headers (RFC 8200 section 4), and the way through them to the upper layer.

use super::Malformed;
use super::field::{set_u16, set_u32, u16_of, u32_of};
use crate::net::protocol;

/// How many are walked at most. RFC 8504 section 5.3 lets a receiver have such limits.
pub const MAX_HEADERS: usize = 8;
/// How many bytes of them are walked at most.
pub const MAX_BYTES: usize = 256;

/// The least one, and the unit of their lengths.
const UNIT: usize = 8;
/// Bytes of a fragment header.
pub const FRAGMENT_LEN: usize = UNIT;

mod field {
    use crate::wire::field::Field;

    pub(super) const NEXT_HEADER: usize = 0;
    /// In units of 8 bytes, the first not counted. A fragment header has none.
    pub(super) const LENGTH: usize = 1;
    /// Of hop-by-hop and destination options.
    pub(super) const OPTIONS_AT: usize = 2;
    /// Of a routing header.
    pub(super) const SEGMENTS_LEFT: usize = 3;
    /// Of a fragment header: the offset in units of 8 bytes (13 bits), two reserved bits, and whether more follow.
    pub(super) const OFFSET: Field = 2..4;
    /// Of a fragment header.
    pub(super) const IDENTIFICATION: Field = 4..8;
}

/// One extension header, at the start of bytes that may be more.
#[derive(Clone, Copy, Debug)]
pub struct Extension<'a> {
    bytes: &'a [u8],
    kind: u8,
}

impl<'a> Extension<'a> {
    /// The header of this number: one of those for which [`is_extension`] holds.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn new_checked(kind: u8, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let first = bytes.first_chunk::<UNIT>().ok_or(Malformed::Truncated)?;
        let units = match kind {
            // RFC 8200 section 4.5: of 8 bytes, the second is reserved.
            protocol::FRAGMENT => 1,
            _ => 1 + usize::from(first[field::LENGTH]),
        };
        let bytes = bytes.get(..units * UNIT).ok_or(Malformed::Truncated)?;
        Ok(Extension { bytes, kind })
    }

    /// What follows it.
    pub fn next_header(&self) -> u8 {
        self.bytes[field::NEXT_HEADER]
    }

    /// Its own bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where a fragment belongs; none of another header.
    pub fn fragment(&self) -> Option<Fragment> {
        let offset = u16_of(self.bytes, field::OFFSET);
        (self.kind == protocol::FRAGMENT).then(|| Fragment {
            offset: offset & !7,
            more: offset & 1 != 0,
            identification: u32_of(self.bytes, field::IDENTIFICATION),
            next_header: self.next_header(),
        })
    }

    /// What of a hop-by-hop or routing header keeps weir from the packet.
    fn check(&self) -> Result<(), Malformed> {
        match self.kind {
            // RFC 8200 section 4.4: of an unknown type it is ignored where no segments are left, else refused; so is one of
            // type 0 (RFC 5095 section 3).
            protocol::ROUTING => match self.bytes[field::SEGMENTS_LEFT] {
                0 => Ok(()),
                _ => Err(Malformed::SegmentsLeft),
            },
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => {
                const JUMBO_PAYLOAD: u8 = 0xc2;
                let mut options = self.options();
                let is_jumbo = options.try_fold(false, |found, option| {
                    Ok(found | (option? == JUMBO_PAYLOAD))
                })?;
                match is_jumbo {
                    true => Err(Malformed::Jumbogram),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The types of the options of a hop-by-hop or destination options header, but for padding (RFC 8200 section 4.2).
    fn options(&self) -> impl Iterator<Item = Result<u8, Malformed>> + 'a {
        /// Of one byte.
        const PAD1: u8 = 0;
        const PADN: u8 = 1;
        let mut list = &self.bytes[field::OPTIONS_AT..];
        std::iter::from_fn(move || {
            loop {
                let (&kind, rest) = list.split_first()?;
                if kind == PAD1 {
                    list = rest;
                    continue;
                }
                // The length counts neither type nor length.
                let next = rest.split_first();
                let next = next.and_then(|(&length, data)| data.get(usize::from(length)..));
                let Some(next) = next else {
                    list = &[];
                    return Some(Err(Malformed::Option));
                };
                list = next;
                if kind != PADN {
                    return Some(Ok(kind));
                }
            }
        })
    }
}

/// Whether a next header is an extension header that is walked. All others are taken as upper layers: what follows them is
/// not weir's to read.
pub fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::DESTINATION_OPTIONS
    )
}

/// Whether a next header is one of IANA's IPv6 Extension Header Types that [`is_extension`] leaves out, but for encapsulation
/// (RFC 4303), behind which nothing can be read.
pub fn is_unread_extension(next_header: u8) -> bool {
    const AUTHENTICATION: u8 = 51; // RFC 4302
    const MOBILITY: u8 = 135; // RFC 6275
    const HIP: u8 = 139; // RFC 7401
    const SHIM6: u8 = 140; // RFC 5533
    const EXPERIMENT_1: u8 = 253; // RFC 3692
    const EXPERIMENT_2: u8 = 254;
    matches!(
        next_header,
        AUTHENTICATION | MOBILITY | HIP | SHIM6 | EXPERIMENT_1 | EXPERIMENT_2
    )
}

/// Where a fragment belongs in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// In bytes.
    pub offset: u16,
    /// Whether others follow.
    pub more: bool,
    pub identification: u32,
    /// What the datagram's fragments, put together, begin with: an extension header, or the upper layer.
    pub next_header: u8,
}

impl Fragment {
    /// Writes the header.
    pub fn emit(&self, header: &mut [u8; FRAGMENT_LEN]) {
        header[field::NEXT_HEADER] = self.next_header;
        header[field::LENGTH] = 0;
        set_u16(
            header,
            field::OFFSET,
            self.offset & !7 | u16::from(self.more),
        );
        set_u32(header, field::IDENTIFICATION, self.identification);
    }

    /// RFC 6946: one that is the whole datagram.
    pub fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// What is behind the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer<'a> {
    pub protocol: u8,
    /// Bytes of all extension headers.
    pub extensions: usize,
    /// Of a fragment header, an atomic fragment's too.
    pub fragment: Option<Fragment>,
    /// Bytes of the extension headers up to the fragment header's end; 0 without one. What follows is the fragment's data.
    pub fragment_end: usize,
    /// The bytes of the upper layer; of a fragment that is not the first, any part of them.
    pub payload: &'a [u8],
}

impl UpperLayer<'_> {
    /// Whether it is a part of a datagram. An atomic fragment is a whole one.
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| !fragment.is_atomic())
    }

    /// Source and destination port of a whole TCP segment or UDP datagram.
    pub fn ports(&self) -> Option<(u16, u16)> {
        if self.is_fragment() || !matches!(self.protocol, protocol::TCP | protocol::UDP) {
            return None;
        }
        let ports = self.payload.first_chunk::<4>()?;
        Some((u16_of(ports, 0..2), u16_of(ports, 2..4)))
    }
}

impl UpperLayer<'_> {
    /// As [`ports`](Self::ports), of a packet that an ICMPv6 error quotes, which may be a first fragment. None unless the
    /// first 8 bytes of TCP, UDP or SCTP are there.
    pub fn quoted_ports(&self) -> Option<(u16, u16)> {
        let is_later = self.fragment.is_some_and(|fragment| fragment.offset > 0);
        let is_known = matches!(
            self.protocol,
            protocol::TCP | protocol::UDP | protocol::SCTP
        );
        if is_later || !is_known {
            return None;
        }
        let first = self.payload.first_chunk::<8>()?;
        Some((u16_of(first, 0..2), u16_of(first, 2..4)))
    }
}

/// Walks the extension headers at the start of `payload`.
pub(super) fn walk(first: u8, payload: &[u8]) -> Result<UpperLayer<'_>, Malformed> {
    let mut upper = UpperLayer {
        protocol: first,
        extensions: 0,
        fragment: None,
        fragment_end: 0,
        payload,
    };
    let mut headers = 0;
    while is_extension(upper.protocol) {
        if headers == MAX_HEADERS {
            return Err(Malformed::TooManyHeaders);
        }
        // RFC 8200 section 4.1: hop-by-hop options come first only; and a fragment is none of another.
        let is_misplaced = match upper.protocol {
            protocol::HOP_BY_HOP => headers > 0,
            protocol::FRAGMENT => upper.fragment.is_some(),
            _ => false,
        };
        if is_misplaced {
            return Err(Malformed::HeaderOrder);
        }
        let extension = Extension::new_checked(upper.protocol, upper.payload).map_err(|why| {
            match upper.is_fragment() {
                // RFC 7112 section 5: the first fragment must have them all.
                true => Malformed::HeadersInFragments,
                false => why,
            }
        })?;
        let length = extension.bytes().len();
        if upper.extensions + length > MAX_BYTES {
            return Err(Malformed::TooManyHeaders);
        }
        extension.check()?;
        headers += 1;
        upper.extensions += length;
        upper.payload = &upper.payload[length..];
        upper.protocol = extension.next_header();
        if let Some(fragment) = extension.fragment() {
            upper.fragment = Some(fragment);
            upper.fragment_end = upper.extensions;
            if fragment.offset > 0 {
                break;
            }
        }
    }
    Ok(upper)
}

//! The header of the PROXY protocol, version 2 (HAProxy's proxy-protocol.txt section 2.2), as a proxy writes it.
//!
//! It has the CRC32C TLV, and a NOOP TLV that makes its length a multiple of 8: whatever is put in front of a segment or a
//! datagram then leaves the words of checksums, and the units of fragments, where they are.

use super::crc32c::crc32c;
use std::net::SocketAddr;

/// `\r\n\r\n\0\r\nQUIT\n`: what no other protocol begins with.
const SIGNATURE: [u8; 12] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a,
];
/// The signature, version and command, family and protocol, and the length of what follows.
const FIXED: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const TLV_CRC32C: u8 = 0x03;
const TLV_NOOP: u8 = 0x04;
/// Of a TLV's type and length.
const TLV: usize = 3;
const CRC_LEN: usize = 4;
const PADDING: usize = 2;
const TLVS: usize = TLV + CRC_LEN + TLV + PADDING;

/// The length of a header that tells IPv4 addresses.
pub const LEN_V4: usize = FIXED + 12 + TLVS;
/// The length of a header that tells IPv6 addresses.
pub const LEN_V6: usize = FIXED + 36 + TLVS;

const _: () = assert!(LEN_V4.is_multiple_of(8) && LEN_V6.is_multiple_of(8));

/// The header of a connection that the proxy has begun itself, a health check's: it tells no addresses.
pub const LOCAL_HEADER: [u8; FIXED] = {
    let mut header = [0; FIXED];
    let mut at = 0;
    while at < SIGNATURE.len() {
        header[at] = SIGNATURE[at];
        at += 1;
    }
    header[12] = LOCAL;
    header
};

/// The length of the header that tells of a client.
pub const fn length(is_v6: bool) -> usize {
    match is_v6 {
        true => LEN_V6,
        false => LEN_V4,
    }
}

/// A header, as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; LEN_V6],
    len: usize,
}

impl Header {
    /// The header of a connection or datagram from a client to what it has called, both of one family; of addresses of two
    /// families, one that tells none (`AF_UNSPEC`).
    pub fn new(client: SocketAddr, called: SocketAddr, is_tcp: bool) -> Self {
        let mut header = Header {
            bytes: [0; LEN_V6],
            len: 0,
        };
        header.put(&SIGNATURE);
        let protocol = if is_tcp { 1 } else { 2 };
        match (client, called) {
            (SocketAddr::V4(client), SocketAddr::V4(called)) => {
                header.fixed(0x10 | protocol, LEN_V4);
                header.put(&client.ip().octets());
                header.put(&called.ip().octets());
            }
            (SocketAddr::V6(client), SocketAddr::V6(called)) => {
                header.fixed(0x20 | protocol, LEN_V6);
                header.put(&client.ip().octets());
                header.put(&called.ip().octets());
            }
            _ => {
                header.fixed(0, FIXED);
                return header;
            }
        }
        header.put(&client.port().to_be_bytes());
        header.put(&called.port().to_be_bytes());
        header.put(&[TLV_CRC32C, 0, CRC_LEN as u8]);
        let at = header.len;
        header.put(&[0; CRC_LEN]);
        header.put(&[TLV_NOOP, 0, PADDING as u8]);
        header.put(&[0; PADDING]);
        // Section 2.2.3: over all of the header, its own field taken as 0.
        let crc = crc32c(header.as_bytes());
        header.bytes[at..at + CRC_LEN].copy_from_slice(&crc.to_be_bytes());
        header
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn fixed(&mut self, family: u8, length: usize) {
        let [high, low] = ((length - FIXED) as u16).to_be_bytes();
        self.put(&[PROXY, family, high, low]);
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    #[test]
    fn a_local_header_is_the_specifications() {
        assert_eq!(&LOCAL_HEADER[..12], b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(LOCAL_HEADER[12..], [0x20, 0, 0, 0]);
    }

    /// A type and its value.
    type Tlv = (u8, Vec<u8>);

    /// As the specification has a receiver read it: the family, the addresses, and what follows.
    fn read(header: &[u8]) -> (u8, Vec<u8>, Vec<Tlv>) {
        assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(header[12], 0x21, "version 2, PROXY");
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        assert_eq!(header.len(), 16 + length);
        let addresses = if header[13] & 0xf0 == 0x10 { 12 } else { 36 };
        let mut rest = &header[16 + addresses..];
        let mut tlvs = vec![];
        while let [kind, high, low, more @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            tlvs.push((*kind, more[..length].to_vec()));
            rest = &more[length..];
        }
        assert!(rest.is_empty());
        (header[13], header[16..16 + addresses].to_vec(), tlvs)
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_the_specification_says(
            ips in prop_oneof![
                any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
                any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            ],
            ports: (u16, u16),
            is_tcp: bool,
        ) {
            let header = Header::new((ips.0, ports.0).into(), (ips.1, ports.1).into(), is_tcp);
            let bytes = header.as_bytes();
            prop_assert_eq!(bytes.len(), length(ips.0.is_ipv6()));
            let (family, addresses, tlvs) = read(bytes);
            let transport = if is_tcp { 1 } else { 2 };
            prop_assert_eq!(family, if ips.0.is_ipv6() { 0x20 } else { 0x10 } | transport);
            let octets = |ip| match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let expected = [
                octets(ips.0),
                octets(ips.1),
                ports.0.to_be_bytes().to_vec(),
                ports.1.to_be_bytes().to_vec(),
            ];
            prop_assert_eq!(addresses, expected.concat());
            prop_assert_eq!(tlvs.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [3, 4]);
            let mut blank = bytes.to_vec();
            let at = bytes.len() - PADDING - TLV - CRC_LEN;
            blank[at..at + CRC_LEN].fill(0);
            prop_assert_eq!(&tlvs[0].1, &crc32c(&blank).to_be_bytes());
        }
    }

    #[test]
    fn addresses_of_two_families_are_told_to_no_one() {
        let header = Header::new(
            ([192, 0, 2, 1], 1).into(),
            (std::net::Ipv6Addr::LOCALHOST, 2).into(),
            true,
        );
        assert_eq!(header.as_bytes()[12..], [0x21, 0, 0, 0]);
    }
}

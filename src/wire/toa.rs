//! The TCP option by which a real server behind fullnat is told of its client, as the public toa modules read it
//! (`TCPOPT_TOA`, `TCPOPT_ADDR`): kind 254, length, the client's port, and its IPv4 or IPv6 address.

use super::segment::EXPERIMENT;
use std::net::SocketAddr;

/// `TCPOLEN_IP4_ADDR`.
pub const LEN_V4: usize = 8;
/// `TCPOLEN_IP6_ADDR`.
pub const LEN_V6: usize = 20;

/// The length of the option that tells of a client.
pub const fn length(is_v6: bool) -> usize {
    match is_v6 {
        true => LEN_V6,
        false => LEN_V4,
    }
}

/// An option, as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Toa {
    bytes: [u8; LEN_V6],
    len: usize,
}

impl Toa {
    pub fn new(client: SocketAddr) -> Self {
        let mut bytes = [0; LEN_V6];
        let len = length(client.is_ipv6());
        bytes[..2].copy_from_slice(&[EXPERIMENT, len as u8]);
        bytes[2..4].copy_from_slice(&client.port().to_be_bytes());
        match client {
            SocketAddr::V4(client) => bytes[4..8].copy_from_slice(&client.ip().octets()),
            SocketAddr::V6(client) => bytes[4..].copy_from_slice(&client.ip().octets()),
        }
        Toa { bytes, len }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct toa_data` and `struct toa_ip6_data` of the modules.
    #[test]
    fn an_option_has_the_layout_that_the_modules_read() {
        let v4 = Toa::new(([198, 51, 100, 7], 0x9c40).into());
        assert_eq!(v4.as_bytes(), [254, 8, 0x9c, 0x40, 198, 51, 100, 7]);
        let address: std::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
        let v6 = Toa::new((address, 0x9c40).into());
        assert_eq!(v6.as_bytes()[..4], [254, 20, 0x9c, 0x40]);
        assert_eq!(v6.as_bytes()[4..], address.octets());
    }
}

//! Forwarding modes, and how packets are wrapped.

use std::net::IpAddr;

/// How a packet gets to its real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeConfig {
    Dr,
    Nat,
    /// With the name of its `[[local_pool]]`.
    Fullnat {
        pool: String,
    },
    Tunnel(TunnelConfig),
    L3dsr {
        /// Tells the real server which VIP is meant.
        dscp: u8,
    },
}

impl ModeConfig {
    /// With `mode = "tunnel"`.
    pub fn tunnel(&self) -> Option<&TunnelConfig> {
        match self {
            ModeConfig::Tunnel(tunnel) => Some(tunnel),
            _ => None,
        }
    }
}

/// How packets are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelConfig {
    pub encapsulation: Encapsulation,
    /// None: the out port's address.
    pub source: Option<IpAddr>,
}

/// What is between the outer IP header and the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// Nothing (RFC 2003, RFC 4213, RFC 2473).
    Ipip,
    /// RFC 2784.
    Gre,
    /// draft-ietf-intarea-gue.
    Gue {
        port: u16,
        variant: GueVariant,
        /// Over IPv6, too (RFC 6935).
        zero_checksum: bool,
    },
}

impl Encapsulation {
    /// As `tunnel` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Encapsulation::Ipip => "ipip",
            Encapsulation::Gre => "gre",
            Encapsulation::Gue { .. } => "gue",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GueVariant {
    /// A header of four bytes.
    Header,
    /// The packet itself.
    Plain,
}

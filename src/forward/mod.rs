//! Forwarding modes: what the addresses of a connection's packets become.
//!
//! A mode is data, a line of [`MODES`]. It shapes a new connection's [`Translation`], once; [`rewrite`] applies that
//! to every packet, whatever the mode.

pub mod across;
pub mod cut;
pub mod error;
pub mod error_across;
pub mod identification;
pub mod insert;
pub mod rewrite;
pub mod rewrite6;
pub mod tunnel;

use crate::config;
use crate::conn::{Key, Translation};

/// A way to get packets to real servers.
#[derive(Debug, PartialEq, Eq)]
pub struct Mode {
    /// As the configuration calls it.
    pub name: &'static str,
    pub description: &'static str,
    /// The IP packet's addresses and ports change, as the connection says.
    pub translates: bool,
    /// The source becomes an address and port of a local pool.
    pub uses_pool: bool,
    /// The real servers' replies come back through weir.
    pub sees_replies: bool,
    /// The packets are wrapped or marked, see [`tunnel`].
    pub wraps: bool,
}

const DR: Mode = Mode {
    name: "dr",
    description: "direct routing: only the MAC addresses change, the real server answers the client itself",
    translates: false,
    uses_pool: false,
    sees_replies: false,
    wraps: false,
};

const NAT: Mode = Mode {
    name: "nat",
    description: "the destination becomes the real server, whose gateway weir is",
    translates: true,
    uses_pool: false,
    sees_replies: true,
    wraps: false,
};

const FULLNAT: Mode = Mode {
    name: "fullnat",
    description: "source and destination are rewritten both ways; nothing is asked of the network",
    translates: true,
    uses_pool: true,
    sees_replies: true,
    wraps: false,
};

const TUNNEL: Mode = Mode {
    name: "tunnel",
    description: "the packet goes whole inside another one to the real server, which answers the client itself",
    translates: false,
    uses_pool: false,
    sees_replies: false,
    wraps: true,
};

const L3DSR: Mode = Mode {
    name: "l3dsr",
    description: "the destination becomes the real server, which knows the VIP by the DSCP and answers the client itself",
    translates: false,
    uses_pool: false,
    sees_replies: false,
    wraps: true,
};

/// Every mode.
pub static MODES: &[Mode] = &[DR, NAT, FULLNAT, TUNNEL, L3DSR];

pub fn mode(name: &str) -> Option<&'static Mode> {
    MODES.iter().find(|mode| mode.name == name)
}

impl Mode {
    /// What a configured mode is.
    pub const fn of(mode: &config::ModeConfig) -> &'static Mode {
        match mode {
            config::ModeConfig::Dr => &DR,
            config::ModeConfig::Nat => &NAT,
            config::ModeConfig::Fullnat { .. } => &FULLNAT,
            config::ModeConfig::Tunnel(_) => &TUNNEL,
            config::ModeConfig::L3dsr { .. } => &L3DSR,
        }
    }

    /// Where a connection's packets go and come from. `local` is the address and port of the pool, if one is used.
    pub fn translation<K: Key>(
        &self,
        request: &K,
        real: (K::Address, u16),
        local: Option<(K::Address, u16)>,
    ) -> Translation<K::Address> {
        let source = local.unwrap_or((request.source(), request.source_port()));
        Translation {
            source: source.0,
            source_port: source.1,
            destination: real.0,
            // The real server sees the packet as the client sent it.
            destination_port: if self.translates {
                real.1
            } else {
                request.destination_port()
            },
            is_applied: self.translates,
            sees_replies: self.sees_replies,
            is_wrapped: self.wraps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_what_the_configuration_calls_it() {
        let context = config::Context {
            cpus: None,
            devices: false,
        };
        for mode in MODES {
            let pool = match mode.uses_pool {
                true => "local_pool = \"pool\"",
                false if mode.name == "l3dsr" => "dscp = 1",
                false => "",
            };
            let text = format!(
                r#"
                [[port]]
                name = "lan"
                device = "net_null0"
                addresses = ["10.0.0.1/24"]
                [[local_pool]]
                name = "pool"
                addresses = ["10.0.0.2"]
                [[service]]
                address = "192.0.2.80"
                port = 80
                protocol = "tcp"
                mode = "{}"
                {pool}
                "#,
                mode.name
            );
            let loaded = config::parse(&text, "test", &context);
            let config = loaded.unwrap_or_else(|why| panic!("{why}")).config;
            assert_eq!(Mode::of(&config.services[0].mode), mode);
        }
    }
}

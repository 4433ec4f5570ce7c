//! The keys of the modes that bring a client's whole packet to the real server: `tunnel` and `l3dsr`.

use super::network::Network;
use crate::config::error::{At, Log, Span};
use crate::config::value::{self, Given, ModeWord};
use crate::config::{Encapsulation, GueVariant, ModeConfig, TunnelConfig, raw};
use crate::net::family;
use std::net::IpAddr;

/// The port of GUE (draft-ietf-intarea-gue section 8.1).
const GUE_PORT: u16 = 6080;

/// What `mode = "tunnel"` means in a service. None if a key of it could not be read or is wrong.
pub(super) fn tunnel(raw: &raw::Service, network: &Network, log: &mut Log) -> Option<ModeConfig> {
    let encapsulation = match &raw.tunnel {
        Given::No => value::Encapsulation::Ipip,
        Given::Yes(written) => written.value,
        Given::Bad => return None,
    };
    let is_gue = encapsulation == value::Encapsulation::Gue;
    let mut fits = true;
    for (key, at) in gue_keys(raw) {
        if let Some(at) = at
            && !is_gue
        {
            log.error(at, format!("`{key}` belongs to `tunnel = \"gue\"`"))
                .help("remove it, or write `tunnel = \"gue\"`");
            fits = false;
        }
    }
    if let Some(source) = raw.tunnel_source.ok() {
        fits &= is_source_right(*source, raw, network, log);
    }
    let is_read = !matches!(raw.tunnel_source, Given::Bad)
        && !matches!(raw.gue_port, Given::Bad)
        && !matches!(raw.gue_variant, Given::Bad)
        && !matches!(raw.gue_zero_checksum, Given::Bad);
    let encapsulation = match encapsulation {
        value::Encapsulation::Ipip => Encapsulation::Ipip,
        value::Encapsulation::Gre => Encapsulation::Gre,
        value::Encapsulation::Gue => Encapsulation::Gue {
            port: raw.gue_port.get().map_or(GUE_PORT, |port| port.0 as u16),
            variant: match raw.gue_variant.get().map(|variant| variant.0) {
                Some(0) => GueVariant::Header,
                _ => GueVariant::Plain,
            },
            zero_checksum: raw.gue_zero_checksum.get().unwrap_or(false),
        },
    };
    let source = raw.tunnel_source.get();
    (fits && is_read).then_some(ModeConfig::Tunnel(TunnelConfig {
        encapsulation,
        source,
    }))
}

/// Whether a source is an address of a port, and of its real servers' family.
fn is_source_right(
    source: At<IpAddr>,
    raw: &raw::Service,
    network: &Network,
    log: &mut Log,
) -> bool {
    let At { value: address, at } = source;
    if !network.may_be_port(address) {
        let error = log.error(
            at,
            format!("`{address}` is no port's address: no error about the tunnel would come back"),
        );
        let error = match network.own(address) {
            Some((role, other)) => error.note(other, role.here()),
            None => error,
        };
        error.help("write an address of a [[port]], or leave the key out for the out port's");
        return false;
    }
    let reals = raw.real.ok().map_or(&[][..], |list| &list.value.items);
    let mut others = reals.iter().filter_map(|real| real.value.address.ok());
    if let Some(other) = others.find(|real| family(real.value) != family(address)) {
        let (own, real) = (family(address), family(other.value));
        log.error(
            at,
            format!(
                "the tunnel's source `{address}` is {own}, the real server `{}` is {real}",
                other.value
            ),
        )
        .note(other.at, "the real server is here")
        .help("leave `tunnel_source` out: then the out port's address of the right family is used");
        return false;
    }
    true
}

/// What `mode = "l3dsr"` means in a service.
pub(super) fn l3dsr(raw: &raw::Service, mode: Span, log: &mut Log) -> Option<ModeConfig> {
    match &raw.dscp {
        Given::Bad => None,
        Given::No => {
            log.error(mode, "the mode `l3dsr` needs the key `dscp`").help(
                "add `dscp = N` with N from 1 to 63: by this value the real servers know the VIP",
            );
            None
        }
        Given::Yes(dscp) => Some(ModeConfig::L3dsr {
            dscp: dscp.value.0 as u8,
        }),
    }
}

/// Refuses the keys of modes other than the service's own.
pub(super) fn keys_of_other_modes(raw: &raw::Service, mode: ModeWord, log: &mut Log) {
    let is_tunnel = mode == ModeWord::Tunnel;
    if let Some(tunnel) = raw.tunnel.ok()
        && !is_tunnel
    {
        log.warning(
            tunnel.at,
            "`tunnel` belongs to the mode tunnel: it is ignored",
        )
        .help("remove it");
    }
    let mut foreign = Vec::new();
    if !is_tunnel {
        let source = raw.tunnel_source.ok().map(|source| source.at);
        foreign.push(("tunnel_source", "tunnel", source));
        let gue = gue_keys(raw).into_iter();
        foreign.extend(gue.map(|(key, at)| (key, "tunnel", at)));
    }
    if mode != ModeWord::L3dsr {
        foreign.push(("dscp", "l3dsr", raw.dscp.ok().map(|dscp| dscp.at)));
    }
    for (key, owner, at) in foreign {
        if let Some(at) = at {
            log.error(at, format!("`{key}` belongs to the mode {owner}"))
                .help(format!("remove it, or write `mode = \"{owner}\"`"));
        }
    }
}

/// The keys that only GUE has, and where they are written.
fn gue_keys(raw: &raw::Service) -> [(&'static str, Option<Span>); 3] {
    let zero_checksum = raw.gue_zero_checksum.ok().map(|value| value.at);
    [
        ("gue_port", raw.gue_port.ok().map(|value| value.at)),
        ("gue_variant", raw.gue_variant.ok().map(|value| value.at)),
        ("gue_zero_checksum", zero_checksum),
    ]
}

//! Neighbour discovery for IPv6 (RFC 4861): the messages, in [`icmpv6`], and their options.

use super::field::{array, set_u16, set_u32, u16_of, u32_of};
use super::icmpv6::{self, Icmpv6};
use super::ipv6::Ipv6;
use super::{Mac, Malformed};
use crate::net::protocol;
use std::net::Ipv6Addr;
use std::time::Duration;

/// RFC 4861 section 11.2: no router forwards a packet with it, so it comes from the link.
pub const HOP_LIMIT: u8 = 255;

mod field {
    use crate::wire::field::Field;
    use std::ops::RangeFrom;

    /// Of a router advertisement.
    pub(super) const HOP_LIMIT: usize = 4;
    /// Of both advertisements: of routers, what hosts are configured by; of neighbours, what is said of the sender.
    pub(super) const FLAGS: usize = 5;
    /// Of a neighbour advertisement.
    pub(super) const NEIGHBOUR_FLAGS: usize = 4;
    /// Of a router advertisement, in seconds.
    pub(super) const LIFETIME: Field = 6..8;
    /// Of a router advertisement, in milliseconds.
    pub(super) const REACHABLE: Field = 8..12;
    /// Of a router advertisement, in milliseconds.
    pub(super) const RETRANSMIT: Field = 12..16;
    /// Of a solicitation or advertisement of neighbours, and of a redirect.
    pub(super) const TARGET: Field = 8..24;
    /// Of a redirect.
    pub(super) const DESTINATION: Field = 24..40;

    pub(super) const ROUTER_SOLICITATION_OPTIONS: RangeFrom<usize> = 8..;
    pub(super) const ROUTER_ADVERTISEMENT_OPTIONS: RangeFrom<usize> = 16..;
    pub(super) const NEIGHBOUR_OPTIONS: RangeFrom<usize> = 24..;
    pub(super) const REDIRECT_OPTIONS: RangeFrom<usize> = 40..;
}

const IS_ROUTER: u8 = 0x80;
const IS_SOLICITED: u8 = 0x40;
const OVERRIDES: u8 = 0x20;

/// The group that asks for the owner of an address (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0xff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

/// The MAC address of an IPv6 multicast group (RFC 2464 section 7).
pub fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// A message that passed every check of RFC 4861.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr<'a> {
    RouterSolicitation {
        source_mac: Option<Mac>,
    },
    RouterAdvertisement {
        /// 0: not said.
        hop_limit: u8,
        flags: u8,
        /// As a default router; zero: it is none.
        lifetime: Duration,
        /// Zero: not said.
        reachable: Duration,
        /// Zero: not said.
        retransmit: Duration,
        options: NdOptions<'a>,
    },
    NeighbourSolicitation {
        target: Ipv6Addr,
        source_mac: Option<Mac>,
    },
    NeighbourAdvertisement {
        target: Ipv6Addr,
        is_router: bool,
        is_solicited: bool,
        overrides: bool,
        target_mac: Option<Mac>,
    },
    Redirect {
        target: Ipv6Addr,
        destination: Ipv6Addr,
        options: NdOptions<'a>,
    },
}

impl<'a> Repr<'a> {
    /// Reads the message of a packet without extension headers, and checks what RFC 4861 says of it (sections 6.1.1, 6.1.2,
    /// 7.1.1, 7.1.2 and 8.1).
    ///
    /// # Errors
    /// What is wrong, in the order of the checks; [`Malformed::Kind`] if it is no message of neighbour discovery.
    pub fn parse(ip: &Ipv6<&'a [u8]>) -> Result<Self, Malformed> {
        let bytes = ip.payload();
        let message = Icmpv6::new_checked(bytes)?;
        let options_at = match (ip.next_header(), message.kind()) {
            (protocol::ICMPV6, icmpv6::ROUTER_SOLICITATION) => field::ROUTER_SOLICITATION_OPTIONS,
            (protocol::ICMPV6, icmpv6::ROUTER_ADVERTISEMENT) => field::ROUTER_ADVERTISEMENT_OPTIONS,
            (
                protocol::ICMPV6,
                icmpv6::NEIGHBOUR_SOLICITATION | icmpv6::NEIGHBOUR_ADVERTISEMENT,
            ) => field::NEIGHBOUR_OPTIONS,
            (protocol::ICMPV6, icmpv6::REDIRECT) => field::REDIRECT_OPTIONS,
            _ => return Err(Malformed::Kind),
        };
        // The IP hop limit is 255, the checksum is valid, the code is 0, and the length as of the type.
        if ip.hop_limit() != HOP_LIMIT {
            return Err(Malformed::HopLimit);
        }
        if !message.is_checksum_right(ip.pseudo_header(protocol::ICMPV6, bytes.len() as u32)) {
            return Err(Malformed::Checksum);
        }
        if message.code() != 0 {
            return Err(Malformed::Code);
        }
        let options = bytes.get(options_at).ok_or(Malformed::Truncated)?;
        // All options have a length that is greater than zero.
        let options = NdOptions::new_checked(options)?;
        let checked = |is_right: bool| match is_right {
            true => Ok(()),
            false => Err(Malformed::Address),
        };
        let target = || Ipv6Addr::from(array(bytes, field::TARGET));
        let is_unspecified = ip.source().is_unspecified();
        Ok(match message.kind() {
            icmpv6::ROUTER_SOLICITATION => {
                let source_mac = options.source_mac();
                // Section 6.1.1: no link-layer address of a source that is unspecified.
                checked(!is_unspecified || source_mac.is_none())?;
                Repr::RouterSolicitation { source_mac }
            }
            icmpv6::ROUTER_ADVERTISEMENT => {
                // Section 6.1.2: the source is a link-local address.
                checked(ip.source().is_unicast_link_local())?;
                let millis = |field| Duration::from_millis(u32_of(bytes, field).into());
                Repr::RouterAdvertisement {
                    hop_limit: bytes[field::HOP_LIMIT],
                    flags: bytes[field::FLAGS],
                    lifetime: Duration::from_secs(u16_of(bytes, field::LIFETIME).into()),
                    reachable: millis(field::REACHABLE),
                    retransmit: millis(field::RETRANSMIT),
                    options,
                }
            }
            icmpv6::NEIGHBOUR_SOLICITATION => {
                let (target, source_mac) = (target(), options.source_mac());
                // Section 7.1.1: the target is no group; an unspecified source, which detects duplicates, asks the
                // solicited-node group and gives no link-layer address.
                checked(!target.is_multicast())?;
                let to_group = ip.destination() == solicited_node(target);
                checked(!is_unspecified || to_group && source_mac.is_none())?;
                Repr::NeighbourSolicitation { target, source_mac }
            }
            icmpv6::NEIGHBOUR_ADVERTISEMENT => {
                let target = target();
                let has = |flag| bytes[field::NEIGHBOUR_FLAGS] & flag != 0;
                // RFC 4861 section 7.1.2: the target must not be a multicast address.
                checked(!target.is_multicast())?;
                checked(!ip.destination().is_multicast() || !has(IS_SOLICITED))?;
                Repr::NeighbourAdvertisement {
                    target,
                    is_router: has(IS_ROUTER),
                    is_solicited: has(IS_SOLICITED),
                    overrides: has(OVERRIDES),
                    target_mac: options.target_mac(),
                }
            }
            _ => {
                let destination = Ipv6Addr::from(array(bytes, field::DESTINATION));
                // Section 8.1: from a link-local address, about no group, towards a router or the destination itself.
                checked(ip.source().is_unicast_link_local() && !destination.is_multicast())?;
                let target = target();
                checked(target.is_unicast_link_local() || target == destination)?;
                Repr::Redirect {
                    target,
                    destination,
                    options,
                }
            }
        })
    }

    /// Bytes of the message.
    pub fn length(&self) -> usize {
        let of = |mac: &Option<Mac>| mac.map_or(0, |_| LINK_LAYER_LEN);
        match self {
            Repr::RouterSolicitation { source_mac } => {
                field::ROUTER_SOLICITATION_OPTIONS.start + of(source_mac)
            }
            Repr::RouterAdvertisement { options, .. } => {
                field::ROUTER_ADVERTISEMENT_OPTIONS.start + options.0.len()
            }
            Repr::NeighbourSolicitation {
                source_mac: mac, ..
            }
            | Repr::NeighbourAdvertisement {
                target_mac: mac, ..
            } => field::NEIGHBOUR_OPTIONS.start + of(mac),
            Repr::Redirect { options, .. } => field::REDIRECT_OPTIONS.start + options.0.len(),
        }
    }

    /// Writes the message into its [`length`](Self::length) bytes. `pseudo`: of the IP header, with this length. None if it does
    /// not fit.
    pub fn emit(&self, message: &mut [u8], pseudo: u64) -> Option<()> {
        let message = message.get_mut(..self.length())?;
        message.fill(0);
        let kind = match self {
            Repr::RouterSolicitation { source_mac } => {
                let options = &mut message[field::ROUTER_SOLICITATION_OPTIONS];
                write_mac(options, SOURCE_LINK_LAYER, *source_mac);
                icmpv6::ROUTER_SOLICITATION
            }
            Repr::RouterAdvertisement {
                hop_limit,
                flags,
                lifetime,
                reachable,
                retransmit,
                options,
            } => {
                let millis = |time: &Duration| time.as_millis().try_into().unwrap_or(u32::MAX);
                message[field::HOP_LIMIT] = *hop_limit;
                message[field::FLAGS] = *flags;
                let lifetime = lifetime.as_secs().try_into().unwrap_or(u16::MAX);
                set_u16(message, field::LIFETIME, lifetime);
                set_u32(message, field::REACHABLE, millis(reachable));
                set_u32(message, field::RETRANSMIT, millis(retransmit));
                message[field::ROUTER_ADVERTISEMENT_OPTIONS].copy_from_slice(options.0);
                icmpv6::ROUTER_ADVERTISEMENT
            }
            Repr::NeighbourSolicitation { target, source_mac } => {
                message[field::TARGET].copy_from_slice(&target.octets());
                let options = &mut message[field::NEIGHBOUR_OPTIONS];
                write_mac(options, SOURCE_LINK_LAYER, *source_mac);
                icmpv6::NEIGHBOUR_SOLICITATION
            }
            Repr::NeighbourAdvertisement {
                target,
                is_router,
                is_solicited,
                overrides,
                target_mac,
            } => {
                let flag = |is_set: &bool, flag| if *is_set { flag } else { 0 };
                message[field::NEIGHBOUR_FLAGS] = flag(is_router, IS_ROUTER)
                    | flag(is_solicited, IS_SOLICITED)
                    | flag(overrides, OVERRIDES);
                message[field::TARGET].copy_from_slice(&target.octets());
                let options = &mut message[field::NEIGHBOUR_OPTIONS];
                write_mac(options, TARGET_LINK_LAYER, *target_mac);
                icmpv6::NEIGHBOUR_ADVERTISEMENT
            }
            Repr::Redirect {
                target,
                destination,
                options,
            } => {
                message[field::TARGET].copy_from_slice(&target.octets());
                message[field::DESTINATION].copy_from_slice(&destination.octets());
                message[field::REDIRECT_OPTIONS].copy_from_slice(options.0);
                icmpv6::REDIRECT
            }
        };
        // The second word is written, but for what the header's writer takes it from.
        let rest = Icmpv6::new_checked(&*message).ok()?.rest();
        let header = icmpv6::Repr {
            kind,
            code: 0,
            rest,
        };
        header.emit(message, pseudo)
    }
}

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;

/// Options are a multiple of so many bytes.
const UNIT: usize = 8;
/// Bytes of an option with an Ethernet address.
const LINK_LAYER_LEN: usize = UNIT;

fn write_mac(options: &mut [u8], kind: u8, mac: Option<Mac>) {
    if let Some(mac) = mac
        && let Some(option) = options.first_chunk_mut::<LINK_LAYER_LEN>()
    {
        option[..2].copy_from_slice(&[kind, 1]);
        option[2..].copy_from_slice(&mac.0);
    }
}

/// One option (RFC 4861 section 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdOption {
    SourceLinkLayer(Mac),
    TargetLinkLayer(Mac),
    Prefix(Prefix),
    Mtu(u32),
    /// One of another type, or of a length that its type does not have here.
    Other(u8),
}

/// What a router says of a prefix (RFC 4861 section 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    pub address: Ipv6Addr,
    pub length: u8,
    pub is_on_link: bool,
    pub is_for_addresses: bool,
    /// In seconds; `u32::MAX` is without end.
    pub valid: u32,
    /// In seconds; `u32::MAX` is without end.
    pub preferred: u32,
}

/// The options of a message, each of a length that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdOptions<'a>(&'a [u8]);

impl<'a> NdOptions<'a> {
    /// # Errors
    /// [`Malformed::Option`]: one is of no length (RFC 4861 section 4.6 has a message dropped then), or cut short.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = rest.get(1).map_or(0, |&units| usize::from(units) * UNIT);
            rest = match rest.get(length..) {
                Some(next) if length > 0 => next,
                _ => return Err(Malformed::Option),
            };
        }
        Ok(NdOptions(bytes))
    }

    pub fn iter(&self) -> impl Iterator<Item = NdOption> + 'a {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let length = usize::from(*rest.get(1)?) * UNIT;
            let (option, next) = rest.split_at_checked(length)?;
            rest = next;
            read_option(option)
        })
    }

    /// The first one's.
    pub fn source_mac(&self) -> Option<Mac> {
        self.iter().find_map(|option| match option {
            NdOption::SourceLinkLayer(mac) => Some(mac),
            _ => None,
        })
    }

    /// The first one's.
    pub fn target_mac(&self) -> Option<Mac> {
        self.iter().find_map(|option| match option {
            NdOption::TargetLinkLayer(mac) => Some(mac),
            _ => None,
        })
    }
}

/// Of a whole option. None if it is empty.
fn read_option(option: &[u8]) -> Option<NdOption> {
    let kind = *option.first()?;
    Some(match (kind, option.len()) {
        (SOURCE_LINK_LAYER, LINK_LAYER_LEN) => NdOption::SourceLinkLayer(Mac(array(option, 2..8))),
        (TARGET_LINK_LAYER, LINK_LAYER_LEN) => NdOption::TargetLinkLayer(Mac(array(option, 2..8))),
        (PREFIX_INFORMATION, 32) => NdOption::Prefix(Prefix {
            length: option[2],
            is_on_link: option[3] & 0x80 != 0,
            is_for_addresses: option[3] & 0x40 != 0,
            valid: u32_of(option, 4..8),
            preferred: u32_of(option, 8..12),
            address: array(option, 16..32).into(),
        }),
        (MTU, 8) => NdOption::Mtu(u32_of(option, 4..8)),
        _ => NdOption::Other(kind),
    })
}

#[cfg(test)]
#[path = "ndisc_tests.rs"]
mod tests;

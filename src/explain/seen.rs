//! A frame as a person reads it: its headers, outermost first.

use crate::config::Encapsulation;
use crate::net::{Mac, ethertype, protocol};
use crate::wire::ethernet::Ethernet;
use crate::wire::extension;
use crate::wire::gre::Gre;
use crate::wire::gue::Gue;
use crate::wire::icmp::Icmp;
use crate::wire::icmpv6::Icmpv6;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::sctp::{Event, Sctp};
use crate::wire::tcp::{Flags, Tcp};
use crate::wire::udp::Udp;
use crate::wire::vlan::Vlan;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// More IP headers than this are not looked into.
const DEEPEST: usize = 4;

/// What is in a frame, as far as it can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub destination_mac: Mac,
    pub source_mac: Mac,
    /// Identifiers of the VLAN tags, the outer one first.
    pub tags: Vec<u16>,
    pub headers: Vec<Header>,
}

/// A header behind the one of Ethernet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    Ip(Ip),
    Tcp {
        ports: (u16, u16),
        flags: Flags,
        mss: Option<u16>,
        /// Bytes of options.
        options: usize,
        data: usize,
    },
    Udp {
        ports: (u16, u16),
        data: usize,
    },
    Sctp {
        ports: (u16, u16),
        /// What its first chunk does.
        event: Event,
    },
    Icmp {
        is_v6: bool,
        kind: u8,
        code: u8,
    },
    Gre,
    Gue,
    /// In words.
    Other(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Of the whole packet, in bytes.
    pub length: usize,
    pub dscp: u8,
    pub dont_fragment: bool,
    /// Of a fragment: the place of its first byte, and whether others follow it.
    pub fragment: Option<(usize, bool)>,
}

impl Seen {
    /// Reads a frame. `tunnel`: how weir wraps the packets of the service, without which GUE is UDP.
    pub fn of(frame: &[u8], tunnel: Option<Encapsulation>) -> Seen {
        let Ok(ethernet) = Ethernet::new_checked(frame) else {
            return Seen::default();
        };
        let mut seen = Seen {
            destination_mac: ethernet.destination(),
            source_mac: ethernet.source(),
            ..Seen::default()
        };
        let (mut kind, mut rest) = (ethernet.ethertype(), ethernet.payload());
        while matches!(kind, ethertype::VLAN | ethertype::QINQ) {
            let Ok(tag) = Vlan::new_checked(rest) else {
                break;
            };
            seen.tags.push(tag.id());
            (kind, rest) = (tag.ethertype(), tag.payload());
        }
        match kind {
            ethertype::IPV4 | ethertype::IPV6 => seen.add_ip(rest, tunnel),
            ethertype::ARP => seen.other("ARP"),
            _ => seen.other(format!("EtherType 0x{kind:04x}")),
        }
        seen
    }

    fn other(&mut self, what: impl Into<String>) {
        self.headers.push(Header::Other(what.into()));
    }

    fn add_ip(&mut self, bytes: &[u8], tunnel: Option<Encapsulation>) {
        let depth = self.headers.iter().filter(|it| matches!(it, Header::Ip(_)));
        if depth.count() == DEEPEST {
            return;
        }
        if let Ok(packet) = Ipv4::new_checked(bytes) {
            let fragment = (
                usize::from(packet.fragment_offset()),
                packet.more_fragments(),
            );
            self.headers.push(Header::Ip(Ip {
                source: packet.source().into(),
                destination: packet.destination().into(),
                ttl: packet.ttl(),
                length: packet.total_length().into(),
                dscp: packet.tos() >> 2,
                dont_fragment: packet.dont_fragment(),
                fragment: packet.is_fragment().then_some(fragment),
            }));
            if packet.fragment_offset() == 0 {
                self.add_upper(packet.protocol(), packet.payload(), tunnel);
            }
        } else if let Ok(packet) = Ipv6::new_checked(bytes) {
            let upper = packet.upper_layer().ok();
            let fragment = upper.and_then(|upper| upper.fragment);
            self.headers.push(Header::Ip(Ip {
                source: packet.source().into(),
                destination: packet.destination().into(),
                ttl: packet.hop_limit(),
                length: packet.packet().len(),
                dscp: packet.traffic_class() >> 2,
                dont_fragment: false,
                fragment: fragment.map(|it| (usize::from(it.offset), it.more)),
            }));
            match upper {
                Some(upper) if fragment.is_none_or(|it| it.offset == 0) => {
                    self.add_upper(upper.protocol, upper.payload, tunnel);
                }
                Some(_) => {}
                None => self.other("extension headers that cannot be read"),
            }
        } else {
            self.other("no IP header that can be read");
        }
    }

    fn add_upper(&mut self, number: u8, bytes: &[u8], tunnel: Option<Encapsulation>) {
        match number {
            protocol::TCP => match Tcp::new_checked(bytes) {
                Ok(segment) => self.headers.push(Header::Tcp {
                    ports: (segment.source_port(), segment.destination_port()),
                    flags: segment.flags(),
                    mss: segment.mss(),
                    options: segment.header_len() - crate::wire::tcp::HEADER_LEN,
                    data: segment.payload().len(),
                }),
                Err(_) => self.other("no TCP header that can be read"),
            },
            protocol::UDP => match Udp::new_checked(bytes) {
                Ok(datagram) => {
                    let ports = (datagram.source_port(), datagram.destination_port());
                    let data = datagram.payload();
                    let is_gue =
                        matches!(tunnel, Some(Encapsulation::Gue { port, .. }) if port == ports.1);
                    self.headers.push(Header::Udp {
                        ports,
                        data: data.len(),
                    });
                    match Gue::new_checked(data) {
                        Ok(Gue::Header { payload, .. } | Gue::Plain(payload)) if is_gue => {
                            self.headers.push(Header::Gue);
                            self.add_ip(payload, tunnel);
                        }
                        _ => {}
                    }
                }
                // Of a first fragment only a part is there.
                Err(_) => match bytes.first_chunk::<4>() {
                    Some(&[a, b, c, d]) => self.headers.push(Header::Udp {
                        ports: (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
                        data: bytes.len().saturating_sub(crate::wire::udp::HEADER_LEN),
                    }),
                    None => self.other("no UDP header that can be read"),
                },
            },
            protocol::SCTP => match Sctp::new_part(bytes) {
                Ok(packet) => self.headers.push(Header::Sctp {
                    ports: (packet.source_port(), packet.destination_port()),
                    event: packet.event(),
                }),
                Err(_) => self.other("no SCTP header that can be read"),
            },
            protocol::ICMP => match Icmp::new_checked(bytes) {
                Ok(message) => self.headers.push(Header::Icmp {
                    is_v6: false,
                    kind: message.kind(),
                    code: message.code(),
                }),
                Err(_) => self.other("no ICMP header that can be read"),
            },
            protocol::ICMPV6 => match Icmpv6::new_checked(bytes) {
                Ok(message) => self.headers.push(Header::Icmp {
                    is_v6: true,
                    kind: message.kind(),
                    code: message.code(),
                }),
                Err(_) => self.other("no ICMPv6 header that can be read"),
            },
            protocol::IPIP | protocol::IPV6 => self.add_ip(bytes, tunnel),
            protocol::GRE => match Gre::new_checked(bytes) {
                Ok(gre) => {
                    self.headers.push(Header::Gre);
                    self.add_ip(gre.payload(), tunnel);
                }
                Err(_) => self.other("no GRE header that can be read"),
            },
            _ if extension::is_extension(number) => self.other("an IPv6 extension header"),
            _ => self.other(format!("IP protocol {number}")),
        }
    }

    /// The IP header nearest to the payload.
    pub fn ip(&self) -> Option<&Ip> {
        self.headers.iter().rev().find_map(|header| match header {
            Header::Ip(ip) => Some(ip),
            _ => None,
        })
    }

    /// The outermost IP header.
    pub fn outer_ip(&self) -> Option<&Ip> {
        self.headers.iter().find_map(|header| match header {
            Header::Ip(ip) => Some(ip),
            _ => None,
        })
    }

    /// The number of IP's protocol, of TCP, UDP and SCTP, with their ports.
    pub fn ports(&self) -> Option<(u8, (u16, u16))> {
        match self.headers.last()? {
            Header::Tcp { ports, .. } => Some((protocol::TCP, *ports)),
            Header::Udp { ports, .. } => Some((protocol::UDP, *ports)),
            Header::Sctp { ports, .. } => Some((protocol::SCTP, *ports)),
            _ => None,
        }
    }

    /// Source and destination of the payload, with ports 0 where there are none.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let ip = self.ip()?;
        let (source, destination) = self.ports().map_or((0, 0), |(_, ports)| ports);
        Some((
            SocketAddr::new(ip.source, source),
            SocketAddr::new(ip.destination, destination),
        ))
    }

    pub fn mss(&self) -> Option<u16> {
        match self.headers.last()? {
            Header::Tcp { mss, .. } => *mss,
            _ => None,
        }
    }

    /// `203.0.113.5:1234 > 192.0.2.80:80`, without ports where there are none.
    pub fn path(&self) -> Option<String> {
        let (source, destination) = self.ends()?;
        Some(match self.ports() {
            Some(_) => format!("{source} > {destination}"),
            None => format!("{} > {}", source.ip(), destination.ip()),
        })
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, ttl) = match self.source {
            IpAddr::V4(_) => ("IPv4", "TTL"),
            IpAddr::V6(_) => ("IPv6", "hop limit"),
        };
        write!(f, "{version} {} > {}", self.source, self.destination)?;
        write!(f, ", {ttl} {}, {} bytes", self.ttl, self.length)?;
        if self.dscp != 0 {
            write!(f, ", DSCP {}", self.dscp)?;
        }
        if self.dont_fragment {
            f.write_str(", DF")?;
        }
        match self.fragment {
            Some((at, true)) => write!(f, ", fragment from byte {at}, more follow"),
            Some((at, false)) => write!(f, ", last fragment, from byte {at}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Header::Ip(ip) => ip.fmt(f),
            Header::Tcp {
                ports,
                flags,
                mss,
                options,
                data,
            } => {
                write!(f, "TCP {} > {}", ports.0, ports.1)?;
                for (name, bit) in [
                    ("SYN", Flags::SYN),
                    ("FIN", Flags::FIN),
                    ("RST", Flags::RST),
                    ("ACK", Flags::ACK),
                    ("URG", Flags::URGENT),
                ] {
                    if flags.0 & bit != 0 {
                        write!(f, " {name}")?;
                    }
                }
                if let Some(mss) = mss {
                    write!(f, ", MSS {mss}")?;
                }
                if *options > 0 {
                    write!(f, ", {options} bytes of options")?;
                }
                match data {
                    0 => Ok(()),
                    data => write!(f, ", {data} bytes of data"),
                }
            }
            Header::Udp { ports, data } => {
                write!(f, "UDP {} > {}, {data} bytes of data", ports.0, ports.1)
            }
            Header::Sctp { ports, event } => {
                write!(f, "SCTP {} > {} {}", ports.0, ports.1, event.name())
            }
            Header::Icmp { is_v6, kind, code } => {
                let name = if *is_v6 { "ICMPv6" } else { "ICMP" };
                write!(f, "{name} {}", icmp_name(*is_v6, *kind, *code))
            }
            Header::Gre => f.write_str("GRE"),
            Header::Gue => f.write_str("GUE"),
            Header::Other(what) => f.write_str(what),
        }
    }
}

/// What a message of ICMP says, by its type and code (RFC 792, RFC 4443).
fn icmp_name(is_v6: bool, kind: u8, code: u8) -> String {
    let name = match (is_v6, kind, code) {
        (false, 0, _) | (true, 129, _) => "echo reply",
        (false, 8, _) | (true, 128, _) => "echo request",
        (false, 3, 4) | (true, 2, _) => "packet too big",
        (false, 3, 3) | (true, 1, 4) => "port unreachable",
        (false, 3, 1) | (true, 1, 3) => "host unreachable",
        (false, 3, 0) | (true, 1, 0) => "net unreachable",
        (false, 11, _) | (true, 3, _) => "time exceeded",
        (true, 135, _) => "neighbour solicitation",
        (true, 136, _) => "neighbour advertisement",
        _ => return format!("type {kind} code {code}"),
    };
    name.to_owned()
}

impl fmt::Display for Seen {
    /// On one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.source_mac, self.destination_mac)?;
        for tag in &self.tags {
            write!(f, ", VLAN {tag}")?;
        }
        self.headers
            .iter()
            .try_for_each(|header| write!(f, " | {header}"))
    }
}

//! What other programs' files say of virtual services, as a configuration of weir: pure text to text. Whatever is not carried over
//! is told with its line.

mod emit;
mod health;
mod ipvs;
mod keepalived;
mod merge;
mod ports;
#[cfg(test)]
mod tests;
mod trial;

pub use ipvs::ipvs;
pub use keepalived::{Reader, keepalived};

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

/// What the file does not say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The addresses that packets of fullnat services come from, where the file does not say.
    pub fullnat: Option<Vec<String>>,
    /// Services that IPVS serves by NAT become fullnat ones.
    pub nat_is_fullnat: bool,
    /// The device of the port; none: one that is made up.
    pub device: Option<String>,
    /// The port's addresses. Real servers in none of their subnets get some that are made up.
    pub addresses: Vec<IpNet>,
    /// This machine's: real servers that are none for weir.
    pub own: Vec<IpAddr>,
    /// Only services and what belongs to them: for `include`.
    pub services_only: bool,
    /// Services of consecutive ports become one of a range, those of TCP and UDP one of both.
    pub merge: bool,
}

/// A configuration, and remarks about the lines that it was made of.
#[derive(Debug)]
pub struct Imported {
    pub text: String,
    pub remarks: Vec<Remark>,
}

/// Nothing could be imported: the reason, and the remarks made until then.
#[derive(Debug)]
pub struct Failed {
    pub why: Remark,
    pub remarks: Vec<Remark>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: Rc<str>,
    /// From 1; 0: the file as a whole.
    pub line: usize,
}

/// Something that a person must know of a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    pub at: Place,
    /// Something that the line says is not in the configuration, which would serve clients otherwise.
    pub is_lost: bool,
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remark { at, text, .. } = self;
        match at.line {
            0 => write!(f, "{}: {text}", at.file),
            line => write!(f, "{}:{line}: {text}", at.file),
        }
    }
}

/// Gathers remarks.
#[derive(Debug, Default)]
struct Remarks(Vec<Remark>);

impl Remarks {
    /// It is carried over otherwise than it is written, or weir does not need it.
    fn note(&mut self, at: &Place, text: impl Into<String>) {
        self.push(at, false, text.into());
    }

    /// It is not carried over.
    fn lost(&mut self, at: &Place, text: impl Into<String>) {
        self.push(at, true, text.into());
    }

    fn push(&mut self, at: &Place, is_lost: bool, text: String) {
        let at = at.clone();
        self.0.push(Remark { at, is_lost, text });
    }

    /// In the order of the lines.
    fn sorted(mut self) -> Vec<Remark> {
        self.0.sort_by(|a, b| a.at.cmp(&b.at));
        self.0.dedup();
        self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// How packets get to a real server, in IPVS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// `-g`, the default.
    Route,
    /// `-m`.
    Masq,
    /// `-i`.
    Tunnel(Encapsulation),
    /// DPVS's `-b`.
    Fullnat,
}

/// `--tun-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encapsulation {
    Ipip,
    Gre,
    Gue { port: u16, has_checksum: bool },
}

#[derive(Clone, Debug)]
struct RealServer {
    at: Place,
    address: IpAddr,
    /// None: the service's.
    port: Option<u16>,
    method: Method,
    weight: u32,
    /// Thresholds; 0: none.
    upper: u32,
    lower: u32,
    check: Option<Check>,
}

/// A health check: the lines of `[service.health]` but for those of its pace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    at: Place,
    kind: &'static str,
    /// None: the real server's.
    port: Option<u16>,
    /// Keys and values of `request`, as TOML.
    request: Vec<(&'static str, String)>,
    pace: Pace,
}

impl Check {
    /// Whether both check alike, wherever they are written.
    fn is_like(&self, other: &Check) -> bool {
        let Check { at, .. } = other;
        *other
            == Check {
                at: at.clone(),
                ..self.clone()
            }
    }
}

/// keepalived's, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    interval: u64,
    timeout: u64,
    retries: u64,
    before_retry: u64,
}

/// A virtual service as IPVS knows it.
#[derive(Clone, Debug)]
struct VirtualService {
    at: Place,
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    /// Of a range, which begins with `port`. Only [`merge`] makes one.
    last_port: Option<u16>,
    /// Of TCP and UDP. Only [`merge`] makes one.
    is_both: bool,
    scheduler: String,
    flags: Vec<String>,
    /// Seconds, and the bits of a client's address that count if not all do.
    persistence: Option<(u64, Option<u8>)>,
    one_packet: bool,
    /// Of DPVS: the addresses that fullnat's packets come from.
    locals: Vec<String>,
    reals: Vec<RealServer>,
    sorry: Option<(Place, IpAddr, Option<u16>)>,
    /// So many real servers, and so many more to come back.
    least: Option<(usize, usize)>,
    /// DPVS's own timeout of established connections, in seconds.
    established: Option<(Place, u64)>,
    /// Down real servers keep their connections.
    keeps_down: bool,
}

impl VirtualService {
    /// One of IPVS's defaults.
    fn new(at: Place, protocol: Protocol, address: IpAddr, port: u16) -> Self {
        VirtualService {
            at,
            protocol,
            address,
            port,
            last_port: None,
            is_both: false,
            scheduler: "wlc".to_owned(),
            flags: Vec::new(),
            persistence: None,
            one_packet: false,
            locals: Vec::new(),
            reals: Vec::new(),
            sorry: None,
            least: None,
            established: None,
            keeps_down: false,
        }
    }

    fn is(&self, other: &Self) -> bool {
        (self.protocol, self.address, self.port) == (other.protocol, other.address, other.port)
    }
}

/// All that was found in a file.
#[derive(Debug, Default)]
struct Found {
    services: Vec<VirtualService>,
    /// Keys of `[timeouts]`, in seconds.
    timeouts: Vec<(Place, &'static str, u64)>,
    /// Of DPVS: addresses by device.
    ports: Vec<(String, Vec<IpNet>)>,
    /// Of DPVS: destination and next hop.
    routes: Vec<(Place, IpNet, IpAddr)>,
}

/// Bits of a dotted netmask or a prefix length; none where it is neither.
fn prefix(text: &str, is_v6: bool) -> Option<u8> {
    let most = if is_v6 { 128 } else { 32 };
    if let Ok(bits) = text.parse::<u8>() {
        return (1..=most).contains(&bits).then_some(bits);
    }
    let mask: std::net::Ipv4Addr = text.parse().ok()?;
    let bits = u8::try_from(u32::from(mask).leading_ones()).ok()?;
    let is_whole = u32::from(mask) == u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    (!is_v6 && is_whole && bits > 0).then_some(bits)
}

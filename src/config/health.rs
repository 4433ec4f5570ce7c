//! Health checks: what is asked of a real server, how often, and what the answer must be.

use super::written::health::is_secret;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The `[health.NAME]` of a file.
pub type HealthTemplates = BTreeMap<String, Arc<HealthConfig>>;

/// Which check a service's real servers get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthUse {
    /// `[service.health]`
    Own(Arc<HealthConfig>),
    /// `health = "NAME"`
    Named(String),
}

impl HealthUse {
    /// The check that is meant; there is one for every name of a checked configuration.
    pub fn resolve<'a>(&'a self, templates: &'a HealthTemplates) -> Option<&'a Arc<HealthConfig>> {
        match self {
            HealthUse::Own(health) => Some(health),
            HealthUse::Named(name) => templates.get(name),
        }
    }
}

/// A health check, of whichever real server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthConfig {
    pub probe: Probe,
    /// None: the real server's.
    pub port: Option<u16>,
    pub via: CheckWay,
    /// From one check's start to the next one's.
    pub interval: Duration,
    /// The same while the state is not certain.
    pub fast_interval: Duration,
    /// For the whole of a check; at most the shorter of the intervals.
    pub timeout: Duration,
    /// So many checks in a row must pass before a real server is up again.
    pub rise: u32,
    /// So many in a row must fail before it is down.
    pub fall: u32,
}

/// Which way a check goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CheckWay {
    /// Through the host's own stack, by whatever its routing table says.
    #[default]
    Host,
    /// Through the host's stack, out of the port by which weir reaches the real server, and no other.
    Port,
    /// As a client's packet, in the service's mode.
    Service,
}

impl CheckWay {
    /// As `via` has it.
    pub const fn name(self) -> &'static str {
        match self {
            CheckWay::Host => "host",
            CheckWay::Port => "port",
            CheckWay::Service => "service",
        }
    }
}

/// The addresses that belong to checks of `via = "service"`, of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckAddresses {
    pub v4: Ipv4Net,
    pub v6: Ipv6Net,
}

impl CheckAddresses {
    /// Of the addresses for benchmarks (RFC 2544), which no network routes.
    pub const V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);
    /// A unique local prefix (RFC 4193): `fd`, and "WEIR" as its global ID.
    pub const V6: Ipv6Net =
        Ipv6Net::new_assert(Ipv6Addr::new(0xfd57, 0x4549, 0x5200, 0, 0, 0, 0, 0), 64);
    /// The addresses before the first one that a real server has: those of the network, of the next hop that the host knows,
    /// and of the checks themselves.
    pub const RESERVED: u32 = 16;

    /// The ports of a local pool that are the checks': below those that pools use unless they are told to.
    pub const PORTS: (u16, u16) = (256, 1023);

    pub fn of(&self, is_v6: bool) -> IpNet {
        match is_v6 {
            false => self.v4.into(),
            true => self.v6.into(),
        }
    }

    /// An address of the network by its number.
    pub fn nth(&self, is_v6: bool, number: u32) -> IpAddr {
        match is_v6 {
            false => Ipv4Addr::from_bits(self.v4.network().to_bits() + number).into(),
            true => Ipv6Addr::from_bits(self.v6.network().to_bits() + u128::from(number)).into(),
        }
    }

    /// The host's next hop towards all of them, which nothing answers for.
    pub fn gateway(&self, is_v6: bool) -> IpAddr {
        self.nth(is_v6, 1)
    }

    /// What checks come from where the real server answers to a client's address through weir (nat).
    pub fn source(&self, is_v6: bool) -> IpAddr {
        self.nth(is_v6, 2)
    }

    /// How many real servers may have an address.
    pub fn room(&self, is_v6: bool) -> u32 {
        let net = self.of(is_v6);
        let bits = net.max_prefix_len() - net.prefix_len();
        // The last one of IPv4 is no host's.
        let all = 1u64
            .checked_shl(bits.into())
            .map_or(u32::MAX, |all| u32::try_from(all - 1).unwrap_or(u32::MAX));
        all.saturating_sub(Self::RESERVED)
    }
}

impl Default for CheckAddresses {
    fn default() -> Self {
        CheckAddresses {
            v4: Self::V4,
            v6: Self::V6,
        }
    }
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    Tcp(Exchange),
    Udp(Exchange),
    Http(HttpProbe),
    Dns(DnsProbe),
    Icmp,
    Exec(ExecProbe),
    Grpc(GrpcProbe),
}

impl Probe {
    /// As `type` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Probe::Tcp(_) => "tcp",
            Probe::Udp(_) => "udp",
            Probe::Http(HttpProbe { tls: None, .. }) => "http",
            Probe::Http(_) => "https",
            Probe::Dns(_) => "dns",
            Probe::Icmp => "icmp",
            Probe::Exec(_) => "exec",
            Probe::Grpc(_) => "grpc",
        }
    }

    /// Whether it goes to a port.
    pub fn has_port(&self) -> bool {
        !matches!(self, Probe::Icmp | Probe::Exec(_))
    }
}

/// What is sent, and what must come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Exchange {
    pub send: Vec<u8>,
    /// Must be in the answer; empty: none is waited for.
    pub expect: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    pub method: String,
    /// With the query.
    pub path: String,
    /// None: the real server's address, and its port unless it is the usual one.
    pub host: Option<String>,
    pub headers: Vec<(String, String)>,
    /// First and last of each range of status codes that will do.
    pub status: Vec<(u16, u16)>,
    pub body: Option<Body>,
    /// None: without TLS.
    pub tls: Option<TlsProbe>,
}

/// What the body must have in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    Text(String),
    Regex(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsProbe {
    /// The name that the server is asked for, and that its certificate must be for. None: its address.
    pub sni: Option<String>,
    /// Whether the certificate must be one that this machine trusts.
    pub verify: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsProbe {
    pub name: String,
    pub record: RecordType,
    /// None: any.
    pub rcode: Option<Rcode>,
    /// A record of the answer must be this one.
    pub answer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecProbe {
    /// A file in [`PROGRAMS`](Self::PROGRAMS), and its arguments.
    pub program: String,
    pub arguments: Vec<String>,
    pub user: String,
}

impl ExecProbe {
    /// Where programs must be: who may change the configuration does not thereby run whatever program.
    pub const PROGRAMS: &str = "/etc/weir/checks";
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcProbe {
    /// Empty: the server as a whole.
    pub service: String,
    pub host: Option<String>,
    pub tls: Option<TlsProbe>,
}

/// A type of DNS records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    A,
    Aaaa,
    Ns,
    Soa,
    Mx,
    Txt,
    Cname,
    Ptr,
    Srv,
}

/// What became of a DNS query (RFC 1035 section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rcode {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
}

/// Where a check goes: the real server's address, and the check's port or else the real server's; 0 for one without.
pub fn target(health: &HealthConfig, address: IpAddr, port: u16) -> (IpAddr, u16) {
    match (&health.probe, health.port) {
        (Probe::Icmp, _) => (address, 0),
        (_, Some(own)) => (address, own),
        (_, None) => (address, port),
    }
}

/// All of it in one line: two are alike if and only if their lines are.
impl Display for HealthConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let span = humantime::format_duration;
        write!(f, "{} every {}", self.probe, span(self.interval))?;
        if self.fast_interval != self.interval {
            write!(f, " (fast {})", span(self.fast_interval))?;
        }
        let HealthConfig {
            timeout,
            rise,
            fall,
            ..
        } = self;
        let timeout = span(*timeout);
        write!(f, " timeout {timeout} rise {rise} fall {fall}")?;
        if let Some(port) = self.port {
            write!(f, " port {port}")?;
        }
        match self.via {
            CheckWay::Host => Ok(()),
            way => write!(f, " via {}", way.name()),
        }
    }
}

impl Display for Probe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Probe::Tcp(exchange) | Probe::Udp(exchange) => {
                for (what, bytes) in [("send", &exchange.send), ("expect", &exchange.expect)] {
                    if !bytes.is_empty() {
                        write!(f, " {what} {}", hidden(bytes))?;
                    }
                }
                Ok(())
            }
            Probe::Http(http) => http.fmt(f),
            Probe::Dns(dns) => {
                write!(f, " {} {:?}", dns.name, dns.record)?;
                match dns.rcode {
                    Some(rcode) => write!(f, " rcode {rcode:?}")?,
                    None => f.write_str(" rcode any")?,
                }
                let answer = dns.answer.as_ref();
                answer.map_or(Ok(()), |answer| write!(f, " answer {answer:?}"))
            }
            Probe::Icmp => Ok(()),
            Probe::Exec(exec) => {
                let ExecProbe {
                    program,
                    arguments,
                    user,
                } = exec;
                write!(f, " {program:?}")?;
                for argument in arguments {
                    write!(f, " {}", hidden(argument.as_bytes()))?;
                }
                write!(f, " as {user}")
            }
            Probe::Grpc(grpc) => {
                write!(f, " service {:?}", grpc.service)?;
                if let Some(host) = &grpc.host {
                    write!(f, " host {host}")?;
                }
                grpc.tls.as_ref().map_or(Ok(()), |tls| tls.fmt(f))
            }
        }
    }
}

/// In the place of what may be a secret: it tells two apart, here and now, and says nothing else. Another after each start.
fn hidden(secret: &[u8]) -> String {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    let hash = KEYS.get_or_init(RandomState::new).hash_one(secret) as u32;
    format!("(hidden {hash:08x})")
}

impl Display for HttpProbe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {} {}", self.method, self.path)?;
        if let Some(host) = &self.host {
            write!(f, " host {host}")?;
        }
        for (name, value) in &self.headers {
            match is_secret(name) {
                true => write!(f, " header {name} {}", hidden(value.as_bytes()))?,
                false => write!(f, " header {name} {value:?}")?,
            }
        }
        let range = |&(first, last): &(u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let ranges: Vec<_> = self.status.iter().map(range).collect();
        write!(f, " status {}", ranges.join(","))?;
        match &self.body {
            Some(Body::Text(text)) => write!(f, " body {text:?}")?,
            Some(Body::Regex(pattern)) => write!(f, " body_regex {pattern:?}")?,
            None => {}
        }
        self.tls.as_ref().map_or(Ok(()), |tls| tls.fmt(f))
    }
}

impl Display for TlsProbe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(" by TLS")?;
        if let Some(sni) = &self.sni {
            write!(f, " sni {sni}")?;
        }
        match self.verify {
            true => Ok(()),
            false => f.write_str(" not verified"),
        }
    }
}

impl Display for HealthUse {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            HealthUse::Own(health) => health.fmt(f),
            HealthUse::Named(name) => write!(f, "{name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_secrets_apart_and_shows_none() {
        let probe = |name: &str, value: &str| {
            let headers = vec![(name.to_owned(), value.to_owned())];
            let probe = HttpProbe {
                method: "GET".to_owned(),
                path: "/".to_owned(),
                host: None,
                headers,
                status: vec![(200, 399)],
                body: None,
                tls: None,
            };
            probe.to_string()
        };
        let (one, other) = ("Bearer hunter2", "Bearer hunter3");
        assert_ne!(probe("Authorization", one), probe("Authorization", other));
        assert_eq!(probe("Authorization", one), probe("Authorization", one));
        assert!(!probe("Authorization", one).contains("hunter"));
        assert!(probe("X-Check", "yes").contains("X-Check \"yes\""));
    }

    /// What is sent, expected and handed to programs may be a password as well as anything else.
    #[test]
    fn nothing_that_is_sent_or_handed_over_is_shown() {
        let exchange = |send: &str| {
            Probe::Tcp(Exchange {
                send: send.into(),
                expect: b"+OK hunter".to_vec(),
            })
        };
        let exec = |argument: &str| {
            Probe::Exec(ExecProbe {
                program: "check-redis".to_owned(),
                arguments: vec![argument.to_owned()],
                user: "nobody".to_owned(),
            })
        };
        for shown in [&exchange as &dyn Fn(&str) -> Probe, &exec] {
            let (one, other) = (shown("AUTH hunter2"), shown("AUTH hunter3"));
            assert_ne!(one.to_string(), other.to_string());
            assert_eq!(one.to_string(), shown("AUTH hunter2").to_string());
            assert!(!one.to_string().contains("hunter"), "{one}");
        }
        assert!(exec("x").to_string().contains("check-redis"));
    }
}

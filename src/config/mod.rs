//! The configuration: TOML text -> [`raw`] (as written, with spans) -> [`Config`] (checked, complete, in SI units).
//!
//! A [`Config`] can only come out of [`load`], so code that holds one may trust it: names are unique, references
//! resolve, numbers are in range, every default is filled in.

mod address;
mod availability;
mod change;
mod check_value;
mod clients;
mod device;
pub(crate) mod edit;
mod error;
mod files;
mod health;
mod hints;
mod limits;
mod mode;
mod open;
mod pieces;
mod plain;
mod port;
mod raw;
mod real_pool;
mod scheduler;
mod service;
mod size;
mod thresholds;
mod validate;
mod value;
mod written;

pub use availability::{Announce, AvailabilityConfig, Share, WhenBelow, home_ports};
pub(crate) use change::{RealKeys, ServiceChange, Unchanged, changed};
pub use clients::{ClientList, ListFile};
pub use device::{pci_address, pci_devices};
pub(crate) use error::did_you_mean;
pub use error::{Diagnostic, Diagnostics, Severity};
pub use files::Text;
pub(crate) use files::{MAX_BYTES, bounded, some_texts};
pub use health::{
    Body, CheckAddresses, CheckWay, DnsProbe, Exchange, ExecProbe, GrpcProbe, HealthConfig,
    HealthTemplates, HealthUse, HttpProbe, Probe, Rcode, RecordType, TlsProbe, target,
};
pub(crate) use limits::MOST_REALS;
pub use limits::{Limits, OwnTimeouts, ServiceLimits, TimeoutsConfig};
pub use mode::{Encapsulation, GueVariant, ModeConfig, TunnelConfig};
pub(crate) use open::read_file;
pub use pieces::Known;
pub use port::{PortConfig, Queues};
pub use real_pool::{PoolReal, RealPool};
pub use scheduler::{NoShares, SchedulerConfig, SchedulerFlags};
use service::ON_DRAIN;
pub use service::{
    ClientAddress, OnDown, OnIdle, PassiveConfig, PersistenceConfig, QuicConfig, RealConfig,
    ReversePath, ServiceConfig, TcpMss, UnknownTcp, WhenUnavailable,
};
pub use thresholds::Thresholds;
pub(crate) use value::Word;
pub(crate) use written::word;

use crate::net::{Mac, protocol};
use clients::Lists;
use error::{Log, Source};
use files::Files;
use ipnet::IpNet;
use raw::Root;
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// The real paths of the files that it was read from.
    pub files: HashSet<PathBuf>,
    /// What is doubtful in it.
    pub warnings: Diagnostics,
    /// Where each port names its device, for what the machine has to say of that.
    pub devices: Vec<Diagnostic>,
    /// Where `[api]` names files, by the keys, for what is found in them.
    pub api_files: Vec<(&'static str, Diagnostic)>,
    /// Its services by their texts, for the next one.
    pub known: Known,
}

/// Reads and checks a file and what it includes.
///
/// # Errors
///
/// Everything that is wrong with it, in one pass, warnings included.
pub fn load(path: &Path, context: &Context) -> Result<Loaded, Diagnostics> {
    load_after(path, context, &Known::default())
}

/// As [`load`]: services that are written as in a former configuration are taken from there.
///
/// # Errors
///
/// As [`load`].
pub fn load_after(path: &Path, context: &Context, known: &Known) -> Result<Loaded, Diagnostics> {
    let (mut files, mut log) = (Files::in_pieces(known), Log::default());
    let root = files.read(path, &mut log)?;
    if let Ok(loaded) = check_pieces(root, files, log, context) {
        return Ok(loaded);
    }
    // In one piece, to say what is wrong where.
    let (mut files, mut log) = (Files::default(), Log::default());
    let root = files.read(path, &mut log)?;
    check(root, files, log, context)
}

/// Reads a file and what it includes, for [`check_texts`].
///
/// # Errors
///
/// If one of them cannot be read, or is no TOML, so that it cannot be told what it includes.
pub fn texts(path: &Path) -> Result<Vec<Text>, Diagnostics> {
    let (mut files, mut log) = (Files::in_pieces(&Known::default()), Log::default());
    files.read(path, &mut log)?;
    if files.broken {
        return Err(log.into_diagnostics(&files.sources));
    }
    Ok(files.sources.into_iter().map(Text::from).collect())
}

/// Why texts are not even parsed: they are beyond what is read of files.
pub fn refuse_texts(texts: &[Text]) -> Option<String> {
    Files::refuse(texts)
}

/// The `[api]` of a file and of what it includes, whatever else is wrong there, if it names a control socket. Where it does
/// not, that could be by a mistake, and the default be another weir's.
///
/// # Errors
///
/// If the file cannot be read; all that is wrong with it, where it names no control socket.
pub fn api(path: &Path) -> Result<Api, Diagnostics> {
    let (mut files, mut log) = (Files::in_pieces(&Known::default()), Log::default());
    files.despite_errors = true;
    let root = files.read(path, &mut log)?;
    let api = validate::api(root.api.into_option().unwrap_or_default(), &mut log);
    if api.control_is_default && log.errors() > 0 {
        return Err(log.into_diagnostics(&files.sources));
    }
    Ok(api)
}

/// Checks the texts of a main file and of those that it includes, as [`texts`] reads them.
///
/// # Errors
///
/// As [`load`].
pub fn check_texts(
    texts: Vec<Text>,
    context: &Context,
    known: &Known,
) -> Result<Loaded, Diagnostics> {
    let (mut files, mut log) = (Files::in_pieces(known), Log::default());
    let root = files.parse_all(texts, &mut log);
    let texts = match check_pieces(root, files, log, context) {
        Ok(loaded) => return Ok(loaded),
        Err(sources) => sources.into_iter().map(Text::from).collect(),
    };
    // In one piece, to say what is wrong where.
    let (mut files, mut log) = (Files::default(), Log::default());
    let root = files.parse_all(texts, &mut log);
    check(root, files, log, context)
}

impl From<Source> for Text {
    fn from(source: Source) -> Text {
        Text {
            name: source.name,
            text: source.text,
        }
    }
}

/// Checks a text; `name` stands for it in diagnostics. It cannot include files: its `include` has no folder.
///
/// # Errors
///
/// As [`load`].
pub fn parse(text: &str, name: &str, context: &Context) -> Result<Loaded, Diagnostics> {
    let (mut files, mut log) = (Files::default(), Log::default());
    let root = files.parse(name.to_owned(), text.to_owned(), &mut log);
    if let Some(include) = root.include.ok() {
        log.error(include.at, "`include` needs a file")
            .help("write the tables here");
    }
    check(root, files, log, context)
}

/// Checks a text of `[[service]]` tables, which are to be added to `config`; `name` stands for it in diagnostics.
///
/// # Errors
///
/// Everything that is wrong with it, in one pass, warnings included.
pub fn services(
    text: &str,
    name: &str,
    config: &Config,
) -> Result<(Vec<Arc<ServiceConfig>>, Diagnostics), Diagnostics> {
    let (mut files, mut log) = (Files::default(), Log::default());
    let root = files.parse(name.to_owned(), text.to_owned(), &mut log);
    let mut lists = Lists::new(files.sources.len());
    let services = match files.broken {
        true => vec![],
        false => validate::added(root, files.services, config, &mut lists, &mut log),
    };
    files.sources.extend(lists.sources);
    let errors = log.errors();
    let diagnostics = log.into_diagnostics(&files.sources);
    match errors {
        0 => Ok((services, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// Every table of the file, as it is written, with its keys: for documentation and its tests.
pub fn keys() -> &'static [(&'static str, &'static [&'static str])] {
    raw::TABLES
}

/// Checks files that were read in pieces. If there is an error its place may not be known: then the texts come back.
fn check_pieces(
    root: Root,
    files: Files,
    mut log: Log,
    context: &Context,
) -> Result<Loaded, Vec<Source>> {
    if files.broken || log.errors() > 0 {
        return Err(files.sources);
    }
    let api_files = validate::api_files(&root);
    let mut lists = Lists::new(files.sources.len());
    let (config, devices) = validate::validate(root, files.services, context, &mut lists, &mut log);
    if log.errors() > 0 {
        return Err(files.sources);
    }
    Ok(Loaded {
        config,
        devices: Log::places(&devices, &files.sources),
        api_files: named_places(&api_files, &files.sources),
        files: files.seen,
        warnings: log.into_diagnostics(&files.sources),
        known: files.next_known,
    })
}

fn check(
    root: Root,
    mut files: Files,
    mut log: Log,
    context: &Context,
) -> Result<Loaded, Diagnostics> {
    // What a broken file says cannot be told, so nothing is said about what may be missing.
    let services = files.services;
    let api_files = validate::api_files(&root);
    let mut lists = Lists::new(files.sources.len());
    let config =
        (!files.broken).then(|| validate::validate(root, services, context, &mut lists, &mut log));
    files.sources.extend(lists.sources);
    let errors = log.errors();
    let diagnostics = log.into_diagnostics(&files.sources);
    match config {
        Some((config, devices)) if errors == 0 => Ok(Loaded {
            config,
            devices: Log::places(&devices, &files.sources),
            api_files: named_places(&api_files, &files.sources),
            files: files.seen,
            warnings: diagnostics,
            known: files.next_known,
        }),
        _ => Err(diagnostics),
    }
}

fn named_places(
    named: &[(&'static str, error::Span)],
    sources: &[Source],
) -> Vec<(&'static str, Diagnostic)> {
    let places: Vec<_> = named.iter().map(|(_, at)| *at).collect();
    let places = Log::places(&places, sources);
    named.iter().map(|(key, _)| *key).zip(places).collect()
}

/// What the checks need to know of the world around the file.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The CPUs that this process may run on; none: not checked (a replay runs anywhere).
    pub cpus: Option<&'a [usize]>,
    /// Whether the EAL is to take `device` and `eal_args`: a replay ignores them, and what is wrong with them.
    pub devices: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub reverse_path: ReversePath,
    /// Of services that do not say it themselves, and of local pools.
    pub unknown_tcp: UnknownTcp,
    /// Where drains and weights of the runtime are kept over a restart.
    pub state_file: Option<PathBuf>,
    /// Where connections are kept over a restart.
    pub connections_file: Option<PathBuf>,
    pub check_addresses: CheckAddresses,
    pub dpdk: Dpdk,
    pub api: Api,
    pub limits: Limits,
    pub timeouts: TimeoutsConfig,
    pub metrics: Metrics,
    pub connection_log: Option<ConnectionLog>,
    pub ports: Vec<PortConfig>,
    pub routes: Vec<RouteConfig>,
    pub neighbours: Vec<StaticNeighbour>,
    pub pools: Vec<LocalPool>,
    pub snat: Vec<SnatConfig>,
    /// The `[[pool]]`.
    pub real_pools: Vec<RealPool>,
    /// The `[health.NAME]`.
    pub health: Arc<HealthTemplates>,
    pub services: Vec<Arc<ServiceConfig>>,
    pub host_peers: Vec<HostPeer>,
}

impl Config {
    /// Whether any address is one of IPv6.
    pub fn speaks_ipv6(&self) -> bool {
        let networks = self.ports.iter().flat_map(|port| &port.addresses);
        let routes = self.routes.iter().map(|route| route.via);
        let neighbours = self.neighbours.iter().map(|neighbour| neighbour.address);
        let pools = self.pools.iter().flat_map(|pool| &pool.addresses).copied();
        let services = self.services.iter().map(|service| service.address);
        let networks = networks.map(IpNet::addr);
        // The port of a link-local peer has a link-local address itself.
        let on_link = self.host_peers.iter().filter(|peer| peer.port.is_some());
        let peers = on_link.map(|peer| peer.address);
        let others = routes
            .chain(neighbours)
            .chain(pools)
            .chain(services)
            .chain(peers);
        let accept_ra = self.ports.iter().any(|port| port.accept_ra);
        accept_ra || networks.chain(others).any(|address| address.is_ipv6())
    }

    /// Whether any service has real servers of the other family than its VIP's.
    pub fn crosses_families(&self) -> bool {
        self.services.iter().any(|service| self.crosses(service))
    }

    /// Whether a service has real servers of the other family than its VIP's, as its local pool tells.
    pub fn crosses(&self, service: &ServiceConfig) -> bool {
        let ModeConfig::Fullnat { pool } = &service.mode else {
            return false;
        };
        let pool = self.pools.iter().find(|known| known.name == *pool);
        let local = pool.and_then(|pool| pool.addresses.first());
        local.is_some_and(|local| local.is_ipv6() != service.address.is_ipv6())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dpdk {
    /// Forwarding lcores (CPU numbers), at least one.
    pub workers: Vec<usize>,
    /// The file lists none: fewer may forward, as the devices can.
    pub default_workers: bool,
    /// The control thread's CPU.
    pub main_lcore: usize,
    pub hugepages: Hugepages,
    pub idle: Idle,
    pub rss_key: RssKey,
    /// The size of the mempool; none: what the queues and workers can hold.
    pub mbufs: Option<usize>,
    /// The most packets that a worker takes from a receive queue at once.
    pub burst: u16,
    pub eal_args: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    Auto,
    Require,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    Poll,
    Adaptive,
}

/// By which key packets are spread over several workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RssKey {
    /// One that is drawn at start: no client can tell which flows are one worker's.
    Random,
    /// That of Microsoft's specification: for measurements that have to know it.
    Published,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    pub listen: Listen,
    /// The socket that changes come by.
    pub control: Option<PathBuf>,
    /// The file does not name the control socket.
    pub control_is_default: bool,
    /// What has the token in it that lets the bearer change things by `listen`.
    pub token_file: Option<PathBuf>,
    /// Beyond loopback, metrics need no token.
    pub public_metrics: bool,
    /// By TCP, only over TLS.
    pub tls: Option<ApiTls>,
}

/// `[api] tls`: PEM files.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiTls {
    /// The server's certificate, and behind it those that lead to a root.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who signs clients' certificates; without it clients need none.
    pub client_ca: Option<PathBuf>,
}

impl Api {
    /// The default of `control`.
    pub const CONTROL: &str = "/run/weir/weir.sock";
}

#[derive(Clone, Debug, PartialEq)]
pub enum Listen {
    Off,
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

/// `[metrics]`: what `/metrics` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Whether real servers have samples of their own.
    pub per_real: bool,
}

/// `[connection_log]`: which connections are logged, where to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLog {
    pub to: LogDestination,
    pub format: LogFormat,
    /// One connection of so many, chosen by its addresses and ports.
    pub sample: u32,
    /// Whether a connection's beginning is a record, and its end.
    pub starts: bool,
    pub ends: bool,
    /// IPFIX's observation domain.
    pub domain: u32,
}

impl std::fmt::Display for ConnectionLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ConnectionLog {
            to,
            format,
            sample,
            starts,
            ends,
            domain,
        } = self;
        let format = written::word(*format);
        let events = match (starts, ends) {
            (true, true) => "starts and ends",
            (true, false) => "starts",
            (false, _) => "ends",
        };
        write!(
            f,
            "{to}: {format}, {events}, 1 of {sample}, domain {domain}"
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDestination {
    File(PathBuf),
    Collector(std::net::SocketAddr, Transport),
}

impl std::fmt::Display for LogDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogDestination::File(path) => write!(f, "{}", path.display()),
            LogDestination::Collector(to, transport) => {
                let transport = written::word(*transport);
                write!(f, "the collector {to} ({transport})")
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON objects, one a line.
    Json,
    /// RFC 7011.
    Ipfix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEvent {
    Start,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfig {
    pub to: IpNet,
    pub via: IpAddr,
    /// The place of the port that a link-local gateway is behind.
    pub port: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StaticNeighbour {
    pub address: IpAddr,
    /// The place of the port whose link a link-local address is on.
    pub port: Option<usize>,
    pub mac: Mac,
}

/// A `[[host_peer]]`: a router that the host talks BFD, BGP or VRRP to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPeer {
    pub address: IpAddr,
    /// The place of the port whose link a link-local address is on.
    pub port: Option<usize>,
    /// The most hops that its BGP packets may have come, by their TTL (RFC 5082); none: not looked at.
    pub ttl_security: Option<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LocalPool {
    pub name: String,
    /// In the order written, each address once.
    pub addresses: Vec<IpAddr>,
    /// First and last local port.
    pub ports: (u16, u16),
}

/// `[[snat]]`: the own connections of inside hosts, outwards.
#[derive(Clone, Debug, PartialEq)]
pub struct SnatConfig {
    pub from: IpNet,
    /// The name of a local pool of the same family.
    pub pool: String,
    /// The place of the port that the packets leave by; none: any.
    pub out_port: Option<usize>,
    /// In the place of `[timeouts]`.
    pub timeouts: OwnTimeouts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
            Protocol::Sctp => protocol::SCTP,
        }
    }
}

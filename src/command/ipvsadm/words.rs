//! ipvsadm's command line (`ipvsadm.c` of 1.31, which reads it by popt): the command comes first, short options may be bundled
//! and have their argument attached, long ones take `=`.

use super::options::{COMMANDS, Command, EXCLUSIVE, Given, OPTIONS, split, taken};
use crate::config::Protocol;
use crate::service::ServiceKey;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// What ends a command: a line for stderr, perhaps, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub text: String,
    pub code: u8,
}

/// Of a command line that makes no sense.
const USAGE: u8 = 2;
/// -1: of what popt or the kernel refuses.
pub(super) const REFUSED: u8 = 255;

pub(super) fn usage(text: impl Into<String>) -> Failed {
    Failed {
        text: text.into(),
        code: USAGE,
    }
}

pub(super) fn refused(text: impl Into<String>) -> Failed {
    Failed {
        text: text.into(),
        code: REFUSED,
    }
}

fn try_help() -> Failed {
    refused("Try `ipvsadm -h' or 'ipvsadm --help' for more information.")
}

/// Which virtual service is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Address(Protocol, SocketAddr),
    Fwmark,
}

impl Service {
    pub(super) fn key(&self) -> Option<ServiceKey> {
        match self {
            Service::Address(protocol, at) => Some(ServiceKey {
                protocol: *protocol,
                address: at.ip(),
                port: at.port(),
                last: 0,
            }),
            Service::Fwmark => None,
        }
    }
}

/// How packets get to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarding {
    Gatewaying,
    Ipip,
    Masquerading,
}

/// What is between the outer header and the packet, with `-i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tunnel {
    #[default]
    Ipip,
    Gre,
    Gue,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub command: Command,
    /// The groups of its options.
    pub groups: Vec<&'static str>,
    pub service: Option<Service>,
    pub scheduler: Option<String>,
    /// Seconds.
    pub persistent: Option<u32>,
    pub prefix: Option<u8>,
    pub flags: Vec<String>,
    pub pe: Option<String>,
    /// Port 0: the service's.
    pub real: Option<SocketAddr>,
    pub forwarding: Option<Forwarding>,
    pub tunnel: Option<Tunnel>,
    pub tunnel_port: Option<u16>,
    pub weight: u32,
    pub thresholds: (u32, u32),
    /// Of `--set`.
    pub timeouts: [u32; 3],
}

/// The persistence that is meant without a number (`IPVS_SVC_PERSISTENT_TIMEOUT`).
const PERSISTENT: u32 = 360;
/// `MAX_TIMEOUT`: 31 days.
const MOST_TIMEOUT: u32 = 86_400 * 31;

impl Line {
    pub(super) fn has(&self, group: &str) -> bool {
        self.groups.contains(&group)
    }

    /// Reads the words after `ipvsadm`. Without any the table is listed.
    pub(super) fn read(words: &[String]) -> Result<Line, Failed> {
        let mut line = Line {
            command: Command::List,
            groups: Vec::new(),
            service: None,
            scheduler: None,
            persistent: None,
            prefix: None,
            flags: Vec::new(),
            pe: None,
            real: None,
            forwarding: None,
            tunnel: None,
            tunnel_port: None,
            weight: 1,
            thresholds: (0, 0),
            timeouts: [0; 3],
        };
        if words.is_empty() {
            return Ok(line);
        }
        let (mut options, rest) = split(words)?;
        let mut options = options.drain(..);
        let first = options.next().ok_or_else(try_help)?;
        let command = COMMANDS
            .iter()
            .find(|(_, short, long, _)| first.is(*short, long));
        let Some((command, ..)) = command else {
            return Err(try_help());
        };
        line.command = *command;
        let mut mask = None;
        for option in options {
            line.take(&option, &mut mask)?;
        }
        let mut rest = rest.into_iter();
        if line.command == Command::Timeout {
            line.take_timeouts(&mut rest)?;
        }
        if matches!(line.command, Command::StartDaemon | Command::StopDaemon) {
            match rest.next().as_deref() {
                Some("master" | "backup") => {}
                _ => return Err(usage("illegal start-daemon parameter specified")),
            }
        }
        if let Some(more) = rest.next() {
            return Err(usage(format!("unexpected argument {more}")));
        }
        line.check()?;
        line.prefix = mask.map(|mask| line.prefix_of(mask)).transpose()?;
        Ok(line)
    }

    fn name(&self) -> &'static str {
        let mut all = COMMANDS.iter();
        all.find(|(command, ..)| *command == self.command)
            .map_or("list", |(_, _, _, name)| name)
    }

    fn take(&mut self, option: &Given, mask: &mut Option<String>) -> Result<(), Failed> {
        let known = OPTIONS
            .iter()
            .find(|(long, short, ..)| option.is(*short, long));
        let Some((long, _, group, _)) = known else {
            return Err(usage(format!("invalid option `{}'", option.written)));
        };
        if self.has(group) && !matches!(*long, "sort" | "nosort" | "numeric" | "exact" | "ipv6") {
            return Err(usage(format!("multiple '{group}' options specified")));
        }
        self.groups.push(group);
        let value = option.value.as_deref().unwrap_or_default();
        match *long {
            "tcp-service" => self.service = Some(address_of(Protocol::Tcp, value)?),
            "udp-service" => self.service = Some(address_of(Protocol::Udp, value)?),
            "sctp-service" => self.service = Some(address_of(Protocol::Sctp, value)?),
            "fwmark-service" => {
                match value.parse::<u32>() {
                    Ok(1..) => {}
                    _ => return Err(usage(format!("invalid fwmark value `{value}' specified"))),
                }
                self.service = Some(Service::Fwmark);
            }
            "scheduler" => self.scheduler = Some(value.to_owned()),
            "persistent" => {
                self.persistent = Some(match &option.value {
                    None => PERSISTENT,
                    Some(value) => timeout(value, 1)?,
                });
            }
            "netmask" => *mask = Some(value.to_owned()),
            "real-server" => {
                let wrong = || usage("illegal real server address[:port] specified");
                self.real = Some(place(value, "tcp").ok_or_else(wrong)?);
            }
            "gatewaying" => self.forwarding = Some(Forwarding::Gatewaying),
            "ipip" => self.forwarding = Some(Forwarding::Ipip),
            "masquerading" => self.forwarding = Some(Forwarding::Masquerading),
            "weight" => {
                self.weight = number(value).ok_or_else(|| usage("illegal weight specified"))?
            }
            "u-threshold" => {
                let wrong = || usage("illegal u_threshold specified");
                self.thresholds.0 = number(value).ok_or_else(wrong)?;
            }
            "l-threshold" => {
                let wrong = || usage("illegal l_threshold specified");
                self.thresholds.1 = number(value).ok_or_else(wrong)?;
            }
            "pe" => self.pe = Some(value.to_owned()),
            "sched-flags" => self.flags = value.split(',').map(str::to_owned).collect(),
            "tun-type" => {
                self.tunnel = Some(match value {
                    "ipip" => Tunnel::Ipip,
                    "gre" => Tunnel::Gre,
                    "gue" => Tunnel::Gue,
                    _ => return Err(usage("illegal tunnel type specified")),
                });
            }
            "tun-port" => {
                let port = value.parse().ok().filter(|port| *port > 0);
                self.tunnel_port =
                    Some(port.ok_or_else(|| usage("illegal tunnel port specified"))?);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_timeouts(&mut self, rest: &mut impl Iterator<Item = String>) -> Result<(), Failed> {
        for place in &mut self.timeouts {
            let value = rest.next();
            let value = value.ok_or_else(|| usage("--set option requires 3 timeout values"))?;
            *place = timeout(&value, 0)?;
        }
        Ok(())
    }

    /// `generic_opt_check`, and what follows it.
    fn check(&mut self) -> Result<(), Failed> {
        let (taken, name) = (taken(self.command), self.name());
        for wanted in taken.iter().filter_map(|group| group.strip_suffix('!')) {
            if !self.has(wanted) {
                return Err(usage(format!(
                    "You need to supply the '{wanted}' option for the '{name}' command"
                )));
            }
        }
        for group in &self.groups {
            if !taken.iter().any(|it| it.trim_end_matches('!') == *group) {
                return Err(usage(format!(
                    "Illegal '{group}' option with the '{name}' command"
                )));
            }
        }
        if self.command == Command::List {
            let mut given = EXCLUSIVE.iter().filter(|group| self.has(group));
            if let (Some(one), Some(other)) = (given.next(), given.next()) {
                return Err(usage(format!(
                    "The option '{other}' conflicts with the '{one}' option in the '{name}' command"
                )));
            }
        }
        if matches!(self.command, Command::Add | Command::Edit)
            && let Some(Service::Address(protocol, at)) = &self.service
        {
            if at.port() == 0 && self.persistent.is_none() {
                return Err(usage("Zero port specified for non-persistent service"));
            }
            if self.has("ops") && *protocol != Protocol::Udp {
                return Err(usage(
                    "One-Packet Scheduling is only for UDP virtual services",
                ));
            }
            self.check_flags()?;
        }
        if self.tunnel == Some(Tunnel::Gue) && self.tunnel_port.is_none() {
            return Err(usage(
                "You need to supply the 'tun-port' option for the 'gue' tunnel type",
            ));
        }
        self.check_real()
    }

    /// Names of flags: `flag-1` to `flag-3` are those of sh and mh by number.
    fn check_flags(&mut self) -> Result<(), Failed> {
        let scheduler = self.scheduler.as_deref().unwrap_or(DEFAULT_SCHEDULER);
        for flag in &mut self.flags {
            let numbered = match (flag.as_str(), scheduler) {
                ("flag-1", "sh" | "mh") => Some(format!("{scheduler}-fallback")),
                ("flag-2", "sh" | "mh") => Some(format!("{scheduler}-port")),
                _ => None,
            };
            if let Some(name) = numbered {
                *flag = name;
            }
            let own = flag.split_once('-').map(|(own, _)| own);
            match flag.as_str() {
                "sh-fallback" | "sh-port" | "mh-fallback" | "mh-port" if own == Some(scheduler) => {
                }
                "sh-fallback" | "sh-port" | "mh-fallback" | "mh-port" => {
                    return Err(usage(format!("incompatible scheduler flag `{flag}'")));
                }
                "flag-1" | "flag-2" | "flag-3" => {}
                _ => return Err(usage(format!("invalid scheduler flag `{flag}'"))),
            }
        }
        Ok(())
    }

    /// The real server's port where the mode keeps the packet's, and its family.
    fn check_real(&mut self) -> Result<(), Failed> {
        let (Some(real), Some(Service::Address(_, vip))) = (&mut self.real, &self.service) else {
            return Ok(());
        };
        if real.port() == 0 {
            real.set_port(vip.port());
        }
        let is_other = real.is_ipv6() != vip.is_ipv6();
        if self.command != Command::DeleteServer
            && is_other
            && self.forwarding != Some(Forwarding::Ipip)
        {
            return Err(usage(
                "Different address family is allowed only for tunneling servers",
            ));
        }
        Ok(())
    }

    fn prefix_of(&self, mask: String) -> Result<u8, Failed> {
        let wrong = || usage("illegal virtual server persistent mask specified");
        let is_v6 = match &self.service {
            Some(Service::Address(_, at)) => at.is_ipv6(),
            _ => self.has("ipv6"),
        };
        if is_v6 {
            return mask
                .parse()
                .ok()
                .filter(|it| (1..=128).contains(it))
                .ok_or_else(wrong);
        }
        let mask: std::net::Ipv4Addr = mask.parse().map_err(|_| wrong())?;
        let bits = mask.to_bits();
        match bits.leading_ones() + bits.trailing_zeros() {
            32 if bits != 0 => Ok(bits.leading_ones() as u8),
            _ => Err(refused(
                "weir: a persistence mask has its ones at the front",
            )),
        }
    }
}

/// The scheduler without `-s` (`DEF_SCHED`).
pub(super) const DEFAULT_SCHEDULER: &str = "wlc";

fn number(text: &str) -> Option<u32> {
    text.parse()
        .ok()
        .filter(|number| *number <= i32::MAX as u32)
}

fn timeout(text: &str, least: u32) -> Result<u32, Failed> {
    let seconds = number(text).filter(|seconds| (least..=MOST_TIMEOUT).contains(seconds));
    seconds.ok_or_else(|| usage(format!("invalid timeout value `{text}' specified")))
}

fn address_of(protocol: Protocol, text: &str) -> Result<Service, Failed> {
    let at = place(text, protocol.name());
    let at = at.ok_or_else(|| usage("illegal virtual server address[:port] specified"))?;
    Ok(Service::Address(protocol, at))
}

/// `host[:port]`, port 0 without one; an address of IPv6 with a port stands in brackets, and in brackets it has one.
fn place(text: &str, protocol: &str) -> Option<SocketAddr> {
    let port_of = |text: &str| {
        text.parse()
            .ok()
            .or_else(|| super::names::port(text, protocol))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once("]:")?;
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        return Some(SocketAddr::new(address.into(), port_of(port)?));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, 0));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port_of(port)?),
        None => (text, 0),
    };
    if let Ok(address) = host.parse() {
        return Some(SocketAddr::new(address, port));
    }
    // What looks like an address of IPv4 is no host's name.
    let is_number = host.chars().all(|it| it.is_ascii_digit() || it == '.');
    match is_number {
        true => None,
        false => (host, port)
            .to_socket_addrs()
            .ok()?
            .find(SocketAddr::is_ipv4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Line, Failed> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        Line::read(&words)
    }

    /// What ipvsadm 1.31 says, and its exit status.
    #[test]
    fn a_wrong_line_is_refused_as_ipvsadm_does() {
        for (line, text, code) in [
            (
                "-A -t 192.0.2.10",
                "Zero port specified for non-persistent service",
                2,
            ),
            (
                "-A -t 2001:db8::10:81 -s rr",
                "Zero port specified for non-persistent service",
                2,
            ),
            (
                "-A -t 192.0.2.10:99999",
                "illegal virtual server address[:port] specified",
                2,
            ),
            (
                "-A -t 300.1.1.1:80",
                "illegal virtual server address[:port] specified",
                2,
            ),
            (
                "-A -t 192.0.2.10:92-s lc",
                "illegal virtual server address[:port] specified",
                2,
            ),
            ("-A -f 0", "invalid fwmark value `0' specified", 2),
            ("-A -f abc", "invalid fwmark value `abc' specified", 2),
            (
                "-A -t 192.0.2.10:80 -u 192.0.2.10:80",
                "multiple 'service-address' options specified",
                2,
            ),
            (
                "-a -t 192.0.2.10:80",
                "You need to supply the 'real-server' option for the 'add-server' command",
                2,
            ),
            (
                "-a -t 192.0.2.10:80 -r 10.0.0.3 -m -g",
                "multiple 'forwarding-method' options specified",
                2,
            ),
            (
                "-A -t 192.0.2.10:82 -w 1",
                "Illegal 'weight' option with the 'add-service' command",
                2,
            ),
            (
                "-A -t 192.0.2.10:83 -p 0",
                "invalid timeout value `0' specified",
                2,
            ),
            ("-A -t 192.0.2.10:83 -p -5", "-5: unknown option", 255),
            (
                "-A -t 192.0.2.10:84 -o -s rr",
                "One-Packet Scheduling is only for UDP virtual services",
                2,
            ),
            (
                "-C -n",
                "Illegal 'numeric' option with the 'flush' command",
                2,
            ),
            ("--set 1 2", "--set option requires 3 timeout values", 2),
            ("--set a b c", "invalid timeout value `a' specified", 2),
            ("-x", "-x: missing argument", 255),
            (
                "-n -L",
                "Try `ipvsadm -h' or 'ipvsadm --help' for more information.",
                255,
            ),
            (
                "garbage",
                "Try `ipvsadm -h' or 'ipvsadm --help' for more information.",
                255,
            ),
            (
                "-A -t 192.0.2.10:80 -s rr # trailing",
                "unexpected argument #",
                2,
            ),
            (
                "-a -t 192.0.2.10:80 -r 10.0.0.9 -m -w -1",
                "illegal weight specified",
                2,
            ),
            (
                "-a -t 192.0.2.10:80 -r 10.0.0.27 -i --tun-type gue",
                "You need to supply the 'tun-port' option for the 'gue' tunnel type",
                2,
            ),
            (
                "-a -t 192.0.2.10:80 -r 10.0.0.28 -i --tun-type vxlan",
                "illegal tunnel type specified",
                2,
            ),
            (
                "-a -t 192.0.2.10:80 -r [2001:db8::51]:80 -m",
                "Different address family is allowed only for tunneling servers",
                2,
            ),
            (
                "-a -t [2001:db8::10]:443 -r [2001:db8::51] -m",
                "illegal real server address[:port] specified",
                2,
            ),
            (
                "-A -t 192.0.2.10:2101 -s sh -b mh-port",
                "incompatible scheduler flag `mh-port'",
                2,
            ),
            (
                "-L -c -t 192.0.2.10:80",
                "The option 'service-address' conflicts with the 'connection' option in the 'list' command",
                2,
            ),
            ("-A -D -t 192.0.2.10:80", "invalid option `-D'", 2),
        ] {
            let expected = Failed {
                text: text.to_owned(),
                code,
            };
            assert_eq!(read(line), Err(expected), "{line}");
        }
    }

    #[test]
    fn lines_are_read_as_popt_does() {
        let same = read("-A -t 192.0.2.10:80 -s lc -p 60 -M 255.255.255.0").unwrap();
        assert_eq!((same.persistent, same.prefix), (Some(60), Some(24)));
        for line in [
            "-A -t192.0.2.10:80 -slc -p60 -M255.255.255.0",
            "--add-service --tcp-service 192.0.2.10:80 --scheduler=lc --persistent=60 --netmask 255.255.255.0",
        ] {
            assert_eq!(read(line).unwrap(), same, "{line}");
        }
        assert_eq!(
            read("-A -t 192.0.2.10:80 -p -s rr").unwrap().persistent,
            Some(360)
        );
        assert_eq!(
            read("-A -u 192.0.2.10:81 -s mh -b mh-port,flag-1")
                .unwrap()
                .flags,
            ["mh-port", "mh-fallback"]
        );
        let real = read("-a -t 192.0.2.10:80 -r 10.0.0.1").unwrap();
        assert_eq!(
            (real.real, real.weight),
            (Some("10.0.0.1:80".parse().unwrap()), 1)
        );
        let list = read("-lnc").unwrap();
        assert_eq!(
            (list.command, list.has("numeric"), list.has("connection")),
            (Command::List, true, true)
        );
        assert_eq!(read("").unwrap().command, Command::List);
        assert_eq!(
            read("-A -t [2001:db8::10]:443 -M 64 -p 5").unwrap().prefix,
            Some(64)
        );
    }

    proptest! {
        #[test]
        fn any_words_are_read_or_refused(words in prop::collection::vec("(-{1,2})?[A-Za-z0-9.:=é\\[\\]-]{0,12}", 0..6)) {
            // Names would be asked of the resolver.
            let is_name = |word: &String| word.chars().any(|it| it.is_alphabetic()) && !word.starts_with('-');
            let words: Vec<_> = words.into_iter().filter(|word| !is_name(word)).collect();
            if let Err(failed) = Line::read(&words) {
                prop_assert!(matches!(failed.code, 2 | 255) && !failed.text.is_empty());
            }
        }
    }
}

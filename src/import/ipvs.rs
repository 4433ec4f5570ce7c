//! `ipvsadm-save -n`, `ipvsadm -Sn`, scripts of ipvsadm commands, and the same of DPVS, with its `dpip` commands.

use super::{
    Encapsulation, Failed, Found, Imported, Method, Options, Place, Protocol, RealServer, Remark,
    Remarks, VirtualService, emit, prefix,
};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// Reads the commands of a file, one a line.
///
/// # Errors
/// Where it has no service.
pub fn ipvs(text: &str, name: &str, options: &Options) -> Result<Imported, Failed> {
    let file: Rc<str> = name.into();
    let mut reader = Reader::default();
    for (n, line) in text.lines().enumerate() {
        let at = Place {
            file: file.clone(),
            line: n + 1,
        };
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Err(why) = reader.command(&words, &at) {
            reader.remarks.lost(&at, why);
        }
    }
    let Reader { found, mut remarks } = reader;
    if found.services.is_empty() {
        let is_table = text.contains("RemoteAddress:Port");
        let text = match is_table {
            true => "this is what `ipvsadm -L` shows: import what `ipvsadm-save -n` writes",
            false => "no virtual service found (-A -t 192.0.2.80:80 …): nothing to import",
        };
        let at = Place { file, line: 0 };
        let why = Remark {
            at,
            is_lost: true,
            text: text.to_owned(),
        };
        return Err(Failed {
            why,
            remarks: remarks.sorted(),
        });
    }
    let text = emit::emit(name, found, options, &mut remarks);
    Ok(Imported {
        text,
        remarks: remarks.sorted(),
    })
}

#[derive(Default)]
struct Reader {
    found: Found,
    remarks: Remarks,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Add,
    Edit,
    Delete,
    AddReal,
    EditReal,
    DeleteReal,
    Clear,
    Set,
    AddLocal,
    /// Neither adds nor takes away a service.
    Other,
}

/// A command line, read.
#[derive(Default)]
struct Given {
    act: Option<Act>,
    service: Option<(Protocol, SocketAddr)>,
    mark: bool,
    real: Option<(IpAddr, Option<u16>)>,
    scheduler: Option<String>,
    flags: Vec<String>,
    persistence: Option<u64>,
    mask: Option<String>,
    one_packet: bool,
    engine: Option<String>,
    method: Option<Method>,
    weight: Option<u32>,
    upper: u32,
    lower: u32,
    encapsulation: Option<String>,
    tunnel_port: u16,
    checksum: Option<String>,
    locals: Vec<String>,
    timeouts: Vec<u64>,
    unknown: Vec<String>,
}

/// Words of options that take a value, and those that take none.
const VALUES: &[(&str, &str)] = &[
    ("-t", "--tcp-service"),
    ("-u", "--udp-service"),
    ("", "--sctp-service"),
    ("-f", "--fwmark-service"),
    ("-s", "--scheduler"),
    ("-M", "--netmask"),
    ("", "--pe"),
    ("-r", "--real-server"),
    ("-w", "--weight"),
    ("-x", "--u-threshold"),
    ("-y", "--l-threshold"),
    ("", "--tun-type"),
    ("", "--tun-port"),
    ("-z", "--local-address"),
    ("-F", "--ifname"),
];

impl Reader {
    /// # Errors
    /// What of the line is not carried over.
    fn command(&mut self, words: &[&str], at: &Place) -> Result<(), String> {
        let words = match words {
            [] => return Ok(()),
            [first, rest @ ..] if *first == "ipvsadm" || first.ends_with("/ipvsadm") => rest,
            [first, rest @ ..] if *first == "dpip" || first.ends_with("/dpip") => {
                return self.dpip(rest, at);
            }
            words => words,
        };
        if !words.first().is_some_and(|word| word.starts_with('-')) {
            return Err(format!("no command of ipvsadm: {:?}", words.join(" ")));
        }
        let given = Given::read(words)?;
        for word in &given.unknown {
            self.remarks.lost(
                at,
                format!("ipvsadm has no option {word:?}, or weir nothing like it"),
            );
        }
        let act = given.act.ok_or("the line has no command (-A, -a, …)")?;
        match act {
            Act::Clear => self.found.services.clear(),
            Act::Set => self.set(&given.timeouts, at)?,
            Act::Other => return Err("nothing of this line is of a service: left out".to_owned()),
            _ if given.mark => {
                return Err(
                    "a service by firewall mark: weir has none; a service with `port = 0` and `persistence` serves every port of a VIP"
                        .to_owned(),
                );
            }
            _ => self.apply(act, given, at)?,
        }
        Ok(())
    }

    fn set(&mut self, timeouts: &[u64], at: &Place) -> Result<(), String> {
        let [tcp, fin, udp] = timeouts else {
            return Err("--set takes three numbers of seconds".to_owned());
        };
        let keys = ["tcp_established", "tcp_fin_wait", "udp"];
        // 0 leaves one as it is.
        for (key, seconds) in keys
            .into_iter()
            .zip([*tcp, *fin, *udp])
            .filter(|(_, it)| *it > 0)
        {
            self.found.timeouts.retain(|(_, other, _)| *other != key);
            self.found.timeouts.push((at.clone(), key, seconds));
        }
        Ok(())
    }

    fn apply(&mut self, act: Act, given: Given, at: &Place) -> Result<(), String> {
        let (protocol, place) = given.service.ok_or("the line names no service")?;
        let wanted = VirtualService::new(at.clone(), protocol, place.ip(), place.port());
        let known = self.found.services.iter().position(|it| it.is(&wanted));
        let missing = || format!("there is no service {}:{place}", protocol.name());
        match (act, known) {
            (Act::Add, Some(n)) => {
                let line = self.found.services[n].at.line;
                Err(format!(
                    "the service a second time: the first one counts, as in IPVS (line {line})"
                ))
            }
            (Act::Add, None) => {
                let service = given.service_of(wanted, at, &mut self.remarks);
                self.found.services.push(service);
                Ok(())
            }
            (_, None) => Err(missing()),
            (Act::Edit, Some(n)) => {
                let VirtualService { reals, locals, .. } = self.found.services[n].clone();
                let service = given.service_of(wanted, at, &mut self.remarks);
                self.found.services[n] = VirtualService {
                    reals,
                    locals,
                    ..service
                };
                Ok(())
            }
            (Act::Delete, Some(n)) => {
                self.found.services.remove(n);
                Ok(())
            }
            (Act::AddLocal, Some(n)) => {
                if given.locals.is_empty() {
                    return Err("no local address (-z)".to_owned());
                }
                self.found.services[n].locals.extend(given.locals);
                Ok(())
            }
            (_, Some(n)) => {
                let (address, port) = given.real.ok_or("the line names no real server (-r)")?;
                let service = &mut self.found.services[n];
                let own = port.unwrap_or(service.port);
                let is_it = |it: &RealServer| {
                    (it.address, it.port.unwrap_or(service.port)) == (address, own)
                };
                let found = service.reals.iter().position(is_it);
                match (act, found) {
                    (Act::AddReal, Some(_)) => Err(
                        "the real server a second time: the first one counts, as in IPVS"
                            .to_owned(),
                    ),
                    (Act::AddReal, None) => {
                        let real = given.real_server(at, address, port)?;
                        service.reals.push(real);
                        Ok(())
                    }
                    (_, None) => Err(format!(
                        "the service has no real server {address} port {own}"
                    )),
                    (Act::EditReal, Some(m)) => {
                        service.reals[m] = given.real_server(at, address, port)?;
                        Ok(())
                    }
                    (_, Some(m)) => {
                        service.reals.remove(m);
                        Ok(())
                    }
                }
            }
        }
    }

    /// `dpip addr add 10.0.0.1/24 dev dpdk0`, `dpip route add default via 10.0.0.254 dev dpdk0`.
    fn dpip(&mut self, words: &[&str], at: &Place) -> Result<(), String> {
        let after = |word: &str| {
            let at = words.iter().position(|it| *it == word)?;
            words.get(at + 1).copied()
        };
        match words {
            ["addr", "add", net, ..] => {
                let device = after("dev").ok_or("dpip addr: no `dev`")?;
                let net: IpNet = match net.parse() {
                    Ok(net) => net,
                    Err(_) => net
                        .parse::<IpAddr>()
                        .map(IpNet::from)
                        .map_err(|_| format!("{net:?} is no address"))?,
                };
                if net.prefix_len() == net.max_prefix_len() {
                    // VIPs and local addresses are weir's own by their services and pools.
                    return Ok(());
                }
                let ports = &mut self.found.ports;
                match ports.iter_mut().find(|(name, _)| name == device) {
                    Some((_, nets)) if nets.contains(&net) => {}
                    Some((_, nets)) => nets.push(net),
                    None => ports.push((device.to_owned(), vec![net])),
                }
                Ok(())
            }
            ["route", "add", to, ..] => {
                let via = after("via").ok_or(
                    "dpip route without `via`: a connected one comes from the port's address",
                )?;
                let via: IpAddr = via.parse().map_err(|_| format!("{via:?} is no address"))?;
                let to: IpNet = match *to {
                    "default" if via.is_ipv4() => "0.0.0.0/0",
                    "default" => "::/0",
                    to => to,
                }
                .parse()
                .map_err(|_| format!("{to:?} is no network"))?;
                self.found.routes.push((at.clone(), to, via));
                Ok(())
            }
            _ => Err(format!("dpip {}: not carried over", words.join(" "))),
        }
    }
}

impl Given {
    fn read(words: &[&str]) -> Result<Given, String> {
        let mut given = Given::default();
        let mut words = words.iter().copied().peekable();
        while let Some(word) = words.next() {
            if let Some(act) = act(word) {
                given.act = Some(act);
                if act == Act::Set {
                    let rest = words.by_ref().map(str::parse);
                    given.timeouts = rest
                        .collect::<Result<_, _>>()
                        .map_err(|_| "--set takes numbers of seconds")?;
                }
                continue;
            }
            let (name, joined) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (word, None),
            };
            let option = VALUES
                .iter()
                .find(|(short, long)| *short == name || *long == name);
            if let Some((_, long)) = option {
                let value = joined.or_else(|| words.next());
                let value = value.ok_or_else(|| format!("{name} takes a value"))?;
                given.value(long, value)?;
                continue;
            }
            let next_is_value = words.peek().is_some_and(|next| !next.starts_with('-'));
            match name {
                "-p" | "--persistent" => {
                    let value = joined.or_else(|| next_is_value.then(|| words.next()).flatten());
                    // IPVS's default.
                    let seconds = value.map_or(Ok(360), str::parse);
                    given.persistence = Some(seconds.map_err(|_| format!("{name} takes seconds"))?);
                }
                // Of a service its flags; of a real server, in DPVS, the mode.
                "-b" | "--sched-flags" | "--fullnat" => {
                    match joined.or_else(|| next_is_value.then(|| words.next()).flatten()) {
                        Some(flags) => {
                            given.flags = flags
                                .split(',')
                                .filter(|it| !it.is_empty())
                                .map(str::to_owned)
                                .collect()
                        }
                        None if given
                            .act
                            .is_some_and(|it| it == Act::Add || it == Act::Edit) => {}
                        None => given.method = Some(Method::Fullnat),
                    }
                }
                "-g" | "--gatewaying" => given.method = Some(Method::Route),
                "-m" | "--masquerading" => given.method = Some(Method::Masq),
                "-i" | "--ipip" => given.method = Some(Method::Tunnel(Encapsulation::Ipip)),
                "-o" | "--ops" => given.one_packet = true,
                "-6" | "--ipv6" | "-n" | "--numeric" | "-S" => {}
                "--tun-nocsum" | "--tun-csum" | "--tun-remcsum" => {
                    given.checksum = Some(name.to_owned())
                }
                other => {
                    given.unknown.push(other.to_owned());
                    if next_is_value {
                        words.next();
                    }
                }
            }
        }
        Ok(given)
    }

    fn value(&mut self, option: &str, value: &str) -> Result<(), String> {
        let number = |most: u64| {
            let number = value.parse::<u64>().ok().filter(|it| *it <= most);
            number.ok_or_else(|| format!("{option} {value}: a number up to {most} is needed"))
        };
        match option {
            "--tcp-service" => self.service = Some((Protocol::Tcp, service(value)?)),
            "--udp-service" => self.service = Some((Protocol::Udp, service(value)?)),
            "--sctp-service" => self.service = Some((Protocol::Sctp, service(value)?)),
            "--fwmark-service" => self.mark = true,
            "--scheduler" => self.scheduler = Some(value.to_owned()),
            "--netmask" => self.mask = Some(value.to_owned()),
            "--pe" => self.engine = Some(value.to_owned()),
            "--real-server" => self.real = Some(host(value)?),
            "--weight" => self.weight = Some(number(1 << 31)? as u32),
            "--u-threshold" => self.upper = number(u32::MAX.into())? as u32,
            "--l-threshold" => self.lower = number(u32::MAX.into())? as u32,
            "--tun-type" => self.encapsulation = Some(value.to_owned()),
            "--tun-port" => self.tunnel_port = number(65_535)? as u16,
            "--local-address" => self.locals.push(value.to_owned()),
            // Which of DPVS's ports a local address is on follows from weir's.
            _ => {}
        }
        Ok(())
    }

    fn service_of(
        self,
        service: VirtualService,
        at: &Place,
        remarks: &mut Remarks,
    ) -> VirtualService {
        if let Some(engine) = &self.engine {
            remarks.lost(at, format!("--pe {engine}: weir has no such persistence: clients are known by their addresses"));
        }
        let is_v6 = service.address.is_ipv6();
        let bits = self.mask.as_deref().map(|mask| prefix(mask, is_v6));
        if bits == Some(None) {
            let mask = self.mask.as_deref().unwrap_or_default();
            remarks.lost(at, format!("-M {mask}: no netmask of leading bits"));
        }
        VirtualService {
            scheduler: self.scheduler.unwrap_or(service.scheduler.clone()),
            flags: self.flags,
            persistence: self.persistence.map(|seconds| (seconds, bits.flatten())),
            one_packet: self.one_packet,
            ..service
        }
    }

    fn real_server(
        &self,
        at: &Place,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<RealServer, String> {
        let mut method = self.method.unwrap_or(Method::Route);
        if let (Method::Tunnel(_), Some(kind)) = (method, &self.encapsulation) {
            let has_checksum = self
                .checksum
                .as_deref()
                .is_some_and(|it| it != "--tun-nocsum");
            method = Method::Tunnel(match kind.as_str() {
                "ipip" => Encapsulation::Ipip,
                "gre" if !has_checksum => Encapsulation::Gre,
                "gre" => {
                    return Err(
                        "the real server: weir sends GRE without checksum (--tun-csum)".to_owned(),
                    );
                }
                "gue" if self.checksum.as_deref() == Some("--tun-remcsum") => {
                    return Err(
                        "the real server: weir has no remote checksum offload (--tun-remcsum)"
                            .to_owned(),
                    );
                }
                "gue" => Encapsulation::Gue {
                    port: if self.tunnel_port == 0 {
                        6080
                    } else {
                        self.tunnel_port
                    },
                    has_checksum,
                },
                other => return Err(format!("the real server: there is no tunnel {other:?}")),
            });
        }
        Ok(RealServer {
            at: at.clone(),
            address,
            port,
            method,
            weight: self.weight.unwrap_or(1),
            upper: self.upper,
            lower: self.lower,
            check: None,
        })
    }
}

fn act(word: &str) -> Option<Act> {
    Some(match word {
        "-A" | "--add-service" => Act::Add,
        "-E" | "--edit-service" => Act::Edit,
        "-D" | "--delete-service" => Act::Delete,
        "-a" | "--add-server" => Act::AddReal,
        "-e" | "--edit-server" => Act::EditReal,
        "-d" | "--delete-server" => Act::DeleteReal,
        "-C" | "--clear" => Act::Clear,
        "--set" => Act::Set,
        "-P" | "--add-laddr" => Act::AddLocal,
        "-L" | "-l" | "--list" | "-Z" | "--zero" | "--start-daemon" | "--stop-daemon" | "-R"
        | "--restore" => Act::Other,
        _ => return None,
    })
}

const NUMBERS: &str = "write numbers instead of names, as `ipvsadm-save -n` does";

fn service(text: &str) -> Result<SocketAddr, String> {
    match host(text)? {
        (address, Some(port)) => Ok(SocketAddr::new(address, port)),
        (address, None) => Ok(SocketAddr::new(address, 0)),
    }
}

/// `10.0.0.1:80`, `[2001:db8::1]:80`, or an address alone.
fn host(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(place) = text.parse::<SocketAddr>() {
        return Ok((place.ip(), Some(place.port())));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|it| it.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse()
        .map_err(|_| format!("{text:?} is no address with a port: {NUMBERS}"))?;
    Ok((address, None))
}

//! `weir explain --config FILE PACKET`: what would become of a packet, and why, step by step.

use super::client::{self, At};
use super::output::{self, diagnose, tell};
use crate::config::{self, Config, Protocol, StaticNeighbour, did_you_mean};
use crate::explain::{Asked, Assumed, Running, RunningReal, State, Step, Story, explain, flow};
use crate::net::{Mac, is_link_local};
use crate::service::{Health, ServiceKey};
use crate::units::PortId;
use crate::view;
use serde_json::json;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Say what would become of a packet, and why, step by step
///
/// The packet goes through the very dataplane; nothing is sent. Next hops are taken as resolved.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Explain {
    /// With the configuration in force, the real servers' states, the neighbours and the connections of the running daemon;
    /// without this, --config is the file that packets are explained by
    #[arg(long)]
    running: bool,
    /// The port that it comes in by; without this the one that leads to the packet's source
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// One JSON object a packet
    #[arg(long)]
    json: bool,
    /// In words (in quotes), or an Ethernet frame in hex. Several come one after the other, 20 ms apart
    #[arg(value_name = "PACKET", required = true, allow_hyphen_values = true)]
    packets: Vec<String>,
    #[command(flatten)]
    at: At,
}

const EXAMPLES: &str = r#"Packets in words:
  "tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN"
  "tcp [2001:db8::5]:1234 > [2001:db8::80]:80 SYN mss=1460 ttl=3"
  "udp 203.0.113.5:1234 > 192.0.2.80:53 len=100"
  "sctp 203.0.113.5:1234 > 192.0.2.80:36412 INIT"
  "icmp 203.0.113.5 > 192.0.2.80"
  tcp takes SYN ACK FIN RST PSH URG, mss= seq= ack=; sctp a chunk (INIT, INIT-ACK, DATA, ABORT ...), tag=; icmp type= code=; all ttl= len= dscp= and, of IPv4, df"#;

impl Explain {
    /// 0 if it can be told what becomes of every packet, whatever that is; else 1.
    pub fn run(&self) -> ExitCode {
        let mut packets = Vec::new();
        for text in &self.packets {
            match text.parse::<Asked>() {
                Ok(packet) => packets.push(packet),
                Err(wrong) => tell(format_args!("error: {}", wrong.show(text))),
            }
        }
        if packets.len() < self.packets.len() {
            return ExitCode::FAILURE;
        }
        let (config, running) = match self.world(&packets) {
            Ok(world) => world,
            Err(code) => return code,
        };
        let port = match self
            .port
            .as_deref()
            .map(|name| port(name, &config))
            .transpose()
        {
            Ok(port) => port,
            Err(why) => return super::fail(why),
        };
        let stories = match explain(&config, &running, port, &packets) {
            Ok(stories) => stories,
            Err(why) => return super::fail(why),
        };
        let mut out = output::out();
        let written = stories
            .iter()
            .enumerate()
            .try_for_each(|(n, story)| match self.json {
                true => writeln!(out, "{}", as_json(story, &config)),
                false => write(&mut out, n, story),
            });
        match written.and_then(|()| out.flush()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => output::stop(&why),
        }
    }

    /// The configuration that the packets meet, and what the daemon knows beside it.
    fn world(&self, packets: &[Asked]) -> Result<(Config, Running), ExitCode> {
        // As a replay: neither the workers' CPUs nor the devices matter.
        let context = config::Context {
            cpus: None,
            devices: false,
        };
        let refused = |why: config::Diagnostics| {
            diagnose(&why);
            ExitCode::FAILURE
        };
        if self.running {
            let (text, running) = self.ask(packets).map_err(super::fail)?;
            let loaded = config::parse(&text, "the configuration in force", &context);
            let config = loaded.map_err(refused)?.config;
            let running = running.within(&config);
            return Ok((config, running));
        }
        let Some(file) = &self.at.config else {
            return Err(super::fail(
                "weir explain takes --config FILE, or --running",
            ));
        };
        let loaded = config::load(file, &context).map_err(refused)?;
        diagnose(&loaded.warnings);
        Ok((loaded.config, Running::default()))
    }

    fn ask(&self, packets: &[Asked]) -> Result<(String, Asking), client::Error> {
        let address = self.at.address()?;
        let mut text = Vec::new();
        client::get(&address, "/v1/config", |piece| {
            text.extend_from_slice(piece);
            Ok(())
        })?;
        let mut connections = Vec::new();
        for (number, from, to) in packets.iter().filter_map(flow) {
            let protocol = Protocol::ALL.into_iter().find(|it| it.number() == number);
            let Some(protocol) = protocol else { continue };
            let name = protocol.name();
            let [from, to] = [from, to].map(|end| client::encode(&end.to_string()));
            let path = format!("/v1/connections?protocol={name}&from={from}&to={to}");
            let rows: Vec<view::ConnectionView> = client::rows(&address, &path)?;
            // Of several packets most are of the same.
            let new = rows.into_iter().filter(|row| !connections.contains(row));
            connections.extend(new.collect::<Vec<_>>());
        }
        let asking = Asking {
            connections,
            reals: client::rows(&address, "/v1/reals")?,
            neighbours: client::rows(&address, "/v1/neighbours")?,
        };
        Ok((String::from_utf8_lossy(&text).into_owned(), asking))
    }
}

/// What a daemon has answered.
struct Asking {
    connections: Vec<view::ConnectionView>,
    reals: Vec<view::RealView>,
    neighbours: Vec<view::NeighbourView>,
}

impl Asking {
    /// As far as it can be said of a configuration.
    fn within(self, config: &Config) -> Running {
        let real = |row: view::RealView| {
            let service: ServiceKey = format!("{}:{}", row.protocol, row.vip).parse().ok()?;
            let view::MemberView {
                real,
                up,
                state,
                traffic,
                ..
            } = row.member;
            let is_down = state.health == Health::Down;
            let (health, health_reason) = match (up, is_down, state.held) {
                (true, ..) | (_, true, _) => (state.health, state.health_reason),
                (.., held @ Some(_)) => (Health::Down, held),
                // A next hop that does not answer the daemon would answer here.
                (.., None) => (Health::Down, Some(NO_WAY.to_owned())),
            };
            Some(RunningReal {
                service,
                real,
                admin: state.admin,
                weight: state.runtime_weight,
                health,
                health_reason: health_reason.unwrap_or_default(),
                overloaded: state.overloaded,
                active: traffic.active_connections,
                inactive: traffic.inactive_connections,
            })
        };
        let neighbour = |row: view::NeighbourView| {
            let port = config.ports.iter().position(|port| port.name == row.port)?;
            Some(StaticNeighbour {
                address: row.address,
                port: is_link_local(row.address).then_some(port),
                mac: mac(row.mac.as_deref()?)?,
            })
        };
        let connection = |row: view::ConnectionView| {
            let is_outward = row.service.is_some_and(|name| name.starts_with("snat:"));
            let mut protocols = Protocol::ALL.into_iter();
            Some(Assumed {
                is_outward,
                protocol: protocols.find(|it| it.name() == row.protocol)?,
                client: row.client,
                vip: row.vip,
                real: row.real,
                local: row.local,
                state: *State::ALL.iter().find(|state| state.name() == row.state)?,
                left: Duration::from_secs(row.expires_s.into()),
            })
        };
        Running {
            connections: self
                .connections
                .into_iter()
                .filter_map(connection)
                .collect(),
            reals: self.reals.into_iter().filter_map(real).collect(),
            neighbours: self.neighbours.into_iter().filter_map(neighbour).collect(),
        }
    }
}

const NO_WAY: &str = "no route leads there, or its next hop does not answer";

/// A MAC address as the API writes it.
fn mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|it| u8::from_str_radix(it, 16).ok())
        .collect();
    bytes?.try_into().ok().map(Mac)
}

fn port(name: &str, config: &Config) -> Result<PortId, String> {
    let names = || config.ports.iter().map(|port| port.name.as_str());
    match names().position(|known| known == name) {
        Some(place) => Ok(PortId(place as u8)),
        None => {
            let meant = did_you_mean(name, names());
            let all: Vec<_> = names().map(|name| format!("`{name}`")).collect();
            Err(format!(
                "--port {name}: no [[port]] is named `{name}`{meant} (there is {})",
                all.join(", ")
            ))
        }
    }
}

/// A packet, behind those before it.
fn write(out: &mut impl Write, n: usize, story: &Story) -> io::Result<()> {
    if n > 0 {
        writeln!(out)?;
    }
    write_steps(out, &story.packet, &story.steps)
}

/// A packet's name, and the steps, one below the other; what belongs to one is indented.
pub(super) fn write_steps(out: &mut impl Write, packet: &str, steps: &[Step]) -> io::Result<()> {
    writeln!(out, "{packet}")?;
    let width = steps.iter().map(|step| step.step.len()).max();
    let width = width.unwrap_or(0);
    for (number, step) in (1..).zip(steps) {
        writeln!(out, "{number:3} {:width$}  {}", step.step, step.says)?;
        for detail in &step.details {
            writeln!(out, "{:1$}{detail}", "", width + 6)?;
        }
    }
    Ok(())
}

fn as_json(story: &Story, config: &Config) -> serde_json::Value {
    let hex = |frame: &[u8]| {
        frame
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let sent: Vec<_> = story
        .sent
        .iter()
        .map(|(port, frame)| json!({"port": config.port(*port).name, "frame": hex(frame)}))
        .collect();
    json!({
        "packet": story.packet,
        "decision": story.decision,
        "steps": story.steps,
        "sent": sent,
    })
}

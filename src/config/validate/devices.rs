//! Which devices the ports take: what the EAL would refuse, and can be told from the file.

use super::network::Unique;
use crate::config::device;
use crate::config::error::{At, Log, Span, quote};
use crate::config::raw;
use crate::config::value::Given;
use crate::config::{PortConfig, Queues};
use crate::net::{Mac, Vlan};
use crate::units::DeviceId;
use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct Devices {
    taken: HashMap<String, Taken>,
    /// The names of the kernel's interfaces that weir makes: the companions, and the kernel's sides of TAPs.
    pub interfaces: Unique,
    /// By their numbers, the devices in their one spelling, and the VLANs of the ports on each.
    numbered: Vec<(String, Vec<Vlan>)>,
}

#[derive(Debug)]
struct Taken {
    at: Span,
    /// The ports on it; none on a bond's member.
    ports: Vec<OnDevice>,
}

/// What a port says of its device.
#[derive(Debug)]
struct OnDevice {
    /// The device string, with its arguments.
    device: At<String>,
    /// None where it is wrong.
    vlan: Option<At<Vlan>>,
    mac: Option<At<Mac>>,
    queues: Option<At<Queues>>,
}

impl Devices {
    pub(super) fn check(&mut self, port: &raw::Port, workers: usize, log: &mut Log) {
        let Some(written) = port.device.ok() else {
            return;
        };
        let (name, at) = (written.value.0.as_str(), written.at);
        if let Some((message, help)) = device::wrong(name) {
            log.error(at, message).help(help);
            return;
        }
        let this = OnDevice {
            device: At {
                value: name.to_owned(),
                at,
            },
            vlan: match port.vlan {
                Given::No => Some(At {
                    value: Vlan::Untagged,
                    at,
                }),
                _ => port.vlan.ok().copied(),
            },
            mac: port.mac.ok().copied(),
            queues: port.queues.ok().copied(),
        };
        let devices = device::taken(name);
        let own = devices.first().cloned().unwrap_or_default();
        if let Some(taken) = self.taken.get_mut(&own)
            && !taken.ports.is_empty()
        {
            this.beside(&own, &taken.ports, log);
            taken.ports.push(this);
            queues(name, at, &port.queues, workers, log);
            return;
        }
        for device in &devices {
            if let Some(other) = self.taken.get(device) {
                log.error(
                    at,
                    format!("the device {} is also another port's", quote(device)),
                )
                .note(other.at, "the other port has it here")
                .help("give every port a device of its own");
            } else {
                let ports = Vec::new();
                self.taken.insert(device.clone(), Taken { at, ports });
            }
        }
        if let Some(taken) = self.taken.get_mut(&own) {
            taken.ports.push(this);
        }
        let interface = device::interface(name).map(|name| (name, at));
        self.interfaces.check("interface", interface, log);
        queues(name, at, &port.queues, workers, log);
    }

    /// Returns the number of a port's device: that of the ports before it that name the device, with other VLANs. Two ports
    /// of one VLAN, which only a replay may have, are on two devices.
    pub(super) fn number(&mut self, device: &str, vlan: Vlan) -> DeviceId {
        let name = device::taken(device).into_iter().next();
        let name = name.unwrap_or_default();
        let fits = |(known, vlans): &(String, Vec<Vlan>)| *known == name && !vlans.contains(&vlan);
        let place = self.numbered.iter().position(fits).unwrap_or_else(|| {
            self.numbered.push((name, Vec::new()));
            self.numbered.len() - 1
        });
        self.numbered[place].1.push(vlan);
        DeviceId(place as u8)
    }
}

impl OnDevice {
    /// Refuses what cannot be on one device beside the other ports.
    fn beside(&self, name: &str, others: &[OnDevice], log: &mut Log) {
        let Some(vlan) = self.vlan else { return };
        let device = quote(name);
        let same = |other: &&OnDevice| other.vlan.is_some_and(|other| other.value == vlan.value);
        if let Some(other) = others.iter().find(same) {
            let finding = match vlan.value {
                Vlan::Untagged => log
                    .error(
                        self.device.at,
                        format!("the device {device} is also another port's"),
                    )
                    .help("give every port a device of its own, or all but one of them a `vlan`"),
                id => log
                    .error(
                        vlan.at,
                        format!("VLAN {id} of the device {device} is also another port's"),
                    )
                    .help("give each port on a device another `vlan`"),
            };
            finding.note(other.device.at, "the other port has it here");
            return;
        }
        let Some(first) = others.first() else { return };
        if arguments(&self.device.value) != arguments(&first.device.value) {
            log.error(
                self.device.at,
                format!("the device {device} has other arguments than on another port"),
            )
            .note(first.device.at, "the other port has it here")
            .help("write the same `device` for all ports that are on it");
        }
        differs("`mac`", self.mac, others.iter().map(|it| it.mac), log);
        differs(
            "`queues`",
            self.queues,
            others.iter().map(|it| it.queues),
            log,
        );
    }
}

/// Refuses a value of a device that another port on it has otherwise.
fn differs<T: Copy + PartialEq>(
    key: &str,
    this: Option<At<T>>,
    others: impl Iterator<Item = Option<At<T>>>,
    log: &mut Log,
) {
    let Some(this) = this else { return };
    if let Some(other) = others.flatten().find(|other| other.value != this.value) {
        log.error(
            this.at,
            format!("another {key} than on the same device before"),
        )
        .note(other.at, "the other port's is here")
        .help(format!(
            "ports on one device share it: write the same {key}, or leave it out of all but one"
        ));
    }
}

/// The arguments of a device string.
fn arguments(device: &str) -> &str {
    device
        .split_once(',')
        .map_or("", |(_, arguments)| arguments)
}

/// What one of the ports on a device says for all of them.
pub(super) fn share(ports: &mut [PortConfig]) {
    for n in 0..ports.len() {
        let others = ports.iter().filter(|port| port.on == ports[n].on);
        let mac = others.clone().find_map(|port| port.mac);
        let mut queues = others.map(|port| port.queues);
        let queues = queues.find(|queues| *queues != Queues::Auto);
        let port = &mut ports[n];
        port.mac = port.mac.or(mac);
        if port.queues == Queues::Auto {
            port.queues = queues.unwrap_or(Queues::Auto);
        }
    }
}

/// The driver's own rules for how many queues there may be.
fn queues(name: &str, at: Span, queues: &Given<Queues>, workers: usize, log: &mut Log) {
    let Some(driver) = device::driver(name) else {
        return;
    };
    let kind = driver.driver;
    if let Some(most) = driver.most_queues {
        if workers > most {
            log.error(
                at,
                format!("{workers} workers need a queue each, and {kind} has {most}"),
            )
            .help(format!("list at most {most} `workers` in [dpdk]"));
            return;
        }
        if let Given::Yes(given) = queues
            && let Queues::Pairs(pairs) = given.value
            && usize::from(pairs) > most
        {
            log.error(
                given.at,
                format!("{pairs} queues are too many: {kind} has {most}"),
            )
            .help(format!(
                "write \"auto\", or a number from {workers} to {most}"
            ));
        }
    }
    if let Given::Yes(given) = queues
        && let Queues::Pairs(pairs) = given.value
        && driver.is_paired
        && usize::from(pairs) < workers
    {
        let message = format!(
            "{pairs} queues are too few: each of the {workers} workers sends by one of its own, and {kind} receives by as many"
        );
        log.error(given.at, message)
            .help(format!("write \"auto\", or at least {workers}"));
    }
}

//! Which devices the ports take: what the EAL would refuse, and can be told from the file.

use super::network::Unique;
use crate::config::Queues;
use crate::config::device;
use crate::config::error::{Log, Span, quote};
use crate::config::raw;
use crate::config::value::Given;
use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct Devices {
    taken: HashMap<String, Span>,
    /// The names of the kernel's interfaces that weir makes: the companions, and the kernel's sides of TAPs.
    pub interfaces: Unique,
}

impl Devices {
    pub fn check(&mut self, port: &raw::Port, workers: usize, log: &mut Log) {
        let Some(written) = port.device.ok() else {
            return;
        };
        let (name, at) = (written.value.0.as_str(), written.at);
        if let Some((message, help)) = device::wrong(name) {
            log.error(at, message).help(help);
            return;
        }
        for device in device::taken(name) {
            if let Some(&other) = self.taken.get(&device) {
                log.error(
                    at,
                    format!("the device {} is also another port's", quote(&device)),
                )
                .note(other, "the other port has it here")
                .help("give every port a device of its own");
            } else {
                self.taken.insert(device, at);
            }
        }
        let interface = device::interface(name).map(|name| (name, at));
        self.interfaces.check("interface", interface, log);
        queues(name, at, &port.queues, workers, log);
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

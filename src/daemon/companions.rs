//! The companions of ports, and what goes through them.

use super::machine::Machine;
use crate::config::{Config, PortConfig};
use crate::control::Host;
use crate::host::{Carrier, Interface, Kernel, Tap, WorkerEnd};
use crate::units::PortId;
use crate::via::{Companion, Translator, Ways};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// The companions that ports are to have.
pub(super) fn companions(config: &Config, machine: &Machine) -> Vec<Option<Companion>> {
    let companion = |port: &PortConfig| {
        Some(Companion {
            name: port.companion.clone()?,
            mac: machine.devices[port.on.index()].mac(),
        })
    };
    config.ports.iter().map(companion).collect()
}

/// Makes the companions of the ports that are to have some, and each worker's way to them.
pub(super) async fn start_host(
    config: &Config,
    machine: &Machine,
    ways: &Arc<Ways>,
) -> Result<(Option<Host>, Vec<Option<WorkerEnd>>), String> {
    let workers = machine.workers.len();
    let (mut taps, mut interfaces) = (Vec::new(), Vec::new());
    for (n, port) in config.ports.iter().enumerate() {
        let Some(name) = &port.companion else {
            continue;
        };
        let mac = machine.devices[port.on.index()].mac();
        let tap = Tap::new(name, PortId(n as u8), mac, port.mtu)?;
        interfaces.push(Interface {
            name: name.clone(),
            index: tap
                .index()
                .map_err(|error| format!("companion {name:?}: {error}"))?,
            port: n,
        });
        taps.push(tap);
    }
    if taps.is_empty() {
        return Ok((None, (0..workers).map(|_| None).collect()));
    }
    let kernel = Kernel::start(interfaces, config).await?;
    let translator = Translator::new(ways.clone(), RandomState::new().hash_one(0));
    let (carrier, ends) = Carrier::start(taps, workers, config.ports.len(), translator)
        .map_err(|error| format!("the companions' thread does not start: {error}"))?;
    let host = Host { carrier, kernel };
    Ok((Some(host), ends.into_iter().map(Some).collect()))
}

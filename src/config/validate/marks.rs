//! Which VIP a DSCP means on each real server of the mode l3dsr: the value is all that it can tell them apart by.

use crate::config::error::{At, Log, Span, quote};
use crate::config::{ModeConfig, ServiceConfig};
use foldhash::HashMap;
use std::net::IpAddr;

#[derive(Default)]
pub(super) struct Marks {
    /// By real server and DSCP: the VIP, its service's name, and where the DSCP is written.
    meant: HashMap<(IpAddr, u8), (IpAddr, String, Span)>,
}

impl Marks {
    /// Takes the values of a service of the running configuration.
    pub(super) fn add(&mut self, service: &ServiceConfig) {
        self.take(service, Span::NOWHERE, |_, _| {});
    }

    /// Whether no real server of a service knows one of its values as another VIP's.
    pub(super) fn fits(&mut self, service: &ServiceConfig) -> bool {
        let mut fits = true;
        self.take(service, Span::NOWHERE, |_, _| fits = false);
        fits
    }

    /// Says where two VIPs are the same to a real server. `at`: where the service's DSCP is.
    pub(super) fn check(&mut self, service: &ServiceConfig, at: Span, log: &mut Log) {
        let mut is_first = true;
        self.take(service, at, |At { value: dscp, at }, (real, vip, other, there)| {
            if !std::mem::replace(&mut is_first, false) {
                return;
            }
            log.error(
                at,
                format!(
                    "the real server `{real}` cannot tell `{}` from `{vip}` of the service {}: to both `dscp = {dscp}` leads",
                    service.address,
                    quote(other)
                ),
            )
            .note(there, "the other VIP's is here")
            .help("give each VIP of a real server a value of its own");
        });
    }

    fn take(
        &mut self,
        service: &ServiceConfig,
        at: Span,
        mut is_taken: impl FnMut(At<u8>, (IpAddr, IpAddr, &str, Span)),
    ) {
        let ModeConfig::L3dsr { dscp } = service.mode else {
            return;
        };
        for real in service.servers() {
            let mine = || (service.address, service.name.clone(), at);
            let key = (real.address, dscp);
            let (vip, name, there) = self.meant.entry(key).or_insert_with(mine);
            if *vip != service.address {
                is_taken(At { value: dscp, at }, (real.address, *vip, name, *there));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{self, Context};

    fn service(vip: &str, dscp: u8, real: &str) -> String {
        format!(
            "[[service]]\naddress = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"l3dsr\"\n\
             dscp = {dscp}\n[[service.real]]\naddress = \"{real}\"\n"
        )
    }

    /// Beside services of the running configuration, too; but not beside the one that a service takes the place of.
    #[test]
    fn services_added_while_it_runs_are_held_against_those_that_are_there() {
        let text = format!(
            "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/24\"]\n{}{}",
            service("192.0.2.1", 9, "10.0.0.8"),
            service("192.0.2.2", 10, "10.0.0.8")
        );
        let context = Context {
            cpus: None,
            devices: false,
        };
        let running = config::parse(&text, "lb.toml", &context);
        let running = running.unwrap_or_else(|why| panic!("{why}")).config;
        let (one, two, other) = ("192.0.2.1", "192.0.2.2", "192.0.2.3");
        for (added, is_right) in [
            (service(other, 11, "10.0.0.8"), true),
            (service(other, 9, "10.0.0.9"), true),
            (service(other, 9, "10.0.0.8"), false),
            (service(one, 10, "10.0.0.8"), false),
            (service(one, 9, "10.0.0.8"), true),
            // They change places.
            (
                service(one, 10, "10.0.0.8") + &service(two, 9, "10.0.0.8"),
                true,
            ),
            (
                service(other, 12, "10.0.0.8") + &service(two, 12, "10.0.0.8"),
                false,
            ),
        ] {
            match config::services(&added, "more.toml", &running) {
                Ok(_) => assert!(is_right, "{added}"),
                Err(why) => {
                    let why = why.to_string();
                    assert!(!is_right, "{added}{why}");
                    let place = format!("more.toml:{}:8", added.lines().count() - 2);
                    assert!(why.contains(&place) && why.contains("cannot tell"), "{why}");
                }
            }
        }
    }
}

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
        for real in &service.reals {
            let mine = || (service.address, service.name.clone(), at);
            let key = (real.address, dscp);
            let (vip, name, there) = self.meant.entry(key).or_insert_with(mine);
            if *vip != service.address {
                is_taken(At { value: dscp, at }, (real.address, *vip, name, *there));
            }
        }
    }
}

//! `[[snat]]`: whose own connections go outwards from addresses of weir's.

use crate::conn::Pool;
use crate::lpm::Lpm;
use crate::units::{PortId, RealId, ServiceId};
use std::net::IpAddr;
use std::sync::Arc;

/// Every rule, by the source of packets.
#[derive(Debug, Default)]
pub struct Snat {
    /// Places in `rules`.
    by_source: Lpm<u16>,
    rules: Box<[SnatRule]>,
}

/// What becomes of the connections from one network. They are counted as those of a service with one real server, whose ids
/// these are.
#[derive(Clone, Debug)]
pub struct SnatRule {
    pub service: ServiceId,
    pub real: RealId,
    pub from: ipnet::IpNet,
    pub pool: Arc<Pool>,
    /// Only what leaves by this port; none: by any.
    pub out_port: Option<PortId>,
}

impl Snat {
    pub fn new(rules: Vec<SnatRule>) -> Self {
        let places = rules
            .iter()
            .zip(0..)
            .map(|(rule, place)| (rule.from, place));
        Snat {
            by_source: Lpm::from_routes(places),
            rules: rules.into(),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub fn rules(&self) -> &[SnatRule] {
        &self.rules
    }

    /// The rule of packets from an address: that of the longest prefix.
    #[inline]
    pub fn of(&self, source: impl Into<IpAddr>) -> Option<&SnatRule> {
        if self.is_empty() {
            return None;
        }
        let place = self.by_source.get(source)?;
        self.rules.get(usize::from(place))
    }
}

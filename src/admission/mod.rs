//! Whether a service takes a new connection of a client: what its `allow` and `deny` say.

use crate::config::ServiceConfig;
use crate::prefixes::PrefixSet;
use crate::verdict::DropReason;
use std::net::IpAddr;
use std::sync::Arc;

/// What new connections of a service are asked before they are made. A service without any of its keys has none.
#[derive(Debug)]
pub struct Guard {
    /// Each is asked. Services that name the same file have one set of it.
    deny: Box<[Arc<PrefixSet>]>,
    /// None: all clients but those of `deny`.
    allow: Option<Box<[Arc<PrefixSet>]>>,
}

impl Guard {
    /// None: the service takes every client.
    pub fn of(service: &ServiceConfig) -> Option<Arc<Guard>> {
        let guard = Guard {
            deny: service.deny.iter().flat_map(|list| list.sets()).collect(),
            allow: (service.allow.as_ref()).map(|list| list.sets().collect()),
        };
        let is_used = !guard.deny.is_empty() || guard.allow.is_some();
        is_used.then(|| Arc::new(guard))
    }

    /// Why a client may begin no connection; None: it may. `deny` is asked first: what it names is refused, whatever `allow`
    /// has.
    #[cold]
    pub fn refuses(&self, client: IpAddr) -> Option<DropReason> {
        let is_in = |sets: &[Arc<PrefixSet>]| sets.iter().any(|set| set.contains(client));
        if is_in(&self.deny) {
            return Some(DropReason::Denied);
        }
        let is_allowed = self.allow.as_ref().is_none_or(|allow| is_in(allow));
        (!is_allowed).then_some(DropReason::NotAllowed)
    }
}

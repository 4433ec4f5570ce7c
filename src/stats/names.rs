//! What services and real servers are called where only their ids are known: in the connection log.

use crate::units::{RealId, ServiceId};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Names {
    services: RwLock<HashMap<ServiceId, Arc<str>>>,
    /// Of those whose connections do not have their addresses.
    servers: RwLock<HashMap<RealId, (IpAddr, u16)>>,
}

impl Names {
    /// An id is a service's from now on.
    pub fn set_service(&self, id: ServiceId, name: Arc<str>) {
        self.services.write().insert(id, name);
    }

    /// The name of the service that an id was last given to.
    pub fn service(&self, id: ServiceId) -> Option<Arc<str>> {
        self.services.read().get(&id).cloned()
    }

    /// An id is a real server's from now on.
    pub fn set_server(&self, id: RealId, server: (IpAddr, u16)) {
        self.servers.write().insert(id, server);
    }

    pub fn server(&self, id: RealId) -> Option<(IpAddr, u16)> {
        self.servers.read().get(&id).copied()
    }
}

//! `[[pool]]`: a list of real servers that several services have.

use super::{RealConfig, ServiceConfig};

/// A `[[pool]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealPool {
    pub name: String,
    pub reals: Vec<PoolReal>,
}

/// A `[[pool.real]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReal {
    /// None: that of the service.
    pub port: Option<u16>,
    /// With port 0.
    pub real: RealConfig,
}

impl PoolReal {
    /// The real server of a service, with its port there.
    pub(super) fn at_port(&self, port: u16) -> RealConfig {
        let mut real = self.real.clone();
        real.port = port;
        real
    }
}

impl ServiceConfig {
    /// Why no real server is added to the service, or taken from it; none: they are its own.
    pub(super) fn why_fixed(pool: Option<&str>) -> Option<String> {
        pool.map(|pool| {
            format!(
                "the service's real servers are those of the [[pool]] {pool:?}: edit the pool in the file, and reload"
            )
        })
    }
}

//! `[[pool]]`: a list of real servers that several services have.

use super::ServiceConfig;
use std::net::IpAddr;

/// A `[[pool]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealPool {
    pub name: String,
    pub reals: Vec<PoolReal>,
}

/// A `[[pool.real]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolReal {
    pub address: IpAddr,
    /// None: that of the service.
    pub port: Option<u16>,
    /// 0 … 65,535; 0: no new connections.
    pub weight: u16,
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

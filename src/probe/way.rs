//! Where a check goes, and by which way.

use super::words::{Failure, failed, not_made};
use crate::config::CheckWay;
use crate::health::Start;
use crate::via::{NoWay, Out, Ways};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// Where a check goes.
pub(super) struct To {
    /// What it speaks to.
    pub at: SocketAddr,
    /// The real server, as requests and certificates name it: another than `at` where the check takes the way of a client's packet.
    pub real: SocketAddr,
    /// What its sockets are bound to; none: the host decides.
    pub out: Option<Out>,
}

impl To {
    /// Where a check that is due goes.
    pub(super) fn of(start: &Start, ways: &Ways) -> Result<To, Failure> {
        let real = SocketAddr::new(start.address, start.port);
        let (at, out) = match (start.config.via, &start.service) {
            (CheckWay::Port, _) => {
                let out = ways.out_of_port(start.address).or_else(not_made)?;
                (real, Some(out))
            }
            (CheckWay::Service, Some(service)) => {
                let way = ways.by_service(service, start.address);
                let (private, out) = match way {
                    Ok(way) => way,
                    Err(NoWay::Own(why)) => return not_made(why),
                    Err(NoWay::Real(why)) => return failed(why),
                };
                (SocketAddr::new(private, start.port), Some(out))
            }
            (CheckWay::Host | CheckWay::Service, _) => (real, None),
        };
        Ok(To { at, real, out })
    }
}

/// A socket of TCP or UDP.
pub(super) trait Bind: AsFd {
    fn to_device(&self, device: &[u8]) -> io::Result<()>;
}

impl Bind for tokio::net::TcpSocket {
    fn to_device(&self, device: &[u8]) -> io::Result<()> {
        self.bind_device(Some(device))
    }
}

impl Bind for tokio::net::UdpSocket {
    fn to_device(&self, device: &[u8]) -> io::Result<()> {
        self.bind_device(Some(device))
    }
}

/// Has a socket send out of an interface, by whatever routes lead there (`SO_BINDTODEVICE`).
pub(super) fn bind_device(socket: &impl Bind, out: &Out) -> Result<(), Failure> {
    let bound = socket.to_device(out.device.as_bytes());
    bound.or_else(|why| not_made(format!("companion {}: {why}", out.device)))?;
    // Not known to every kernel: it only saves local ports, of which each real server has all then.
    let _ = setsockopt(socket, sockopt::IpBindAddressNoPort, &true);
    Ok(())
}

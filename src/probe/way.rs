//! Where a check goes, and by which way.

use super::words::{Failure, failed, not_made};
use crate::config::CheckWay;
use crate::health::Start;
use crate::via::{NoWay, Out, Ways};
use crate::wire::proxy::LOCAL_HEADER;
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
    /// A header of the PROXY protocol goes first: one that says that the proxy itself speaks.
    pub tells: bool,
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
        Ok(To {
            at,
            real,
            out,
            tells: start.tells,
        })
    }

    /// What goes before all else on a connection, or in a datagram.
    pub(super) fn header(&self) -> &'static [u8] {
        match self.tells {
            true => &LOCAL_HEADER,
            false => &[],
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Exchange, HealthConfig, HttpProbe, Probe};
    use crate::health::{Engine, Finding};
    use crate::probe::{Stage, Tools, ask, check};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn config(probe: Probe, via: CheckWay) -> HealthConfig {
        HealthConfig {
            probe,
            port: None,
            via,
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_secs(1),
            timeout: Duration::from_millis(400),
            rise: 1,
            fall: 1,
        }
    }

    /// The loopback interface stands for a companion, and its address for a private one.
    fn to(at: SocketAddr, device: &str) -> To {
        To {
            at,
            real: ([10, 9, 9, 9], 8080).into(),
            out: Some(Out {
                device: device.to_owned(),
                source: [127, 0, 0, 5].into(),
            }),
            tells: false,
        }
    }

    #[tokio::test]
    async fn checks_are_bound_to_the_companion_and_name_the_real_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let heard = tokio::spawn(async move {
            let mut heard = Vec::new();
            for _ in 0..2 {
                let (mut stream, from) = listener.accept().await.unwrap();
                let mut request = vec![0; 1000];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                request.truncate(length);
                heard.push((from.ip(), String::from_utf8(request).unwrap()));
            }
            heard
        });
        let (tools, stage) = (Tools::new(1, Arc::default()), Stage::new());
        let http = Probe::Http(HttpProbe {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            headers: Vec::new(),
            status: vec![(200, 299)],
            body: None,
            tls: None,
        });
        for probe in [Probe::Tcp(Exchange::default()), http] {
            let config = config(probe, CheckWay::Service);
            let found = ask(&to(at, "lo"), &config, &tools, &stage).await;
            assert!(found.is_ok(), "{found:?}");
            let found = ask(&to(at, "none-such"), &config, &tools, &stage).await;
            let expected = matches!(&found, Err(Failure::Own(why)) if why.contains("none-such"));
            assert!(expected, "{found:?}");
        }
        let heard = heard.await.unwrap();
        assert!(
            heard
                .iter()
                .all(|(from, _)| from.to_string() == "127.0.0.5")
        );
        let request = heard[1].1.to_ascii_lowercase();
        assert!(request.contains("host: 10.9.9.9:8080"), "{request}");
    }

    #[tokio::test]
    async fn without_a_way_a_check_says_nothing_of_the_real_server() {
        let tools = Tools::new(1, Arc::default());
        for via in [CheckWay::Port, CheckWay::Service] {
            let config = Arc::new(config(Probe::Tcp(Exchange::default()), via));
            let service = (via == CheckWay::Service).then_some(crate::service::ServiceKey {
                protocol: crate::config::Protocol::Tcp,
                address: [192, 0, 2, 80].into(),
                port: 80,
                last: 0,
            });
            let start = Start {
                run: Engine::new(1, 1).any_run(),
                address: [127, 0, 0, 1].into(),
                port: 80,
                config,
                service,
                tells: false,
            };
            let found = check(&start, &tools).await;
            assert_eq!(found.finding, Finding::Nothing, "{found:?}");
        }
    }
}

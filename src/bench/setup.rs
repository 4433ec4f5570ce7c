//! What the cases have in common: configurations of any size, and the flows that go to their services.

use super::traffic::Flow;
use super::{Bench, Traffic, six};
use crate::config::{self, Config, Context, Diagnostics};
use crate::packet::BURST;
use crate::units::PortId;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

const WAN: PortId = PortId(0);
pub const LAN: PortId = PortId(1);
/// 198.18.0.1, of the benchmarking range of RFC 2544.
const VIP: u32 = 0xc612_0001;
/// 10.0.0.11.
const SERVER: u32 = 0x0a00_000b;
/// 100.64.1.0, on the WAN's side.
const GATEWAY: u32 = 0x6440_0100;
/// 16.0.0.0: where the clients of [`Setup::far_flow`] are.
const FAR: u32 = 0x1000_0000;

/// The sizes of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub mode: &'static str,
    pub protocol: &'static str,
    pub services: usize,
    /// On one VIP, with ports from 1 on; otherwise fifty on each.
    pub one_vip: bool,
    /// Real servers of each service.
    pub reals: usize,
    /// Machines that the services have for real servers, each in turn; a neighbour each.
    pub servers: usize,
    /// Routers that the routes lead to, each in turn; a neighbour each.
    pub gateways: usize,
    /// The default route, and networks of the clients of [`Setup::far_flow`].
    pub routes: usize,
    /// IPv6 addresses in the place of all these.
    pub is_six: bool,
    /// Real servers, and local addresses for them, of the other family than the clients and VIPs: of fullnat only.
    pub crosses: bool,
    /// More lines of each service.
    pub keys: &'static str,
}

/// So many services are read of one text: what a text may say has a bound.
const READ_AT_ONCE: usize = 50_000;

impl Setup {
    /// One service with four real servers, one route.
    pub fn new(mode: &'static str, protocol: &'static str) -> Self {
        Setup {
            mode,
            protocol,
            services: 1,
            one_vip: false,
            reals: 4,
            servers: 4,
            gateways: 1,
            routes: 1,
            is_six: false,
            crosses: false,
            keys: "",
        }
    }

    /// Where service number `n` is.
    pub fn place(&self, n: usize) -> (Ipv4Addr, u16) {
        let (vip, port) = match self.one_vip {
            true => (0, 1 + n),
            false => (n / 50, 53 + n % 50),
        };
        (Ipv4Addr::from_bits(VIP + vip as u32), port as u16)
    }

    /// Flow number `n` to one of the first `used` services, of clients in few networks.
    pub fn flow(&self, n: usize, used: usize) -> Flow {
        let spread = (n as u32).wrapping_mul(0x9e37_79b1);
        Flow {
            port: WAN,
            is_six: self.is_six,
            // 1.0.0.0 … 127: never a source that is refused.
            source: (
                Ipv4Addr::from_bits(0x0100_0000 | (n as u32 >> 14) << 6 | spread & 0x3f),
                1024 + (n & 0x3fff) as u16,
            ),
            destination: self.place(n % used),
        }
    }

    /// The same, of clients in 9,999 networks of 256 addresses, to each of which a route leads if there are 10,000.
    pub fn far_flow(&self, n: usize, used: usize) -> Flow {
        let (network, host) = (n % 9_999, n / 9_999 % 256);
        let address = Ipv4Addr::from_bits(FAR + (network * 256 + host) as u32);
        Flow {
            source: (address, 1024 + (n / (9_999 * 256)) as u16),
            ..self.flow(n, used)
        }
    }

    pub fn config(&self) -> Config {
        let context = Context {
            cpus: None,
            devices: false,
        };
        let wrong = |errors: Diagnostics| -> ! {
            unreachable!("the benchmark's own configuration: {errors}")
        };
        let mut config = match config::parse(&self.network(), "bench", &context) {
            Ok(loaded) => loaded.config,
            Err(errors) => wrong(errors),
        };
        for first in (0..self.services).step_by(READ_AT_ONCE) {
            let last = self.services.min(first + READ_AT_ONCE);
            match config::services(&self.offered(first..last), "bench", &config) {
                Ok((services, _)) => config.services.extend(services),
                Err(errors) => wrong(errors),
            }
        }
        match (self.is_six, self.crosses) {
            (false, false) => config,
            (true, false) => six::config(&config, false),
            (is_six, true) => six::crossing(&config, is_six),
        }
    }

    fn server(&self, n: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(SERVER + (n % self.servers) as u32)
    }

    /// All but the services.
    fn network(&self) -> String {
        let mut text = String::from(
            r#"
[timeouts]
udp = 1
tcp_syn_recv = 1
tcp_close = 1
tcp_time_wait = 1
[[port]]
name = "wan"
device = "none"
addresses = ["100.64.0.1/16"]
[[port]]
name = "lan"
device = "none"
addresses = ["10.0.0.1/16"]
[[local_pool]]
name = "inside"
addresses = ["10.0.200.0-10.0.200.63"]
ports = "1024-65535"
"#,
        );
        let gateway = |n: usize| Ipv4Addr::from_bits(GATEWAY + (n % self.gateways) as u32);
        let neighbours = (0..self.servers)
            .map(|n| self.server(n))
            .chain((0..self.gateways).map(gateway));
        for address in neighbours {
            let [a, b, c, d] = address.octets();
            let _ = write!(
                text,
                "[[neighbour]]\naddress = \"{address}\"\nmac = \"02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}\"\n"
            );
        }
        for n in 0..self.routes {
            let (network, length, via) = match n {
                0 => (Ipv4Addr::UNSPECIFIED, 0, gateway(0)),
                _ => (
                    Ipv4Addr::from_bits(FAR + (n as u32 - 1) * 256),
                    24,
                    gateway(n),
                ),
            };
            let _ = write!(
                text,
                "[[route]]\nto = \"{network}/{length}\"\nvia = \"{via}\"\n"
            );
        }
        text
    }

    /// These services.
    fn offered(&self, numbers: Range<usize>) -> String {
        let (mode, protocol, keys) = (self.mode, self.protocol, self.keys);
        let pool = match mode {
            "fullnat" => "local_pool = \"inside\"\n",
            _ => "",
        };
        let mut text = String::new();
        for n in numbers {
            let (vip, port) = self.place(n);
            let _ = write!(
                text,
                "[[service]]\naddress = \"{vip}\"\nport = {port}\nprotocol = \"{protocol}\"\nmode = \"{mode}\"\n\
                 {pool}{keys}scheduler = \"rr\"\n"
            );
            for real in 0..self.reals {
                let address = self.server(n * self.reals + real);
                let _ = write!(text, "[[service.real]]\naddress = \"{address}\"\n");
            }
        }
        text
    }
}

/// Enough bursts to see every flow twice, and for the figure to settle.
pub(super) fn bursts(flows: usize, quick: bool) -> usize {
    (2 * flows / BURST).max(if quick { 30_000 } else { 200_000 })
}

/// Makes the connection of every flow of the traffic, which goes on in another order.
pub(super) fn warm_up(bench: &mut Bench, traffic: &mut Traffic, flows: usize) {
    let before = bench.connections();
    bench.run(traffic, flows.div_ceil(BURST), Duration::ZERO);
    assert_eq!(
        bench.connections() - before,
        flows,
        "each flow has a connection"
    );
    traffic.shuffle();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_configuration_has_what_its_setup_says() {
        let setup = Setup {
            services: 120,
            reals: 1,
            servers: 30,
            gateways: 20,
            routes: 40,
            ..Setup::new("fullnat", "udp")
        };
        let config = setup.config();
        assert_eq!(config.services.len(), 120);
        assert_eq!(config.neighbours.len(), 50);
        assert_eq!(config.routes.len(), 40);
        let vips = |config: &Config| {
            let all: HashSet<_> = config
                .services
                .iter()
                .map(|service| service.address)
                .collect();
            all.len()
        };
        assert_eq!(vips(&config), 3);
        let one = Setup {
            one_vip: true,
            ..setup
        };
        assert_eq!(vips(&one.config()), 1);
    }

    #[test]
    fn there_is_a_configuration_of_as_many_services_as_are_measured() {
        for (mode, reals) in [("fullnat", 4), ("nat", 4), ("dr", 1)] {
            let setup = Setup {
                services: 100_001,
                reals,
                ..Setup::new(mode, "udp")
            };
            let config = setup.config();
            assert_eq!(config.services.len(), setup.services);
            let last = config.services.last().unwrap();
            assert_eq!((last.address, last.port), {
                let (vip, port) = setup.place(setup.services - 1);
                (vip.into(), port)
            });
        }
    }

    #[test]
    fn families_are_what_a_setup_says() {
        for (is_six, crosses) in [(false, false), (false, true), (true, false), (true, true)] {
            let setup = Setup {
                is_six,
                crosses,
                ..Setup::new("fullnat", "udp")
            };
            let config = setup.config();
            assert_eq!(config.crosses_families(), crosses);
            let service = &config.services[0];
            assert_eq!(service.address.is_ipv6(), is_six);
            assert_eq!(service.reals[0].address.is_ipv6(), is_six != crosses);
        }
    }

    #[test]
    fn no_two_flows_are_the_same() {
        let setup = Setup {
            services: 7,
            ..Setup::new("dr", "udp")
        };
        for make in [Setup::flow, Setup::far_flow] {
            let clients = (0..300_000).map(|n| make(&setup, n, 7).source);
            assert_eq!(clients.collect::<HashSet<_>>().len(), 300_000);
        }
    }
}

//! ICMP errors about known connections: each mode's usual one, over IPv4.

use super::cases::Figure;
use super::setup::{LAN, Setup, bursts, warm_up};
use super::traffic::{Flow, frame};
use super::{Bench, Traffic, mac};
use crate::units::PortId;
use crate::wire::{build, icmp};
use std::net::Ipv4Addr;
use std::time::Duration;

/// So many that none is refused.
const PER_SECOND: u32 = 500_000_000;
/// No connection ends meanwhile.
const STEP: Duration = Duration::from_micros(1);
/// The router that says it, of the clients' side and of the real servers'.
const ROUTERS: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 64, 1, 0), Ipv4Addr::new(10, 0, 0, 99)];

/// "Port unreachable" about a packet of a flow, which quotes all of it.
fn error(quoted: &Flow, port: PortId) -> (PortId, Vec<u8>) {
    // Short, so that all of the error is among the bytes that are written for each packet.
    let offending = frame(quoted, None, 54);
    let router = ROUTERS[usize::from(port == LAN)];
    let (own, sender) = (mac(port), mac(PortId(9)));
    let mut error = vec![0; 512];
    let (kind, code) = (icmp::DESTINATION_UNREACHABLE, icmp::PORT_UNREACHABLE);
    let length = build::icmp_error(&mut error, &offending, sender, router, kind, code, 0);
    error.truncate(length.expect("a flow's frame may be answered"));
    error[..6].copy_from_slice(&own.0);
    (port, error)
}

pub(super) fn run(quick: bool, report: &mut dyn FnMut(Figure)) {
    for mode in ["dr", "nat", "fullnat"] {
        let sizes: &[usize] = if quick { &[1_000] } else { &[1_000, 100_000] };
        for &flows in sizes {
            let setup = Setup::new(mode, "udp");
            let mut config = setup.config();
            config.limits.answers_per_second = PER_SECOND;
            let mut bench = Bench::new(&config, flows * 2);
            let mut known = Traffic::new((0..flows).map(|n| setup.flow(n, 1)), None, 64);
            warm_up(&mut bench, &mut known, flows);
            let answered = |flow: Flow| Flow {
                source: flow.destination,
                destination: flow.source,
                ..flow
            };
            // About what the client has sent, to the client; where replies do not come by, about the real server's own.
            let errors: Vec<_> = match mode {
                "dr" => (0..flows)
                    .map(|n| setup.flow(n, 1))
                    .map(|flow| error(&answered(flow), flow.port))
                    .collect(),
                _ => {
                    let replies = bench.replies(LAN);
                    replies
                        .into_iter()
                        .map(|flow| error(&answered(flow), LAN))
                        .collect()
                }
            };
            let mut traffic = Traffic::of_frames(errors);
            traffic.shuffle();
            let cost = bench.run(&mut traffic, bursts(flows, quick), STEP);
            let to = match mode {
                "dr" => "to the real server",
                _ => "to the client",
            };
            let forwarded = cost.forwarded * 100.0;
            report(Figure {
                case: "errors",
                what: format!("{mode} udp, {to}, {flows} flows, {forwarded:.0} % forwarded"),
                nanos: cost.nanos,
                per: "packet",
            });
        }
    }
}

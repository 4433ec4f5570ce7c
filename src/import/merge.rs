//! Services that IPVS needs several of, as one of weir's: those of consecutive ports as a range, those of TCP and UDP as both.

use super::{Protocol, RealServer, Remarks, VirtualService};

/// Fewer consecutive ports stay services of their own.
const LEAST_PORTS: usize = 3;

/// Puts together what is alike in all but the port, and then in all but the protocol, in the place of the first one; each is told.
pub(super) fn merge(services: Vec<VirtualService>, remarks: &mut Remarks) -> Vec<VirtualService> {
    both_protocols(ranges(services, remarks), remarks)
}

fn ranges(services: Vec<VirtualService>, remarks: &mut Remarks) -> Vec<VirtualService> {
    let mut sorted: Vec<_> = services.into_iter().enumerate().collect();
    sorted.sort_by_key(|(_, it)| (it.address, it.protocol.name(), it.port));
    let mut out = Vec::new();
    let mut rest = sorted.into_iter().peekable();
    while let Some((place, first)) = rest.next() {
        let mut run = vec![(place, first)];
        while let Some(next) = rest.next_if(|(_, next)| is_next(&run[run.len() - 1].1, next)) {
            run.push(next);
        }
        match run.len() < LEAST_PORTS {
            true => out.append(&mut run),
            false => out.extend(range(run, remarks)),
        }
    }
    out.sort_by_key(|(place, _)| *place);
    out.into_iter().map(|(_, service)| service).collect()
}

/// One service of several, which are in the order of their ports, in the place of the first in the file.
fn range(
    services: Vec<(usize, VirtualService)>,
    remarks: &mut Remarks,
) -> Option<(usize, VirtualService)> {
    let place = services.iter().map(|(place, _)| *place).min()?;
    let last = services.last()?.1.port;
    let mut services = services.into_iter().map(|(_, service)| service);
    let first = services.next()?;
    for other in services {
        let (from, own) = (first.port, other.port);
        let text = format!("the service of port {own}: one of the range {from}-{last} (--merge)");
        remarks.note(&other.at, text);
    }
    let reals = first.reals.into_iter();
    let service = VirtualService {
        last_port: Some(last),
        // Each port's packets keep it.
        reals: reals
            .map(|real| RealServer { port: None, ..real })
            .collect(),
        ..first
    };
    Some((place, service))
}

/// Whether a service may follow another one in a range: a client of several ports gets its real servers one by one in either case, and the
/// real servers get packets at the ports that they came to.
fn is_next(one: &VirtualService, other: &VirtualService) -> bool {
    let keeps_ports = |it: &VirtualService| {
        it.port != 0
            && it.persistence.is_none()
            && it.reals.iter().all(|real| {
                let own = real.port.filter(|port| *port != 0);
                own.is_none_or(|port| port == it.port) && real.upper == 0
            })
    };
    one.port.checked_add(1) == Some(other.port)
        && one.address == other.address
        && one.protocol == other.protocol
        && keeps_ports(one)
        && keeps_ports(other)
        && is_alike(one, other)
}

fn both_protocols(services: Vec<VirtualService>, remarks: &mut Remarks) -> Vec<VirtualService> {
    let mut out: Vec<VirtualService> = Vec::new();
    for service in services {
        let is_twin = |it: &VirtualService| {
            let protocols = [it.protocol, service.protocol];
            !it.is_both
                && protocols.contains(&Protocol::Tcp)
                && protocols.contains(&Protocol::Udp)
                && (it.address, it.port, it.last_port)
                    == (service.address, service.port, service.last_port)
                && it.persistence == service.persistence
                && is_alike(it, &service)
        };
        match out.iter_mut().find(|it| is_twin(it)) {
            Some(twin) => {
                let text = "the service: with that of the other protocol one of tcp+udp (--merge)";
                remarks.note(&service.at, text);
                twin.is_both = true;
            }
            None => out.push(service),
        }
    }
    out
}

/// Whether two services have all else in common, and nothing that is one protocol's or port's.
fn is_alike(one: &VirtualService, other: &VirtualService) -> bool {
    let is_plain = |it: &VirtualService| {
        !it.one_packet
            && it.sorry.is_none()
            && it.least.is_none()
            && it.established.is_none()
            && it.reals.iter().all(|real| real.check.is_none())
    };
    let real = |service: &VirtualService, real: &RealServer| {
        let port = real.port.filter(|port| *port != 0 && *port != service.port);
        (
            real.address,
            port,
            real.method,
            real.weight,
            real.upper,
            real.lower,
        )
    };
    let reals = |it: &VirtualService| it.reals.iter().map(|one| real(it, one)).collect::<Vec<_>>();
    let keys = |it: &VirtualService| {
        (
            it.scheduler.clone(),
            it.flags.clone(),
            it.locals.clone(),
            it.keeps_down,
        )
    };
    is_plain(one) && is_plain(other) && keys(one) == keys(other) && reals(one) == reals(other)
}

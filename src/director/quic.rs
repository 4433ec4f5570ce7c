//! Comes here: a datagram of a service with `quic`. Its connection id names the real server that has made it, whatever the client's
//! address has become (draft-ietf-quic-load-balancers section 4).

use super::family::Family;
use super::flow::service_key;
use super::parse::{Flow, Kind};
use super::{Core, is_tcp};
use crate::conn::Connection;
use crate::packet::Packet;
use crate::service::Real;
use crate::tables::{Named, Service, Tables};
use crate::wire::{ethernet, udp};

impl<F: Family, P: Packet> Core<F, P> {
    /// The real server that a datagram's connection id names, unless its connections are to end. It may have weight 0: what it is
    /// named by, it has given to a client before.
    pub(super) fn named_real(&self, packet: &P, flow: &Flow<F>, service: &Service) -> Option<Real> {
        let quic = service.quic.as_deref()?;
        if is_tcp(flow) || flow.kind == Kind::LaterFragment {
            return None;
        }
        let start = usize::from(flow.layout.l4) + udp::HEADER_LEN;
        let end = ethernet::HEADER_LEN + usize::from(flow.length);
        match quic.named(packet.data().get(start..end)?) {
            Named::Nothing => None,
            Named::Unknown => {
                self.counters().quic_unknown.add(1);
                None
            }
            Named::Real(place) => {
                let real = service.own_reals().get(place)?;
                let line = self.counters().reals.get(real.id.index());
                let ends = line.is_some_and(|line| line.ends_connections());
                (!ends).then_some(*real)
            }
        }
    }

    /// Whether a client's datagram names another real server than its flow's: its address and port were another connection's
    /// before.
    #[cold]
    pub(super) fn names_another(
        &self,
        packet: &P,
        flow: &Flow<F>,
        connection: &Connection<F::Key>,
        tables: &Tables,
    ) -> bool {
        let service = tables.service(&service_key(&flow.key));
        let named = service.and_then(|service| self.named_real(packet, flow, service));
        named.is_some_and(|real| real.id != connection.real)
    }
}

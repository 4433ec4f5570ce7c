//! Whose QUIC connection ids are whose, of one service.

use crate::config::QuicConfig;
use crate::net::ServerId;
use crate::wire::quic::{Decoder, server_made_id};

#[derive(Debug)]
pub struct Quic {
    decoder: Decoder,
    /// Each server id with the place of its real server among the service's, in their order.
    ids: Box<[(ServerId, u32)]>,
}

/// What a datagram's connection id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// It is none that a server has made, or it cannot be told.
    Nothing,
    /// It is of another configuration, or of no real server.
    Unknown,
    /// The place of a real server among the service's.
    Real(usize),
}

impl Quic {
    /// `ids`: of the service's real servers, in the order of the tables. None if no connection id is as the configuration says,
    /// which it does not let pass.
    pub fn new(config: &QuicConfig, ids: impl Iterator<Item = Option<ServerId>>) -> Option<Self> {
        let (server_id, whole) = (config.server_id_length, config.connection_id_length);
        let (server_id, whole) = (usize::from(server_id), usize::from(whole));
        let decoder = Decoder::new(config.config_id, server_id, whole, config.key.as_ref())?;
        let places = ids.zip(0..).filter_map(|(id, place)| Some((id?, place)));
        let mut ids: Vec<_> = places.collect();
        ids.sort_unstable();
        Some(Quic {
            decoder,
            ids: ids.into(),
        })
    }

    /// Reads a UDP datagram's payload.
    pub fn named(&self, payload: &[u8]) -> Named {
        let Some(id) = server_made_id(payload, self.decoder.id_length()) else {
            return Named::Nothing;
        };
        let Some(server) = self.decoder.server_id(id) else {
            return Named::Unknown;
        };
        let found = self.ids.binary_search_by_key(&server, |(id, _)| *id);
        match found.ok().and_then(|place| self.ids.get(place)) {
            Some((_, place)) => Named::Real(*place as usize),
            None => Named::Unknown,
        }
    }
}

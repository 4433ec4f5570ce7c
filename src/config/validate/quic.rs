//! `quic`: connection ids whose lengths fit each other, and a server id for each real server.

use crate::config::check_value::Hex;
use crate::config::error::{At, Log, Span};
use crate::config::value::Given;
use crate::config::{Protocol, QuicConfig, RealConfig, raw};
use crate::net::ServerId;
use std::collections::HashMap;

/// The draft's section 5.2: with fewer bytes the same connection id comes up again too soon.
const LEAST_NONCE: u8 = 4;
/// Of AES, in bytes.
const KEY: usize = 16;

/// What a service's `quic` says. Nothing: it has none, or what is wrong is said.
pub(super) fn quic(raw: &raw::Service, log: &mut Log) -> Option<QuicConfig> {
    let At { value: quic, at } = raw.quic.ok()?;
    if let Some(other) = raw.protocol.get().filter(|it| !it.have(Protocol::Udp)) {
        let problem = format!(
            "`quic` is for UDP, and the service is one of {}",
            other.words()
        );
        log.error(*at, problem)
            .help("leave it out, or write protocol = \"udp\"");
    }
    let key = match &quic.key {
        Given::Yes(key) => match <[u8; KEY]>::try_from(&key.value.0[..]) {
            Ok(key) => Some(key),
            Err(_) => {
                log.error(key.at, format!("the key has {} bytes", key.value.0.len()))
                    .help("write the 16 bytes of an AES-128 key as 32 hex digits");
                None
            }
        },
        Given::No | Given::Bad => None,
    };
    let (server, whole) = (
        quic.server_id_length.get()?.0 as u8,
        quic.connection_id_length.get()?.0 as u8,
    );
    let least = 1 + server + LEAST_NONCE;
    if whole < least {
        log.error(
            quic.connection_id_length.ok().map_or(*at, |length| length.at),
            format!("a connection id of {whole} bytes is too short for a server id of {server}"),
        )
        .help(format!(
            "write {least} or more, as the real servers do: one byte, the server id, and a nonce of at least {LEAST_NONCE}"
        ));
    }
    Some(QuicConfig {
        server_id_length: server,
        connection_id_length: whole,
        config_id: quic.config_id.get().map_or(0, |id| id.0 as u8),
        key,
    })
}

/// The server id of a real server.
pub(super) fn server_id(given: &Given<Hex>, log: &mut Log) -> Option<ServerId> {
    let At {
        value: Hex(bytes),
        at,
    } = given.ok()?;
    let id = ServerId::new(bytes);
    if id.is_none() {
        log.error(*at, format!("a server id of {} bytes", bytes.len()))
            .help(format!("write 1 to {} bytes", ServerId::LONGEST));
    }
    id
}

/// Why a service's real servers cannot be told apart by their connection ids, if so: what to say, and what to do.
pub(super) fn problem(quic: Option<&QuicConfig>, reals: &[RealConfig]) -> Option<(String, String)> {
    let quic = quic?;
    let mut first: HashMap<ServerId, &RealConfig> = HashMap::new();
    reals.iter().find_map(|real| {
        let length = quic.server_id_length;
        let help = format!(
            "write {length} bytes such as server_id = \"{}\"",
            "0a".repeat(length.into())
        );
        match real.server_id.as_deref().copied() {
            None => Some((
                format!(
                    "`quic` needs a `server_id` of each real server, and {} has none",
                    real.address
                ),
                help,
            )),
            Some(id) if id.as_bytes().len() != usize::from(length) => Some((
                format!(
                    "the `server_id` {id} of {} has not the {length} bytes of `server_id_length`",
                    real.address
                ),
                help,
            )),
            Some(id) => first.insert(id, real).map(|other| {
                (
                    format!(
                        "{} and {} have the same `server_id` {id}",
                        other.address, real.address
                    ),
                    "give each real server one of its own".to_owned(),
                )
            }),
        }
    })
}

/// The same, said at the service's `quic`.
pub(super) fn check(
    quic: Option<&QuicConfig>,
    at: Option<Span>,
    reals: &[RealConfig],
    log: &mut Log,
) {
    if let (Some((problem, help)), Some(at)) = (problem(quic, reals), at) {
        log.error(at, problem).help(help);
    }
}

//! `[[snat]]`: whose own connections get addresses of which local pool.

use super::network::Network;
use super::pool::Pools;
use super::timing;
use crate::config::error::{At, Log, Span, did_you_mean, quote};
use crate::config::value::{Given, List};
use crate::config::{SnatConfig, raw};
use crate::net::family;
use ipnet::IpNet;
use std::collections::HashMap;

/// The most rules: a packet's is found by one number of 16 bits.
const MOST: usize = 4096;

pub(super) fn rules(
    raw: Given<List<raw::Snat>>,
    pools: &Pools,
    network: &Network,
    log: &mut Log,
) -> Vec<SnatConfig> {
    let list = raw.items();
    if let Some(extra) = list.get(MOST) {
        log.error(
            extra.at,
            format!("{} rules of [[snat]] are too many", list.len()),
        )
        .help(format!(
            "write at most {MOST}: one rule may cover many hosts"
        ));
    }
    let mut first: HashMap<IpNet, Span> = HashMap::new();
    let mut rules = Vec::new();
    for At { value: rule, .. } in list {
        let from = rule.from.ok().map(|from| At {
            value: from.value.0,
            at: from.at,
        });
        if let Some(At { value: from, at }) = from
            && let Some(other) = first.insert(from, at)
        {
            log.error(at, format!("a second [[snat]] from {from}"))
                .note(other, "the first is here")
                .help("remove one of the two; where prefixes overlap, the longest one counts");
        }
        let pool = rule.pool.ok().filter(|pool| is_pool(pool, pools, log));
        if let (Some(from), Some(pool)) = (&from, pool)
            && let Some(local) = pools.sample(&pool.value)
        {
            let (wanted, found) = (family(from.value.addr()), family(local));
            if wanted != found {
                log.error(
                    pool.at,
                    format!(
                        "the local pool {} is {found}, `from` is {wanted}",
                        quote(&pool.value)
                    ),
                )
                .note(from.at, "`from` is here")
                .help(format!("use a pool of {wanted} addresses"));
            }
        }
        if let Some(timeouts) = rule.timeouts.ok() {
            timing::refuse_sctp(&timeouts.value, log);
        }
        let out_port = rule.out_port.ok();
        let out_port = out_port.and_then(|port| network.port_of_name(&port.value, port.at, log));
        if let (Some(from), Some(pool)) = (from, pool) {
            rules.push(SnatConfig {
                from: from.value,
                pool: pool.value.clone(),
                out_port,
                timeouts: rule
                    .timeouts
                    .ok()
                    .map_or_else(Default::default, |it| timing::own(&it.value)),
            });
        }
    }
    rules
}

/// Whether there may be a local pool of this name.
fn is_pool(pool: &At<String>, pools: &Pools, log: &mut Log) -> bool {
    if pools.has(&pool.value) || !pools.complete {
        return true;
    }
    let names = || pools.list.iter().filter_map(|pool| pool.name.as_deref());
    let guess = did_you_mean(&pool.value, names());
    let listed = names().collect::<Vec<_>>().join(", ");
    let help = match listed.is_empty() {
        true => "add a [[local_pool]] of this name".to_owned(),
        false => format!("the pools are: {listed}"),
    };
    log.error(
        pool.at,
        format!("unknown local pool {}{guess}", quote(&pool.value)),
    )
    .help(help);
    false
}

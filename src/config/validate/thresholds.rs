//! How many connections a real server may have.

use crate::config::Thresholds;
use crate::config::error::Log;
use crate::config::raw;
use crate::config::value::Given;
use std::num::NonZeroU32;

/// `max_connections` and `min_connections`; with a maximum of 0 it may have any number, as by `ipvsadm -x 0`.
pub(super) fn thresholds(real: &raw::Real, log: &mut Log) -> Option<Thresholds> {
    let max = real.max_connections.get().map_or(0, |max| max.0);
    let max = NonZeroU32::new(max);
    let Some(min) = real.min_connections.ok() else {
        return max.map(|max| Thresholds { max, min: 0 });
    };
    let lower = min.value.0;
    match max {
        // What could not be read may have been enough.
        None if matches!(real.max_connections, Given::Bad) => {}
        None if lower > 0 => {
            log.error(min.at, "`min_connections` without `max_connections`")
                .help(
                    "write `max_connections = …` too: without it the real server is never too full",
                );
        }
        Some(max) if lower > max.get() => {
            log.error(
                min.at,
                format!("`min_connections` is {lower}, more than the `max_connections` of {max}"),
            )
            .help("write at most as many: below it the real server gets new connections again");
        }
        _ => {}
    }
    max.map(|max| Thresholds { max, min: lower })
}

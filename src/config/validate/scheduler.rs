//! How a service's new connections are spread.

use crate::config::error::{Log, did_you_mean, quote};
use crate::config::raw;
use crate::config::value::{Given, List};
use crate::config::{NoShares, SchedulerConfig, SchedulerFlags};
use std::time::Duration;

/// The scheduler of that name.
pub(super) fn scheduler(raw: &Given<String>, log: &mut Log) -> Option<SchedulerConfig> {
    let scheduler = match raw {
        Given::No => return Some(SchedulerConfig::Wlc),
        Given::Bad => return None,
        Given::Yes(scheduler) => scheduler,
    };
    let written = scheduler.value.as_str();
    let mut all = SchedulerConfig::ALL.iter().copied();
    if let Some(found) = all.find(|scheduler| scheduler.name() == written) {
        return Some(found);
    }
    let known: Vec<_> = SchedulerConfig::ALL
        .iter()
        .map(|known| known.name())
        .collect();
    let message = format!(
        "unknown scheduler {}{}",
        quote(written),
        did_you_mean(written, known.iter().copied())
    );
    log.error(scheduler.at, message)
        .help(format!("write one of: {}", known.join(", ")));
    None
}

/// What the scheduler is told beside its name.
pub(super) fn flags(
    raw: &Given<List<String>>,
    scheduler: Option<SchedulerConfig>,
    log: &mut Log,
) -> SchedulerFlags {
    let mut flags = SchedulerFlags::default();
    let words = || {
        SchedulerConfig::ALL
            .iter()
            .filter_map(|it| Some((it, it.flags()?)))
    };
    for flag in raw.ok().into_iter().flat_map(|flags| &flags.value.items) {
        let written = flag.value.as_str();
        let known = words()
            .find_map(|(of, words)| Some((*of, words.iter().position(|word| *word == written)?)));
        match known {
            None => {
                let all: Vec<_> = words().flat_map(|(_, words)| words).collect();
                let guess = did_you_mean(written, all.iter().copied());
                log.error(flag.at, format!("unknown flag {}{guess}", quote(written)))
                    .help(format!("the flags are: {}", all.join(", ")));
            }
            Some((of, _)) if scheduler.is_some_and(|scheduler| scheduler != of) => {
                let of = of.name();
                log.error(
                    flag.at,
                    format!("`{written}` is a flag of the scheduler {of}"),
                )
                .help(format!("leave it out, or write `scheduler = \"{of}\"`"));
            }
            Some((_, 0)) => flags.port = true,
            Some(_) => flags.fallback = true,
        }
    }
    flags
}

/// Over which time real servers get their weights.
pub(super) fn slow_start(
    raw: &raw::Service,
    scheduler: Option<SchedulerConfig>,
    log: &mut Log,
) -> Option<Duration> {
    let given = raw.slow_start.ok()?;
    if let Some(scheduler) = scheduler
        && !given.value.0.is_zero()
        && let Some(NoShares { why, instead }) = scheduler.no_shares()
    {
        let name = scheduler.name();
        log.warning(
            given.at,
            format!("`slow_start` has no effect with the scheduler {name}, {why}"),
        )
        .help(format!(
            "write `scheduler = \"{instead}\"`, or leave it out"
        ));
    }
    Some(given.value.0)
}

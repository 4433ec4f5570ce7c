//! Health checks: `[health.NAME]`, and `health` of a service.

use super::request;
use crate::config::check_value::{ByName, HealthChoice};
use crate::config::error::{Log, Span, did_you_mean, quote};
use crate::config::raw;
use crate::config::value::{Given, Protocols};
use crate::config::{
    CheckWay, Config, HealthConfig, HealthTemplates, HealthUse, Probe, Protocol, RealConfig,
};
use std::sync::Arc;
use std::time::Duration;

/// The `[health.NAME]` of a file, as far as they could be read.
pub(super) struct Templates {
    pub list: Arc<HealthTemplates>,
    complete: bool,
    /// Whichever is named may be there.
    any: bool,
}

impl Templates {
    /// Those of which nothing is known.
    pub(super) fn unknown() -> Templates {
        Templates {
            list: Arc::default(),
            complete: false,
            any: true,
        }
    }

    /// Those of a running configuration.
    pub(super) fn of(config: &Config) -> Templates {
        Templates {
            list: config.health.clone(),
            complete: true,
            any: false,
        }
    }

    /// Whether there is nothing to say of a service's check beyond what was said of it by itself.
    pub(super) fn fit(
        &self,
        health: Option<&HealthUse>,
        protocol: Protocol,
        reals: &[RealConfig],
    ) -> bool {
        let Some(HealthUse::Named(name)) = health else {
            return true;
        };
        let template = self.list.get(name);
        let is_sctp = protocol == Protocol::Sctp;
        self.any
            || template.is_some_and(|health| {
                let lacks = lacks_port(health, reals) || is_sctp && takes_service_port(health);
                !lacks
            })
    }
}

pub(super) fn templates(raw: Given<ByName<raw::Health>>, log: &mut Log) -> Templates {
    let complete = raw.certain() && raw.ok().is_none_or(|raw| raw.value.complete);
    let raw = raw.into_option().map_or(Vec::new(), |raw| raw.items);
    let mut templates = Templates {
        complete,
        list: Arc::default(),
        any: false,
    };
    let mut list = HealthTemplates::new();
    for (name, health) in raw {
        match check(&health, name.at, log) {
            Some(health) => {
                list.insert(name.value, Arc::new(health));
            }
            None => templates.complete = false,
        }
    }
    templates.list = Arc::new(list);
    templates
}

/// What `health` of a service means; Err: what is wrong is said.
pub(super) fn of_service(
    raw: &Given<HealthChoice>,
    (protocols, reals): (Option<Protocols>, &[RealConfig]),
    templates: &Templates,
    log: &mut Log,
) -> Result<Option<HealthUse>, ()> {
    let choice = match raw {
        Given::No => return Ok(None),
        Given::Bad => return Err(()),
        Given::Yes(choice) => choice,
    };
    let found = match &choice.value {
        HealthChoice::Own(raw) => HealthUse::Own(Arc::new(check(raw, choice.at, log).ok_or(())?)),
        HealthChoice::Named(name) => {
            let is_known = templates.list.contains_key(name);
            if !is_known && !templates.any {
                if templates.complete {
                    unknown_template(name, choice.at, templates, log);
                }
                return Err(());
            }
            HealthUse::Named(name.clone())
        }
    };
    if let Some(health) = found.resolve(&templates.list)
        && protocols == Some(Protocols::Sctp)
        && takes_service_port(health)
    {
        let problem = format!(
            "a check of type {} does not speak SCTP, and would go to the SCTP port",
            health.probe.name()
        );
        log.error(choice.at, problem).help(
            "add the `port` where the real servers answer it, or write type = \"icmp\" or \"exec\"",
        );
        return Err(());
    }
    if let Some(health) = found.resolve(&templates.list)
        && lacks_port(health, reals)
    {
        log.error(
            choice.at,
            "a service of several ports has no port that the check could go to",
        )
        .help("add `port = …` to the check");
        return Err(());
    }
    Ok(Some(found))
}

fn unknown_template(name: &str, at: Span, templates: &Templates, log: &mut Log) {
    let names = || templates.list.keys().map(String::as_str);
    let help = match templates.list.is_empty() {
        true => {
            "add a [health.NAME] of this name, or write the check as [service.health]".to_owned()
        }
        false => format!("the checks are: {}", names().collect::<Vec<_>>().join(", ")),
    };
    let guess = did_you_mean(name, names());
    log.error(at, format!("unknown health check {}{guess}", quote(name)))
        .help(help);
}

/// Whether a check goes to the port that clients' packets go to.
fn takes_service_port(health: &HealthConfig) -> bool {
    health.port.is_none() && health.probe.has_port()
}

/// Whether a check would have to go to the port of a real server that has none.
pub(super) fn lacks_port(health: &HealthConfig, reals: &[RealConfig]) -> bool {
    takes_service_port(health) && reals.iter().any(|real| real.port == 0)
}

/// What a check is; None: what is wrong is said.
fn check(raw: &raw::Health, at: Span, log: &mut Log) -> Option<HealthConfig> {
    let errors = log.errors();
    let kind = raw.kind.get();
    let empty = raw::Request::default();
    let request = raw.request.ok().map_or(&empty, |request| &request.value);
    if let Some(kind) = kind {
        request::keys_of_other_types(kind, request, log);
    }
    let interval = raw.interval.get().map_or(Duration::from_secs(2), |it| it.0);
    let fast_interval = raw.fast_interval.get().map_or(interval, |it| it.0);
    if let Some(fast) = raw.fast_interval.ok()
        && fast_interval > interval
    {
        log.error(fast.at, "`fast_interval` is longer than `interval`")
            .help("write a shorter time: it holds while a real server's state changes");
    }
    let shortest = fast_interval.min(interval);
    let timeout = raw.timeout.get().map_or(Duration::from_secs(1), |it| it.0);
    // The default gives way.
    let timeout = match raw.timeout.ok() {
        None => timeout.min(shortest),
        Some(written) if timeout > shortest => {
            let which = match shortest < interval {
                true => "fast_interval",
                false => "interval",
            };
            log.error(
                written.at,
                format!("the check's `timeout` is longer than its `{which}`"),
            )
            .help(format!(
                "write at most the {}: a check ends before the next one starts",
                humantime::format_duration(shortest)
            ));
            timeout
        }
        Some(_) => timeout,
    };
    let probe = request::probe(kind, request, raw.request.ok().map_or(at, |it| it.at), log);
    let port = raw.port.get().map(|port| port.0 as u16);
    if let (Some(written), Some(probe)) = (raw.port.ok(), &probe)
        && matches!(probe, Probe::Icmp)
    {
        log.error(written.at, "an icmp check goes to no port")
            .help("leave `port` out");
    }
    let via = raw.via.get().unwrap_or_default();
    if let (Some(written), Some(Probe::Exec(_))) = (raw.via.ok(), &probe)
        && via != CheckWay::Host
    {
        log.error(
            written.at,
            "the program of an exec check chooses its way itself",
        )
        .help("leave `via` out, or write \"host\"");
    }
    let is_read = raw.interval.certain()
        && raw.fast_interval.certain()
        && raw.timeout.certain()
        && raw.rise.certain()
        && raw.fall.certain()
        && raw.port.certain()
        && raw.via.certain()
        && raw.request.certain();
    if log.errors() > errors || !is_read {
        return None;
    }
    Some(HealthConfig {
        probe: probe?,
        port,
        via,
        interval,
        fast_interval,
        timeout,
        rise: raw.rise.get().map_or(2, |it| it.0),
        fall: raw.fall.get().map_or(3, |it| it.0),
    })
}

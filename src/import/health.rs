//! The health check of a service.

use super::emit::{Keys, quoted, span};
use super::{Check, RealServer, Remarks, VirtualService};

/// The check that a service has for all its real servers: that of the first one that has any.
pub(super) fn common_check<'a>(
    reals: &'a [RealServer],
    service: &VirtualService,
    remarks: &mut Remarks,
) -> Option<&'a Check> {
    let check = reals.iter().find_map(|real| real.check.as_ref())?;
    if service.port == 0 && check.port.is_none() && !matches!(check.kind, "icmp" | "exec") {
        remarks.lost(
            &check.at,
            "the check: a service of every port does not say which port it goes to (connect_port)",
        );
        return None;
    }
    for real in reals {
        match &real.check {
            None => remarks.note(&real.at, format!(
                "{} has no check of its own, but weir checks all real servers of a service alike (line {})",
                real.address, check.at.line
            )),
            Some(other) if !other.is_like(check) => remarks.lost(&other.at, format!(
                "this check: weir checks all real servers of a service alike, as the first one is (line {})",
                check.at.line
            )),
            Some(_) => {}
        }
    }
    Some(check)
}

/// `[health]` allows no longer interval.
const LONGEST_MS: u64 = 3_600_000;

pub(super) fn write_check(out: &mut String, check: &Check, remarks: &mut Remarks) {
    let pace = check.pace;
    let interval = pace.interval.clamp(10, LONGEST_MS);
    let fast = pace.before_retry.clamp(10, interval);
    let shortest = if pace.retries > 0 {
        fast.min(interval)
    } else {
        interval
    };
    let timeout = pace.timeout.clamp(10, interval);
    // A check that fails by its timeout is asked again after that and the pause.
    let fast = fast.max(timeout).min(interval);
    if timeout != pace.timeout {
        remarks.note(
            &check.at,
            format!(
                "a timeout of {} is longer than the interval: {}",
                span(pace.timeout),
                span(timeout)
            ),
        );
    }
    let mut keys = Keys::default();
    keys.put("type", quoted(check.kind));
    keys.put("interval", span(interval));
    if pace.retries > 0 && shortest != interval && fast != interval {
        keys.put("fast_interval", span(fast));
    }
    keys.put("timeout", span(timeout));
    keys.put("rise", 1);
    keys.put("fall", pace.retries.saturating_add(1).clamp(1, 100));
    if let Some(port) = check.port {
        keys.put("port", port);
    }
    if !check.request.is_empty() {
        let request = check
            .request
            .iter()
            .map(|(key, value)| format!("{key} = {value}"));
        keys.put(
            "request",
            format!("{{ {} }}", request.collect::<Vec<_>>().join(", ")),
        );
    }
    *out += "\n  [service.health]\n";
    keys.write(out, "  ");
}

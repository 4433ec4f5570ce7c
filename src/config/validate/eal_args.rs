//! `eal_args`: the EAL answers what it does not know with its whole usage, so its options are known here.

use crate::config::error::{At, Log, Span, did_you_mean, quote};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// In the same word behind `=`, or in the next.
    Value,
    /// Only in the same word.
    MaybeValue,
}
use Takes::{MaybeValue, Nothing, Value};

/// What DPDK 22.11 to 24.11 take (`eal_long_options`).
const LONG: &[(&str, Takes)] = &[
    ("allow", Value),
    ("base-virtaddr", Value),
    ("block", Value),
    ("create-uio-dev", Nothing),
    ("file-prefix", Value),
    ("force-max-simd-bitwidth", Value),
    ("help", Nothing),
    ("huge-dir", Value),
    ("huge-unlink", MaybeValue),
    ("huge-worker-stack", MaybeValue),
    ("in-memory", Nothing),
    ("iova-mode", Value),
    ("lcores", Value),
    ("legacy-mem", Nothing),
    ("log-color", MaybeValue),
    ("log-level", Value),
    ("log-timestamp", MaybeValue),
    ("main-lcore", Value),
    ("match-allocations", Nothing),
    ("mbuf-pool-ops-name", Value),
    ("no-hpet", Nothing),
    ("no-huge", Nothing),
    ("no-pci", Nothing),
    ("no-shconf", Nothing),
    ("no-telemetry", Nothing),
    ("proc-type", Value),
    ("single-file-segments", Nothing),
    ("socket-limit", Value),
    ("socket-mem", Value),
    ("syslog", Value),
    ("telemetry", Nothing),
    ("trace", Value),
    ("trace-bufsz", Value),
    ("trace-dir", Value),
    ("trace-mode", Value),
    ("vdev", Value),
    ("version", Nothing),
    ("vfio-intr", Value),
    ("vfio-vf-token", Value),
    ("vmware-tsc-map", Nothing),
];

/// `eal_short_options`.
const SHORT: &[(&str, Takes)] = &[
    ("a", Value),
    ("b", Value),
    ("c", Value),
    ("d", Value),
    ("h", Nothing),
    ("l", Value),
    ("m", Value),
    ("n", Value),
    ("r", Value),
    ("s", Value),
    ("S", Value),
    ("v", Nothing),
];

/// What weir says itself, or what would end it, and what to write instead.
const NOT_HERE: &[(&[&str], &str)] = &[
    (
        &["c", "l", "lcores", "main-lcore", "s", "S"],
        "the keys `workers` and `main_lcore` say it",
    ),
    (
        &["h", "help", "v", "version"],
        "it only prints something: remove it",
    ),
    (
        &["proc-type"],
        "weir is a primary process and shares nothing: remove it",
    ),
];

/// Checks the words as `getopt_long` and the EAL read them.
pub(super) fn check(args: &[At<String>], log: &mut Log) {
    let mut words = args.iter();
    while let Some(At { value: word, at }) = words.next() {
        if word.contains('\0') {
            log.error(*at, format!("{} contains a zero byte", quote(word)))
                .help("remove it: no program takes it in an argument");
            continue;
        }
        if word == "--" {
            if let Some(rest) = words.next() {
                log.warning(rest.at, "the EAL looks at nothing after `--`")
                    .help("remove the `--` and what is behind it");
            }
            return;
        }
        let (name, takes, has_value) = if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let Some((name, takes)) = long_option(name) else {
                unknown(word, name, *at, log);
                continue;
            };
            if takes == Nothing && value.is_some() {
                log.error(*at, format!("the EAL's option `--{name}` takes no value"))
                    .help(format!("write \"--{name}\""));
                continue;
            }
            (name, takes, value.is_some())
        } else if let Some(short) = word.strip_prefix('-').filter(|short| !short.is_empty()) {
            let length = short.chars().next().map_or(0, char::len_utf8);
            let (name, value) = short.split_at(length);
            let Some(&(name, takes)) = SHORT.iter().find(|(known, _)| *known == name) else {
                unknown(word, short, *at, log);
                continue;
            };
            (name, takes, !value.is_empty())
        } else {
            log.warning(
                *at,
                format!("{} belongs to no option: the EAL ignores it", quote(word)),
            )
            .help("write the option before it, or remove it");
            continue;
        };
        let missing = takes == Value && !has_value && words.next().is_none();
        if let Some((_, why)) = NOT_HERE.iter().find(|(names, _)| names.contains(&name)) {
            log.error(
                *at,
                format!("{} does not belong into `eal_args`", quote(word)),
            )
            .help(*why);
        } else if missing {
            log.error(
                *at,
                format!("the EAL's option {} lacks its value", quote(word)),
            )
            .help("write the value behind it, as the next string of the list");
        }
    }
}

/// By its name, or by a beginning that no other has.
fn long_option(name: &str) -> Option<(&'static str, Takes)> {
    if let Some(&exact) = LONG.iter().find(|(known, _)| *known == name) {
        return Some(exact);
    }
    let mut found = LONG.iter().filter(|(known, _)| known.starts_with(name));
    match (found.next(), found.next()) {
        (Some(&only), None) => Some(only),
        _ => None,
    }
}

fn unknown(word: &str, name: &str, at: Span, log: &mut Log) {
    let first = name.split_whitespace().next().unwrap_or_default();
    let guess = did_you_mean(first, LONG.iter().map(|(known, _)| *known));
    // `--socket-mem 64` in one string.
    let help = match word.split_once(char::is_whitespace) {
        Some((option, value)) => format!("write the option and its value as two strings: \"{option}\", \"{}\"", value.trim()),
        None => "see https://doc.dpdk.org/guides/linux_gsg/linux_eal_parameters.html; most files need no `eal_args`".to_owned(),
    };
    let guess = match word.contains(char::is_whitespace) {
        true => String::new(),
        false => guess,
    };
    log.error(at, format!("the EAL has no option {}{guess}", quote(word)))
        .help(help);
}

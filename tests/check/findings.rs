//! What is refused or doubted, section by section: a table of cases for each.

use super::{CONTEXT, NETWORK, parse};
use weir::config::{self, Context, Severity};

/// Checks a file of cases. `### ` begins one with its name; ` #! 8 message` at the end of a line says that something is
/// found in column 8 of this line (`warning: ` before the message: not an error; ` => remedy` behind it: what the help
/// says), and there may be several. Nothing else may be found. `rest` is appended to every case.
fn hold(cases: &str, rest: &str) {
    for case in cases.split("### ").skip(1) {
        let (name, text) = case.split_once('\n').unwrap();
        let mut expected = Vec::new();
        for (line, written) in (1..).zip(text.lines()) {
            for finding in written.split("#! ").skip(1) {
                let (column, part) = finding.trim().split_once(' ').unwrap();
                let (severity, part) = match part.strip_prefix("warning: ") {
                    Some(part) => (Severity::Warning, part),
                    None => (Severity::Error, part),
                };
                let (part, help) = part.split_once(" => ").unwrap_or((part, ""));
                expected.push((line, column.parse::<usize>().unwrap(), severity, part, help));
            }
        }
        let (found, refused) = match config::parse(&format!("{text}\n{rest}"), "lb.toml", &CONTEXT)
        {
            Ok(loaded) => (loaded.warnings, false),
            Err(diagnostics) => (diagnostics, true),
        };
        assert_eq!(
            refused,
            found.iter().any(|it| it.severity == Severity::Error),
            "{name}"
        );
        assert_eq!(found.len(), expected.len(), "{name}: {found}");
        for (it, (line, column, severity, part, help)) in found.iter().zip(expected) {
            assert_eq!(
                (it.line, it.column, it.severity),
                (line, column, severity),
                "{name}: {found}"
            );
            assert!(
                it.message.contains(part),
                "{name}: `{}` lacks `{part}`",
                it.message
            );
            let said = it.help.as_deref();
            assert!(
                said.is_some_and(|said| said.contains(help)),
                "{name}: `{}` says {said:?}, not `{help}`",
                it.message
            );
        }
    }
}

#[test]
fn values_are_refused_where_they_stand() {
    hold(include_str!("values.txt"), NETWORK);
}

/// One port has a companion, the other one IPv6.
const HOSTED: &str = r#"
[[port]]
name = "wan"
device = "net_tap0"
companion = "host0"
addresses = ["198.51.100.1/24"]
[[port]]
name = "lan"
device = "net_tap1"
addresses = ["10.0.0.1/24", "2001:db8:10::1/64"]
[[route]]
to = "0.0.0.0/0"
via = "198.51.100.254"
[[route]]
to = "10.20.0.0/16"
via = "10.0.0.254"
[[local_pool]]
name = "inside"
addresses = ["10.0.0.200"]
[[local_pool]]
name = "inside6"
addresses = ["2001:db8:10::200"]
[[local_pool]]
name = "low"
addresses = ["10.0.0.201"]
ports = "512-2000"
"#;

#[test]
fn ways_of_checks_are_refused_where_there_are_none() {
    hold(include_str!("ways.txt"), HOSTED);
}

/// Two ports with addresses of both families.
const DUAL: &str = r#"
[[port]]
name = "wan"
device = "net_tap0"
addresses = ["198.51.100.1/24", "2001:db8:1::1/64"]
[[port]]
name = "lan"
device = "net_tap1"
addresses = ["10.0.0.1/24", "fd00:a::1/64"]
"#;

/// A port with a companion, and one without.
const COMPANION: &str = r#"
[[port]]
name = "wan"
device = "net_tap0"
addresses = ["198.51.100.1/24"]
announce = ["192.0.2.0/24"]
companion = "weir-wan"
[[port]]
name = "lan"
device = "net_tap1"
addresses = ["10.0.0.1/24"]
[[route]]
to = "198.18.0.0/15"
via = "198.51.100.254"
"#;

#[test]
fn what_a_service_does_with_too_few_real_servers_is_checked() {
    hold(include_str!("availability.txt"), COMPANION);
}

#[test]
fn addresses_of_both_families_are_checked_alike() {
    hold(include_str!("ipv6.txt"), DUAL);
}

#[test]
fn what_others_write_gets_the_sentence_that_helps() {
    hold(include_str!("hints.txt"), NETWORK);
}

#[test]
fn workers_are_cpus_of_this_machine() {
    hold(include_str!("workers.txt"), NETWORK);
    let anywhere = Context {
        cpus: None,
        ..CONTEXT
    };
    let text = format!(
        r#"[dpdk]
workers = [77]
{NETWORK}"#
    );
    assert!(config::parse(&text, "lb.toml", &anywhere).is_ok());
    let many = format!(
        "[dpdk]\nworkers = {:?}\n{NETWORK}",
        (0..65).collect::<Vec<_>>()
    );
    let refused = config::parse(&many, "lb.toml", &anywhere)
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("error: lb.toml:2:11: 65 workers are too many"),
        "{refused}"
    );
}

#[test]
fn ports_are_checked() {
    hold(include_str!("ports.txt"), "");
    let seventeen: String = (0..17)
        .map(|i| {
            format!(
                "[[port]]\nname = \"p{i}\"\ndevice = \"net_null{i}\"\naddresses = [\"10.{i}.0.1/24\"]\n"
            )
        })
        .collect();
    let diagnostics = parse(&seventeen).unwrap_err();
    assert!(
        diagnostics
            .to_string()
            .starts_with("error: lb.toml:65:1: 17 ports are too many"),
        "{diagnostics}"
    );
}

#[test]
fn a_replay_does_not_look_at_devices() {
    let replay = Context {
        cpus: None,
        devices: false,
    };
    let text = r#"
[dpdk]
eal_args = ["--nope"]
[[port]]
name = "wan"
device = "eth1"
addresses = ["198.51.100.1/24"]
[[port]]
name = "lan"
device = "eth1"
addresses = ["10.0.0.1/24"]
"#;
    let loaded = config::parse(text, "lb.toml", &replay).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(parse(text).unwrap_err().len(), 3);
}

#[test]
fn routes_and_neighbours_are_checked() {
    hold(include_str!("routes.txt"), NETWORK);
}

#[test]
fn pools_are_checked() {
    hold(include_str!("pools.txt"), NETWORK);
}

#[test]
fn rules_of_snat_are_checked() {
    hold(include_str!("snat.txt"), NETWORK);
}

#[test]
fn services_share_real_servers() {
    hold(include_str!("real_pools.txt"), NETWORK);
}

#[test]
fn services_are_checked() {
    hold(include_str!("services.txt"), NETWORK);
}

#[test]
fn real_servers_are_checked() {
    hold(include_str!("reals.txt"), NETWORK);
}

#[test]
fn health_checks_are_refused_where_they_stand() {
    hold(include_str!("health.txt"), NETWORK);
}

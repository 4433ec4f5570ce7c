//! What people write who have another program's file in mind, or TOML's rules not: the sentence that helps them.

use super::error::quote;
use super::raw::TABLES;
use std::net::{IpAddr, SocketAddr};
use toml::de::DeValue;

/// Keys and tables of other programs, where they are written, and what weir has instead.
const OTHER_NAMES: &[(&str, &[&str], &str)] = &[
    (
        "the file",
        &["vip", "vips", "virtual_server", "frontend", "listen"],
        "a virtual service is a [[service]] with `address`, `port`, `protocol` and `mode`",
    ),
    (
        "the file",
        &[
            "real_server",
            "backend",
            "backends",
            "server",
            "servers",
            "upstream",
            "rs",
        ],
        "a real server is a [[service.real]] below its [[service]]",
    ),
    (
        "the file",
        &["interface", "interfaces", "nic", "device"],
        "a device that weir drives is a [[port]]",
    ),
    (
        "the file",
        &["laddr", "snat_pool", "local_address"],
        "the source addresses of fullnat are a [[local_pool]]",
    ),
    (
        "[[service]]",
        &["vip", "ip", "virtual"],
        "the VIP is the key `address`",
    ),
    (
        "[[service]]",
        &["algorithm", "algo", "lb_algo", "balance"],
        "the key is `scheduler`, with ipvsadm's names",
    ),
    (
        "[[service]]",
        &["lb_kind", "forward", "type", "method"],
        "the forwarding mode is the key `mode`",
    ),
    (
        "[[service]]",
        &[
            "backend",
            "backends",
            "server",
            "servers",
            "reals",
            "real_server",
            "realserver",
        ],
        "each real server is a table [[service.real]] below its [[service]]",
    ),
    (
        "[[service]]",
        &["persistence_timeout", "persistent", "sticky"],
        "write `persistence = { timeout = 300 }`",
    ),
    (
        "[[service]]",
        &["laddr", "snat_pool"],
        "the name of a [[local_pool]] is the key `local_pool`",
    ),
    (
        "[[service]]",
        &["sorry_server", "sorry", "backup", "fallbacks"],
        "sorry servers are the key `fallback`: `fallback = [\"10.0.0.99:80\"]`",
    ),
    (
        "[[service]]",
        &["quorum", "panic_threshold", "healthy_panic_threshold"],
        "how many real servers a service needs is the key `min_healthy`, a number or \"50%\"",
    ),
    (
        "[[service]]",
        &["outlier_detection", "observe", "max_fails", "fail_timeout"],
        "real servers whose connections fail are taken out by `passive = { failures = 5, within = \"10s\", hold = \"30s\" }`",
    ),
    (
        "[[service]]",
        &["health_check", "healthcheck", "check", "checks", "monitor"],
        "health checks are the table [service.health], or `health = \"NAME\"` of a [health.NAME]",
    ),
    (
        "health",
        &["delay_loop", "inter", "every", "period"],
        "the time between checks is the key `interval`",
    ),
    (
        "health",
        &["retry", "retries", "unhealthy_threshold"],
        "how many checks in a row must fail is the key `fall`",
    ),
    (
        "health",
        &["healthy_threshold"],
        "how many checks in a row must pass is the key `rise`",
    ),
    (
        "health",
        &[
            "path", "host", "status", "method", "body", "send", "expect", "command",
        ],
        "what is asked is in the key `request`: `request = { path = \"/healthz\" }`",
    ),
    (
        "[[service.real]]",
        &["ip", "host", "server"],
        "the real server's address is the key `address`",
    ),
    (
        "[[port]]",
        &["interface", "pci", "driver"],
        "what the EAL calls the device is the key `device`",
    ),
    (
        "[[port]]",
        &["address", "ip"],
        "the key is `addresses`, a list: `addresses = [\"198.51.100.1/24\"]`",
    ),
    (
        "[[route]]",
        &["gateway", "next_hop", "nexthop", "gw"],
        "the next router is the key `via`",
    ),
    (
        "[[route]]",
        &["destination", "prefix", "network"],
        "the destination is the key `to`",
    ),
];

/// Words of other programs for those of weir, by what the words are.
const OTHER_WORDS: &[(&str, &[&str], &str)] = &[
    (
        "forwarding mode",
        &["masq", "masquerade", "masquerading", "snat", "dnat"],
        "nat",
    ),
    (
        "forwarding mode",
        &["gate", "gatewaying", "direct", "droute", "dsr", "route"],
        "dr",
    ),
    (
        "forwarding mode",
        &["fnat", "full-nat", "full_nat"],
        "fullnat",
    ),
    ("idle policy", &["busy", "busy-poll", "spin"], "poll"),
    ("idle policy", &["sleep", "interrupt"], "adaptive"),
    ("hugepage policy", &["yes", "true", "always"], "require"),
    ("hugepage policy", &["no", "false", "off", "none"], "never"),
];

/// What to do about a key that its table does not have, if there is more to say than which keys it has.
pub(super) fn of_key(key: &str, value: &DeValue<'_>, table: &str) -> Option<String> {
    let lower = key.to_lowercase();
    let named = |(at, names, _): &&(&str, &[&str], &str)| *at == table && names.contains(&&*lower);
    if let Some((.., help)) = OTHER_NAMES.iter().find(named) {
        return Some((*help).to_owned());
    }
    let mut homes: Vec<_> = TABLES
        .iter()
        .filter(|(title, keys)| *title != table && keys.contains(&key))
        .map(|(title, _)| *title)
        // Most real servers are a service's own.
        .filter(|title| !(key == "real" && *title == "[[pool]]"))
        .collect();
    // What stands below a [[service.real]] was most probably meant for its service.
    if table == "[[service.real]]" && homes.contains(&"[[service]]") {
        homes = vec!["[[service]]"];
    }
    let is_table = value.is_table()
        || value
            .as_array()
            .is_some_and(|list| list.iter().any(|item| item.get_ref().is_table()));
    match homes[..] {
        [] => None,
        ["[[service]]"] if table == "[[service.real]]" => Some(format!(
            "`{key}` is a key of [[service]]: in TOML a line belongs to the nearest header above it, so write it above \
             the service's first [[service.real]]"
        )),
        // `[[real]]`: a header, not a line.
        ["[[service]]"] if key == "real" && is_table => {
            Some("write [[service.real]], below the [[service]] that it belongs to".to_owned())
        }
        ["[[service]]"] if key == "persistence" && is_table => {
            Some("write `persistence = { … }` below the [[service]] that it belongs to".to_owned())
        }
        ["the file"] => Some(format!(
            "`{key}` is a key of the file as a whole: in TOML a line belongs to the nearest header above it, so write \
             it above the first one"
        )),
        _ => Some(format!(
            "`{key}` is a key of {}: in TOML a line belongs to the nearest header above it",
            homes.join(" and of ")
        )),
    }
}

/// What to write instead of a value of the wrong kind.
pub(super) fn of_value(key: &str, value: &DeValue<'_>) -> Option<String> {
    Some(match (key, value) {
        ("persistence", DeValue::Integer(seconds)) => {
            format!("write `persistence = {{ timeout = {seconds} }}`")
        }
        ("persistence", DeValue::String(span)) => {
            format!(
                "write `persistence = {{ timeout = \"{}\" }}`",
                span.escape_debug()
            )
        }
        ("persistence", DeValue::Boolean(true)) => {
            "write `persistence = { timeout = 300 }`, in seconds".to_owned()
        }
        ("persistence" | "companion" | "mac" | "local_pool", DeValue::Boolean(false)) => {
            "leave the key out".to_owned()
        }
        ("hugepages", DeValue::Boolean(true)) => {
            "write \"require\"; or \"auto\" to use them when there are enough".to_owned()
        }
        ("hugepages", DeValue::Boolean(false)) => "write \"never\"".to_owned(),
        ("listen", DeValue::Boolean(false)) => "write \"\" to turn it off".to_owned(),
        ("listen", DeValue::Integer(port)) => format!("write \"127.0.0.1:{port}\""),
        ("protocol", DeValue::Integer(number)) => match number.as_str() {
            "6" => "write \"tcp\"".to_owned(),
            "17" => "write \"udp\"".to_owned(),
            "132" => "write \"sctp\"".to_owned(),
            _ => return None,
        },
        _ => return None,
    })
}

/// What to write instead of text where a number belongs.
pub(super) fn of_number(value: &DeValue<'_>) -> Option<String> {
    let text = value.as_str()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("write {text}, without quotes"))
}

/// What to write instead of one value where a list belongs.
pub(super) fn of_list(key: &str, value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(format!("write `{key} = [\"{}\"]`", text.escape_debug())),
        DeValue::Integer(number) => Some(format!("write `{key} = [{number}]`")),
        _ => None,
    }
}

/// weir's word for that of another program.
pub(super) fn of_word(what: &str, word: &str) -> Option<&'static str> {
    let lower = word.to_lowercase();
    let means =
        |(kind, names, _): &&(&str, &[&str], &str)| *kind == what && names.contains(&&*lower);
    OTHER_WORDS.iter().find(means).map(|(.., word)| *word)
}

/// What is wrong with a text that is nearly an address, and what to write.
pub(super) fn of_address(key: &str, written: &str) -> Option<(&'static str, String)> {
    if let Ok(both) = written.parse::<SocketAddr>() {
        let (address, port) = (both.ip(), both.port());
        return Some((
            "is an address and a port",
            match key {
                "address" => format!("write `address = \"{address}\"` and `port = {port}`"),
                _ => format!("write \"{address}\""),
            },
        ));
    }
    if let Some((address, _)) = written.split_once('/')
        && address.parse::<IpAddr>().is_ok()
    {
        return Some((
            "is an address with a prefix length",
            format!("write the address alone: \"{address}\""),
        ));
    }
    let is_name = written.contains(|c: char| c.is_ascii_alphabetic())
        && written
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    is_name.then(|| {
        (
            "is no IPv4 address",
            "write the address itself, such as \"192.0.2.80\": names are not looked up".to_owned(),
        )
    })
}

/// The line of a TOML text with quotes around what lacks them, if that is what is wrong with it.
pub(super) fn quoted(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next().unwrap_or_default().trim();
    let key = key.trim();
    if value.is_empty() || key.contains(['"', '\'', '{', '[']) || value.contains(['"', '\'', '{']) {
        return None;
    }
    let list = value
        .strip_prefix('[')
        .and_then(|list| list.strip_suffix(']'));
    let mut lacking = false;
    let mut quote = |item: &str| {
        let item = item.trim();
        let plain = item.replace('_', "");
        let known = plain.parse::<f64>().is_ok()
            || ["true", "false"].contains(&item)
            || plain.starts_with("0x")
            || plain.starts_with("0o")
            || plain.starts_with("0b");
        if known || item.is_empty() {
            return item.to_owned();
        }
        lacking = true;
        format!("\"{item}\"")
    };
    let mended = match list {
        Some(list) => {
            let items: Vec<_> = list.split(',').map(&mut quote).collect();
            format!("[{}]", items.join(", "))
        }
        None if value.contains(['[', ']']) => return None,
        None => quote(value),
    };
    lacking.then(|| format!("{key} = {mended}"))
}

/// For the middle of a message.
pub(super) fn mend(mended: &str) -> String {
    format!("text stands in quotes: write {}", quote(mended))
}

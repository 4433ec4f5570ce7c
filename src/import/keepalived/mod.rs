//! keepalived.conf: its virtual servers with their checks. What it says of VRRP is another program's still.

mod checks;
mod service;
mod tree;

pub use tree::Reader;

use super::{
    Encapsulation, Failed, Found, Imported, Method, Options, Place, Remark, Remarks, emit,
};
use crate::config::did_you_mean;
use tree::Node;

/// Reads a file, and by `read` those that it includes.
///
/// # Errors
/// Where it cannot be read, or has no virtual server.
pub fn keepalived(
    text: &str,
    name: &str,
    read: Reader<'_>,
    options: &Options,
) -> Result<Imported, Failed> {
    let mut remarks = Remarks::default();
    let nodes = match tree::read(text, name, read, &mut remarks) {
        Ok(nodes) => nodes,
        Err((at, text)) => {
            let why = Remark {
                at,
                is_lost: true,
                text,
            };
            return Err(Failed {
                why,
                remarks: remarks.sorted(),
            });
        }
    };
    let mut found = Found::default();
    let groups: Vec<_> = nodes
        .iter()
        .filter(|it| it.keyword() == "virtual_server_group")
        .collect();
    let pools: Vec<_> = nodes
        .iter()
        .filter(|it| it.keyword() == "local_address_group")
        .collect();
    let mut used = Vec::new();
    for node in &nodes {
        match node.keyword() {
            "virtual_server" => {
                let mut carrier = service::Carrier {
                    groups: &groups,
                    pools: &pools,
                    remarks: &mut remarks,
                };
                used.extend(carrier.group_of(node));
                carrier.virtual_server(node, &mut found);
            }
            "virtual_server_group" | "local_address_group" => {}
            "global_defs" => global(node, &mut found, &mut remarks),
            "vrrp_instance" => vrrp(node, &mut remarks),
            "vrrp_sync_group" | "vrrp_script" | "vrrp_track_process" | "vrrp_track_file"
            | "static_ipaddress" | "static_routes" | "static_rules" | "track_group"
            | "bfd_instance" | "garp_group" => {
                remarks.note(
                    &node.at,
                    format!("{}: keepalived's still, weir does no VRRP", node.keyword()),
                );
            }
            "SSL" => remarks.lost(
                &node.at,
                "SSL: weir's checks show no certificate of their own",
            ),
            "linkbeat_interfaces"
            | "linkbeat_use_polling"
            | "net_namespace"
            | "namespace_with_ipsets"
            | "use_pid_dir"
            | "instance"
            | "notify_fifo"
            | "notify_fifo_script"
            | "child_wait_time"
            | "checker_log_all_failures"
            | "process_names" => {}
            "" => remarks.lost(&node.at, "a block without a keyword"),
            other => remarks.lost(&node.at, unknown(other, TOP)),
        }
    }
    for group in groups {
        if !used.iter().any(|name| Some(name.as_str()) == group.word(0)) {
            remarks.note(&group.at, "no virtual server uses this group");
        }
    }
    if found.services.is_empty() {
        let has_vrrp = nodes.iter().any(|it| it.keyword().starts_with("vrrp"));
        let more = if has_vrrp {
            ", only VRRP, which stays keepalived's"
        } else {
            ""
        };
        let at = Place {
            file: name.into(),
            line: 0,
        };
        let text = format!("no virtual_server found{more}: nothing to import");
        let why = Remark {
            at,
            is_lost: true,
            text,
        };
        return Err(Failed {
            why,
            remarks: remarks.sorted(),
        });
    }
    let text = emit::emit(name, found, options, &mut remarks);
    Ok(Imported {
        text,
        remarks: remarks.sorted(),
    })
}

const TOP: &[&str] = &[
    "virtual_server",
    "virtual_server_group",
    "global_defs",
    "vrrp_instance",
    "vrrp_script",
    "vrrp_sync_group",
    "static_routes",
];

/// What is said of a keyword that keepalived does not have either.
fn unknown(keyword: &str, known: &[&str]) -> String {
    let guess = did_you_mean(keyword, known.iter().copied());
    format!("keepalived has no keyword {keyword:?} here, and passes over it{guess}")
}

/// `lvs_timeouts`; nothing else of it is about virtual servers.
fn global(node: &Node, found: &mut Found, remarks: &mut Remarks) {
    for child in node.children() {
        match child.keyword() {
            "lvs_timeouts" => {
                let words = &child.words[1..];
                for pair in words.chunks(2) {
                    let key = match pair[0].as_str() {
                        "tcp" => "tcp_established",
                        "tcpfin" => "tcp_fin_wait",
                        "udp" => "udp",
                        other => {
                            remarks.lost(&child.at, format!("lvs_timeouts: there is no {other:?}"));
                            continue;
                        }
                    };
                    match pair.get(1).and_then(|it| it.parse::<u64>().ok()) {
                        Some(0) => {}
                        Some(seconds) => {
                            found.timeouts.retain(|(_, other, _)| *other != key);
                            found.timeouts.push((child.at.clone(), key, seconds));
                        }
                        None => remarks.lost(
                            &child.at,
                            format!("lvs_timeouts {}: a number of seconds is missing", pair[0]),
                        ),
                    }
                }
            }
            "lvs_sync_daemon" | "lvs_sync_daemon_interface" => {
                remarks.lost(
                    &child.at,
                    "the synchronisation of connections: weir's own is by [cluster]",
                );
            }
            "lvs_flush"
            | "lvs_flush_onstop"
            | "router_id"
            | "script_user"
            | "enable_script_security" => {}
            _ => {}
        }
    }
}

/// Says which addresses VRRP moves.
fn vrrp(node: &Node, remarks: &mut Remarks) {
    let blocks = node.children().iter();
    let blocks = blocks.filter(|it| it.keyword().starts_with("virtual_ipaddress"));
    let addresses: Vec<_> = blocks.flat_map(Node::children).map(Node::keyword).collect();
    let name = node.word(0).unwrap_or_default();
    remarks.note(&node.at, format!(
        "vrrp_instance {name} moves {}: weir does no VRRP; keepalived may go on doing it on the companion of a port",
        match addresses.is_empty() {
            true => "no address".to_owned(),
            false => addresses.join(", "),
        }
    ));
}

/// `lb_kind`.
fn method(word: &str) -> Option<Method> {
    Some(match word {
        "DR" => Method::Route,
        "NAT" => Method::Masq,
        "TUN" => Method::Tunnel(Encapsulation::Ipip),
        "FNAT" => Method::Fullnat,
        _ => return None,
    })
}

/// A time in seconds, as `3` or `0.5`, in milliseconds.
fn millis(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    let is_fine = seconds.is_finite() && (0.0..=1e9).contains(&seconds);
    is_fine.then_some((seconds * 1000.0).round() as u64)
}

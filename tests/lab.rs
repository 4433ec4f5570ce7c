//! Real clients and real servers around a running weir, in network namespaces (scripts/lab). As root only.

mod skip;

use std::process::Command;
use std::sync::RwLock;

/// Labs that move as much as they can have a small machine for themselves; those that mostly wait run beside one another.
static MACHINE: RwLock<()> = RwLock::new(());
const HEAVY: [&str; 8] = [
    "client-address",
    "traffic",
    "reload",
    "resilience",
    "restart",
    "fragments",
    "host",
    "many",
];

fn lab(scenario: &str, arguments: &[&str]) {
    lab_with(1, scenario, arguments);
}

/// With so many workers, on two cores.
fn lab_with(workers: usize, scenario: &str, arguments: &[&str]) {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("network namespaces take root");
    }
    let (_alone, _beside) = if workers > 2 || HEAVY.contains(&scenario) {
        (Some(MACHINE.write()), None)
    } else {
        (None, Some(MACHINE.read()))
    };
    let top = env!("CARGO_MANIFEST_DIR");
    let status = Command::new(format!("{top}/scripts/lab"))
        .arg(format!("{top}/tests/lab/{scenario}.sh"))
        .args(arguments)
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .env("LAB_SECONDS", "180")
        .env("LAB_WORKERS", workers.to_string())
        .status()
        .expect("scripts/lab starts");
    assert!(
        status.success(),
        "LAB_WORKERS={workers} scripts/lab tests/lab/{scenario}.sh {arguments:?}: {status}"
    );
}

#[test]
fn a_newcomer_gets_through_the_first_page() {
    lab("first", &[]);
}

#[test]
fn real_servers_connect_outwards_from_addresses_of_a_pool() {
    lab("snat", &[]);
    lab_with(2, "snat", &[]);
}

#[test]
fn dr_carries_http_dns_and_iperf3_unharmed() {
    lab("traffic", &["dr"]);
}

#[test]
fn nat_carries_http_dns_and_iperf3_unharmed() {
    lab("traffic", &["nat"]);
}

#[test]
fn fullnat_carries_http_dns_and_iperf3_unharmed() {
    lab("traffic", &["fullnat"]);
}

#[test]
fn connections_outlive_a_weir_that_is_killed() {
    for mode in MODES {
        lab("restart", &[mode, "1000"]);
    }
}

#[test]
fn live_packets_are_captured_on_both_sides() {
    lab("capture", &["fullnat"]);
    lab_with(2, "capture", &["fullnat", "6", "4"]);
    lab("capture", &["dr"]);
}

#[test]
fn the_host_announces_a_vip_while_it_is_served() {
    lab("announce", &[]);
}

#[test]
fn prometheus_answers_every_query_of_the_dashboard() {
    lab("monitoring", &[]);
}

#[test]
fn what_clients_connect_to_is_logged() {
    lab("connection-log", &[]);
}

#[test]
fn dr_carries_ipv6_between_kernels() {
    lab("ipv6", &["dr"]);
}

#[test]
fn nat_carries_ipv6_between_kernels() {
    lab("ipv6", &["nat"]);
}

#[test]
fn fullnat_carries_ipv6_between_kernels() {
    lab("ipv6", &["fullnat"]);
}

#[test]
fn icmp_errors_reach_the_end_that_they_are_for() {
    for mode in ["dr", "nat", "fullnat"] {
        lab("errors", &[mode]);
    }
}

#[test]
fn dr_carries_datagrams_in_fragments() {
    lab("fragments", &["dr"]);
}

#[test]
fn nat_carries_datagrams_in_fragments() {
    lab("fragments", &["nat"]);
}

#[test]
fn fullnat_carries_datagrams_in_fragments() {
    lab("fragments", &["fullnat"]);
}

#[test]
fn any_of_four_workers_takes_fragments() {
    for mode in ["dr", "nat", "fullnat"] {
        lab_with(4, "fragments", &[mode]);
    }
}

#[test]
fn real_servers_beyond_a_router_take_packets_out_of_tunnels() {
    for kind in ["ipip", "gre", "gue", "gue0", "l3dsr"] {
        lab("tunnel", &[kind]);
    }
}

#[test]
fn the_server_kit_takes_packets_out_of_tunnels() {
    lab("tunnel", &["gre", "kit"]);
    lab("kit", &["tunnel"]);
}

#[test]
#[ignore = "the test above is its short form; scripts/test --full runs it"]
fn the_server_kit_takes_packets_out_of_each_tunnel() {
    for kind in ["ipip", "gue", "gue0"] {
        lab("tunnel", &[kind, "kit"]);
    }
}

#[test]
fn the_server_kit_tells_unmodified_programs_their_clients() {
    lab("kit", &["toa"]);
    lab_with(2, "kit-toa", &[]);
}

#[test]
fn nginx_and_haproxy_behind_fullnat_know_their_clients() {
    lab("client-address", &["4", "4", "5", "10000"]);
}

#[test]
#[ignore = "minutes: one pair of families and one worker run above; scripts/test --full runs all"]
fn nginx_and_haproxy_of_either_family_know_clients_of_either() {
    for (front, back) in [("4", "4"), ("6", "6"), ("4", "6"), ("6", "4")] {
        lab_with(4, "client-address", &[front, back, "20", "10000"]);
    }
}

#[test]
fn nginx_knows_the_clients_that_weir_tells_the_server_kit_of() {
    lab("toa", &["4", "5"]);
    lab("toa", &["6", "5"]);
}

#[test]
fn quic_connections_keep_their_real_server_when_clients_move() {
    for mode in MODES {
        lab("quic", &[mode]);
    }
    lab_with(4, "quic", &["fullnat", "6", "4"]);
}

#[test]
#[ignore = "minutes: the test above is its short form; scripts/test --full runs it"]
fn quic_connections_keep_their_real_server_in_either_family_on_any_worker() {
    for mode in MODES {
        for family in ["4", "6"] {
            lab_with(4, "quic", &[mode, family]);
        }
    }
    lab_with(4, "quic", &["fullnat", "4", "6"]);
}

#[test]
fn the_host_uses_a_port_over_ipv6() {
    lab("ipv6-host", &[]);
}

const MODES: [&str; 3] = ["dr", "nat", "fullnat"];
/// Megabytes and connections, where 120 and 10,000 are only for `scripts/test --full`.
const SHORT: [&str; 2] = ["20", "1000"];

#[test]
fn ipv6_carries_http_dns_and_iperf3_unharmed() {
    for mode in MODES {
        lab("traffic", &[mode, "6", "6", SHORT[0], SHORT[1]]);
    }
}

#[test]
#[ignore = "minutes: the test above is its short form; scripts/test --full runs it"]
fn ipv6_carries_120_mb_and_10_000_connections_unharmed() {
    for mode in MODES {
        lab("traffic", &[mode, "6"]);
        lab_with(2, "traffic", &[mode, "6"]);
    }
}

#[test]
fn fullnat_between_the_families_carries_http_dns_and_iperf3_unharmed() {
    for (front, back) in [("6", "4"), ("4", "6")] {
        lab("traffic", &["fullnat", front, back, SHORT[0], SHORT[1]]);
    }
}

#[test]
#[ignore = "minutes: the test above is its short form; scripts/test --full runs it"]
fn fullnat_between_the_families_carries_120_mb_and_2_000_connections_unharmed() {
    for (front, back) in [("6", "4"), ("4", "6")] {
        lab("traffic", &["fullnat", front, back, "120", "2000"]);
        lab_with(2, "traffic", &["fullnat", front, back, "120", "2000"]);
    }
}

#[test]
fn nothing_depends_on_which_of_two_workers_a_packet_meets() {
    for mode in MODES {
        lab_with(2, "traffic", &[mode, "6", "6", SHORT[0], SHORT[1]]);
    }
}

#[test]
#[ignore = "a minute: IPv6 with two workers and IPv4 with four run by default; scripts/test --full runs it"]
fn nothing_depends_on_which_of_two_workers_a_packet_of_ipv4_meets() {
    for mode in MODES {
        lab_with(2, "traffic", &[mode]);
    }
}

#[test]
fn nothing_depends_on_which_of_four_workers_a_packet_meets() {
    for mode in MODES {
        lab_with(4, "traffic", &[mode, "4", "4", SHORT[0], SHORT[1]]);
    }
}

#[test]
#[ignore = "minutes: the test above is its short form; scripts/test --full runs it"]
fn four_workers_carry_120_mb_and_10_000_connections_unharmed() {
    for mode in MODES {
        lab_with(4, "traffic", &[mode]);
    }
}

#[test]
fn reloads_under_load_fail_nothing_over_ipv6_with_two_workers() {
    lab_with(2, "reload", &["nat", "6"]);
}

#[test]
#[ignore = "a minute: one mode runs above; scripts/test --full runs all"]
fn reloads_under_load_fail_nothing_over_ipv6_in_any_mode() {
    for mode in MODES {
        lab("reload", &[mode, "6"]);
    }
    for (front, back) in [("6", "4"), ("4", "6")] {
        lab_with(2, "reload", &["fullnat", front, back]);
    }
}

#[test]
fn reloads_under_load_fail_nothing_with_four_workers() {
    for mode in MODES {
        lab_with(4, "reload", &[mode]);
    }
}

#[test]
fn an_operator_gets_answers_refusals_and_clean_stops() {
    lab("operate", &[]);
}

#[test]
fn the_host_uses_the_same_port_and_bird_announces_the_vip() {
    lab("host", &[]);
}

#[test]
fn any_of_four_workers_serves_the_host() {
    lab_with(4, "host", &[]);
}

#[test]
fn what_goes_wrong_is_noticed_told_and_over_when_it_is_over() {
    lab("resilience", &[]);
}

#[test]
fn a_port_may_be_a_bond() {
    lab("bond", &[]);
    lab_with(2, "bond", &[]);
}

#[test]
fn ports_in_vlans_share_a_device_whoever_puts_the_tags_on() {
    lab("vlan", &["tap"]);
    lab("vlan", &["af_packet"]);
    lab_with(2, "vlan", &["tap"]);
}

#[test]
fn frames_of_9000_bytes_pass_with_tags_and_without() {
    lab("vlan", &["pcap"]);
}

#[test]
fn a_bundle_loads_its_own_drivers_only() {
    lab("bundle", &[]);
}

#[test]
fn reloads_under_load_fail_nothing_in_dr() {
    lab("reload", &["dr"]);
}

#[test]
fn reloads_under_load_fail_nothing_in_nat() {
    lab("reload", &["nat"]);
}

#[test]
fn reloads_under_load_fail_nothing_in_fullnat() {
    lab("reload", &["fullnat"]);
}

#[test]
fn dr_takes_dead_real_servers_out_in_time() {
    lab("health", &["dr"]);
}

#[test]
fn nat_takes_dead_real_servers_out_in_time() {
    lab_with(2, "health", &["nat"]);
}

#[test]
fn fullnat_takes_dead_real_servers_of_ipv6_out_in_time() {
    lab("health", &["fullnat", "4", "6"]);
}

#[test]
fn dead_real_servers_are_found_through_a_companion_too() {
    lab("health", &["nat", "4", "4", "companion"]);
}

#[test]
#[ignore = "more of the same over IPv6: scripts/test --full runs it"]
fn dead_real_servers_of_ipv6_are_found_through_a_companion_too() {
    lab("health", &["fullnat", "4", "6", "companion"]);
}

#[test]
fn reloads_of_many_checked_services_flap_nothing() {
    lab("many", &["nat", "2000"]);
}

#[test]
#[ignore = "minutes: the test above is its short form; scripts/test --full runs it"]
fn reloads_of_20_000_checked_services_flap_nothing_in_any_mode() {
    for mode in MODES {
        lab("many", &[mode]);
    }
}

#[test]
fn checks_by_the_way_of_clients_find_what_others_miss() {
    lab("via", &["ipip"]);
}

#[test]
#[ignore = "the test above is its short form; scripts/test --full runs it"]
fn checks_by_the_way_of_clients_go_by_each_tunnel_and_any_worker() {
    for kind in ["ipip", "gre", "gue"] {
        lab_with(2, "via", &[kind]);
    }
}

#[test]
fn haproxy_thinks_the_same_of_a_server_by_the_same_checks() {
    lab("second-opinion", &[]);
}

#[test]
fn real_servers_are_what_operators_said_and_the_dead_get_nothing() {
    for mode in ["dr", "nat", "fullnat"] {
        lab("state", &[mode]);
    }
    lab_with(2, "state", &["nat"]);
}

//! A configuration as a file that means the same: what is in force, however it came to be.
//!
//! Every value is written, defaults too, but where it could not be told from a default that follows the machine. Structs are
//! taken apart whole, so that no new key can be forgotten here.

pub(super) mod health;

use super::health::HealthUse;
use super::value::Word;
use super::{
    Api, ApiTls, AvailabilityConfig, CheckAddresses, ClientList, Config, ConnectionLog, Dpdk,
    Encapsulation, GueVariant, HostPeer, Limits, Listen, LocalPool, LogDestination, LogEvent,
    LogFormat, Metrics, ModeConfig, OwnTimeouts, PassiveConfig, PersistenceConfig, PoolReal,
    PortConfig, Protocol, Queues, QuicConfig, RealConfig, RealPool, RouteConfig, ServiceConfig,
    Share, SnatConfig, StaticNeighbour, TcpMss, Thresholds, TimeoutsConfig, TunnelConfig,
};
use crate::net::Vlan;
use health::{Secrets, health_table};
use humantime::format_duration;
use ipnet::IpNet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use toml::{Table, Value};

impl Config {
    /// Everything but the services, as TOML.
    pub fn written(&self) -> String {
        let Config {
            reverse_path,
            unknown_tcp,
            state_file,
            connections_file,
            check_addresses,
            dpdk,
            api,
            limits,
            timeouts,
            metrics,
            connection_log,
            ports,
            routes,
            neighbours,
            pools,
            snat,
            real_pools,
            health,
            services: _,
            host_peers,
        } = self;
        let mut file = Table::new();
        put(&mut file, "reverse_path", word(*reverse_path));
        put(&mut file, "unknown_tcp", word(*unknown_tcp));
        put_some(&mut file, "state_file", state_file.as_deref().map(path));
        let connections_file = connections_file.as_deref().map(path);
        put_some(&mut file, "connections_file", connections_file);
        let CheckAddresses { v4, v6 } = *check_addresses;
        put(
            &mut file,
            "check_addresses",
            list(&[IpNet::from(v4), v6.into()]),
        );
        put(&mut file, "dpdk", dpdk_table(dpdk));
        put(&mut file, "api", api_table(api));
        put(&mut file, "limits", limits_table(limits));
        put(&mut file, "timeouts", timeouts_table(timeouts));
        let Metrics { per_real } = *metrics;
        put(
            &mut file,
            "metrics",
            Table::from_iter([("per_real".to_owned(), per_real.into())]),
        );
        let connection_log = connection_log.as_ref().map(connection_log_table);
        put_some(&mut file, "connection_log", connection_log);
        let named = health.iter();
        let named = named
            .map(|(name, health)| (name.clone(), health_table(health, Secrets::Hidden).into()));
        put(&mut file, "health", named.collect::<Table>());
        put(&mut file, "port", tables(ports, port_table));
        put(
            &mut file,
            "route",
            tables(routes, |it| self.route_table(it)),
        );
        put(
            &mut file,
            "neighbour",
            tables(neighbours, |it| self.neighbour_table(it)),
        );
        put(&mut file, "local_pool", tables(pools, pool_table));
        put(&mut file, "snat", tables(snat, |it| self.snat_table(it)));
        put(&mut file, "pool", tables(real_pools, real_pool_table));
        put(
            &mut file,
            "host_peer",
            tables(host_peers, |it| self.peer_table(it)),
        );
        text(&file)
    }

    fn route_table(&self, route: &RouteConfig) -> Table {
        let RouteConfig { to, via, port } = *route;
        let mut table = Table::new();
        put(&mut table, "to", said(to));
        put(&mut table, "via", self.on_link(via, port));
        table
    }

    fn neighbour_table(&self, neighbour: &StaticNeighbour) -> Table {
        let StaticNeighbour { address, port, mac } = *neighbour;
        let mut table = Table::new();
        put(&mut table, "address", self.on_link(address, port));
        put(&mut table, "mac", said(mac));
        table
    }

    fn snat_table(&self, rule: &SnatConfig) -> Table {
        let SnatConfig {
            from,
            pool,
            out_port,
            timeouts,
        } = rule;
        let port = out_port.and_then(|place| self.ports.get(place));
        let mut table = Table::new();
        put(&mut table, "from", said(from));
        put(&mut table, "pool", pool.clone());
        put_some(&mut table, "out_port", port.map(|port| port.name.clone()));
        put(&mut table, "timeouts", own_timeouts_table(timeouts));
        table
    }

    fn peer_table(&self, peer: &HostPeer) -> Table {
        let HostPeer {
            address,
            port,
            ttl_security,
        } = *peer;
        let mut table = Table::new();
        put(&mut table, "address", self.on_link(address, port));
        put_some(&mut table, "ttl_security", ttl_security.map(i64::from));
        table
    }

    /// `fe80::1%wan`, or an address without the port that it tells itself.
    fn on_link(&self, address: IpAddr, port: Option<usize>) -> String {
        match port.and_then(|port| self.ports.get(port)) {
            Some(port) => format!("{address}%{}", port.name),
            None => address.to_string(),
        }
    }
}

impl ServiceConfig {
    /// The service as TOML: a `[[service]]` table.
    pub fn written(&self) -> String {
        self.write(Secrets::Hidden)
    }

    /// The same with every secret: to be read again, never to be shown.
    pub(super) fn written_with_secrets(&self) -> String {
        self.write(Secrets::Open)
    }

    fn write(&self, secrets: Secrets) -> String {
        let ServiceConfig {
            name,
            protocol,
            address,
            port,
            last_port,
            mode,
            scheduler,
            flags,
            persistence,
            when_unavailable,
            unknown_tcp,
            tcp_mss,
            quic,
            client_address,
            health,
            slow_start,
            on_down,
            timeouts,
            on_idle,
            one_packet,
            histograms,
            connection_log,
            availability,
            announce,
            on_drain,
            passive,
            pool,
            allow,
            deny,
            limits,
            reals,
            fallback,
        } = self;
        let mut table = Table::new();
        put(&mut table, "name", name.clone());
        put(&mut table, "protocol", protocol.name());
        put(&mut table, "address", said(address));
        match last_port {
            0 => put(&mut table, "port", i64::from(*port)),
            last => put(&mut table, "port", format!("{port}-{last}")),
        }
        put_mode(&mut table, mode);
        put(&mut table, "scheduler", scheduler.name());
        let flags: Vec<_> = flags.words(*scheduler).map(Value::from).collect();
        put_some(&mut table, "flags", (!flags.is_empty()).then_some(flags));
        put_some(
            &mut table,
            "persistence",
            persistence.as_ref().map(persistence_table),
        );
        put(&mut table, "when_unavailable", word(*when_unavailable));
        put_some(&mut table, "unknown_tcp", unknown_tcp.map(word));
        put_some(
            &mut table,
            "quic",
            quic.as_ref().map(|quic| quic_table(quic, secrets)),
        );
        put_some(
            &mut table,
            "tcp_mss",
            tcp_mss.map(|mss| match mss {
                TcpMss::Auto => Value::from("auto"),
                TcpMss::Bytes(most) => i64::from(most).into(),
            }),
        );
        put(&mut table, "client_address", word(*client_address));
        put_some(
            &mut table,
            "health",
            health.as_ref().map(|health| match health {
                HealthUse::Own(health) => Value::from(health_table(health, secrets)),
                HealthUse::Named(name) => name.as_str().into(),
            }),
        );
        put_some(&mut table, "slow_start", slow_start.map(span));
        put(&mut table, "on_down", word(*on_down));
        put(&mut table, "timeouts", own_timeouts_table(timeouts));
        put(&mut table, "on_idle", word(*on_idle));
        put(&mut table, "one_packet", *one_packet);
        put(&mut table, "histograms", *histograms);
        put(&mut table, "connection_log", *connection_log);
        let servers = fallback.iter().map(|it| fallback_server(it).into());
        put(&mut table, "fallback", servers.collect::<Vec<Value>>());
        let AvailabilityConfig {
            min_healthy,
            hysteresis,
            when_below,
        } = *availability;
        put(&mut table, "min_healthy", share(min_healthy));
        put(&mut table, "hysteresis", share(hysteresis));
        put(&mut table, "when_below", word(when_below));
        put(&mut table, "announce", word(*announce));
        if *protocol == Protocol::Udp {
            let after = on_drain.map_or_else(|| "keep".to_owned(), span);
            put(&mut table, "on_drain", after);
        }
        put_some(&mut table, "passive", passive.as_ref().map(passive_table));
        let limits = limits.iter().flat_map(|limits| limits.given());
        let limits = limits.map(|(key, most)| (key.to_owned(), i64::from(most).into()));
        put(&mut table, "limits", limits.collect::<Table>());
        match pool {
            Some(pool) => put(&mut table, "pool", pool.as_str()),
            None => put(&mut table, "real", tables(reals, real_table)),
        }
        put_some(&mut table, "allow", allow.as_ref().map(client_list));
        put_some(&mut table, "deny", deny.as_ref().map(client_list));
        let mut file = Table::new();
        put(&mut file, "service", vec![Value::from(table)]);
        text(&file)
    }
}

fn put(table: &mut Table, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let is_empty = match &value {
        Value::Array(items) => items.is_empty(),
        Value::Table(table) => table.is_empty(),
        _ => false,
    };
    if !is_empty {
        table.insert(key.to_owned(), value);
    }
}

fn put_some(table: &mut Table, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        put(table, key, value);
    }
}

fn said(value: impl Display) -> String {
    value.to_string()
}

/// As the parser of these values takes it.
fn connection_log_table(log: &ConnectionLog) -> Table {
    let ConnectionLog {
        to,
        format,
        sample,
        starts,
        ends,
        domain,
    } = log;
    let mut table = Table::new();
    match to {
        LogDestination::File(file) => put(&mut table, "file", path(file)),
        LogDestination::Collector(to, transport) => {
            put(&mut table, "collector", to.to_string());
            put(&mut table, "transport", word(*transport));
        }
    }
    put(&mut table, "format", word(*format));
    let events = [(*starts, LogEvent::Start), (*ends, LogEvent::End)];
    let events = events.into_iter().filter(|(is_logged, _)| *is_logged);
    let events = events.map(|(_, event)| word(event).into());
    put(&mut table, "events", events.collect::<Vec<Value>>());
    put(&mut table, "sample", i64::from(*sample));
    if *format == LogFormat::Ipfix {
        put(&mut table, "observation_domain", i64::from(*domain));
    }
    table
}

pub(crate) fn word<T: Word + PartialEq>(value: T) -> &'static str {
    let mut words = T::WORDS.iter();
    let found = words.find(|(_, known)| *known == value);
    found.map_or("", |(word, _)| word)
}

fn span(span: Duration) -> String {
    format_duration(span).to_string()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn socket(at: &Path) -> String {
    format!("unix:{}", path(at))
}

fn list<T: Display>(items: &[T]) -> Vec<Value> {
    items.iter().map(|item| said(item).into()).collect()
}

fn tables<T>(items: &[T], table: impl Fn(&T) -> Table) -> Vec<Value> {
    items.iter().map(|item| table(item).into()).collect()
}

fn text(file: &Table) -> String {
    // Strings, numbers, lists and tables: all of that can be written.
    toml::to_string(file).unwrap_or_default()
}

fn dpdk_table(dpdk: &Dpdk) -> Table {
    let Dpdk {
        workers,
        default_workers,
        main_lcore,
        hugepages,
        idle,
        rss_key,
        mbufs,
        burst,
        eal_args,
    } = dpdk;
    let number = |number: &usize| Value::from(*number as i64);
    let mut table = Table::new();
    if !default_workers {
        put(
            &mut table,
            "workers",
            workers.iter().map(number).collect::<Vec<_>>(),
        );
    }
    put(&mut table, "main_lcore", number(main_lcore));
    put(&mut table, "hugepages", word(*hugepages));
    put(&mut table, "idle", word(*idle));
    put(&mut table, "rss_key", word(*rss_key));
    put_some(&mut table, "mbufs", mbufs.as_ref().map(number));
    put(&mut table, "burst", i64::from(*burst));
    put(&mut table, "eal_args", list(eal_args));
    table
}

fn api_table(api: &Api) -> Table {
    let Api {
        listen,
        control,
        control_is_default,
        token_file,
        public_metrics,
        tls,
    } = api;
    let mut table = Table::new();
    put(
        &mut table,
        "listen",
        match listen {
            Listen::Off => String::new(),
            Listen::Tcp(address) => said(address),
            Listen::Unix(path) => socket(path),
        },
    );
    if !control_is_default {
        put(
            &mut table,
            "control",
            control.as_deref().map(socket).unwrap_or_default(),
        );
    }
    put_some(&mut table, "token_file", token_file.as_deref().map(path));
    put(&mut table, "public_metrics", *public_metrics);
    put_some(&mut table, "tls", tls.as_ref().map(tls_table));
    table
}

fn tls_table(tls: &ApiTls) -> Table {
    let ApiTls {
        certificate,
        key,
        client_ca,
    } = tls;
    let mut table = Table::new();
    put(&mut table, "certificate", path(certificate));
    put(&mut table, "key", path(key));
    put_some(&mut table, "client_ca", client_ca.as_deref().map(path));
    table
}

fn limits_table(limits: &Limits) -> Table {
    let Limits {
        connections,
        fragmented_datagrams,
        waiting_fragments,
        waiting_fragment_bytes,
        fragment_timeout,
        answers_per_second,
        host_packets_per_second,
        host_peer_packets_per_second,
    } = *limits;
    let mut table = Table::new();
    for (key, number) in [
        ("connections", connections as i64),
        ("fragmented_datagrams", fragmented_datagrams as i64),
        ("waiting_fragments", waiting_fragments as i64),
        ("waiting_fragment_bytes", waiting_fragment_bytes as i64),
        ("answers_per_second", answers_per_second.into()),
        ("host_packets_per_second", host_packets_per_second.into()),
        (
            "host_peer_packets_per_second",
            host_peer_packets_per_second.into(),
        ),
    ] {
        put(&mut table, key, number);
    }
    put(&mut table, "fragment_timeout", span(fragment_timeout));
    table
}

fn own_timeouts_table(timeouts: &OwnTimeouts) -> Table {
    let own = timeouts.given().map(|(key, timeout)| (key, span(timeout)));
    let own = own.map(|(key, timeout)| (key.to_owned(), Value::from(timeout)));
    own.collect()
}

fn timeouts_table(timeouts: &TimeoutsConfig) -> Table {
    let TimeoutsConfig {
        tcp_established,
        tcp_syn_sent,
        tcp_syn_recv,
        tcp_fin_wait,
        tcp_time_wait,
        tcp_close,
        tcp_close_wait,
        tcp_last_ack,
        tcp_listen,
        tcp_synack,
        udp,
        sctp_established,
        tcp_half_closed,
        icmp,
    } = *timeouts;
    let mut table = Table::new();
    for (key, timeout) in [
        ("tcp_established", tcp_established),
        ("tcp_syn_sent", tcp_syn_sent),
        ("tcp_syn_recv", tcp_syn_recv),
        ("tcp_fin_wait", tcp_fin_wait),
        ("tcp_time_wait", tcp_time_wait),
        ("tcp_close", tcp_close),
        ("tcp_close_wait", tcp_close_wait),
        ("tcp_last_ack", tcp_last_ack),
        ("tcp_listen", tcp_listen),
        ("tcp_synack", tcp_synack),
        ("udp", udp),
        ("sctp_established", sctp_established),
        ("icmp", icmp),
    ] {
        put(&mut table, key, span(timeout));
    }
    put_some(&mut table, "tcp_half_closed", tcp_half_closed.map(span));
    table
}

fn port_table(port: &PortConfig) -> Table {
    let PortConfig {
        name,
        device,
        addresses,
        announce,
        accept_ra,
        forward,
        on: _,
        vlan,
        mac,
        mtu,
        queues,
        companion,
    } = port;
    let mut table = Table::new();
    put(&mut table, "name", name.as_str());
    put(&mut table, "device", device.as_str());
    put(&mut table, "addresses", list(addresses));
    put(&mut table, "announce", list(announce));
    put(&mut table, "accept_ra", *accept_ra);
    put(&mut table, "forward", *forward);
    match vlan {
        Vlan::Untagged => {}
        Vlan::Tagged(id) => put(&mut table, "vlan", i64::from(*id)),
        Vlan::Stacked { .. } => put(&mut table, "vlan", said(vlan)),
    }
    put_some(&mut table, "mac", mac.map(said));
    put(&mut table, "mtu", i64::from(*mtu));
    put(
        &mut table,
        "queues",
        match queues {
            Queues::Auto => Value::from("auto"),
            Queues::Pairs(pairs) => i64::from(*pairs).into(),
        },
    );
    put_some(&mut table, "companion", companion.as_deref());
    table
}

fn pool_table(pool: &LocalPool) -> Table {
    let LocalPool {
        name,
        addresses,
        ports: (first, last),
    } = pool;
    let mut table = Table::new();
    put(&mut table, "name", name.as_str());
    put(&mut table, "addresses", list(addresses));
    put(&mut table, "ports", format!("{first}-{last}"));
    table
}

fn real_table(real: &RealConfig) -> Table {
    let RealConfig {
        address,
        port,
        weight,
        thresholds,
        server_id,
    } = real;
    let mut table = Table::new();
    put(&mut table, "address", said(address));
    put(&mut table, "port", i64::from(*port));
    put(&mut table, "weight", i64::from(*weight));
    if let Some(Thresholds { max, min }) = thresholds {
        put(&mut table, "max_connections", i64::from(max.get()));
        put(&mut table, "min_connections", i64::from(*min));
    }
    put_some(&mut table, "server_id", server_id.as_ref().map(said));
    table
}

fn real_pool_table(pool: &RealPool) -> Table {
    let RealPool { name, reals } = pool;
    let mut table = Table::new();
    put(&mut table, "name", name.as_str());
    put(&mut table, "real", tables(reals, pool_real_table));
    table
}

fn pool_real_table(real: &PoolReal) -> Table {
    let PoolReal { port, real } = real;
    let mut table = real_table(real);
    table.remove("port");
    put_some(&mut table, "port", port.map(i64::from));
    table
}

fn quic_table(quic: &QuicConfig, secrets: Secrets) -> Table {
    let QuicConfig {
        server_id_length,
        connection_id_length,
        config_id,
        key,
    } = *quic;
    let mut table = Table::new();
    for (name, value) in [
        ("server_id_length", server_id_length),
        ("connection_id_length", connection_id_length),
        ("config_id", config_id),
    ] {
        put(&mut table, name, i64::from(value));
    }
    let digits = |key: [u8; 16]| key.map(|byte| format!("{byte:02x}")).concat();
    // Another key in its place, so that the file is one that can be checked.
    let shown = |key| match secrets {
        Secrets::Open => digits(key),
        Secrets::Hidden => digits([0; 16]),
    };
    put_some(&mut table, "key", key.map(shown));
    table
}

/// Its weight is never written: all have the same.
fn fallback_server(server: &RealConfig) -> String {
    let RealConfig {
        address,
        port,
        weight: _,
        thresholds: _,
        server_id: _,
    } = *server;
    said(SocketAddr::new(address, port))
}

fn share(share: Share) -> Value {
    match share {
        Share::Count(count) => i64::from(count).into(),
        Share::Percent(_) => said(share).into(),
    }
}

fn persistence_table(persistence: &PersistenceConfig) -> Table {
    let PersistenceConfig {
        timeout,
        prefix_v4,
        prefix_v6,
        through_drain,
    } = *persistence;
    let mut table = Table::new();
    put(&mut table, "timeout", span(timeout));
    put(&mut table, "prefix_v4", i64::from(prefix_v4));
    put(&mut table, "prefix_v6", i64::from(prefix_v6));
    put(&mut table, "through_drain", through_drain);
    table
}

fn client_list(clients: &ClientList) -> Vec<Value> {
    let files = clients.files.iter();
    let files = files.map(|file| Value::from(format!("file:{}", path(&file.path))));
    list(&clients.prefixes).into_iter().chain(files).collect()
}

fn passive_table(passive: &PassiveConfig) -> Table {
    let PassiveConfig {
        failures,
        within,
        hold,
    } = *passive;
    let mut table = Table::new();
    put(&mut table, "failures", i64::from(failures));
    put(&mut table, "within", span(within));
    put(&mut table, "hold", span(hold));
    table
}

fn put_mode(table: &mut Table, mode: &ModeConfig) {
    let name = match mode {
        ModeConfig::Dr => "dr",
        ModeConfig::Nat => "nat",
        ModeConfig::Fullnat { pool } => {
            put(table, "local_pool", pool.as_str());
            "fullnat"
        }
        ModeConfig::L3dsr { dscp } => {
            put(table, "dscp", i64::from(*dscp));
            "l3dsr"
        }
        ModeConfig::Tunnel(TunnelConfig {
            encapsulation,
            source,
        }) => {
            put(table, "tunnel", encapsulation.name());
            put_some(table, "tunnel_source", source.map(said));
            if let Encapsulation::Gue {
                port,
                variant,
                zero_checksum,
            } = *encapsulation
            {
                put(table, "gue_port", i64::from(port));
                put(
                    table,
                    "gue_variant",
                    match variant {
                        GueVariant::Header => 0,
                        GueVariant::Plain => 1,
                    },
                );
                put(table, "gue_zero_checksum", zero_checksum);
            }
            "tunnel"
        }
    };
    put(table, "mode", name);
}

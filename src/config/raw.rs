//! The tables of the file and their keys: the one list that the parser, "did you mean" and the documentation's test read.

use super::address::{AddressRange, Destination, HostPrefix, OnLink, PortRange};
use super::availability::{Announce, HostPort, Least, More, WhenBelow};
use super::check_value::{
    ByName, CheckKind, HealthChoice, Hex, OnDrain, Pace, Rcodes, SlowStart, StatusCodes,
};
use super::clients::Entry;
use super::error::{Log, Span, did_you_mean, quote};
use super::hints;
use super::value::{
    AbsolutePath, Collector, ControlSocket, Device, Encapsulation, Given, Int, Interface, List,
    ModeWord, Name, Protocols, ServicePort, Value, wrong_type,
};
use super::{
    CheckWay, ClientAddress, Hugepages, Idle, Listen, LogEvent, LogFormat, OnDown, OnIdle, Queues,
    RecordType, ReversePath, RssKey, TcpMss, Transport, UnknownTcp, WhenUnavailable,
};
use crate::net::{Mac, Vlan};
use std::net::IpAddr;
use std::time::Duration;
use toml::de::DeValue;

/// A key as it is written: some are words of the language.
macro_rules! written {
    ($key:ident) => {
        stringify!($key)
    };
    ($key:ident $alias:literal) => {
        $alias
    };
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident $title:literal { $($key:ident $(as $alias:literal)?: $type:ty $(, $need:ident)?;)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Default)]
            pub(super) struct $name {
                $(pub $key: Given<$type>,)*
            }

            impl $name {
                pub(super) const KEYS: &'static [&'static str] = &[$(written!($key $($alias)?),)*];

                /// The keys that are in the file and could be read, with their places.
                #[allow(dead_code, reason = "not every table is asked")]
                pub(super) fn given(&self) -> impl Iterator<Item = (&'static str, Span)> {
                    let given = [$((written!($key $($alias)?), self.$key.ok().map(|it| it.at)),)*];
                    given.into_iter().filter_map(|(key, at)| Some((key, at?)))
                }
            }

            impl Value for $name {
                const LIST: &'static str = concat!("tables under ", $title);

                fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
                    let Some(table) = value.as_table() else {
                        wrong_type(value, concat!("one table ", $title), at, log);
                        return None;
                    };
                    let mut this = $name::default();
                    for (key, value) in table {
                        match key.get_ref().as_ref() {
                            $(written!($key $($alias)?) => {
                                log.key = written!($key $($alias)?);
                                this.$key = Given::read(value, at.file, log);
                            })*
                            unknown => unknown_key(unknown, value.get_ref(), $title, Self::KEYS, log.span(at.file, key.span()), log),
                        }
                    }
                    $(
                        let _name = written!($key $($alias)?);
                        $(
                            const _: &str = stringify!($need);
                            if matches!(this.$key, Given::No) {
                                missing_key(_name, $title, at, log);
                            }
                        )?
                    )*
                    Some(this)
                }
            }
        )*

        /// Every table, as it is written, with its keys.
        pub(super) const TABLES: &[(&str, &[&str])] = &[$(($title, $name::KEYS),)*];
    };
}

tables! {
    /// A whole file.
    Root "the file" {
        include: List<String>;
        reverse_path: ReversePath;
        unknown_tcp: UnknownTcp;
        state_file: AbsolutePath;
        connections_file: AbsolutePath;
        check_addresses: List<Destination>;
        dpdk: Dpdk;
        api: Api;
        limits: Limits;
        timeouts: Timeouts;
        metrics: Metrics;
        connection_log: ConnectionLog;
        port: List<Port>;
        route: List<Route>;
        neighbour: List<Neighbour>;
        local_pool: List<LocalPool>;
        snat: List<Snat>;
        pool: List<RealPool>;
        health: ByName<Health>;
        service: List<Service>;
        host_peer: List<HostPeer>;
    }
    Dpdk "[dpdk]" {
        workers: List<Int<0, 1023>>;
        main_lcore: Int<0, 1023>;
        hugepages: Hugepages;
        idle: Idle;
        rss_key: RssKey;
        mbufs: Int<1024, 16_777_216>;
        burst: Int<1, 64>;
        eal_args: List<String>;
    }
    Api "[api]" {
        listen: Listen;
        control: ControlSocket;
        token_file: AbsolutePath;
        public_metrics: bool;
        tls: ApiTls;
    }
    ApiTls "tls" {
        certificate: AbsolutePath, required;
        key: AbsolutePath, required;
        client_ca: AbsolutePath;
    }
    Limits "[limits]" {
        connections: Int<1, 268_435_456>;
        fragmented_datagrams: Int<16, 1_048_576>;
        waiting_fragments: Int<16, 1_048_576>;
        waiting_fragment_bytes: Int<65_536, 4_294_967_295>;
        fragment_timeout: Duration;
        answers_per_second: Int<0, 1_000_000>;
        host_packets_per_second: Int<0, 10_000_000>;
        host_peer_packets_per_second: Int<0, 10_000_000>;
    }
    Timeouts "[timeouts]" {
        tcp_established: Duration;
        tcp_syn_sent: Duration;
        tcp_syn_recv: Duration;
        tcp_fin_wait: Duration;
        tcp_time_wait: Duration;
        tcp_close: Duration;
        tcp_close_wait: Duration;
        tcp_last_ack: Duration;
        tcp_listen: Duration;
        tcp_synack: Duration;
        udp: Duration;
        sctp_established: Duration;
        tcp_half_closed: Duration;
        icmp: Duration;
    }
    Metrics "[metrics]" {
        per_real: bool;
    }
    ConnectionLog "[connection_log]" {
        file: AbsolutePath;
        collector: Collector;
        transport: Transport;
        format: LogFormat;
        events: List<LogEvent>;
        sample: Int<1, 1_000_000>;
        observation_domain: Int<0, 4_294_967_295>;
    }
    Port "[[port]]" {
        name: Name, required;
        device: Device, required;
        addresses: List<HostPrefix>;
        announce: List<Destination>;
        accept_ra: bool;
        forward: bool;
        mac: Mac;
        mtu: Int<576, 65_000>;
        queues: Queues;
        companion: Interface;
        vlan: Vlan;
    }
    Route "[[route]]" {
        to: Destination, required;
        via: OnLink, required;
    }
    Neighbour "[[neighbour]]" {
        address: OnLink, required;
        mac: Mac, required;
    }
    HostPeer "[[host_peer]]" {
        address: OnLink, required;
        ttl_security: Int<1, 254>;
    }
    LocalPool "[[local_pool]]" {
        name: Name, required;
        addresses: List<AddressRange>, required;
        ports: PortRange;
    }
    Snat "[[snat]]" {
        from: Destination, required;
        pool: String, required;
        out_port: String;
        timeouts: Timeouts;
    }
    Service "[[service]]" {
        name: Name;
        address: IpAddr, required;
        port: ServicePort, required;
        protocol: Protocols, required;
        mode: ModeWord, required;
        tunnel: Encapsulation;
        tunnel_source: IpAddr;
        gue_port: Int<1, 65_535>;
        gue_variant: Int<0, 1>;
        gue_zero_checksum: bool;
        dscp: Int<1, 63>;
        local_pool: String;
        scheduler: String;
        flags: List<String>;
        persistence: Persistence;
        when_unavailable: WhenUnavailable;
        unknown_tcp: UnknownTcp;
        tcp_mss: TcpMss;
        quic: Quic;
        client_address: ClientAddress;
        health: HealthChoice;
        slow_start: SlowStart;
        on_down: OnDown;
        timeouts: Timeouts;
        on_idle: OnIdle;
        one_packet: bool;
        histograms: bool;
        connection_log: bool;
        fallback: List<HostPort>;
        min_healthy: Least;
        hysteresis: More;
        when_below: WhenBelow;
        announce: Announce;
        on_drain: OnDrain;
        passive: Passive;
        pool: String;
        allow: List<Entry>;
        deny: List<Entry>;
        limits: ServiceLimits;
        real: List<Real>;
    }
    Quic "quic" {
        server_id_length: Int<1, 15>, required;
        connection_id_length: Int<6, 20>, required;
        config_id: Int<0, 6>;
        key: Hex;
    }
    ServiceLimits "limits of a service" {
        connections: Int<1, 268_435_456>;
        new_per_second: Int<1, 10_000_000>;
        per_client_connections: Int<1, 268_435_456>;
        per_client_new_per_second: Int<1, 1_000_000>;
    }
    Passive "passive" {
        failures: Int<1, 100_000>;
        within: Pace;
        hold: Pace;
    }
    Persistence "persistence" {
        timeout: Duration;
        prefix_v4: Int<1, 32>;
        prefix_v6: Int<1, 128>;
        through_drain: bool;
    }
    Health "health" {
        kind as "type": CheckKind, required;
        interval: Pace;
        fast_interval: Pace;
        timeout: Pace;
        rise: Int<1, 100>;
        fall: Int<1, 100>;
        port: Int<1, 65_535>;
        via: CheckWay;
        request: Request;
    }
    /// What is asked, and what must come back: each type of check has some of the keys.
    Request "health.request" {
        method: String;
        path: String;
        host: String;
        headers: ByName<String>;
        status: StatusCodes;
        body: String;
        body_regex: String;
        sni: String;
        verify: bool;
        send: String;
        send_hex: Hex;
        expect: String;
        expect_hex: Hex;
        name: String;
        record as "type": RecordType;
        rcode: Rcodes;
        answer: String;
        command: List<String>;
        user: String;
        service: String;
        tls: bool;
    }
    Real "[[service.real]]" {
        address: IpAddr, required;
        port: Int<0, 65_535>;
        weight: Int<0, 65_535>;
        max_connections: Int<0, 4_294_967_295>;
        min_connections: Int<0, 4_294_967_295>;
        server_id: Hex;
    }
    RealPool "[[pool]]" {
        name: Name, required;
        real: List<PoolReal>;
    }
    PoolReal "[[pool.real]]" {
        address: IpAddr, required;
        port: Int<0, 65_535>;
        weight: Int<0, 65_535>;
        max_connections: Int<0, 4_294_967_295>;
        min_connections: Int<0, 4_294_967_295>;
        server_id: Hex;
    }
}

impl PoolReal {
    /// As a service's own: they have the same keys.
    pub(super) fn into_real(self) -> Real {
        let PoolReal {
            address,
            port,
            weight,
            max_connections,
            min_connections,
            server_id,
        } = self;
        Real {
            address,
            port,
            weight,
            max_connections,
            min_connections,
            server_id,
        }
    }
}

fn unknown_key(
    key: &str,
    value: &DeValue<'_>,
    table: &str,
    keys: &[&'static str],
    at: Span,
    log: &mut Log,
) {
    if log.is_full() {
        log.error(at, "");
        return;
    }
    let hint = hints::of_key(key, value, table);
    let guess = match hint {
        Some(_) => String::new(),
        None => did_you_mean(key, keys.iter().copied()),
    };
    log.error(at, format!("unknown key {} in {table}{guess}", quote(key)))
        .help(hint.unwrap_or_else(|| format!("the keys of {table} are: {}", keys.join(", "))));
}

fn missing_key(key: &str, table: &str, at: Span, log: &mut Log) {
    log.error(at, format!("{table} lacks the key `{key}`"))
        .help(format!("add `{key} = …`"));
}

impl Root {
    /// Appends the tables of an included file.
    pub(super) fn append(&mut self, other: Root, log: &mut Log) {
        only_once(
            &mut self.reverse_path,
            other.reverse_path,
            "`reverse_path`",
            log,
        );
        only_once(
            &mut self.unknown_tcp,
            other.unknown_tcp,
            "`unknown_tcp`",
            log,
        );
        only_once(&mut self.state_file, other.state_file, "`state_file`", log);
        only_once(
            &mut self.connections_file,
            other.connections_file,
            "`connections_file`",
            log,
        );
        only_once(
            &mut self.check_addresses,
            other.check_addresses,
            "`check_addresses`",
            log,
        );
        only_once(&mut self.dpdk, other.dpdk, "[dpdk]", log);
        only_once(&mut self.api, other.api, "[api]", log);
        only_once(&mut self.limits, other.limits, "[limits]", log);
        only_once(&mut self.timeouts, other.timeouts, "[timeouts]", log);
        only_once(&mut self.metrics, other.metrics, "[metrics]", log);
        only_once(
            &mut self.connection_log,
            other.connection_log,
            "[connection_log]",
            log,
        );
        append(&mut self.port, other.port);
        append(&mut self.route, other.route);
        append(&mut self.neighbour, other.neighbour);
        append(&mut self.local_pool, other.local_pool);
        append(&mut self.snat, other.snat);
        append(&mut self.pool, other.pool);
        self.health = std::mem::take(&mut self.health).with(other.health, log);
        append(&mut self.service, other.service);
        append(&mut self.host_peer, other.host_peer);
    }
}

fn only_once<T>(this: &mut Given<T>, other: Given<T>, title: &str, log: &mut Log) {
    match (this.ok(), other.ok()) {
        (Some(first), Some(second)) => {
            log.error(second.at, format!("{title} is given twice"))
                .note(first.at, "given here first")
                .help("leave it in one of the two files, with all that belongs to it");
        }
        (None, _) if !matches!(other, Given::No) => *this = other,
        _ => {}
    }
}

fn append<T>(this: &mut Given<List<T>>, other: Given<List<T>>) {
    match (this, other) {
        (Given::Yes(list), Given::Yes(more)) => {
            list.value.items.extend(more.value.items);
            list.value.complete &= more.value.complete;
        }
        (Given::Yes(list), Given::Bad) => list.value.complete = false,
        (this @ Given::Bad, Given::Yes(mut list)) => {
            list.value.complete = false;
            *this = Given::Yes(list);
        }
        (this @ Given::No, more) => *this = more,
        _ => {}
    }
}

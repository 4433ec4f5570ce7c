//! Worlds, services, and changes of both, as they are drawn.

use super::*;

pub(super) const VIPS: u8 = 3;
pub(super) const PORTS: [&str; 5] = ["80", "81", "0", "\"80-90\"", "\"90-95\""];
pub(super) const NAMES: [&str; 3] = ["web", "dns", "mail"];
/// The last two are behind a gateway.
pub(super) const fn real(subnet: u8, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, subnet, 0, host))
}
pub(super) const REALS: [IpAddr; 4] = [real(0, 11), real(0, 12), real(1, 11), real(1, 12)];
pub(super) const MODES: [&str; 7] = [
    "mode = \"dr\"",
    "mode = \"nat\"",
    "mode = \"fullnat\"\nlocal_pool = \"a\"",
    "mode = \"fullnat\"\nlocal_pool = \"b\"",
    "mode = \"tunnel\"",
    "mode = \"tunnel\"\ntunnel = \"gue\"",
    "mode = \"l3dsr\"\ndscp = 9",
];

/// Everything but the services.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// The gateway of the real servers that are behind one: on the one port or on the other.
    pub(super) is_by_wan: bool,
    pub(super) is_loose: bool,
    /// A port has the address of a VIP, so that it cannot be one.
    pub(super) has_vip: bool,
    pub(super) has_static: bool,
    pub(super) pool_ports: u16,
}

#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) vip: u8,
    pub(super) port: usize,
    pub(super) is_udp: bool,
    pub(super) name: Option<usize>,
    pub(super) mode: usize,
    pub(super) scheduler: usize,
    /// Seconds, and bits of the client's address.
    pub(super) persistence: Option<(u32, u8)>,
    pub(super) reals: Vec<(usize, bool, u16)>,
    /// Those that are no real servers.
    pub(super) fallback: Vec<usize>,
    /// `min_healthy` and `when_below`.
    pub(super) minimum: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Apply(World, Vec<Wanted>),
    /// Another world for the same services.
    Rewire(World),
    Set(Vec<Wanted>),
    /// By its place in the configuration, modulo their number; so is the real server.
    Unset(usize),
    Edit(usize, usize, Edit),
    Health(usize, usize, Health),
    /// So many seconds, after which what has no connections left may be forgotten.
    Wait(u32),
}

pub(super) fn worlds() -> impl Strategy<Value = World> {
    let parts = (
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
        any::<bool>(),
        0u16..2,
    );
    parts.prop_map(|(is_by_wan, is_loose, has_vip, has_static, more)| World {
        is_by_wan,
        is_loose,
        has_vip,
        has_static,
        pool_ports: 2000 + more,
    })
}

pub(super) fn services() -> impl Strategy<Value = Vec<Wanted>> {
    let reals = prop::collection::vec((0..REALS.len(), any::<bool>(), 0u16..3), 0..4);
    let service = (
        0..VIPS,
        0..PORTS.len(),
        any::<bool>(),
        prop::option::of(0..NAMES.len()),
        prop::sample::select(&[0, 1, 1, 1, 1, 2, 3, 4, 5, 6][..]),
        0..config::SchedulerConfig::ALL.len(),
        prop::option::weighted(0.3, (1u32..600, prop::sample::select(&[8, 24, 32][..]))),
        reals,
        prop::collection::vec(0..REALS.len(), 0..3),
        prop::option::of((
            prop::sample::select(&["1", "2", "\"50%\"", "\"100%\""][..]),
            prop::sample::select(&["all", "fallback", "refuse"][..]),
        )),
    );
    let service = service.prop_map(
        |(vip, port, is_udp, name, mode, scheduler, persistence, reals, fallback, minimum)| {
            Wanted {
                vip,
                port,
                is_udp,
                name,
                mode,
                scheduler,
                persistence,
                reals,
                fallback,
                minimum,
            }
        },
    );
    prop::collection::vec(service, 0..6)
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let edit = prop_oneof![
        (0u16..3).prop_map(Edit::Weight),
        Just(Edit::Drain),
        Just(Edit::Disable),
        Just(Edit::Enable)
    ];
    let health = prop::sample::select(&Health::ALL[..]);
    let step = prop_oneof![
        2 => (worlds(), services()).prop_map(|(world, services)| Step::Apply(world, services)),
        2 => worlds().prop_map(Step::Rewire),
        3 => services().prop_map(Step::Set),
        2 => (0usize..8).prop_map(Step::Unset),
        3 => (0usize..8, 0usize..4, edit).prop_map(|(n, real, edit)| Step::Edit(n, real, edit)),
        2 => (0usize..8, 0usize..4, health).prop_map(|(n, real, health)| Step::Health(n, real, health)),
        1 => (0u32..700).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..12)
}

pub(super) fn text_of_services(services: &[Wanted]) -> String {
    let mut text = String::new();
    let (mut keys, mut names) = (HashSet::new(), HashSet::new());
    for service in services {
        if !keys.insert((service.vip, service.port, service.is_udp)) {
            continue;
        }
        let port = PORTS[service.port];
        text += &format!(
            "[[service]]\naddress = \"192.0.2.{}\"\nport = {port}\nprotocol = \"{}\"\nscheduler = \"{}\"\nslow_start = 0\n{}\n\
             health = {{ type = \"icmp\" }}\n",
            1 + service.vip,
            if service.is_udp { "udp" } else { "tcp" },
            config::SchedulerConfig::ALL[service.scheduler].name(),
            // Of each VIP its own.
            MODES[service.mode].replace("dscp = 9", &format!("dscp = {}", 9 + service.vip)),
        );
        if port.parse::<u16>().is_ok_and(|port| port != 0) && service.vip % 2 == 0 {
            text += "passive = { failures = 2 }\n";
        }
        if let Some(name) = service.name
            && names.insert(name)
        {
            text += &format!("name = \"{}\"\n", NAMES[name]);
        }
        let is_real = |it: &usize| service.reals.iter().any(|(real, ..)| real == it);
        let fallback: BTreeSet<_> = service.fallback.iter().filter(|it| !is_real(it)).collect();
        let listed: Vec<_> = fallback
            .iter()
            .map(|it| format!("\"{}\"", REALS[**it]))
            .collect();
        text += &format!("fallback = [{}]\n", listed.join(", "));
        if let Some((least, when_below)) = service.minimum
            && !(when_below == "fallback" && fallback.is_empty())
        {
            text += &format!("min_healthy = {least}\nwhen_below = \"{when_below}\"\n");
        }
        if let Some((timeout, prefix)) = service.persistence {
            text +=
                &format!("[service.persistence]\ntimeout = \"{timeout}s\"\nprefix_v4 = {prefix}\n");
        }
        let mut reals = HashSet::new();
        for &(address, is_other, weight) in &service.reals {
            let port = match (is_other, port) {
                (true, port) if port != "0" => "8080",
                // The packet's own.
                (_, range) if range.contains('-') => "0",
                (_, port) => port,
            };
            if reals.insert((address, port)) {
                text += &format!(
                    "[[service.real]]\naddress = \"{}\"\nport = {port}\nweight = {weight}\n",
                    REALS[address]
                );
            }
        }
    }
    text
}

pub(super) fn text_of_world(world: &World) -> String {
    let vip = if world.has_vip {
        ", \"192.0.2.3/32\""
    } else {
        ""
    };
    let gateway = match world.is_by_wan {
        true => "198.51.100.254",
        false => "10.0.0.254",
    };
    let neighbour = match world.has_static {
        true => "[[neighbour]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:11\"\n",
        false => "",
    };
    format!(
        r#"
reverse_path = "{}"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.1/24"{vip}]
[[port]]
name = "wan"
device = "net_null1"
addresses = ["198.51.100.1/24"]
[[route]]
to = "10.1.0.0/16"
via = "{gateway}"
[[local_pool]]
name = "a"
addresses = ["10.0.0.2"]
ports = "1024-{}"
[[local_pool]]
name = "b"
addresses = ["10.0.0.3"]
{neighbour}"#,
        if world.is_loose { "loose" } else { "strict" },
        world.pool_ports,
    )
}

pub(super) fn parse(world: &World, services: &[Wanted]) -> Option<Config> {
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let text = text_of_world(world) + &text_of_services(services);
    let loaded = config::parse(&text, "test", &context).ok()?;
    Some(loaded.config)
}

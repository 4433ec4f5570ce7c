//! A change of one service in part: of some of its keys, or of one real server.

use super::error::did_you_mean;
use super::limits::protocol_of_timeout;
use super::raw;
use super::{Config, Diagnostics, Protocol, ServiceConfig};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use toml::{Table, Value};

/// Keys that say which service it is.
const IDENTITY: [&str; 4] = ["name", "protocol", "address", "port"];

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ServiceChange {
    /// Keys with their new values, as a JSON merge patch (RFC 7396): null takes a key away, an object changes some keys of
    /// a table.
    Set(Map<String, Json>),
    /// A real server comes, or has other numbers.
    PutReal(SocketAddr, RealKeys),
    /// A real server that the service has gets other numbers.
    SetReal(SocketAddr, RealKeys),
    RemoveReal(SocketAddr),
}

/// Numbers of a real server. Without one: that which it has, or the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RealKeys {
    pub weight: Option<u16>,
    /// 0: none.
    pub max_connections: Option<u32>,
    pub min_connections: Option<u32>,
}

impl RealKeys {
    /// Their names in the file.
    pub(crate) const NAMES: [&str; 3] = ["weight", "max_connections", "min_connections"];

    pub(crate) fn weight(weight: u16) -> Self {
        RealKeys {
            weight: Some(weight),
            ..RealKeys::default()
        }
    }

    /// Those that are given, as keys of the file.
    pub(crate) fn keys(self) -> Map<String, Json> {
        let RealKeys {
            weight,
            max_connections,
            min_connections,
        } = self;
        let numbers = [weight.map(u32::from), max_connections, min_connections];
        let given = Self::NAMES.into_iter().zip(numbers);
        let given = given.filter_map(|(key, number)| Some((key.to_owned(), number?.into())));
        given.collect()
    }
}

/// Why a service is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unchanged {
    #[error("{0}")]
    Refused(String),
    #[error("the service has no real server {0}")]
    NoReal(SocketAddr),
    #[error("{0}")]
    Invalid(Diagnostics),
}

impl ServiceChange {
    /// As it is for one of the services of a name, if there are others: with what a file's `protocol = "tcp+udp"` gives to that one.
    fn for_protocol(&self, protocol: Protocol, has_others: bool) -> Cow<'_, ServiceChange> {
        match self {
            ServiceChange::Set(keys) if has_others => {
                let mut keys = keys.clone();
                leave_to_others(&mut keys, protocol);
                Cow::Owned(ServiceChange::Set(keys))
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// Refuses to make another service of one.
    pub(crate) fn check(&self) -> Result<(), Unchanged> {
        let none = || Unchanged::Refused("there is no key to set".to_owned());
        let keys = match self {
            ServiceChange::Set(keys) => keys,
            ServiceChange::SetReal(_, keys) if *keys == RealKeys::default() => return Err(none()),
            _ => return Ok(()),
        };
        if keys.is_empty() {
            return Err(none());
        }
        if let Some(key) = keys.keys().find(|key| IDENTITY.contains(&key.as_str())) {
            return Err(Unchanged::Refused(format!(
                "`{key}` says which service it is: remove the service, and add another"
            )));
        }
        if keys.contains_key("pool") {
            return Err(Unchanged::Refused(
                "`pool` says whose real servers these are: edit the file, and reload".to_owned(),
            ));
        }
        if keys.contains_key("real") {
            return Err(Unchanged::Refused(
                "real servers come, change and go one by one: add and remove take their address"
                    .to_owned(),
            ));
        }
        // Those with a value are judged with the service; one to be taken away leaves nothing to judge.
        let has = |key: &&String| raw::Service::KEYS.contains(&key.as_str());
        let gone = keys.iter().filter(|(_, value)| value.is_null());
        if let Some(key) = gone.map(|(key, _)| key).find(|key| !has(key)) {
            let meant = did_you_mean(key, raw::Service::KEYS.iter().copied());
            return Err(Unchanged::Refused(format!(
                "there is no key `{key}` in [[service]]{meant}"
            )));
        }
        Ok(())
    }
}

/// Takes out what is for the other protocol only.
fn leave_to_others(keys: &mut Map<String, Json>, protocol: Protocol) {
    let foreign: &[&str] = match protocol {
        Protocol::Tcp => &["on_drain", "quic", "one_packet"],
        Protocol::Udp => &["tcp_mss", "on_idle"],
        // It is never one of two.
        Protocol::Sctp => &[],
    };
    keys.retain(|key, _| !foreign.contains(&key.as_str()));
    // The word that TCP has instead of what the service of UDP may have had.
    if protocol == Protocol::Udp
        && let Some(way) = keys.get_mut("client_address")
        && way == "toa"
    {
        *way = Json::Null;
    }
    if let Some(Json::Object(timeouts)) = keys.get_mut("timeouts") {
        // `icmp` is no service's, which is said.
        timeouts.retain(|key, _| key == "icmp" || protocol_of_timeout(key) == protocol);
    }
}

/// Services of one name after a change, checked as a file's; `around` is the configuration without services.
pub(crate) fn changed(
    services: &[Arc<ServiceConfig>],
    change: &ServiceChange,
    around: &Config,
) -> Result<(Vec<Arc<ServiceConfig>>, Diagnostics), Unchanged> {
    change.check()?;
    let mut text = String::new();
    let mut name = String::new();
    for service in services {
        let change = change.for_protocol(service.protocol, services.len() > 1);
        text += &service.text_with(&change)?;
        name = format!("service {}, changed", service.name);
    }
    super::services(&text, &name, around).map_err(Unchanged::Invalid)
}

impl ServiceConfig {
    /// The service as a file would have it after a change.
    fn text_with(&self, change: &ServiceChange) -> Result<String, Unchanged> {
        if !matches!(change, ServiceChange::Set(_))
            && let Some(why) = Self::why_fixed(self.pool.as_deref())
        {
            return Err(Unchanged::Refused(why));
        }
        let refused = |why: &dyn std::fmt::Display| Unchanged::Refused(why.to_string());
        let text = self.written_with_secrets();
        let mut file: Table = toml::from_str(&text).map_err(|why| refused(&why))?;
        let service = file.get_mut("service").and_then(|list| list.get_mut(0));
        let Some(service) = service.and_then(Value::as_table_mut) else {
            return Err(refused(&"the service cannot be written"));
        };
        match change {
            ServiceChange::Set(keys) => merge(service, keys).map_err(|why| refused(&why))?,
            ServiceChange::SetReal(real, _) if self.place(*real).is_none() => {
                return Err(Unchanged::NoReal(*real));
            }
            ServiceChange::PutReal(real, keys) | ServiceChange::SetReal(real, keys) => self
                .put_real(service, *real, *keys)
                .map_err(|why| refused(&why))?,
            ServiceChange::RemoveReal(real) => self.remove_real(service, *real)?,
        }
        toml::to_string(&file).map_err(|why| refused(&why))
    }

    /// The place of a real server in the list, as it is written.
    fn place(&self, real: SocketAddr) -> Option<usize> {
        let at = (real.ip(), real.port());
        self.reals.iter().position(|it| (it.address, it.port) == at)
    }

    fn put_real(
        &self,
        service: &mut Table,
        real: SocketAddr,
        keys: RealKeys,
    ) -> Result<(), toml::ser::Error> {
        let list = service
            .entry("real")
            .or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(list) = list else {
            return Ok(());
        };
        let mut table = match self.place(real).and_then(|n| list[n].as_table().cloned()) {
            Some(table) => table,
            None => Table::from_iter([
                ("address".to_owned(), real.ip().to_string().into()),
                ("port".to_owned(), i64::from(real.port()).into()),
            ]),
        };
        merge(&mut table, &keys.keys())?;
        match self.place(real) {
            Some(n) => list[n] = table.into(),
            None => list.push(table.into()),
        }
        Ok(())
    }

    fn remove_real(&self, service: &mut Table, real: SocketAddr) -> Result<(), Unchanged> {
        let place = self.place(real).ok_or(Unchanged::NoReal(real))?;
        if let Some(Value::Array(list)) = service.get_mut("real") {
            list.remove(place);
        }
        Ok(())
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Table, patch: &Map<String, Json>) -> Result<(), toml::ser::Error> {
    for (key, value) in patch {
        match value {
            Json::Null => {
                target.remove(key);
            }
            Json::Object(inner) => {
                let mut table = match target.remove(key) {
                    Some(Value::Table(table)) => table,
                    _ => Table::new(),
                };
                merge(&mut table, inner)?;
                target.insert(key.clone(), table.into());
            }
            other => {
                target.insert(key.clone(), Value::try_from(other)?);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Context, HealthUse, Probe, parse};
    use super::*;
    use serde_json::json;

    const FILE: &str = r#"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.1/24"]
[[service]]
name = "web"
address = "10.0.0.80"
port = 80
protocol = "tcp"
mode = "nat"
persistence = { timeout = 300, prefix_v4 = 24 }
  [service.health]
  type = "http"
  request = { headers = { Authorization = "Bearer secret" } }
  [[service.real]]
  address = "10.0.0.11"
  weight = 3
[[service]]
name = "pooled"
address = "10.0.0.81"
port = 80
protocol = "tcp"
mode = "nat"
pool = "farm"
[[pool]]
name = "farm"
real = [{ address = "10.0.0.11" }, { address = "10.0.0.12", weight = 5 }]
"#;

    fn change(change: &ServiceChange) -> Result<Arc<ServiceConfig>, Unchanged> {
        change_of(0, change)
    }

    fn change_of(n: usize, change: &ServiceChange) -> Result<Arc<ServiceConfig>, Unchanged> {
        let context = Context {
            cpus: None,
            devices: false,
        };
        let config = parse(FILE, "lb.toml", &context).unwrap().config;
        let service = config.services[n].clone();
        let around = Config {
            services: Vec::new(),
            ..config
        };
        let (mut services, _) = changed(&[service], change, &around)?;
        assert_eq!(services.len(), 1);
        Ok(services.remove(0))
    }

    fn set(patch: Json) -> ServiceChange {
        match patch {
            Json::Object(keys) => ServiceChange::Set(keys),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_a_change_does_not_name_stays_secrets_too() {
        let before = change(&ServiceChange::PutReal(
            "10.0.0.11:80".parse().unwrap(),
            RealKeys::default(),
        ))
        .unwrap();
        assert_eq!(before.reals[0].weight, 3);
        let after = change(&set(json!({
            "persistence": { "prefix_v4": null, "timeout": "10m" }, "health": { "interval": "7s" }
        })))
        .unwrap();
        let persistence = after.persistence.as_ref().unwrap();
        assert_eq!(
            (persistence.timeout.as_secs(), persistence.prefix_v4),
            (600, 32)
        );
        let Some(HealthUse::Own(health)) = &after.health else {
            panic!("{after:?}");
        };
        assert_eq!(health.interval.as_secs(), 7);
        let Probe::Http(probe) = &health.probe else {
            panic!("{health:?}");
        };
        assert_eq!(probe.headers[0].1, "Bearer secret");
        assert_eq!(
            (&after.reals, &after.scheduler),
            (&before.reals, &before.scheduler)
        );

        let real = "10.0.0.12:81".parse().unwrap();
        let more = change(&ServiceChange::PutReal(real, RealKeys::default())).unwrap();
        let reals: Vec<_> = more
            .reals
            .iter()
            .map(|it| (it.address, it.port, it.weight))
            .collect();
        assert_eq!(reals[0], ("10.0.0.11".parse().unwrap(), 80, 3));
        assert_eq!(reals[1], (real.ip(), 81, 1));
        let none = change(&ServiceChange::RemoveReal("10.0.0.11:80".parse().unwrap()));
        assert!(none.unwrap().reals.is_empty());
    }

    #[test]
    fn numbers_of_a_real_server_change_one_by_one() {
        let real: SocketAddr = "10.0.0.11:80".parse().unwrap();
        let keys = |weight, max_connections, min_connections| RealKeys {
            weight,
            max_connections,
            min_connections,
        };
        for (keys, expected) in [
            (keys(Some(7), None, None), Ok((7, None))),
            (keys(None, Some(100), None), Ok((3, Some((100, 0))))),
            (keys(Some(0), Some(100), Some(90)), Ok((0, Some((100, 90))))),
            // As by `ipvsadm -x 0`.
            (keys(None, Some(0), None), Ok((3, None))),
            (keys(None, None, Some(9)), Err("`min_connections` without")),
            (
                keys(None, Some(5), Some(6)),
                Err("is 6, more than the `max_connections` of 5"),
            ),
            (keys(None, None, None), Err("there is no key to set")),
        ] {
            let after = change(&ServiceChange::SetReal(real, keys));
            let after = after.map_err(|why| why.to_string()).map(|after| {
                let it = &after.reals[0];
                let thresholds = it.thresholds.map(|it| (it.max.get(), it.min));
                (it.weight, thresholds)
            });
            match (after, expected) {
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{keys:?}: {why}"),
                (after, expected) => {
                    assert_eq!(after, expected.map_err(str::to_owned), "{keys:?}");
                }
            }
        }
        let other = ServiceChange::SetReal("10.0.0.12:80".parse().unwrap(), RealKeys::weight(1));
        assert!(matches!(change(&other), Err(Unchanged::NoReal(_))));
    }

    #[test]
    fn what_is_no_change_of_the_service_is_refused() {
        for (patch, why) in [
            (json!({}), "there is no key to set"),
            (json!({ "port": 81 }), "`port` says which service it is"),
            (json!({ "name": null }), "`name` says which service it is"),
            (
                json!({ "scheduler": "rr", "persistance": null }),
                "there is no key `persistance` in [[service]]; did you mean `persistence`?",
            ),
            (json!({ "real": [] }), "one by one"),
            (json!({ "pool": "farm" }), "edit the file"),
            (json!({ "scheduler": "wlx" }), "unknown scheduler `wlx`"),
            (json!({ "mode": null }), "lacks the key `mode`"),
            (json!({ "scheduler": [null] }), ""),
        ] {
            let refused = change(&set(patch.clone())).unwrap_err().to_string();
            assert!(
                !refused.is_empty() && refused.contains(why),
                "{patch}: {refused}"
            );
        }
        let gone = change(&ServiceChange::RemoveReal("10.0.0.11:81".parse().unwrap()));
        assert!(matches!(gone, Err(Unchanged::NoReal(_))));
    }

    #[test]
    fn a_service_keeps_the_real_servers_of_its_pool() {
        let after = change_of(1, &set(json!({ "scheduler": "rr" }))).unwrap();
        assert_eq!(
            (after.reals.len(), after.pool.as_deref()),
            (2, Some("farm"))
        );
        assert_eq!(after.reals[1].weight, 5);
        for change in [
            ServiceChange::PutReal("10.0.0.12:80".parse().unwrap(), RealKeys::weight(1)),
            ServiceChange::SetReal("10.0.0.12:80".parse().unwrap(), RealKeys::weight(1)),
            ServiceChange::RemoveReal("10.0.0.12:80".parse().unwrap()),
        ] {
            let refused = change_of(1, &change).unwrap_err().to_string();
            assert!(refused.contains("edit the pool in the file"), "{refused}");
        }
    }

    #[test]
    fn the_services_of_a_name_change_together_each_by_the_keys_of_its_protocol() {
        let context = Context {
            cpus: None,
            devices: false,
        };
        let text = FILE.replace("protocol = \"tcp\"", "protocol = \"tcp+udp\"");
        let config = parse(&text, "lb.toml", &context).unwrap().config;
        let both = config.services[..2].to_vec();
        let around = Config {
            services: Vec::new(),
            ..config
        };
        let patch = json!({ "scheduler": "rr", "tcp_mss": 1400, "on_drain": "keep" });
        let (after, _) = changed(&both, &set(patch), &around).unwrap();
        let shown = after.iter().map(|it| {
            assert_eq!((it.name.as_str(), it.scheduler.name()), ("web", "rr"));
            (it.protocol, it.tcp_mss.is_some(), it.on_drain)
        });
        let expected = [(Protocol::Tcp, true, None), (Protocol::Udp, false, None)];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
        // Alone it is refused.
        let patch = set(json!({ "on_drain": "keep" }));
        assert!(changed(&both[..1], &patch, &around).is_err());
    }

    #[test]
    fn a_change_of_both_protocols_is_what_a_file_of_both_says() {
        let context = Context {
            cpus: None,
            devices: false,
        };
        const FILE: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["198.51.100.1/24"]
[[port]]
name = "lan"
device = "net_null1"
addresses = ["10.0.0.1/24"]
[[local_pool]]
name = "p"
addresses = ["10.0.0.200"]
[[service]]
name = "web"
address = "198.51.100.80"
port = 80
protocol = "tcp+udp"
MODE
KEY
[[service.real]]
address = "10.0.0.11"
server_id = "0102"
"#;
        let parsed = |mode: &str, key: &str| {
            let text = FILE.replace("MODE", mode).replace("KEY", key);
            let loaded = parse(&text, "lb.toml", &context);
            loaded.unwrap_or_else(|why| panic!("{why}")).config
        };
        let nat = "mode = \"nat\"";
        let fullnat = "mode = \"fullnat\"\nlocal_pool = \"p\"";
        for (mode, key, patch) in [
            (nat, "tcp_mss = 1400", json!({ "tcp_mss": 1400 })),
            (nat, "on_drain = \"keep\"", json!({ "on_drain": "keep" })),
            (nat, "on_idle = \"reset\"", json!({ "on_idle": "reset" })),
            (nat, "one_packet = true", json!({ "one_packet": true })),
            (
                nat,
                "timeouts = { udp = \"7 s\", tcp_established = \"9 s\" }",
                json!({ "timeouts": { "udp": "7 s", "tcp_established": "9 s" } }),
            ),
            (
                nat,
                "timeouts = { udp = \"7 s\" }",
                json!({ "timeouts": { "udp": "7 s" } }),
            ),
            (
                fullnat,
                "client_address = \"toa\"",
                json!({ "client_address": "toa" }),
            ),
            (
                fullnat,
                "client_address = \"proxy-v2\"",
                json!({ "client_address": "proxy-v2" }),
            ),
            (
                fullnat,
                "on_down = \"reset\"",
                json!({ "on_down": "reset" }),
            ),
        ] {
            let expected = parsed(mode, key).services;
            for from in ["", "client_address = \"proxy-v2\""] {
                if mode == nat && !from.is_empty() || key.starts_with("on_down") && !from.is_empty()
                {
                    continue;
                }
                let config = parsed(mode, from);
                let around = Config {
                    services: Vec::new(),
                    ..config.clone()
                };
                let found = changed(&config.services, &set(patch.clone()), &around);
                let (found, _) = found.unwrap_or_else(|why| panic!("{key}: {why}"));
                assert_eq!(found, expected, "{key}, from {from:?}");
            }
        }
    }
}

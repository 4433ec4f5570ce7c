//! What changes services: `-A`, `-E`, `-D`, `-C`, `-a`, `-e`, `-d`, by the daemon's API.

use super::options::Command;
use super::words::{DEFAULT_SCHEDULER, Failed, Forwarding, Line, Tunnel, refused};
use super::{all, find, list, named};
use crate::command::client::{self, Address};
use crate::config::SchedulerConfig;
use crate::service::ServiceKey;
use crate::view::ServiceView;
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::SocketAddr;

/// Does what a line says that changes something.
pub(super) fn change(line: &Line, address: &Address) -> Result<(), Failed> {
    if line.command == Command::Flush {
        for service in all(address)? {
            delete(&name_of(&service), address)?;
        }
        return Ok(());
    }
    let Some(service) = &line.service else {
        return Err(refused("weir: no service is named"));
    };
    let no_marks = "weir: there are no firewall marks: name the address and port";
    let key = service.key().ok_or_else(|| refused(no_marks))?;
    let services = named(&key, address)?;
    let found = find(service, &services);
    match (line.command, found) {
        (Command::Add, Some(_)) => Err(refused("Service already exists")),
        (Command::Add, None) => add(line, key, address),
        (Command::Edit | Command::Delete, None) => Err(refused("No such service")),
        (_, None) => Err(refused("Service not defined")),
        (Command::Edit, Some(service)) => edit(line, service, address),
        (Command::Delete, Some(service)) => delete(&name_of(service), address),
        (_, Some(service)) => real(line, service, address),
    }
}

/// The service's key, as the API takes it.
fn name_of(service: &ServiceView) -> String {
    format!("{}:{}", service.protocol, service.port.at(service.address))
}

fn delete(name: &str, address: &Address) -> Result<(), Failed> {
    client::delete(
        address,
        &format!("/v1/services?service={}", client::encode(name)),
    )?;
    Ok(())
}

/// The scheduler by its name.
fn scheduler(line: &Line) -> Result<&str, Failed> {
    let name = line.scheduler.as_deref().unwrap_or(DEFAULT_SCHEDULER);
    let is_known = SchedulerConfig::ALL
        .iter()
        .any(|known| known.name() == name);
    match is_known && line.pe.is_none() {
        true => Ok(name),
        false => Err(refused("Scheduler or persistence engine not found")),
    }
}

/// Flags that mean something to the scheduler; of others IPVS only keeps the numbers.
fn flags(line: &Line) -> impl Iterator<Item = &String> {
    line.flags.iter().filter(|flag| !flag.starts_with("flag-"))
}

/// Adds a service without real servers: with direct routing, ipvsadm's default, until its first real server says otherwise.
fn add(line: &Line, key: ServiceKey, address: &Address) -> Result<(), Failed> {
    let scheduler = scheduler(line)?;
    let mut text = format!(
        "[[service]]\naddress = \"{}\"\nport = {}\nprotocol = \"{}\"\nmode = \"dr\"\nscheduler = \"{scheduler}\"\n",
        key.address,
        key.port,
        key.protocol.name()
    );
    let flags: Vec<_> = flags(line).map(|flag| format!("{flag:?}")).collect();
    if !flags.is_empty() {
        let _ = writeln!(text, "flags = [{}]", flags.join(", "));
    }
    if line.has("ops") {
        text.push_str("one_packet = true\n");
    }
    if let Some(timeout) = line.persistent {
        let prefix = prefix_key(key.address.is_ipv6()).zip_with(line.prefix);
        let _ = writeln!(text, "persistence = {{ timeout = {timeout}{prefix} }}");
    }
    client::put(address, "/v1/services?name=ipvsadm", text)?;
    Ok(())
}

/// The key of a persistence mask.
struct PrefixKey(&'static str);

fn prefix_key(is_v6: bool) -> PrefixKey {
    PrefixKey(if is_v6 { "prefix_v6" } else { "prefix_v4" })
}

impl PrefixKey {
    fn zip_with(&self, prefix: Option<u8>) -> String {
        prefix.map_or(String::new(), |prefix| format!(", {} = {prefix}", self.0))
    }
}

/// Gives a service the keys of the line; what the line does not say is as ipvsadm's default.
fn edit(line: &Line, service: &ServiceView, address: &Address) -> Result<(), Failed> {
    let scheduler = scheduler(line)?;
    let flags: Vec<_> = flags(line).collect();
    let persistence = line.persistent.map(|timeout| {
        let mut table = json!({ "timeout": timeout });
        let key = prefix_key(service.address.is_ipv6()).0;
        // A merge keeps what it does not name: without a mask the whole address counts.
        table[key] = line.prefix.map_or(Value::Null, Value::from);
        table
    });
    let keys = json!({
        "scheduler": scheduler,
        "flags": if flags.is_empty() { Value::Null } else { json!(flags) },
        "one_packet": if line.has("ops") { json!(true) } else { Value::Null },
        "persistence": persistence,
    });
    patch(service, &keys, address)
}

fn patch(service: &ServiceView, keys: &Value, address: &Address) -> Result<(), Failed> {
    let path = format!("/v1/services?service={}", client::encode(&name_of(service)));
    client::patch(address, &path, keys.to_string())?;
    Ok(())
}

fn real(line: &Line, service: &ServiceView, address: &Address) -> Result<(), Failed> {
    let Some(asked) = line.real else {
        return Err(refused("No such destination"));
    };
    // The port of a mode that keeps the packet's own is the service's.
    let wanted = match service.mode.as_str() {
        "dr" | "tunnel" | "l3dsr" => SocketAddr::new(asked.ip(), list::at(service).port()),
        _ => asked,
    };
    let members = service.reals.iter().filter(|member| !member.fallback);
    let mut same = members.filter(|member| {
        let at = list::real_of(service, member);
        at == asked || at == wanted
    });
    match (line.command, same.next()) {
        (Command::AddServer, Some(_)) => Err(refused("Destination already exists")),
        (Command::AddServer, None) => {
            check(line)?;
            set_mode(line, service, address)?;
            put(line, service, asked, address)
        }
        (_, None) => Err(refused("No such destination")),
        (Command::DeleteServer, Some(member)) => {
            let (name, real) = (name_of(service), member.real.to_string());
            let (name, real) = (client::encode(&name), client::encode(&real));
            client::delete(address, &format!("/v1/reals?service={name}&real={real}"))?;
            Ok(())
        }
        (_, Some(member)) => {
            check(line)?;
            set_mode(line, service, address)?;
            put(line, service, member.real, address)
        }
    }
}

/// What weir does not do with real servers.
fn check(line: &Line) -> Result<(), Failed> {
    let (upper, lower) = line.thresholds;
    if upper < lower {
        return Err(refused("Numerical result out of range"));
    }
    if line.weight > u32::from(u16::MAX) {
        return Err(refused("weir: weights are 0 to 65535"));
    }
    // Over IPv4 the outer header of GUE has none, that of GRE nowhere.
    let has_none = line.tunnel != Some(Tunnel::Gue) || line.real.is_some_and(|real| real.is_ipv4());
    if line.has("tun-remcsum") || line.has("tun-csum") && has_none {
        return Err(refused("weir: a tunnel has no such checksum"));
    }
    Ok(())
}

/// Gives a service the forwarding method of its first real server; those that follow have it too.
fn set_mode(line: &Line, service: &ServiceView, address: &Address) -> Result<(), Failed> {
    let is_first = match line.command {
        Command::AddServer => service.reals.is_empty(),
        _ => service.reals.len() == 1,
    };
    // Without one it is as its service is, which is with direct routing at first.
    let Some(forwarding) = line.forwarding else {
        return Ok(());
    };
    let keys = match (forwarding, line.tunnel.unwrap_or_default()) {
        (Forwarding::Gatewaying, _) => untunnelled("dr"),
        // fullnat is masquerading too: the file has made it that.
        (Forwarding::Masquerading, _) if service.mode == "fullnat" => return Ok(()),
        (Forwarding::Masquerading, _) => untunnelled("nat"),
        (Forwarding::Ipip, Tunnel::Ipip) => tunnelled("ipip"),
        (Forwarding::Ipip, Tunnel::Gre) => tunnelled("gre"),
        (Forwarding::Ipip, Tunnel::Gue) => {
            let mut keys = tunnelled("gue");
            keys["gue_port"] = json!(line.tunnel_port);
            // The kernel has a header before the packet (`ip_vs_gue_encap`).
            keys["gue_variant"] = json!(0);
            if line.has("tun-nocsum") && line.real.is_some_and(|real| real.is_ipv6()) {
                keys["gue_zero_checksum"] = json!(true);
            }
            keys
        }
    };
    match (has(service, &keys), is_first) {
        (true, _) => Ok(()),
        (false, true) => patch(service, &keys, address),
        (false, false) => Err(refused(format!(
            "weir: {} has real servers with another forwarding method, and a service has one",
            name_of(service)
        ))),
    }
}

/// Whether a service has the forwarding method of these keys. Of GUE the variant counts, which no line says: real servers of one
/// kind do not take the other's packets.
pub(super) fn has(service: &ServiceView, keys: &Value) -> bool {
    let via = &service.via;
    let is_gue = keys["tunnel"] == "gue";
    service.mode == keys["mode"]
        && via.tunnel.as_deref() == keys["tunnel"].as_str()
        && via.gue_port.map(u64::from) == keys["gue_port"].as_u64()
        && (!is_gue || via.gue_variant.map(u64::from) == keys["gue_variant"].as_u64())
}

/// The keys of a mode without a tunnel, for a merge.
fn untunnelled(mode: &str) -> Value {
    json!({ "mode": mode, "tunnel": null, "gue_port": null, "gue_variant": null, "gue_zero_checksum": null })
}

/// The keys of a tunnel, for a merge.
fn tunnelled(tunnel: &str) -> Value {
    let mut keys = untunnelled("tunnel");
    keys["tunnel"] = json!(tunnel);
    keys
}

fn put(
    line: &Line,
    service: &ServiceView,
    real: SocketAddr,
    address: &Address,
) -> Result<(), Failed> {
    // What the line does not say is none, as the kernel has it.
    let (upper, lower) = line.thresholds;
    let mut body = json!({ "service": name_of(service), "real": real, "weight": line.weight });
    if line.command == Command::EditServer || (upper, lower) != (0, 0) {
        body["max_connections"] = json!(upper);
        body["min_connections"] = json!(lower);
    }
    client::put_json(address, "/v1/reals", body.to_string())?;
    Ok(())
}

//! `allow`, `deny` and `limits` of a service: whose connections it takes, and how many.

use crate::config::clients::{Entry, Lists, MOST, MOST_FILES};
use crate::config::error::{At, Log};
use crate::config::raw;
use crate::config::value::{Given, List};
use crate::config::{ClientList, ServiceLimits};

/// Reads `allow` and `deny`. Err: one of them is wrong, which the log tells. `lists`: none if files must not be read.
pub(super) fn clients(
    raw: &raw::Service,
    mut lists: Option<&mut Lists>,
    log: &mut Log,
) -> Result<(Option<ClientList>, Option<ClientList>), ()> {
    let allow = list(&raw.allow, "allow", lists.as_deref_mut(), log);
    let deny = list(&raw.deny, "deny", lists, log);
    if let (Ok(Some(allow)), Some(address)) = (&allow, raw.address.get())
        && !allow.has_family(address.is_ipv6())
        && let Some(given) = raw.allow.ok()
    {
        let family = crate::net::family(address);
        log.warning(
            given.at,
            format!("`allow` has no {family} prefix, and so no client can use the service"),
        )
        .help("add the prefixes of its clients, or leave `allow` out");
    }
    if let (Ok(allow), Ok(Some(deny)), Some(address)) = (&allow, &deny, raw.address.get())
        && allow
            .as_ref()
            .is_none_or(|allow| allow.has_family(address.is_ipv6()))
        && deny.has_all(allow.as_ref(), address.is_ipv6())
        && let Some(given) = raw.deny.ok()
    {
        let whom = match allow {
            Some(_) => "every client of `allow`",
            None => "every client",
        };
        log.warning(
            given.at,
            format!("`deny` has {whom}, and so no client can use the service"),
        )
        .help("`deny` goes first: take the prefixes of the service's clients out of it");
    }
    Ok((allow?, deny?))
}

/// `limits`; Err: what is wrong is said.
pub(super) fn limits(raw: &raw::Service, log: &mut Log) -> Result<Option<ServiceLimits>, ()> {
    let given = match &raw.limits {
        Given::No => return Ok(None),
        Given::Bad => return Err(()),
        Given::Yes(given) => given,
    };
    let raw = &given.value;
    let limits = ServiceLimits {
        connections: raw.connections.get().map(|it| it.0),
        new_per_second: raw.new_per_second.get().map(|it| it.0),
        per_client_connections: raw.per_client_connections.get().map(|it| it.0),
        per_client_new_per_second: raw.per_client_new_per_second.get().map(|it| it.0),
    };
    for (of_client, of_all, key) in [
        (
            &limits.per_client_connections,
            &limits.connections,
            "connections",
        ),
        (
            &limits.per_client_new_per_second,
            &limits.new_per_second,
            "new_per_second",
        ),
    ] {
        if let (Some(of_client), Some(of_all)) = (of_client, of_all)
            && of_client > of_all
        {
            log.warning(
                given.at,
                format!("`per_client_{key}` is {of_client}, and the whole service takes {of_all}: one client can use all up"),
            )
            .help(format!("write a `per_client_{key}` below `{key}`"));
        }
    }
    let is_certain = raw.connections.certain()
        && raw.new_per_second.certain()
        && raw.per_client_connections.certain()
        && raw.per_client_new_per_second.certain();
    if limits == ServiceLimits::default() && is_certain {
        log.error(given.at, "`limits` is empty").help(
            "write one of connections, new_per_second, per_client_connections and per_client_new_per_second, or leave it out",
        );
        return Err(());
    }
    Ok(Some(limits))
}

fn list(
    raw: &Given<List<Entry>>,
    key: &'static str,
    mut lists: Option<&mut Lists>,
    log: &mut Log,
) -> Result<Option<ClientList>, ()> {
    let given = match raw {
        Given::No => return Ok(None),
        Given::Bad => return Err(()),
        Given::Yes(given) => given,
    };
    if given.value.items.is_empty() && given.value.complete {
        log.error(given.at, format!("`{key}` is empty"))
            .help("list prefixes, or leave the key out");
        return Err(());
    }
    let (mut prefixes, mut files) = (Vec::new(), Vec::new());
    let mut is_complete = given.value.complete;
    for At { value, at } in &given.value.items {
        let path = match value {
            Entry::Prefix(prefix) => {
                prefixes.push(*prefix);
                continue;
            }
            Entry::File(path) => path,
        };
        // Without a place: the whole is read again where files may be read.
        let Some(lists) = lists.as_deref_mut() else {
            log.error(*at, "");
            return Err(());
        };
        match lists.file(path, *at, log) {
            Some(file) if !files.contains(&file) => files.push(file),
            Some(_) => {}
            None => is_complete = false,
        }
    }
    let list = ClientList {
        prefixes: prefixes.into(),
        files,
    };
    let (entries, files) = (list.entries(), list.files.len());
    if entries > MOST {
        log.error(
            given.at,
            format!("`{key}` has {entries} entries: at most {MOST} are taken"),
        )
        .help("write shorter prefixes for those that lie together");
    } else if files > MOST_FILES {
        log.error(
            given.at,
            format!("`{key}` names {files} files: at most {MOST_FILES} are taken"),
        )
        .help("put several into one file");
    }
    is_complete.then_some(Some(list)).ok_or(())
}

//! Whether there is room for the real servers of all services: a `[[pool]]` has them again in each service that names it.

use super::real_pool::RealPools;
use crate::config::error::{Log, Span};
use crate::config::limits::MOST_REALS;
use crate::config::pieces::Item;
use crate::config::{ServiceConfig, raw};

/// Says where the real servers of services become too many, with how many there are in all. Asked before lists of them are made.
pub(super) fn has_room(items: &[Item], pools: &RealPools, log: &mut Log) -> bool {
    let (mut sum, mut passed) = (0, None);
    for item in items {
        let (count, at) = match item {
            Item::Written(service) => (written(&service.value, pools), service.at),
            Item::Checked(all) => {
                let counts = all.iter().map(|it| checked(it, pools));
                (counts.sum(), Span::NOWHERE)
            }
        };
        sum += count;
        if sum > MOST_REALS {
            passed.get_or_insert(at);
        }
    }
    let Some(at) = passed else {
        return true;
    };
    log.error(
        at,
        format!(
            "the services have {sum} real servers in all, and here they become more than {MOST_REALS}, which is the most"
        ),
    )
    .help("give the services fewer: each service of a `pool` has all of its real servers, and \"tcp+udp\" is two services");
    false
}

fn written(raw: &raw::Service, pools: &RealPools) -> usize {
    let protocols = raw.protocol.get().map_or(1, |it| it.all().len());
    let own = raw.real.ok().map_or(0, |list| list.value.items.len());
    let pooled = raw.pool.ok().map_or(0, |name| pools.len_of(&name.value));
    let fallback = raw.fallback.ok().map_or(0, |list| list.value.items.len());
    protocols * (own + pooled + fallback)
}

/// One that was checked by itself is without what it has of its pool.
fn checked(service: &ServiceConfig, pools: &RealPools) -> usize {
    let pool = service.pool.as_deref();
    let reals = pool.map_or(service.reals.len(), |name| pools.len_of(name));
    reals + service.fallback.len()
}

#[cfg(test)]
mod tests {
    use crate::config::{Context, load, parse};

    #[test]
    fn real_servers_of_all_services_have_a_bound_before_they_are_listed() {
        let context = Context {
            cpus: None,
            devices: false,
        };
        const POOLED: usize = 2100;
        let text = |services: usize| {
            let mut text = "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/8\"]\n[[pool]]\nname = \"p\"\nreal = [\n".to_owned();
            for n in 0..POOLED {
                text += &format!("{{ address = \"10.1.{}.{}\" }},\n", n / 250, n % 250 + 1);
            }
            text += "]\n";
            for port in 1..=services {
                text += &format!(
                    "[[service]]\naddress = \"192.0.2.80\"\nport = {port}\nprotocol = \"tcp+udp\"\nmode = \"nat\"\npool = \"p\"\n"
                );
            }
            text
        };
        // Of both protocols: the 999th is one too many.
        let before = text(998);
        let line = before.lines().count() + 1;
        let text = text(1002);
        let sum = 1002 * 2 * POOLED;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb.toml");
        std::fs::write(&path, &text).unwrap();
        for found in [parse(&text, "lb.toml", &context), load(&path, &context)] {
            let Err(said) = found else { panic!("no error") };
            let said: Vec<_> = said.iter().collect();
            assert_eq!(said.len(), 1, "{said:#?}");
            let message = format!("the services have {sum} real servers in all");
            assert!(said[0].message.starts_with(&message), "{said:#?}");
            assert_eq!(said[0].line, line);
        }
    }
}

//! What of a service's availability is published, for whatever reason real servers come and go.

use super::{Edit, Model, from_config::Device};
use crate::config::{self, Config};
use crate::exchange::Event;
use crate::neighbour::LinkState;
use crate::net::Mac;
use crate::rcu::Reader;
use crate::service::{Admin, Health, ServiceKey, Serving};
use crate::stats::Stats;
use crate::tables::Tables;
use crate::units::{PortId, Time};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const NETWORK: &str = r#"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.1/24"]
"#;

/// A service with real servers 10.0.0.11 and so on, of these weights, and further lines.
fn service(scheduler: &str, weights: &[u16], more: &str) -> String {
    let mut text = format!(
        "{NETWORK}[[service]]\nname = \"web\"\naddress = \"192.0.2.80\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n\
         scheduler = \"{scheduler}\"\nslow_start = 0\nhealth = {{ type = \"tcp\" }}\n{more}\n"
    );
    for (n, weight) in weights.iter().enumerate() {
        text += &format!(
            "[[service.real]]\naddress = \"10.0.0.{}\"\nweight = {weight}\n",
            11 + n
        );
    }
    text
}

const FALLBACK: &str = "fallback = [\"10.0.0.98:80\", \"10.0.0.99:80\"]";

struct Lab {
    model: Model,
    readers: Vec<Reader<Tables>>,
    now: Time,
}

impl Lab {
    fn new(text: &str) -> Lab {
        let device = Device {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            any_mac: false,
        };
        let stats = Arc::new(Stats::new(1).unwrap());
        let now = Time::default();
        let (model, readers) = Model::new(&parse(text), vec![device], stats, 1, now);
        Lab {
            model,
            readers,
            now,
        }
    }

    fn key() -> ServiceKey {
        "tcp:192.0.2.80:80".parse().unwrap()
    }

    fn set(&mut self, last: u8, health: Health) {
        let real: SocketAddr = format!("10.0.0.{last}:80").parse().unwrap();
        self.model
            .set_health(&Lab::key(), real, health, "")
            .unwrap();
    }

    fn edit(&mut self, last: u8, edit: Edit) {
        let at = (IpAddr::from([10, 0, 0, last]), 80);
        self.model.edit(&Lab::key(), at, edit, None).unwrap();
    }

    /// Where new connections go, and the last bytes and weights of the servers that get some.
    fn found(&self) -> (Serving, Vec<(u8, u16)>) {
        let service = self.model.find(&Lab::key()).unwrap();
        let mut used: Vec<_> = service
            .choices()
            .iter()
            .filter(|real| real.weight > 0)
            .map(|real| match real.address {
                IpAddr::V4(address) => (address.octets()[3], real.weight),
                IpAddr::V6(_) => panic!("{real:?}"),
            })
            .collect();
        used.sort_unstable();
        (service.serving, used)
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Duration::from_millis(10);
            self.model.tick(self.now);
            self.model.resolver.take_orders();
            self.readers.iter_mut().for_each(Reader::quiescent);
        }
    }
}

fn parse(text: &str) -> Config {
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let loaded = config::parse(text, "test", &context);
    loaded.unwrap_or_else(|why| panic!("{why}")).config
}

#[test]
fn with_every_scheduler_fallback_servers_take_over_and_give_back() {
    for scheduler in config::SchedulerConfig::ALL {
        let mut lab = Lab::new(&service(scheduler.name(), &[3, 2], FALLBACK));
        let usual = (Serving::Available, vec![(11, 3), (12, 2)]);
        assert_eq!(lab.found(), usual);
        lab.set(11, Health::Down);
        assert_eq!(lab.found(), (Serving::Available, vec![(12, 2)]));
        lab.set(12, Health::Down);
        let sorry = (Serving::Fallback, vec![(98, 1), (99, 1)]);
        assert_eq!(lab.found(), sorry, "{}", scheduler.name());
        // What an operator says of fallback servers holds.
        lab.edit(98, Edit::Drain);
        assert_eq!(lab.found(), (Serving::Fallback, vec![(99, 1)]));
        lab.edit(98, Edit::Enable);
        // All clients find one of those that are in use.
        let service = lab.model.find(&Lab::key()).unwrap();
        let cursor = service.cursor(crate::units::WorkerId(0));
        for n in 0..50u32 {
            let client = crate::sched::Client::new([203, 0, 113, n as u8], 1024);
            let choices = service.choices();
            let place = service
                .scheduler
                .pick(choices, client, cursor, lab.model.stats(), &|_| true);
            let real = &choices[place.unwrap()];
            assert!(real.weight > 0 && service.servers().any(|(it, _)| it.id == real.id));
        }
        lab.set(11, Health::Up);
        assert_eq!(lab.found(), (Serving::Available, vec![(11, 3)]));
        lab.set(12, Health::Up);
        assert_eq!(lab.found(), usual);
    }
}

#[test]
fn below_its_minimum_a_service_uses_all_but_what_operators_and_the_file_keep_back() {
    let text = service("wrr", &[3, 2, 0, 1], "min_healthy = 2\nhysteresis = 1");
    let mut lab = Lab::new(&text);
    lab.edit(14, Edit::Drain);
    let enough = (Serving::Available, vec![(11, 3), (12, 2)]);
    assert_eq!(lab.found(), enough);
    for last in [11, 12, 13, 14] {
        lab.set(last, Health::Down);
    }
    assert_eq!(lab.found(), (Serving::All, vec![(11, 3), (12, 2)]));
    // Established connections of those in use go on; those of the others do not.
    let service = lab.model.find(&Lab::key()).unwrap();
    let goes_on: Vec<_> = service
        .servers()
        .map(|(real, _)| real.is_available)
        .collect();
    assert_eq!(goes_on, [true, true, false, false]);
    lab.set(11, Health::Up);
    lab.set(12, Health::Up);
    // Two would have been enough to stay; it takes one more to come back.
    assert_eq!(lab.found().0, Serving::All);
    lab.set(14, Health::Up);
    lab.edit(14, Edit::Enable);
    let all = vec![(11, 3), (12, 2), (14, 1)];
    assert_eq!(lab.found(), (Serving::Available, all));
    lab.set(14, Health::Down);
    assert_eq!(lab.found(), enough);
}

#[test]
fn refuse_keeps_new_connections_from_what_is_available() {
    let more = "min_healthy = \"50%\"\nwhen_below = \"refuse\"";
    let mut lab = Lab::new(&service("wlc", &[1, 1, 1], more));
    lab.set(11, Health::Down);
    assert_eq!(lab.found().0, Serving::Available);
    lab.set(12, Health::Down);
    assert_eq!(lab.found(), (Serving::Refused, vec![]));
    lab.set(12, Health::Up);
    assert_eq!(lab.found(), (Serving::Available, vec![(12, 1), (13, 1)]));
}

#[test]
fn a_real_server_that_no_packet_gets_to_is_not_available() {
    let mut lab = Lab::new(&service("rr", &[1], FALLBACK));
    let (port, address) = (PortId(0), IpAddr::from([10, 0, 0, 11]));
    lab.model.event(Event::Wanted { port, address }, lab.now);
    lab.wait(Duration::from_secs(5));
    let table = lab.model.resolver.neighbours().table();
    let hop = table.find(port, address).unwrap();
    assert_eq!(table.link(hop).state, LinkState::Failed);
    assert_eq!(lab.found().0, Serving::Fallback);
    let generation = lab.model.tables().generation;
    lab.wait(Duration::from_millis(500));
    assert_eq!(lab.model.tables().generation, generation, "nothing new");
    // It answers.
    let mac = Mac([2, 0, 0, 0, 1, 11]);
    lab.model.resolver.set_static(port, address, mac, lab.now);
    lab.wait(Duration::from_millis(30));
    assert_eq!(lab.found().0, Serving::Available);
    // All behind a dead link.
    let dead = |lab: &Lab, is_dead| {
        let table = lab.model.resolver.neighbours().table();
        table.set_link_down(PortId(0), is_dead);
    };
    dead(&lab, true);
    lab.wait(Duration::from_millis(30));
    assert_eq!(lab.found().0, Serving::Fallback);
    let found = lab.model.availability(&Lab::key()).unwrap();
    assert!(!found.is_served(), "they are behind it as well");
    dead(&lab, false);
    lab.wait(Duration::from_millis(30));
    assert_eq!(lab.found().0, Serving::Available);
}

/// As after a health check that failed: else it gets all new connections that least-connection schedulers have.
#[test]
fn a_real_server_that_is_reached_again_starts_slowly() {
    let slow = service("wlc", &[40, 40], "").replace("slow_start = 0", "slow_start = 10");
    let mut lab = Lab::new(&slow);
    assert_eq!(lab.found(), (Serving::Available, vec![(11, 40), (12, 40)]));
    let (port, address) = (PortId(0), IpAddr::from([10, 0, 0, 11]));
    lab.model.event(Event::Wanted { port, address }, lab.now);
    lab.wait(Duration::from_secs(5));
    let table = lab.model.resolver.neighbours().table();
    let hop = table.find(port, address).unwrap();
    assert_eq!(table.link(hop).state, LinkState::Failed);
    let mac = Mac([2, 0, 0, 0, 1, 11]);
    lab.model.resolver.set_static(port, address, mac, lab.now);
    lab.wait(Duration::from_millis(30));
    // In finer weights: 40 times 20 steps.
    assert_eq!(lab.found(), (Serving::Available, vec![(11, 1), (12, 800)]));
}

#[test]
fn reloads_keep_what_a_service_is_and_follow_what_it_is_to_be() {
    let plain = service("rr", &[1, 1], "");
    let mut lab = Lab::new(&plain);
    lab.set(11, Health::Down);
    lab.set(12, Health::Down);
    assert_eq!(lab.found(), (Serving::Available, vec![]));
    let apply = |lab: &mut Lab, more: &str, weights: &[u16], expected| {
        let config = parse(&service("rr", weights, more));
        lab.model.apply(config, lab.now).unwrap();
        assert_eq!(lab.found(), expected, "{more}");
    };
    let both = vec![(98, 1), (99, 1)];
    apply(&mut lab, FALLBACK, &[1, 1], (Serving::Fallback, both));
    let one = "fallback = [\"10.0.0.99:80\"]";
    apply(&mut lab, one, &[1, 1], (Serving::Fallback, vec![(99, 1)]));
    let id = |lab: &Lab, last: u8| {
        let service = lab.model.find(&Lab::key()).unwrap();
        let mut servers = service.servers();
        let address = IpAddr::from([10, 0, 0, last]);
        servers.find(|(it, _)| it.address == address).unwrap().0.id
    };
    // A real server that becomes a fallback server keeps its connections, and is no longer down.
    let before = id(&lab, 12);
    let other = "fallback = [\"10.0.0.12:80\"]";
    apply(&mut lab, other, &[1], (Serving::Fallback, vec![(12, 1)]));
    assert_eq!(id(&lab, 12), before);
    let all = "when_below = \"all\"";
    apply(&mut lab, all, &[1], (Serving::All, vec![(11, 1)]));
    apply(&mut lab, "", &[1], (Serving::Available, vec![]));
    lab.set(11, Health::Up);
    assert_eq!(lab.found(), (Serving::Available, vec![(11, 1)]));
}

#[test]
fn what_becomes_of_services_is_told_once() {
    let mut lab = Lab::new(&service("rr", &[1, 1], FALLBACK));
    assert!(lab.model.take_turns().is_empty(), "it is new, and well");
    lab.set(11, Health::Down);
    lab.set(12, Health::Down);
    let turns = lab.model.take_turns();
    let turn = turns[&Lab::key()];
    assert_eq!((turn.before.available, turn.after.available), (2, 0));
    assert_eq!(turn.after.serving, Serving::Fallback);
    assert!(lab.model.take_turns().is_empty());
    lab.set(12, Health::Up);
    lab.set(12, Health::Down);
    assert!(lab.model.take_turns().is_empty(), "as it was");
    lab.model.unset_service(&Lab::key()).unwrap();
    assert!(lab.model.availability(&Lab::key()).is_none());
}

/// What becomes of a state.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Nothing,
    Reload,
    /// With another weight in the file.
    OtherWeight,
    /// The service is taken out of the file, and comes back.
    Replaced,
    Restart,
}

/// Each cell of file × admin × health × what comes after: a reload changes what the file changed and nothing else, a restart
/// forgets what checks have found, and nothing dead or drained ever has a weight.
#[test]
fn what_is_known_of_a_real_server_is_kept_or_forgotten_cell_by_cell() {
    use After::{Nothing, OtherWeight, Reload, Replaced, Restart};
    let edits = [
        None,
        Some(Edit::Drain),
        Some(Edit::Disable),
        Some(Edit::Weight(3)),
        Some(Edit::Weight(0)),
    ];
    let mut cells = 0;
    for (file, edit) in [0, 1, 4]
        .into_iter()
        .flat_map(|file| edits.map(|edit| (file, edit)))
    {
        for health in [Health::Unknown, Health::Up, Health::Down] {
            for after in [Nothing, Reload, OtherWeight, Replaced, Restart] {
                let cell = format!("{file} {edit:?} {health:?} {after:?}");
                let other = if after == OtherWeight { 7 } else { file };
                let text = |weight| service("wlc", &[weight, 1], "");
                let mut lab = Lab::new(&text(file));
                if let Some(edit) = edit {
                    lab.edit(11, edit);
                }
                lab.set(11, health);
                match after {
                    Nothing => {}
                    Reload | OtherWeight => {
                        lab.model.apply(parse(&text(other)), lab.now).unwrap();
                    }
                    Replaced => {
                        for text in [NETWORK, &text(file)] {
                            lab.model.apply(parse(text), lab.now).unwrap();
                        }
                    }
                    Restart => {
                        let said = lab.model.said();
                        lab = Lab::new(&text(file));
                        lab.model.restore(said);
                    }
                }
                let edit = edit.filter(|_| after != Replaced);
                let health = match after {
                    Replaced | Restart => Health::Unknown,
                    _ => health,
                };
                let weight = match edit {
                    Some(Edit::Drain | Edit::Disable) => 0,
                    _ if health == Health::Down => 0,
                    Some(Edit::Weight(weight)) => weight,
                    _ => other,
                };
                let used: Vec<_> = [(11, weight), (12, 1)]
                    .into_iter()
                    .filter(|(_, weight)| *weight > 0)
                    .collect();
                assert_eq!(lab.found(), (Serving::Available, used), "{cell}");
                let id = lab
                    .model
                    .services
                    .id(&Lab::key(), ([10, 0, 0, 11].into(), 80));
                let state = id
                    .and_then(|id| lab.model.state(id).cloned())
                    .unwrap_or_default();
                let admin = match edit {
                    Some(Edit::Drain) => Admin::Drained,
                    Some(Edit::Disable) => Admin::Disabled,
                    _ => Admin::Enabled,
                };
                let runtime = match edit {
                    Some(Edit::Weight(weight)) => Some(weight),
                    _ => None,
                };
                let found = (state.admin, state.weight, state.health);
                assert_eq!(found, (admin, runtime, health), "{cell}");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 3 * 5 * 3 * 5);
}

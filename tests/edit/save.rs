//! `--save`: what is changed at run time is in the file as well, whose comments and order stay.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// The lab's configuration with comments, and a service in a file that it includes.
fn start() -> (Lab, Daemon, String) {
    let lab = Lab::new();
    lab.write("dns.toml", &format!("# Names.\n{}", DNS.trim_start()));
    let config = lab.config("include = [\"dns.toml\"] # more\n", 3);
    let config = config.replace("weight = 3", "weight = 3 # the large one");
    let daemon = Daemon::start(&lab, &config);
    let api = lab.api();
    (lab, daemon, api)
}

fn file(lab: &Lab, name: &str) -> String {
    std::fs::read_to_string(lab.path(name)).unwrap()
}

/// A reload of the file changes nothing: it is what runs.
fn in_step(api: &str) {
    assert_eq!(said(api, &["reload"]), "nothing changed\n");
}

#[test]
fn every_change_that_is_saved_is_in_the_file_and_nothing_else_of_it_has_changed() {
    let (lab, daemon, api) = start();
    let path = lab.path("lb.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let place = format!("saved in {}\n", path.display());
    let before = file(&lab, "lb.toml");

    let told = said(&api, &["weight", "web", "10.0.0.11:8080", "7", "--save"]);
    assert!(
        told.contains("1 reweighted") && told.ends_with(&place),
        "{told}"
    );
    let mut expected = before.replace("weight = 3 #", "weight = 7 #");
    assert_eq!(file(&lab, "lb.toml"), expected);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(weights(&daemon)[0], 7);
    in_step(&api);

    // A weight of the runtime ends with it; a drain stays.
    said(&api, &["weight", "web", "10.0.0.11:8080", "5"]);
    said(&api, &["weight", "web", "10.0.0.11:8080", "8", "--save"]);
    expected = expected.replace("weight = 7 #", "weight = 8 #");
    let real = &daemon.show("reals")[0];
    assert_eq!(
        (&real["weight"], &real["runtime_weight"]),
        (&8.into(), &serde_json::Value::Null)
    );
    said(&api, &["drain", "web", "10.0.0.11:8080"]);
    said(&api, &["weight", "web", "10.0.0.11:8080", "9", "--save"]);
    expected = expected.replace("weight = 8 #", "weight = 9 #");
    assert_eq!(weights(&daemon)[0], 0);
    said(&api, &["enable", "web", "10.0.0.11:8080"]);
    assert_eq!(
        (weights(&daemon)[0], file(&lab, "lb.toml")),
        (9, expected.clone())
    );
    said(&api, &["drain", "web", "10.0.0.11:8080", "--save"]);
    said(&api, &["reload"]);
    assert_eq!(weights(&daemon)[0], 0);
    said(
        &api,
        &["set", "web", "10.0.0.11:8080", "weight=3", "--save"],
    );
    assert_eq!(file(&lab, "lb.toml"), before);

    said(
        &api,
        &["set", "web", "scheduler=wlc", "slow_start=30s", "--save"],
    );
    let text = file(&lab, "lb.toml");
    assert!(
        text.contains("            scheduler = \"wlc\"\n            slow_start = \"30s\"\n"),
        "{text}"
    );
    assert_eq!(daemon.show("services")[0]["scheduler"], "wlc");
    in_step(&api);
    said(
        &api,
        &["set", "web", "scheduler=wrr", "slow_start=", "--save"],
    );
    assert_eq!(file(&lab, "lb.toml"), before);

    said(
        &api,
        &["add", "web", "10.0.0.13:8080", "--weight", "2", "--save"],
    );
    in_step(&api);
    assert_eq!(weights(&daemon)[2], 2);
    said(&api, &["remove", "web", "10.0.0.13:8080", "--save"]);
    assert_eq!(file(&lab, "lb.toml"), before);

    // The service is in the file that is included.
    let told = said(&api, &["add", "dns", "10.0.0.12:53", "--save"]);
    assert!(told.contains("dns.toml"), "{told}");
    assert!(file(&lab, "dns.toml").starts_with("# Names.\n[[service]]\n"));
    assert!(file(&lab, "dns.toml").contains("10.0.0.12"));
    in_step(&api);
    said(&api, &["remove", "udp:192.0.2.53:53", "--save"]);
    assert!(!file(&lab, "dns.toml").contains("[[service]]"));
    let more = lab.write("more.toml", DNS);
    said(&api, &["add", more.to_str().unwrap(), "--save"]);
    assert!(file(&lab, "lb.toml").contains("name = \"dns\""));
    assert!(services(&daemon).contains(&"dns".to_owned()));
    in_step(&api);
    // With --config the file is that one.
    said(&api, &["reload"]);
    let output = weir(&[
        "remove",
        "dns",
        "--save",
        "--config",
        path.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(file(&lab, "lb.toml"), before);
    daemon.stop();
}

#[test]
fn without_save_a_change_lasts_until_the_next_reload() {
    let (lab, daemon, api) = start();
    let before = file(&lab, "lb.toml");
    assert_eq!(
        said(&api, &["add", "web", "10.0.0.13:8080", "--weight", "4"]),
        "services: 0 added, 0 removed, 1 changed; real servers: 1 added, 0 removed, 0 reweighted\n"
    );
    said(&api, &["set", "web", "persistence.timeout=10m"]);
    said(&api, &["set", "web", "persistence.prefix_v4=24"]);
    assert_eq!(daemon.show("services")[0]["persistence_s"], 600);
    said(&api, &["remove", "web", "10.0.0.12:8080"]);
    assert_eq!(weights(&daemon)[..2], [3, 4]);
    for (arguments, why) in [
        (
            &["remove", "web", "10.0.0.12:8080"][..],
            "has no real server 10.0.0.12:8080",
        ),
        (
            &["add", "wob", "10.0.0.12:8080"],
            "there is no service \"wob\"",
        ),
        (&["set", "web", "colour=red"], "unknown key `colour`"),
        (&["set", "web", "port=81"], "says which service it is"),
        (&["add", "web", "192.0.2.80:80"], "192.0.2.80"),
    ] {
        let output = weir(&[arguments, &["--api", &api]].concat());
        let told = refused(&output);
        assert!(told.contains(why), "{arguments:?}: {told}");
    }
    said(&api, &["reload"]);
    assert_eq!(weights(&daemon), [3, 1, 1, 1]);
    assert_eq!(file(&lab, "lb.toml"), before);
    daemon.stop();
}

#[test]
fn what_cannot_be_saved_changes_neither_the_file_nor_what_runs() {
    let (lab, daemon, api) = start();
    let before = file(&lab, "lb.toml");
    let runs = || (weights(&daemon), services(&daemon));
    let running = runs();
    let try_to = |arguments: &[&str]| {
        let output = weir(&[arguments, &["--save", "--api", &api]].concat());
        let told = refused(&output);
        assert_eq!(runs(), running, "{arguments:?}");
        let names = std::fs::read_dir(lab.path("")).unwrap();
        let mut names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
        assert!(
            !names.any(|name| name.starts_with('.')),
            "nothing is left beside it"
        );
        told
    };
    for (arguments, why) in [
        (
            &["weight", "wob", "10.0.0.11:8080", "2"][..],
            "no [[service]] table in",
        ),
        (
            &["weight", "web", "10.0.0.99:8080", "2"],
            "has no real server 10.0.0.99:8080",
        ),
        (
            &["remove", "web", "10.0.0.99:8080"],
            "no table of the service is the real server",
        ),
        (&["set", "web", "scheduler=wlx"], "would not be valid:\n"),
        (&["add", "web", "192.0.2.80:80"], "would not be valid:\n"),
    ] {
        let told = try_to(arguments);
        assert!(told.contains(why), "{arguments:?}: {told}");
        assert_eq!(file(&lab, "lb.toml"), before);
    }
    // Another program locks the file, which any that may read it can.
    let locked = std::fs::File::open(lab.path("lb.toml")).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockShared).unwrap();
    let told = try_to(&["weight", "web", "10.0.0.12:8080", "2"]);
    assert!(told.contains("another program holds a lock on"), "{told}");
    drop(locked);
    // The file is not what runs.
    let other = before.replace("weight = 3", "weight = 4");
    lab.write("lb.toml", &other);
    let told = try_to(&["weight", "web", "10.0.0.12:8080", "2"]);
    assert!(
        told.contains("is not what runs")
            && told.contains("weight 3 -> 4")
            && told.contains("`weir reload` applies"),
        "{told}"
    );
    assert_eq!(file(&lab, "lb.toml"), other);
    lab.write("lb.toml", "nonsense");
    assert!(try_to(&["weight", "web", "10.0.0.12:8080", "2"]).contains("lb.toml:1:"));
    // A change of the run time that was not saved is not lost by one that is.
    lab.write("lb.toml", &before);
    said(&api, &["add", "web", "10.0.0.13:8080"]);
    let output = weir(&[
        "weight",
        "web",
        "10.0.0.12:8080",
        "2",
        "--save",
        "--api",
        &api,
    ]);
    assert!(refused(&output).contains("10.0.0.13:8080"), "{output:?}");
    assert_eq!(file(&lab, "lb.toml"), before);
    let output = weir(&[
        "drain",
        "web",
        "10.0.0.11:8080",
        "--save",
        "--for",
        "1h",
        "--api",
        &api,
    ]);
    let told = refused(&output);
    assert!(told.contains("cannot be used with '--for"), "{told}");
    daemon.stop();
}

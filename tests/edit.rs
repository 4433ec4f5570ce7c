//! `weir plan`, `add`, `remove`, `drain`, `enable`, `weight`: asked of a running daemon as an operator does.

#[path = "run/daemon.rs"]
#[allow(dead_code)]
mod daemon;
#[path = "run/frames.rs"]
#[allow(dead_code)]
mod frames;
#[path = "edit/save.rs"]
mod save;

use daemon::{Daemon, Lab, refused, weir};

/// What a command said, which must have succeeded.
fn said(api: &str, arguments: &[&str]) -> String {
    let output = weir(&[arguments, &["--api", api]].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn weights(daemon: &Daemon) -> Vec<u64> {
    let reals = daemon.show("reals");
    let weights = reals.as_array().unwrap().iter();
    weights
        .map(|real| real["weight"].as_u64().unwrap())
        .collect()
}

#[test]
fn one_real_server_is_drained_disabled_weighed_and_enabled_whatever_is_reloaded() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let api = lab.api();
    let ask = |arguments: &[&str]| said(&api, arguments);
    assert_eq!(weights(&daemon), [3, 1, 1]);
    assert_eq!(
        ask(&["drain", "web", "10.0.0.11:8080"]),
        "web 10.0.0.11:8080: weight 3 -> 0\n"
    );
    assert_eq!(weights(&daemon), [0, 1, 1]);
    assert_eq!(
        ask(&["drain", "web", "10.0.0.11:8080"]),
        "web 10.0.0.11:8080: weight 0, as before\n"
    );
    assert_eq!(
        ask(&["weight", "web", "10.0.0.11:8080", "5"]),
        "web 10.0.0.11:8080: weight 0, as before (drained)\n"
    );
    said(&api, &["reload"]);
    assert_eq!(weights(&daemon), [0, 1, 1], "a reload undoes no drain");
    let real = &daemon.show("reals")[0];
    assert_eq!(
        (
            &real["admin"],
            &real["runtime_weight"],
            &real["configured_weight"],
            &real["why"]
        ),
        (&"drained".into(), &5.into(), &3.into(), &"drained".into())
    );
    assert_eq!(
        ask(&["enable", "tcp:192.0.2.80:80", "10.0.0.11:8080"]),
        "tcp:192.0.2.80:80 10.0.0.11:8080: weight 0 -> 3\n"
    );
    ask(&["weight", "web", "10.0.0.12:8080", "7"]);
    assert_eq!(weights(&daemon), [3, 7, 1]);
    said(&api, &["reload"]);
    assert_eq!(weights(&daemon), [3, 7, 1], "nor a weight");
    ask(&["weight", "web", "10.0.0.12:8080", "0"]);
    assert_eq!(
        ask(&["enable", "web", "10.0.0.12:8080"]),
        "web 10.0.0.12:8080: weight 0 -> 1\n",
        "the file's"
    );

    assert_eq!(
        ask(&["disable", "web", "10.0.0.11:8080", "--for", "1s"]),
        "web 10.0.0.11:8080: weight 3 -> 0, for 1s\n"
    );
    let table = ask(&["show", "reals"]);
    assert!(table.contains("disabled·1s"), "{table}");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(weights(&daemon), [3, 1, 1], "it ends by itself");
    let output = weir(&[
        "drain",
        "web",
        "10.0.0.11:8080",
        "--for",
        "0s",
        "--api",
        &api,
    ]);
    assert_eq!(
        refused(&output),
        "error: `for` is out of range: write 1s to 366d\n"
    );
}

#[test]
fn what_operators_have_said_survives_a_restart_and_a_file_that_does_not_fit_is_told() {
    let lab = Lab::new();
    let file = lab.path("state.json");
    let config = lab.config(&format!("state_file = {:?}\n", file.to_str().unwrap()), 3);
    let (api, real) = (lab.api(), ["web", "10.0.0.11:8080"]);
    let start = || Daemon::start(&lab, &config);
    for end in ["TERM", "KILL"] {
        let daemon = start();
        said(&api, &["drain", real[0], real[1], "--for", "1h"]);
        said(&api, &["weight", "web", "10.0.0.12:8080", "7"]);
        // After a KILL there is what was written until then: within a moment of the change.
        daemon.wait(|_| {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.contains("\"weight\": 7").then_some(())
        });
        daemon.end(end);
        let daemon = start();
        assert_eq!(weights(&daemon), [0, 7, 1], "after {end}");
        let left = daemon.show("reals")[0]["admin_ends_s"].as_u64().unwrap();
        assert!((3500..=3601).contains(&left), "{left}");
        assert!(daemon.log().contains("are in force again"));
        said(&api, &["enable", real[0], real[1]]);
        said(&api, &["enable", "web", "10.0.0.12:8080"]);
        daemon.stop();
        let daemon = start();
        assert_eq!(weights(&daemon), [3, 1, 1], "an enable is kept as well");
        daemon.stop();
    }
    for (text, why) in [
        ("{\"version\": 9, \"reals\": []}", "its version is 9"),
        (
            "{\"version\": 1, \"reals\": [",
            "it is not as weir writes it",
        ),
        (
            "{\"version\": 1, \"reals\": [{\"service\": \"tcp:192.0.2.99:80\", \"real\": \"10.0.0.11:80\", \"admin\": \"drained\"}]}",
            "10.0.0.11:80 of tcp:192.0.2.99:80",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let daemon = start();
        assert_eq!(weights(&daemon), [3, 1, 1]);
        assert!(daemon.log().contains(why), "{}", daemon.log());
        daemon.stop();
    }
}

#[test]
fn what_is_not_there_is_named_and_nothing_changes() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let api = lab.api();
    for (arguments, why) in [
        (
            &["drain", "wbe", "10.0.0.11:8080"][..],
            "error: there is no service \"wbe\"\n",
        ),
        (
            &["drain", "web", "10.0.0.99:8080"],
            "error: the service \"web\" has no real server 10.0.0.99:8080\n",
        ),
    ] {
        let output = weir(&[arguments, &["--api", &api]].concat());
        assert_eq!(refused(&output), why);
    }
    let output = weir(&["weight", "web", "10.0.0.11", "3", "--api", &api]);
    let why = refused(&output);
    assert_eq!(
        why,
        "error: \"10.0.0.11\" is no real server: write its address and port, such as 10.0.0.11:8080\n"
    );
    assert_eq!(weights(&daemon), [3, 1, 1]);
}

#[test]
fn a_plan_says_what_a_reload_would_change_and_changes_nothing() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let api = lab.api();
    let plan = |text: &str| {
        let file = lab.write("other.toml", text);
        weir(&["plan", file.to_str().unwrap(), "--api", &api])
    };
    let output = plan(&lab.config("", 5));
    assert!(output.status.success(), "{output:?}");
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(summary.contains("1 reweighted"), "{summary}");
    assert!(
        summary.starts_with("~ service web: real server 10.0.0.11:8080: weight 3 -> 5\n"),
        "{summary}"
    );
    let file = lab.path("other.toml").to_str().unwrap().to_owned();
    let output = weir(&["plan", &file, "--exit-code", "--json", "--api", &api]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["details"][0]["new"], "5");
    assert_eq!(weights(&daemon), [3, 1, 1]);
    assert_eq!(
        said(&api, &["reload", lab.path("other.toml").to_str().unwrap()]),
        summary,
        "a reload changes what the plan says"
    );
    let log = daemon.log();
    assert!(
        log.contains("real server 10.0.0.11:8080: weight 3 -> 5"),
        "{log}"
    );
    let output = weir(&["plan", &file, "--exit-code", "--api", &api]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = plan(
        &lab.config("", 5)
            .replace("connections = 10000", "connections = 20000"),
    );
    assert!(refused(&output).contains("[limits] connections cannot change"));
    let output = plan("nonsense");
    assert!(refused(&output).contains("other.toml:1:"));
}

/// The names of the services, in the order that they are shown in.
fn services(daemon: &Daemon) -> Vec<String> {
    let services = daemon.show("services");
    let services = services.as_array().unwrap().iter();
    services
        .map(|service| service["name"].as_str().unwrap().to_owned())
        .collect()
}

const DNS: &str = r#"
[[service]]
name = "dns"
address = "192.0.2.53"
port = 53
protocol = "udp"
mode = "nat"
scheduler = "rr"
  [[service.real]]
  address = "10.0.0.11"
"#;

#[test]
fn services_come_change_and_go_while_it_runs_until_the_next_reload() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let api = lab.api();
    let file = |text: &str| {
        let path = lab.path("more.toml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let before = services(&daemon);
    assert_eq!(
        said(&api, &["add", &file(DNS)]),
        "services: 1 added, 0 removed, 0 changed; real servers: 1 added, 0 removed, 0 reweighted\n"
    );
    assert_eq!(
        services(&daemon),
        [&before[..], &["dns".to_owned()]].concat()
    );
    assert_eq!(said(&api, &["add", &file(DNS)]), "nothing changed\n");
    let two = format!("{DNS}  weight = 2\n  [[service.real]]\n  address = \"10.0.0.12\"\n");
    assert_eq!(
        said(&api, &["add", &file(&two)]),
        "services: 0 added, 0 removed, 1 changed; real servers: 1 added, 0 removed, 1 reweighted\n"
    );
    assert_eq!(
        said(&api, &["weight", "dns", "10.0.0.12:53", "5"]),
        "dns 10.0.0.12:53: weight 1 -> 5\n"
    );
    // The first goes, the last takes its place in the model: what is left is found nevertheless.
    assert_eq!(
        said(&api, &["remove", "web"]),
        "services: 0 added, 1 removed, 0 changed; real servers: 0 added, 2 removed, 0 reweighted\n"
    );
    assert!(!services(&daemon).contains(&"web".to_owned()));
    said(&api, &["weight", "udp:192.0.2.53:53", "10.0.0.12:53", "6"]);
    said(&api, &["remove", "udp:192.0.2.53:53"]);
    assert!(!services(&daemon).contains(&"dns".to_owned()));

    said(&api, &["reload"]);
    assert_eq!(services(&daemon), before, "the file says what there is");
}

#[test]
fn what_cannot_be_added_is_told_as_check_tells_it_and_changes_nothing() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let api = lab.api();
    let before = services(&daemon);
    for (text, why) in [
        ("[[service]]\nadress = \"192.0.2.1\"\n", "more.toml:2:1"),
        (&DNS.replace("rr", "rrr"), "unknown scheduler `rrr`"),
        (
            &DNS.replace("192.0.2.53", "10.0.0.1"),
            "the VIP `10.0.0.1` is also a port's address",
        ),
        (
            &DNS.replace("\"dns\"", "\"web\""),
            "the name \"web\" is that of the service tcp:192.0.2.80:80",
        ),
        (
            &DNS.replace("192.0.2.53", "10.0.0.12"),
            "the VIP 10.0.0.12 is the address of a real server",
        ),
        (&DNS.replace("10.0.0.11", "192.0.2.80"), "192.0.2.80"),
        (
            &format!("[limits]\nconnections = 5\n{DNS}"),
            "only services can be added",
        ),
        ("", "there is no [[service]]"),
    ] {
        let path = lab.path("more.toml");
        std::fs::write(&path, text).unwrap();
        let output = weir(&["add", path.to_str().unwrap(), "--api", &api]);
        let told = refused(&output);
        assert!(told.contains(why), "{text}\n{told}");
        assert_eq!(services(&daemon), before, "{text}");
    }
    let output = weir(&["remove", "wbe", "--api", &api]);
    assert_eq!(refused(&output), "error: there is no service \"wbe\"\n");
    let output = weir(&["add", "/nonexistent.toml", "--api", &api]);
    assert!(refused(&output).starts_with("error: /nonexistent.toml: No such file"));
}

//! Reloads that are taken back: by `weir rollback`, or because nothing confirmed them.

use super::*;
use std::time::Duration;

/// The weight of the first real server of the service `web`, which tells the configurations apart.
fn weight(daemon: &Daemon) -> u64 {
    let reals = daemon.show("reals");
    let reals = reals.as_array().unwrap();
    let web = reals.iter().find(|real| real["real"] == "10.0.0.11:8080");
    web.unwrap()["weight"].as_u64().unwrap()
}

fn done(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.tool(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn reload(lab: &Lab, daemon: &Daemon, weight: u16, more: &[&str]) -> String {
    let file = lab.write("other.toml", &lab.config("", weight));
    done(
        daemon,
        &[&["reload", file.to_str().unwrap()], more].concat(),
    )
}

#[test]
fn a_rollback_goes_one_configuration_back_each_time() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let text = refused(&daemon.tool(&["rollback"]));
    assert!(
        text.starts_with("error: there is no configuration to go back to"),
        "{text}"
    );
    for weight in 2..=14 {
        reload(&lab, &daemon, weight, &[]);
    }
    // A service that was added at run time is part of what there was.
    done(&daemon, &["remove", "tcp:192.0.2.81:80"]);
    reload(&lab, &daemon, 15, &[]);
    let services = |daemon: &Daemon| daemon.show("services").as_array().unwrap().len();
    assert_eq!((weight(&daemon), services(&daemon)), (15, 2));
    let told = done(&daemon, &["rollback"]);
    assert!(told.contains("1 removed"), "{told}");
    assert_eq!((weight(&daemon), services(&daemon)), (14, 1));
    for before in (5..=13).rev() {
        done(&daemon, &["rollback"]);
        assert_eq!((weight(&daemon), services(&daemon)), (before, 2));
    }
    let text = refused(&daemon.tool(&["rollback"]));
    assert!(text.contains("all of the 10 that are kept"), "{text}");
    assert_eq!(weight(&daemon), 5, "nothing has changed");
    daemon.stop();
}

#[test]
fn what_is_not_confirmed_in_time_is_taken_back() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let text = refused(&daemon.tool(&["confirm"]));
    assert_eq!(text, "error: no reload waits for a confirmation\n");

    let told = reload(&lab, &daemon, 2, &["--confirm", "1s"]);
    assert!(
        told.contains("goes back in 1s unless this is confirmed"),
        "{told}"
    );
    assert_eq!(weight(&daemon), 2);
    daemon.wait(|daemon| (weight(daemon) == 1).then_some(()));
    let log = daemon.log();
    assert!(log.contains("not confirmed within 1s: going back"), "{log}");
    refused(&daemon.tool(&["confirm"]));

    // A reload that changes nothing confirms nothing.
    reload(&lab, &daemon, 2, &["--confirm", "1s"]);
    reload(&lab, &daemon, 2, &[]);
    daemon.wait(|daemon| (weight(daemon) == 1).then_some(()));

    // Of several, the last confirmed one is gone back to.
    reload(&lab, &daemon, 3, &["--confirm", "1h"]);
    reload(&lab, &daemon, 4, &["--confirm", "1h"]);
    done(&daemon, &["rollback"]);
    assert_eq!(weight(&daemon), 1);
    refused(&daemon.tool(&["confirm"]));

    // Confirmed, by that command or by a plain reload, it stays.
    reload(&lab, &daemon, 5, &["--confirm", "2s"]);
    done(&daemon, &["confirm"]);
    reload(&lab, &daemon, 6, &["--confirm", "2s"]);
    reload(&lab, &daemon, 7, &[]);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(weight(&daemon), 7);

    for time in ["0s", "25h"] {
        let file = lab.path("other.toml");
        let reload = ["reload", file.to_str().unwrap(), "--confirm", time];
        let text = refused(&daemon.tool(&reload));
        assert!(text.contains("`confirm_s` is 1 to 86400 seconds"), "{text}");
    }
    daemon.stop();
}

#[test]
fn what_is_in_force_is_a_file_that_changes_nothing() {
    let lab = Lab::new();
    let check = r#"
        [health.web]
        type = "http"
        request = { path = "/up", headers = { authorization = "Bearer 12345", accept = "text/plain" } }"#;
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    reload(&lab, &daemon, 2, &[]);
    done(&daemon, &["remove", "tcp:192.0.2.81:80"]);
    let text = done(&daemon, &["show", "config"]);
    let written = lab.write("written.toml", &text);
    let written = written.to_str().unwrap();
    let checked = weir(&["check", written]);
    assert!(checked.status.success(), "{checked:?}\n{text}");
    let planned = daemon.tool(&["plan", written, "--exit-code"]);
    assert_eq!(planned.status.code(), Some(0), "{planned:?}\n{text}");
    // The file of the start has another weight, and the service that was removed.
    let diff = done(&daemon, &["show", "config", "--diff"]);
    assert!(
        diff.contains("192.0.2.81") && diff.contains("10.0.0.11:8080"),
        "{diff}"
    );

    // Secrets are not in it, and only some may read the rest.
    let file = lab.write("secret.toml", &format!("{}{check}", lab.config("", 1)));
    done(&daemon, &["reload", file.to_str().unwrap()]);
    let text = done(&daemon, &["show", "config"]);
    assert!(
        text.contains("(hidden)") && text.contains("text/plain"),
        "{text}"
    );
    assert!(!text.contains("12345"), "{text}");
    let text = refused(&daemon.tool(&["show", "config", "--json"]));
    assert!(text.contains("no --json"), "{text}");
    daemon.stop();
}

#[test]
fn a_real_server_that_a_rollback_brings_back_is_what_operators_had_said() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let real = |name: &str| {
        let reals = daemon.show("reals");
        let reals = reals.as_array().unwrap();
        reals.iter().find(|real| real["real"] == name).cloned()
    };
    done(&daemon, &["drain", "web", "10.0.0.12:8080"]);
    done(&daemon, &["drain", "web", "10.0.0.11:8080"]);
    let without = lab.config("", 3).replace(
        "            [[service.real]]\n            address = \"10.0.0.12\"\n            port = 8080\n",
        "",
    );
    let file = lab.write("without.toml", &without);
    done(
        &daemon,
        &["reload", file.to_str().unwrap(), "--confirm", "1h"],
    );
    assert_eq!(real("10.0.0.12:8080"), None);
    done(&daemon, &["enable", "web", "10.0.0.11:8080"]);
    done(&daemon, &["rollback"]);
    assert_eq!(real("10.0.0.12:8080").unwrap()["admin"], "drained");
    assert_eq!(
        real("10.0.0.11:8080").unwrap()["admin"],
        "enabled",
        "said since"
    );
    daemon.stop();
}

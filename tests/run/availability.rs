//! A running daemon's services with too few real servers: what is shown and said of them, and how they follow changes.

use super::*;

const WEB: &str = "scheduler = \"wrr\"\n            [[service.real]]";

/// The service `web` with further lines.
fn config(lab: &Lab, more: &str) -> String {
    let text = lab.config("", 3);
    let known =
        "[[neighbour]]\naddress = \"10.0.0.98\"\nmac = \"02:00:00:00:01:62\"\n[[local_pool]]";
    let text = text.replacen("[[local_pool]]", known, 1);
    text.replacen(WEB, &WEB.replacen("[[", &format!("{more}\n[["), 1), 1)
}

fn done(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.tool(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The row of the service `web`.
fn web(daemon: &Daemon) -> Value {
    let rows = daemon.show("services");
    let rows = rows.as_array().unwrap();
    rows.iter()
        .find(|row| row["name"] == "web")
        .unwrap()
        .clone()
}

/// The weights and reasons of its servers, and which of them are fallback servers.
fn servers(daemon: &Daemon) -> Vec<(u64, String, bool)> {
    let row = web(daemon);
    let rows = row["reals"].as_array().unwrap().iter();
    rows.map(|it| {
        let why = it["why"].as_str().unwrap_or_default().to_owned();
        let is_fallback = it["fallback"].as_bool().unwrap_or(false);
        (it["weight"].as_u64().unwrap(), why, is_fallback)
    })
    .collect()
}

fn ready(daemon: &Daemon) -> (u16, String) {
    daemon.request("GET /ready?service=web HTTP/1.0\r\n\r\n")
}

#[test]
fn a_service_goes_below_its_minimum_and_comes_back_for_all_to_see() {
    let lab = Lab::new();
    let text = config(&lab, "fallback = [\"10.0.0.98:9090\"]\nhysteresis = 1");
    let daemon = Daemon::start(&lab, &text);
    let row = |weight, why: &str, is_fallback| (weight, why.to_owned(), is_fallback);
    let usual = [
        row(3, "", false),
        row(1, "", false),
        row(0, "a fallback server, not in use", true),
    ];
    assert_eq!(servers(&daemon), usual);
    let shown = web(&daemon);
    assert_eq!(
        (
            &shown["serving"],
            &shown["below_minimum"],
            &shown["available_reals"],
            &shown["needed_reals"],
            &shown["when_below"],
            &shown["announced"]
        ),
        (
            &"available".into(),
            &false.into(),
            &2.into(),
            &1.into(),
            &"fallback".into(),
            &Value::Null
        )
    );
    assert_eq!(ready(&daemon).0, 200);

    done(&daemon, &["disable", "web", "10.0.0.11:8080"]);
    done(&daemon, &["drain", "web", "10.0.0.12:8080"]);
    let sorry = [
        row(0, "disabled", false),
        row(0, "drained", false),
        row(1, "", true),
    ];
    assert_eq!(servers(&daemon), sorry);
    let (status, why) = ready(&daemon);
    assert_eq!(status, 503, "{why}");
    for part in [
        "no available real server",
        "10.0.0.11:8080 (disabled)",
        "its fallback servers are used",
    ] {
        assert!(why.contains(part), "{why}");
    }
    let table = daemon.table("services");
    assert!(
        table.contains("web pool inside below minimum: fallback in use"),
        "{table}"
    );
    let line = table.lines().find(|line| line.contains("10.0.0.98:9090"));
    assert!(line.unwrap().contains("fallback"), "{table}");
    let table = daemon.table("reals");
    let line = table.lines().find(|line| line.contains("10.0.0.98:9090"));
    assert!(line.unwrap().contains(" fallback "), "{table}");
    let metrics = daemon.get("/metrics");
    let labels = "{service=\"web\",protocol=\"tcp\",address=\"192.0.2.80\",port=\"80\"}";
    for (name, value) in [
        ("available_reals", 0),
        ("below_minimum", 1),
        ("fallback_in_use", 1),
    ] {
        let line = format!("weir_service_{name}{labels} {value}\n");
        assert!(metrics.contains(&line), "{line}");
    }
    assert!(!metrics.contains("weir_service_announced{"));

    // Nothing of that is changed by a reload; it takes one more than the minimum to come back.
    done(&daemon, &["reload"]);
    assert_eq!(servers(&daemon), sorry);
    done(&daemon, &["enable", "web", "10.0.0.12:8080"]);
    assert_eq!(web(&daemon)["serving"], "fallback");
    assert_eq!(
        servers(&daemon)[1],
        row(0, "the fallback servers are in use", false)
    );
    let (status, why) = ready(&daemon);
    assert_eq!(status, 503);
    assert!(
        why.contains("1 available real server, and needs 2"),
        "{why}"
    );
    done(&daemon, &["enable", "web", "10.0.0.11:8080"]);
    assert_eq!(servers(&daemon), usual);
    assert_eq!(ready(&daemon).0, 200);

    let events = daemon.wait(|daemon| {
        let rows = daemon.show("events");
        let rows = rows.as_array().unwrap().iter();
        let about = rows.filter(|row| row["kind"] == "health" && row["fields"]["service"] == "web");
        let found: Vec<Value> = about.cloned().collect();
        (found.len() >= 2).then_some(found)
    });
    let last = events.last().unwrap();
    assert_eq!(last["message"], "service is served again", "{events:#?}");
    let first = events[0]["message"].as_str().unwrap();
    assert_eq!(
        first,
        "service is below its minimum: its fallback servers are used"
    );
    let lacks = events[0]["fields"]["unavailable"].as_str().unwrap();
    assert!(lacks.contains("10.0.0.11:8080 (disabled)"), "{lacks}");
    daemon.stop();
}

#[test]
fn plans_reloads_and_what_is_in_force_name_fallback_servers_and_minimum() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &config(&lab, ""));
    let more = "fallback = [\"10.0.0.98:9090\"]\nmin_healthy = \"60%\"\nwhen_below = \"all\"";
    let file = lab.write("other.toml", &config(&lab, more));
    let file = file.to_str().unwrap();
    let plan = done(&daemon, &["plan", file]);
    for line in [
        "~ service web (tcp:192.0.2.80:80): min_healthy 1 -> 60%",
        "~ service web (tcp:192.0.2.80:80): when_below refuse -> all",
        "+ service web: fallback server 10.0.0.98:9090: added",
    ] {
        assert!(plan.contains(line), "{plan}");
    }
    done(&daemon, &["reload", file]);
    let written = done(&daemon, &["show", "config"]);
    for line in [
        "fallback = [\"10.0.0.98:9090\"]",
        "min_healthy = \"60%\"",
        "when_below = \"all\"",
        "announce = \"always\"",
    ] {
        assert!(written.contains(line), "{written}");
    }
    let again = lab.write("again.toml", &written);
    let plan = done(&daemon, &["plan", again.to_str().unwrap()]);
    assert!(plan.contains("nothing"), "{plan}");

    // Two are needed of two: one is not enough, and all are used that no operator keeps back.
    done(&daemon, &["disable", "web", "10.0.0.11:8080"]);
    assert_eq!(web(&daemon)["serving"], "all");
    assert_eq!(ready(&daemon).0, 200, "an available one gets connections");
    done(&daemon, &["drain", "web", "10.0.0.12:8080"]);
    assert_eq!(web(&daemon)["serving"], "fallback");
    // A fallback server may be drained as well.
    let told = done(&daemon, &["drain", "web", "10.0.0.98:9090"]);
    assert_eq!(told, "web 10.0.0.98:9090: weight 1 -> 0\n");
    let (_, why) = ready(&daemon);
    assert!(
        why.contains("its fallback servers cannot be used either"),
        "{why}"
    );

    let file = lab.write(
        "third.toml",
        &config(&lab, "min_healthy = 2\nwhen_below = \"refuse\""),
    );
    done(&daemon, &["reload", file.to_str().unwrap()]);
    done(&daemon, &["enable", "web", "10.0.0.12:8080"]);
    assert_eq!(web(&daemon)["serving"], "refused");
    assert_eq!(
        servers(&daemon)[1],
        (0, "the service is below its minimum".to_owned(), false)
    );
    done(&daemon, &["enable", "web", "10.0.0.11:8080"]);
    assert_eq!(web(&daemon)["serving"], "available");
    daemon.stop();
}

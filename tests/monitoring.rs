//! What is made for Prometheus and Grafana: `config/alerts.yml` and `config/grafana/weir.json` ask for what weir has.
//! tests/lab/monitoring.sh shows that a real Prometheus answers each question of the dashboard.

mod skip;

use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::LazyLock;
use weir::metrics::{METRICS, Metric};

const TOP: &str = env!("CARGO_MANIFEST_DIR");
/// Labels that Prometheus gives every sample.
const OF_SCRAPES: [&str; 2] = ["instance", "job"];

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{TOP}/{name}")).unwrap_or_else(|why| panic!("{name}: {why}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&file("config/grafana/weir.json")).expect("the dashboard is JSON")
}

/// What the dashboard asks: each panel's title with its queries, and what fills its menus and its annotations.
fn questions() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut questions = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            questions.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    for note in list(&dashboard["annotations"]["list"]) {
        questions.push((text(&note["name"]), text(&note["expr"])));
    }
    for variable in list(&dashboard["templating"]["list"]) {
        if variable["type"] == "query" {
            questions.push((text(&variable["name"]), text(&variable["query"]["query"])));
        }
    }
    questions
}

/// The conditions of the alerts: each line of `expr`, with those folded into it.
fn conditions() -> Vec<(String, String)> {
    let text = file("config/alerts.yml");
    let rules = text.split("- alert: ").skip(1);
    let condition = |rule: &str| {
        let (name, rest) = rule.split_once('\n').expect("a rule has lines");
        let (_, rest) = rest.split_once("expr: ").expect("a rule has a condition");
        let end = Regex::new(r"\n        (for|labels):").unwrap();
        let expr = end.split(rest).next().unwrap_or_default();
        (
            name.to_owned(),
            expr.trim_start_matches(">-").trim().to_owned(),
        )
    };
    rules.map(condition).collect()
}

fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// Names of metrics with their matchers, and what a query groups by, are what weir has.
fn asks_for_what_is_there(what: &str, query: &str) {
    static SELECTOR: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(weir_[a-z0-9_]+)\s*(?:\{([^}]*)\})?").unwrap());
    static MATCHER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).unwrap());
    static GROUPS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bby\s*\(([^)]*)\)").unwrap());
    let mut labels: BTreeSet<_> = OF_SCRAPES.into_iter().collect();
    let mut asked = 0;
    for found in SELECTOR.captures_iter(query) {
        asked += 1;
        let name = &found[1];
        let metric = metric(name).unwrap_or_else(|| panic!("{what}: there is no metric {name}"));
        labels.extend(metric.labels);
        let matchers = found.get(2).map_or("", |it| it.as_str());
        for matcher in MATCHER.captures_iter(matchers) {
            let (label, value) = (&matcher[1], &matcher[2]);
            let has = metric.labels.contains(&label) || OF_SCRAPES.contains(&label);
            assert!(has, "{what}: {name} has no label {label}");
            if label == "reason" && name == "weir_dropped_packets_total" {
                let reasons = file("docs/drop-reasons.md");
                assert!(
                    reasons.contains(&format!("| `{value}` |")),
                    "{what}: {value}"
                );
            }
        }
    }
    assert!(asked > 0 || query.starts_with("up{"), "{what}: {query}");
    for group in GROUPS.captures_iter(query) {
        for label in group[1].split(',').map(str::trim) {
            assert!(labels.contains(label), "{what}: groups by {label}");
        }
    }
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_and_labels_that_are_there() {
    let (questions, conditions) = (questions(), conditions());
    assert!(questions.len() > 30 && conditions.len() > 15);
    for (what, query) in questions.iter().chain(&conditions) {
        asks_for_what_is_there(what, query);
    }
}

#[test]
fn legends_name_labels_that_their_query_leaves() {
    let label = Regex::new(r"\{\{([a-z_]+)\}\}").unwrap();
    for panel in dashboard()["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (expr, legend) = (&target["expr"].as_str().unwrap(), &target["legendFormat"]);
            for found in label.captures_iter(legend.as_str().unwrap()) {
                let name = &found[1];
                let is_left = match expr.contains(" by (") {
                    true => Regex::new(&format!(r"by \([^)]*\b{name}\b[^)]*\)"))
                        .unwrap()
                        .is_match(expr),
                    false => METRICS
                        .iter()
                        .any(|it| expr.contains(it.name) && it.labels.contains(&name)),
                };
                assert!(is_left, "{}: {expr}: {name}", panel["title"]);
            }
        }
    }
}

#[test]
fn panels_lie_side_by_side_and_have_numbers_of_their_own() {
    let (mut taken, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard()["panels"].as_array().unwrap() {
        let of = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(of("x") + of("w") <= 24, "{panel}");
        for x in of("x")..of("x") + of("w") {
            for y in of("y")..of("y") + of("h") {
                assert!(taken.insert((x, y)), "{}: another is there", panel["title"]);
            }
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
    }
}

/// Each alert has a case in which it fires and one in which it must not.
#[test]
fn alerts_fire_for_what_they_are_about() {
    let cases = file("tests/monitoring/alerts.yml");
    for (name, _) in conditions() {
        for case in ["fires", "is quiet"] {
            assert!(cases.contains(&format!("name: {name} {case}\n")), "{name}");
        }
    }
    for arguments in [
        ["check", "rules", "config/alerts.yml"],
        ["test", "rules", "tests/monitoring/alerts.yml"],
    ] {
        let promtool = Command::new("promtool")
            .args(arguments)
            .current_dir(TOP)
            .output();
        let Ok(done) = promtool else {
            return skip::skip("it takes promtool");
        };
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "promtool {arguments:?}: {said}");
    }
}

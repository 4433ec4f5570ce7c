//! `weir simulate` from outside.

use super::{Lab, PORTS, Run};
use serde_json::Value;
use std::process::Command;

/// A service of dr with that scheduler, and one of fullnat with so many local addresses.
fn config(scheduler: &str, addresses: &str) -> String {
    format!(
        "{PORTS}[[route]]\nto = \"0.0.0.0/0\"\nvia = \"198.51.100.254\"\n\
         [[local_pool]]\nname = \"pool\"\naddresses = [{addresses}]\n\
         [[service]]\nname = \"web\"\naddress = \"192.0.2.80\"\nport = 80\nprotocol = \"tcp\"\nmode = \"dr\"\nscheduler = \"{scheduler}\"\n\
         [[service.real]]\naddress = \"10.0.0.11\"\n[[service.real]]\naddress = \"10.0.0.12\"\n\
         [[service]]\nname = \"dns\"\naddress = \"192.0.2.80\"\nport = 53\nprotocol = \"udp\"\nmode = \"fullnat\"\nlocal_pool = \"pool\"\n\
         [[service.real]]\naddress = \"10.0.0.11\"\n[[service.real]]\naddress = \"10.0.0.12\"\n"
    )
}

const TWO: &str = "\"10.0.0.201\", \"10.0.0.202\"";

fn simulate(lab: &Lab, options: &str) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["simulate", "--config", "weir.toml"])
        .args(options.split_whitespace())
        .current_dir(lab.path("."))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

const SHORT: &str = "--nodes 2 --connections 20 --seconds 6";

#[test]
fn a_report_for_people_and_one_for_programs() {
    let lab = Lab::new(&config("rr", TWO));
    let options = format!("{SHORT} --seeds 2 --faults 2 --kinds kill,drain");
    let run = simulate(&lab, &options);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(
        run.stdout.contains(" connections begun, "),
        "{}",
        run.stdout
    );
    assert!(run.stdout.ends_with(" 0 violations\n"), "{}", run.stdout);
    let told = simulate(&lab, &format!("{options} --json"));
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let first = run.stdout.lines().next().unwrap();
    let number = |key: &str| told[key].as_u64().unwrap();
    assert!(first.starts_with(&format!(
        "{} connections begun, {} answered",
        number("begun"),
        number("opened")
    )));
    assert!(number("begun") >= 40);
    assert_eq!(told["violations"], Value::Array(Vec::new()));
    assert!(told["stall_ms"]["p99"].as_u64() >= told["stall_ms"]["p50"].as_u64());
    let again = simulate(&lab, &options);
    assert_eq!(again.stdout, run.stdout);
    assert!(!lab.path("weir-simulation.json").exists());
}

#[test]
fn what_goes_wrong_is_shrunk_to_a_file_that_repeats_it() {
    // Of no weight: clients are refused, which no fault explains.
    let wrong = config("rr", TWO).replacen(
        "10.0.0.11\"\n[[service.real]]\naddress = \"10.0.0.12\"\n",
        "10.0.0.11\"\nweight = 0\n",
        1,
    );
    let lab = Lab::new(&wrong);
    let run = simulate(
        &lab,
        &format!("{SHORT} --seed 7 --seeds 3 --faults 6 --save least.json"),
    );
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert!(
        run.stderr.contains("error: seed 7: connection "),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("--plan least.json"), "{}", run.stderr);
    let plan: Value =
        serde_json::from_slice(&std::fs::read(lab.path("least.json")).unwrap()).unwrap();
    assert_eq!(plan["faults"], Value::Array(Vec::new()));
    assert!(plan["connections"].as_u64().unwrap() < 20);
    let again = simulate(&lab, "--plan least.json");
    assert_eq!(again.code, Some(1));
    assert!(
        again.stderr.contains("no fault explains it"),
        "{}",
        again.stderr
    );
}

#[test]
fn what_cannot_be_simulated_is_said() {
    let lab = Lab::new(&config("mh", TWO));
    lab.put("other.json", "{\"seed\": 1}");
    lab.put("large.json", r#"{"nodes": 2, "workers": 1, "ecmp": "plain", "detection": 150, "seed": 1, "connections": 90000, "seconds": 9, "network": {"loss": 0, "duplication": 0, "reordering": 0}, "faults": []}"#);
    lab.put("node.json", r#"{"nodes": 2, "workers": 1, "ecmp": "plain", "detection": 150, "seed": 1, "connections": 9, "seconds": 9, "network": {"loss": 0, "duplication": 0, "reordering": 0}, "faults": [{"at": 1, "fault": "kill", "node": 9, "away": 1}]}"#);
    for (options, words) in [
        (
            "--nodes 3",
            "error: the local pool \"pool\" has 2 addresses for 3 nodes",
        ),
        ("--plan nothing.json", "error: nothing.json: "),
        (
            "--plan other.json",
            "error: other.json: not a file of `weir simulate --save`: missing field",
        ),
        (
            "--plan large.json",
            "error: large.json: connections: 1 to 50000",
        ),
        ("--plan node.json", "error: fault 1: there is no node 9"),
    ] {
        let run = simulate(&lab, options);
        assert_eq!(run.code, Some(1), "{options}");
        assert!(run.stderr.contains(words), "{options}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{options}");
    }
    let run = simulate(&lab, "--nodes 2 --loss 2");
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.contains("a number from 0 to 1 is expected"),
        "{}",
        run.stderr
    );
}

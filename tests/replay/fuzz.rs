//! The bodies of the fuzz targets, without a fuzzer: over inputs that once failed, and those of the wire over frames.

#[path = "../../fuzz/api.rs"]
mod api;
#[path = "../../fuzz/bpf.rs"]
mod bpf;
#[path = "../../fuzz/capture.rs"]
mod capture;
#[path = "../../fuzz/config.rs"]
mod config;
#[path = "../../fuzz/director.rs"]
mod director;
#[path = "../../fuzz/explain.rs"]
mod explain;
#[path = "../../fuzz/fragments.rs"]
mod fragments;
#[path = "../../fuzz/import.rs"]
mod import;
#[path = "../../fuzz/kept.rs"]
mod kept;
#[path = "../../fuzz/quotes.rs"]
mod quotes;
#[path = "../../fuzz/wire.rs"]
mod wire;

use super::engine::frame;
use proptest::prelude::*;
use std::path::Path;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|_| panic!("no {}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// scripts/fuzz leaves there what a target failed on; a few other files show that they are read.
#[test]
fn what_a_fuzz_target_once_failed_on_it_passes() {
    for target in files(&Path::new(FUZZ).join("fuzz_targets")) {
        let name = target.file_stem().unwrap().to_str().unwrap();
        let run: fn(&[u8]) = match name {
            "api" => api::run,
            "bpf" => bpf::run,
            "capture" => capture::run,
            "config" => config::run,
            "director" => director::run,
            "explain" => explain::run,
            "fragments" => fragments::run,
            "import" => import::run,
            "kept" => kept::run,
            "quotes" => quotes::run,
            "wire" => wire::run,
            _ => panic!("fuzz target {name} has no body here"),
        };
        let inputs = files(&Path::new(FUZZ).join("regressions").join(name));
        assert!(!inputs.is_empty(), "{name}");
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            let passed = std::panic::catch_unwind(|| run(&bytes));
            assert!(passed.is_ok(), "{name} fails on {}", input.display());
        }
    }
}

/// An input of the fuzz target of fragments: mostly of few datagrams, and near each other.
fn fragments_input() -> impl Strategy<Value = Vec<u8>> {
    let wait = prop_oneof![8 => Just(0), 1 => 0u8..120];
    let offset = prop_oneof![6 => 0u16..6, 1 => any::<u16>()];
    let length = prop_oneof![4 => (1u8..5).prop_map(|units| units * 8), 1 => any::<u8>()];
    let fragment = (wait, 0u8..16, offset, length, 0u8..24);
    let fragments = prop::collection::vec(fragment, 0..120);
    (any::<u8>(), fragments).prop_map(|(workers, fragments)| {
        let mut input = vec![workers];
        for (wait, kind, offset, length, id) in fragments {
            input.extend([wait, kind]);
            input.extend(offset.to_be_bytes());
            input.extend([length, id]);
        }
        input
    })
}

/// An input of the fuzz target: frames as it knows them, or any bytes.
fn fuzz_input() -> impl Strategy<Value = Vec<u8>> {
    let wait = prop_oneof![4 => Just(0), 1 => any::<u8>()];
    let frames = prop::collection::vec((0..3u8, wait, frame()), 0..80);
    let input = (any::<u8>(), frames).prop_map(|(workers, frames)| {
        let mut input = vec![workers];
        for (port, wait, frame) in frames {
            input.extend([port, wait, frame.len() as u8]);
            input.extend(frame);
        }
        input
    });
    prop_oneof![8 => input, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

/// What a request of the API says: what it knows, mostly, in places where it is known and where it is not.
fn api_input() -> impl Strategy<Value = String> {
    let routes = prop::sample::select(vec![
        "/v1/services",
        "/v1/reals",
        "/v1/weight",
        "/v1/drain",
        "/v1/disable",
        "/v1/enable",
        "/v1/plan",
        "/v1/reload",
        "/v1/confirm",
        "/v1/rollback",
        "/v1/events",
        "/v1/connections",
        "/v1/config",
        "/v1/source",
        "/ready",
        "/metrics",
        "/",
    ]);
    let method = prop::sample::select(vec![
        "GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "BREW",
    ]);
    let word = || {
        prop_oneof![
            4 => prop::sample::select(vec![
                "web", "tcp:192.0.2.80:80", "10.0.0.11:8080", "10.0.0.12:8080", "[fe80::1%1]:0", "30m", "wlc", "0", "-1", "65536",
                "18446744073709551616", "null", "true", "1e309", "",
            ]).prop_map(str::to_owned),
            1 => "\\PC{0,12}",
        ]
    };
    let key = || {
        prop_oneof![
            8 => prop::sample::select(vec![
                "service", "real", "weight", "for", "files", "name", "text", "scheduler", "persistence", "timeout", "health",
                "request", "address", "limit", "after", "kind", "follow", "brief", "confirm_s", "mode", "slow_start",
            ]).prop_map(str::to_owned),
            1 => "\\PC{0,8}",
        ]
    };
    let leaf = prop_oneof![
        6 => word().prop_map(serde_json::Value::from),
        2 => any::<i64>().prop_map(serde_json::Value::from),
        1 => Just(serde_json::Value::Null),
        1 => any::<bool>().prop_map(serde_json::Value::from),
    ];
    let json = leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            4 => prop::collection::vec((key(), inner), 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    });
    let toml = prop_oneof![
        Just("[[service]]\naddress = \"192.0.2.90\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n".to_owned()),
        (key(), word()).prop_map(|(key, word)| format!("[[service]]\n{key} = {word:?}\n")),
    ];
    let of_toml = toml.prop_map(|text| ("application/toml", text));
    let of_json = json.prop_map(|json| ("application/json", json.to_string()));
    let body = prop_oneof![4 => of_json, 1 => of_toml, 1 => Just(("", String::new()))];
    let query = prop::collection::vec((key(), word()), 0..3).prop_map(|parts| {
        let plain = |text: String| {
            text.replace(
                |it: char| !it.is_ascii_graphic() || "#&?+".contains(it),
                "%20",
            )
        };
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(key, word)| format!("{}={}", plain(key), plain(word)))
            .collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!("?{}", parts.join("&"))
        }
    });
    let request = (any::<bool>(), method, routes, query, body).prop_map(
        |(is_control, method, route, query, (kind, body))| {
            let by = if is_control { "" } else { "~" };
            format!("{by}{method} {route}{query} {kind}\n{body}")
        },
    );
    prop::collection::vec(request, 1..12).prop_map(|requests| requests.join("\n---\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_fuzz_target_of_the_api_holds(input in api_input()) {
        api::run(input.as_bytes());
    }

    #[test]
    fn the_fuzz_target_holds(input in fuzz_input()) {
        director::run(&input);
    }

    #[test]
    fn the_fuzz_target_of_fragments_holds(input in fragments_input()) {
        fragments::run(&input);
    }

    #[test]
    fn the_fuzz_target_of_quotes_holds(input in prop::collection::vec(any::<[u8; 8]>(), 0..60), workers: u8) {
        quotes::run(&[&[workers][..], &input.concat()].concat());
    }

    #[test]
    fn the_fuzz_target_of_headers_holds(frame in frame(), place: prop::sample::Index, value: u8) {
        let seeds = files(&Path::new(FUZZ).join("regressions/wire"));
        let mut seed = std::fs::read(place.get(&seeds)).unwrap();
        let at = place.index(seed.len());
        seed[at] = value;
        wire::run(&seed);
        wire::run(&frame);
    }
}

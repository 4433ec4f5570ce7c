//! What the configuration accepts, what it refuses and where it says so, through the library and through `weir check`.

mod command;
mod findings;
mod import;
mod include;
mod meaning;
mod robust;

use weir::config::{self, Config, Context, Diagnostics, Loaded};

const EXAMPLE: &str = include_str!("../../config/example.toml");
const MINIMAL: &str = include_str!("../../config/minimal.toml");
const CONTEXT: Context = Context {
    cpus: Some(&[0, 1, 2, 3]),
    devices: true,
};

/// What a file means; and what is accepted means the same when it is written as a file of what is in force.
fn parse(text: &str) -> Result<Loaded, Diagnostics> {
    let loaded = config::parse(text, "lb.toml", &CONTEXT)?;
    let written = written(&loaded.config);
    let again = config::parse(&written, "again.toml", &CONTEXT);
    let again = again.unwrap_or_else(|why| panic!("{why}\nof {written}\nfor {text}"));
    let is_same = written.contains("(hidden)") || again.config == loaded.config;
    assert!(is_same, "{written}\nfor {text}\n{:#?}", loaded.config);
    assert_eq!(self::written(&again.config), written);
    Ok(loaded)
}

fn written(config: &Config) -> String {
    let services = config.services.iter().map(|service| service.written());
    std::iter::once(config.written()).chain(services).collect()
}

fn good(text: &str) -> Config {
    match parse(text) {
        Ok(loaded) if loaded.warnings.is_empty() => loaded.config,
        Ok(loaded) => panic!("{}", loaded.warnings),
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

/// Two ports and a route, to be appended to a case.
const NETWORK: &str = r#"
[[port]]
name = "wan"
device = "net_tap0"
addresses = ["198.51.100.1/24"]
[[port]]
name = "lan"
device = "net_tap1"
addresses = ["10.0.0.1/24"]
[[route]]
to = "10.20.0.0/16"
via = "10.0.0.254"
"#;

//! What the configuration accepts, what it refuses and where it says so, through the library and through `weir check`.

mod command;
mod findings;
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

fn parse(text: &str) -> Result<Loaded, Diagnostics> {
    config::parse(text, "lb.toml", &CONTEXT)
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

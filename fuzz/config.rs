//! Any text is a configuration or a list of errors, each with its place.
//!
//! The body of the fuzz target `config`, which the tests run over `regressions/config` as well.

use weir::config::{Context, parse};

pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let context = Context {
        cpus: Some(&[0, 1]),
        devices: true,
    };
    if let Err(errors) = parse(text, "fuzz.toml", &context) {
        assert!(!errors.is_empty());
        assert!(!errors.to_string().is_empty());
    }
}

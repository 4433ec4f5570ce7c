//! Any text is a configuration or a list of errors, each with its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::{Context, parse};

fuzz_target!(|text: &str| {
    let context = Context { cpus: Some(&[0, 1]), devices: true };
    if let Err(errors) = parse(text, "fuzz.toml", &context) {
        assert!(!errors.is_empty());
        assert!(!errors.to_string().is_empty());
    }
});

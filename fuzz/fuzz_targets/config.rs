//! See `config.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../config.rs"]
mod config;

fuzz_target!(|input: &[u8]| config::run(input));

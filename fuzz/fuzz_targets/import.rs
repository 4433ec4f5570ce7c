//! See `import.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../import.rs"]
mod import;

fuzz_target!(|input: &[u8]| import::run(input));

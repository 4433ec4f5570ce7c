//! Any text that ipvsadm or keepalived may have written, or not, becomes a valid configuration or is refused with a reason.
//!
//! The body of the fuzz target `import`, which the tests run over `regressions/import` as well.

use weir::config::{Context, parse};
use weir::import::{Options, ipvs, keepalived};

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let no_files = |_: &str, _: &str| Ok(Vec::new());
    let options = Options::default();
    for imported in [
        ipvs(&text, "fuzz", &options),
        keepalived(&text, "fuzz", &no_files, &options),
    ] {
        match imported {
            Err(failed) => assert!(!failed.why.text.is_empty()),
            Ok(imported) => {
                let context = Context {
                    cpus: None,
                    devices: false,
                };
                if let Err(wrong) = parse(&imported.text, "imported", &context) {
                    panic!("{wrong}\n{}", imported.text);
                }
            }
        }
    }
}

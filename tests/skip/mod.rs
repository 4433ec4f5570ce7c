//! How a test is skipped while it runs: to libtest it has passed then, so scripts/test counts it by what is written here.

use std::io::Write;

/// Says that the running test is skipped, or its rest is, and why. One line in the file that `WEIR_SKIPPED` names.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    if let Some(path) = std::env::var_os("WEIR_SKIPPED") {
        let mut options = std::fs::OpenOptions::new();
        let file = options.append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("WEIR_SKIPPED names a file");
    }
    #[allow(clippy::print_stderr)]
    {
        eprint!("skipped: {line}");
    }
}

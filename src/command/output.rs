//! What a command writes to stdout and stderr: the one way for all of them.
//!
//! A reader that has seen enough (`weir show connections | head`) ends the command quietly, as SIGPIPE does with other
//! tools; weir itself ignores that signal, since it writes to sockets too.

use crate::log;
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

/// What a shell says of a process that SIGPIPE has ended: 128 + 13.
const NOBODY_READS: u8 = 141;

/// stdout, for many small pieces.
#[allow(clippy::disallowed_methods)] // This is the one way.
pub fn out() -> impl Write {
    BufWriter::new(io::stdout().lock())
}

/// Writes a line to stdout, or ends the command.
pub fn say(line: impl Display) {
    let mut out = out();
    if let Err(why) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        let code = unwritten(&why);
        std::process::exit(code.into());
    }
}

/// The end of a command that cannot write to stdout.
pub fn stop(why: &io::Error) -> ExitCode {
    ExitCode::from(unwritten(why))
}

fn unwritten(why: &io::Error) -> u8 {
    if why.kind() == ErrorKind::BrokenPipe {
        return NOBODY_READS;
    }
    tell(format_args!("error: stdout cannot be written: {why}"));
    1
}

/// Writes a line to stderr. An error of that is ignored: there is no other place to report it.
#[allow(clippy::disallowed_methods)] // This is the one way.
pub fn tell(line: impl Display) {
    // In one piece: a lock would not keep other processes from writing between.
    let line = format!("{line}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Writes every diagnostic to stderr.
pub fn diagnose(diagnostics: &crate::config::Diagnostics) {
    if !diagnostics.is_empty() {
        tell(diagnostics.text(log::is_coloured()).trim_end_matches('\n'));
    }
}

/// Says why on stderr.
pub fn fail(why: impl Display) -> ExitCode {
    tell(error(why));
    ExitCode::FAILURE
}

/// An error, as a line.
pub fn error(why: impl Display) -> String {
    let why = why.to_string();
    // Diagnostics say themselves that they are errors.
    if why.starts_with("error: ") || why.starts_with("warning: ") {
        why
    } else {
        format!("error: {why}")
    }
}

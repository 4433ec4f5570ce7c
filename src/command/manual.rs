//! `weir completions SHELL` and `weir manual FOLDER`: what shells and `man` know of the commands, made from them.

use super::output::{fail, out, stop};
use super::{Cli, ExitCode};
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Print what a shell completes weir's commands by: `. <(weir completions bash)`
#[derive(Debug, clap::Args)]
pub struct Completions {
    shell: Shell,
}

impl Completions {
    pub fn run(&self) -> ExitCode {
        // Its own writes panic where they fail.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "weir", &mut text);
        let mut out = out();
        match out.write_all(&text).and_then(|()| out.flush()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => stop(&why),
        }
    }
}

/// Write a manual page (section 1) for each command into a folder
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Manual {
    folder: PathBuf,
}

impl Manual {
    pub fn run(&self) -> ExitCode {
        match write(&self.folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(format_args!("{}: {why}", self.folder.display())),
        }
    }
}

/// `weir.1`, and `weir-show.1` and so on.
fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of a command and of those below it, as their pages are called.
    fn names(command: &clap::Command, above: &str, found: &mut Vec<String>) {
        let name = format!("{above}{}", command.get_name());
        let visible = command.get_subcommands().filter(|it| !it.is_hide_set());
        visible.for_each(|it| names(it, &format!("{name}-"), found));
        found.push(name);
    }

    #[test]
    fn each_command_has_a_page_with_its_options() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let mut wanted = Vec::new();
        let cli = Cli::command().disable_help_subcommand(true);
        names(&cli, "", &mut wanted);
        assert!(wanted.len() > 20, "{wanted:?}");
        for name in wanted {
            let path = folder.path().join(format!("{name}.1"));
            let page = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
        }
        let check = fs::read_to_string(folder.path().join("weir-replay.1")).unwrap();
        assert!(
            check.contains("explain") && check.contains("workers"),
            "{check}"
        );
    }

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut text);
            let text = String::from_utf8(text).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(
                    text.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }
}

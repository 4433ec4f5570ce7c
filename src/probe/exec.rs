//! Checks by programs: exit status 0 is a pass.

use super::words::{Checked, Failure, excerpt, failed, not_made};
use super::{Stage, Tools};
use crate::arch;
use crate::config::ExecProbe;
use nix::unistd::{User, geteuid};
use rustix::process::{Pid, Signal, kill_process_group};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// As much of what it says is kept.
const MOST: u64 = 4096;

/// Whom a program runs as.
#[derive(Clone, Copy)]
pub(super) struct Unprivileged {
    uid: u32,
    gid: u32,
}

impl Unprivileged {
    /// Looks a user up, which may take the time of a directory service.
    pub(super) fn find(name: &str) -> Result<Unprivileged, String> {
        match User::from_name(name) {
            Ok(Some(user)) if !user.uid.is_root() => Ok(Unprivileged {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            }),
            Ok(Some(_)) => Err(format!("the user {name:?} is root")),
            Ok(None) => Err(format!("there is no user {name:?}")),
            Err(why) => Err(format!("the user {name:?}: {why}")),
        }
    }
}

/// A command that becomes the program, as that user and its group alone.
fn as_user(user: &Unprivileged, program: &Path) -> Result<Command, Failure> {
    let places = ["/usr/bin/setpriv", "/bin/setpriv"];
    let Some(setpriv) = places.into_iter().find(|place| Path::new(place).is_file()) else {
        return not_made("there is no /usr/bin/setpriv (the package util-linux)");
    };
    let mut command = Command::new(setpriv);
    command
        .arg(format!("--reuid={}", user.uid))
        .arg(format!("--regid={}", user.gid))
        .args(["--clear-groups", "--no-new-privs", "--"])
        .arg(program);
    Ok(command)
}

/// Ends the program, with all that it has started, whether it still runs or has left others behind.
struct Ending(Option<Pid>);

impl Ending {
    fn of(child: &Child) -> Ending {
        Ending(child.id().and_then(|id| Pid::from_raw(id as i32)))
    }

    fn end(&mut self) {
        // The number is given to another group only when all others have had their turn, and none of this one is left.
        if let Some(group) = self.0.take() {
            // There may be no one left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end();
    }
}

pub(super) async fn check(
    to: SocketAddr,
    probe: &ExecProbe,
    tools: &Tools,
    stage: &Stage,
) -> Checked {
    check_in(Path::new(ExecProbe::PROGRAMS), to, probe, tools, stage).await
}

/// Runs a program of a folder.
pub(super) async fn check_in(
    folder: &Path,
    to: SocketAddr,
    probe: &ExecProbe,
    tools: &Tools,
    stage: &Stage,
) -> Checked {
    stage.set("the program");
    let program = folder.join(&probe.program);
    // `setpriv` could not tell a program that is missing from one that fails.
    if !program.is_file() {
        return not_made(format!("there is no program {}", program.display()));
    }
    let mut command = match geteuid().is_root() {
        true => as_user(&tools.user(&probe.user)?, &program)?,
        // It is unprivileged itself.
        false => Command::new(&program),
    };
    // Nothing here may have std fork: that would copy the page tables of the whole process, and the workers' next write to each
    // page would be a fault. Without a user, a group and a search of PATH it has `posix_spawn` do it (CLONE_VFORK).
    command
        .args(&probe.arguments)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("WEIR_REAL_ADDRESS", to.ip().to_string())
        .env("WEIR_REAL_PORT", to.port().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // DPDK opens its own without O_CLOEXEC: the program would have all packets, and weir's memory.
    if let Err(why) = arch::close_at_exec() {
        return not_made(format!("descriptors cannot be kept from programs: {why}"));
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(why) => return not_made(format!("{}: {why}", program.display())),
    };
    let mut ending = Ending::of(&child);
    let said = child.stderr.take();
    let said = async {
        let mut text = Vec::new();
        if let Some(mut said) = said {
            // What cannot be read was not said.
            let _ = (&mut said).take(MOST).read_to_end(&mut text).await;
            // A program that says more is not ended for it.
            let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
        }
        text
    };
    let ended = async {
        let status = child.wait().await;
        // What it leaves behind would keep the pipe open, too.
        ending.end();
        status
    };
    let (status, text) = tokio::join!(ended, said);
    let status = status.map_err(|error| Failure::at("the program", &error))?;
    if status.success() {
        return Ok("exit status 0".to_owned());
    }
    let status = match status.code() {
        // As shells and `setpriv` have it.
        Some(126 | 127) => {
            return not_made(format!(
                "{} cannot be run: {}",
                program.display(),
                excerpt(&text)
            ));
        }
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    };
    match text.is_empty() {
        true => failed(status),
        false => failed(format!("{status}: {}", excerpt(&text))),
    }
}

//! Checks by programs: exit status 0 is a pass.

use super::Stage;
use super::words::{Checked, Failure, excerpt, failed, not_made};
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

/// Ends the program, with all that it has started, if it still runs.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let running = self.0.id().and_then(|id| Pid::from_raw(id as i32));
        if let Some(group) = running {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

pub(super) async fn check(to: SocketAddr, probe: &ExecProbe, stage: &Stage) -> Checked {
    check_in(Path::new(ExecProbe::PROGRAMS), to, probe, stage).await
}

/// Runs a program of a folder.
pub(super) async fn check_in(
    folder: &Path,
    to: SocketAddr,
    probe: &ExecProbe,
    stage: &Stage,
) -> Checked {
    stage.set("the program");
    let program = folder.join(&probe.program);
    let mut command = Command::new(&program);
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
    // Where weir is no root, it is unprivileged itself.
    if geteuid().is_root() {
        match User::from_name(&probe.user) {
            Ok(Some(user)) if !user.uid.is_root() => {
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
            }
            Ok(Some(_)) => return not_made(format!("the user {:?} is root", probe.user)),
            Ok(None) => return not_made(format!("there is no user {:?}", probe.user)),
            Err(why) => return not_made(format!("the user {:?}: {why}", probe.user)),
        }
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(why) => return not_made(format!("{}: {why}", program.display())),
    };
    let mut child = Ending(child);
    let said = child.0.stderr.take();
    let said = async {
        let mut text = Vec::new();
        if let Some(said) = said {
            // What cannot be read was not said.
            let _ = said.take(MOST).read_to_end(&mut text).await;
        }
        text
    };
    let (status, text) = tokio::join!(child.0.wait(), said);
    let status = status.map_err(|error| Failure::at("the program", &error))?;
    if status.success() {
        return Ok("exit status 0".to_owned());
    }
    let status = match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    };
    match text.is_empty() {
        true => failed(status),
        false => failed(format!("{status}: {}", excerpt(&text))),
    }
}

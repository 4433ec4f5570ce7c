//! Where the API is to be had: a TCP address or a unix socket.

use crate::config::{Api, Listen};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Whoever is in it may use weir's sockets, where the machine has it.
const GROUP: &str = "weir";

/// A socket that is bound, and does not block.
pub enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// Removes the socket when the daemon stops.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {at}: {why}")]
    Bind { at: String, why: io::Error },
    #[error("another weir is listening on {0}; stop it, or choose another address")]
    Taken(String),
    #[error("{0} is there and is no socket; remove it, or choose another path")]
    NoSocket(String),
}

impl Listener {
    /// None: `listen` is off.
    pub fn bind(listen: &Listen) -> Result<Option<Self>, BindError> {
        match listen {
            Listen::Off => Ok(None),
            Listen::Tcp(address) => {
                let failed = |why: io::Error| match why.kind() {
                    io::ErrorKind::AddrInUse => BindError::Taken(address.to_string()),
                    _ => BindError::Bind {
                        at: address.to_string(),
                        why,
                    },
                };
                let listener = TcpListener::bind(address).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Some(Listener::Tcp(listener, *address)))
            }
            Listen::Unix(path) => Self::bind_unix(path).map(Some),
        }
    }

    /// The control socket; none: there is none to be had. One that the file does not name is done without where it cannot
    /// be made: another weir on this machine has it, or weir does not run as root.
    pub fn bind_control(api: &Api) -> Result<Option<Self>, BindError> {
        let Some(path) = &api.control else {
            return Ok(None);
        };
        match Self::bind_unix(path) {
            Err(why) if api.control_is_default => {
                tracing::warn!(
                    "no control socket: {why}; a `control` of its own in [api] lets commands change this weir"
                );
                Ok(None)
            }
            bound => bound.map(Some),
        }
    }

    fn bind_unix(path: &Path) -> Result<Self, BindError> {
        let at = || format!("unix:{}", path.display());
        let failed = |why| BindError::Bind { at: at(), why };
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(BindError::NoSocket(path.display().to_string()));
            }
            // One that nobody answers was left behind.
            if UnixStream::connect(path).is_ok() {
                return Err(BindError::Taken(at()));
            }
            std::fs::remove_file(path).map_err(failed)?;
        } else if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = SocketFile(path.to_owned());
        if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
            // Not where weir is neither root nor in the group: then it is its own group's.
            let _ = chown(path, None, Some(group.gid.as_raw()));
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Listener::Unix(listener, file))
    }

    /// Whether only this machine's own programs get here.
    pub fn is_local(&self) -> bool {
        match self {
            Listener::Tcp(_, address) => address.ip().is_loopback(),
            Listener::Unix(..) => true,
        }
    }

    /// Whether a browser of this machine gets here, whose pages may be anyone's.
    pub fn is_loopback(&self) -> bool {
        matches!(self, Listener::Tcp(..)) && self.is_local()
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Tcp(_, address) => address.fmt(f),
            Listener::Unix(_, file) => write!(f, "unix:{}", file.0.display()),
        }
    }
}

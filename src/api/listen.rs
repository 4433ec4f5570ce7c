//! The API's listening sockets: a TCP address or a unix socket.

use crate::config::{Api, Listen};
use rustix::fs::Mode;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The header `server` of every answer, by which an answer is known for weir's.
pub(super) const SERVER: &str = "weir";

/// The group whose members may use weir's sockets, if the machine has such a group.
const GROUP: &str = "weir";

/// A socket that is bound, and does not block.
pub(crate) enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// Removes the socket when the daemon stops.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode; none: it was gone at once.
    made: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        SocketFile {
            path: path.to_owned(),
            made: Self::identity(path),
        }
    }

    fn identity(path: &Path) -> Option<(u64, u64)> {
        let found = std::fs::symlink_metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have removed the socket, or made one of its own at the same path.
        if self.made.is_some() && self.made == Self::identity(&self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {at}: {why}")]
    Bind { at: String, why: io::Error },
    #[error("another weir is listening on {0}; stop it, or choose another address")]
    Taken(String),
    #[error(
        "another program is listening on {0} ({1}); choose another address (`ss -ltnpx` names the program)"
    )]
    TakenByOther(String, &'static str),
    #[error("{0} is there and is no socket; remove it, or choose another path")]
    NoSocket(String),
}

impl Listener {
    /// None: `listen` is off.
    pub(crate) fn bind(listen: &Listen) -> Result<Option<Self>, BindError> {
        match listen {
            Listen::Off => Ok(None),
            Listen::Tcp(address) => {
                let failed = |why: io::Error| match why.kind() {
                    io::ErrorKind::AddrInUse => taken(address.to_string(), || {
                        let stream = TcpStream::connect_timeout(&reachable(*address), PATIENCE)?;
                        stream.set_read_timeout(Some(PATIENCE))?;
                        stream.set_write_timeout(Some(PATIENCE))?;
                        Ok(stream)
                    }),
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

    /// The control socket, if there is one. One that the file does not name is done without where it cannot
    /// be made: another weir on this machine has it, or weir does not run as root.
    pub(crate) fn bind_control(api: &Api) -> Result<Option<Self>, BindError> {
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
        // Asked before there is a socket: a directory of users on the network may take its time.
        let group = nix::unistd::Group::from_name(GROUP).ok().flatten();
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(BindError::NoSocket(path.display().to_string()));
            }
            match connect(path) {
                // No process listens on it: a weir that ended has left it behind.
                Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) if why.kind() != io::ErrorKind::WouldBlock => return Err(failed(why)),
                stream => {
                    return Err(taken(at(), || {
                        let stream = stream?;
                        stream.set_nonblocking(false)?;
                        stream.set_read_timeout(Some(PATIENCE))?;
                        stream.set_write_timeout(Some(PATIENCE))?;
                        Ok(stream)
                    }));
                }
            }
        } else if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let socket = bind_private(path).map_err(failed)?;
        let file = SocketFile::new(path);
        if let Some(group) = group {
            // Not where weir is neither root nor in the group: then it is its own group's.
            let _ = chown(path, None, Some(group.gid.as_raw()));
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        net::listen(&socket, BACKLOG).map_err(|why| failed(why.into()))?;
        Ok(Listener::Unix(UnixListener::from(socket), file))
    }

    /// Whether only this machine's own programs get here.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Listener::Tcp(_, address) => address.ip().is_loopback(),
            Listener::Unix(..) => true,
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self, Listener::Tcp(..))
    }

    /// Whether a browser of this machine gets here, whose pages may be anyone's.
    pub(crate) fn is_loopback(&self) -> bool {
        self.is_tcp() && self.is_local()
    }
}

/// Connections that wait to be accepted; the kernel takes net.core.somaxconn of them.
const BACKLOG: i32 = 4096;

/// A connection to a unix socket, which does not block: EAGAIN where as many wait to be accepted as may.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

/// Makes a socket at a path, which only its owner may open, whatever the umask is. It does not listen yet.
fn bind_private(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Before it has a name: Linux gives the name the mode of the socket, less the umask (unix_bind_bsd in net/unix/af_unix.c).
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

/// How long another program is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The error of an address that is in use: asks what listens there.
fn taken<S: Read + Write>(at: String, connect: impl FnOnce() -> io::Result<S>) -> BindError {
    match connect().and_then(ask) {
        Ok(answer) if is_weirs(&answer) => BindError::Taken(at),
        Ok(answer) if answer.starts_with("HTTP/") => {
            BindError::TakenByOther(at, "it speaks HTTP, and is no weir")
        }
        Ok(_) => BindError::TakenByOther(at, "it does not speak HTTP"),
        Err(_) => BindError::TakenByOther(at, "it does not answer"),
    }
}

/// The beginning of what is answered.
fn ask(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Every answer of weir's API says so.
fn is_weirs(answer: &str) -> bool {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    head.lines()
        .any(|line| line.eq_ignore_ascii_case(&format!("server: {SERVER}")))
}

/// Where an address that is listened on is reached.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Tcp(_, address) => address.fmt(f),
            Listener::Unix(_, file) => write!(f, "unix:{}", file.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// A thread with an umask of its own.
    fn with_umask<T: Send>(umask: Mode, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
                rustix::process::umask(umask);
                work()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn only_a_socket_that_was_left_behind_is_replaced_and_only_its_own_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.sock");
        let bind = || Listener::bind(&Listen::Unix(path.clone()));
        // The queue of connections is full: a process does listen there.
        let socket = bind_private(&path).unwrap();
        net::listen(&socket, 0).unwrap();
        let _waiting = connect(&path).unwrap();
        assert_eq!(
            connect(&path).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(matches!(bind(), Err(BindError::TakenByOther(..))));
        assert!(path.exists());
        drop(socket);
        let first = bind().unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = bind().unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_unix_socket_is_never_open_to_more_than_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.sock");
        for umask in [0, 0o022, 0o027, 0o077] {
            with_umask(Mode::from_raw_mode(umask), || {
                let socket = bind_private(&path).unwrap();
                assert_eq!(mode(&path), 0o600, "umask {umask:03o}");
                assert!(
                    UnixStream::connect(&path).is_err(),
                    "it does not listen yet"
                );
                drop(socket);
                // What is left behind is replaced.
                let listener = Listener::bind(&Listen::Unix(path.clone()));
                let listener = listener.unwrap().unwrap();
                assert_eq!(mode(&path), 0o660, "umask {umask:03o}");
                UnixStream::connect(&path).unwrap();
                drop(listener);
                assert!(!path.exists());
            });
        }
    }
}

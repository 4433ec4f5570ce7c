//! Where the connection log goes.

use crate::config::{LogDestination, Transport};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a collector may take to accept a connection, or to take a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long what could not be opened is left alone: a collector of TCP takes its time to be found away.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_OF_TCP: Duration = Duration::from_secs(2);

/// A file or a collector. What fails is opened again for later records, after a pause.
#[derive(Debug)]
pub(super) struct Output {
    place: Place,
    /// When it was tried to open it, and failed.
    failed: Option<Instant>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf, Option<File>),
    Udp(SocketAddr, Option<UdpSocket>),
    Tcp(SocketAddr, Option<TcpStream>),
}

impl Output {
    pub(super) fn new(to: &LogDestination) -> Self {
        let place = match to {
            LogDestination::File(path) => Place::File(path.clone(), None),
            LogDestination::Collector(to, Transport::Udp) => Place::Udp(*to, None),
            LogDestination::Collector(to, Transport::Tcp) => Place::Tcp(*to, None),
        };
        Output {
            place,
            failed: None,
        }
    }

    /// Opens what is not open. Returns whether it did: a new session begins.
    pub(super) fn open(&mut self) -> io::Result<bool> {
        let (is_open, pause) = match &self.place {
            Place::File(_, file) => (file.is_some(), PAUSE),
            Place::Udp(_, socket) => (socket.is_some(), PAUSE),
            Place::Tcp(_, stream) => (stream.is_some(), PAUSE_OF_TCP),
        };
        if is_open {
            return Ok(false);
        }
        if self.failed.is_some_and(|at| at.elapsed() < pause) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.failed = Some(Instant::now());
        match &mut self.place {
            Place::File(path, file) => *file = Some(open(path)?),
            Place::Udp(to, socket) => {
                let any = match to {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let opened = UdpSocket::bind(any)?;
                opened.connect(*to)?;
                opened.set_nonblocking(true)?;
                *socket = Some(opened);
            }
            Place::Tcp(to, stream) => {
                let opened = TcpStream::connect_timeout(to, PATIENCE)?;
                *stream = Some(opened);
            }
        }
        self.failed = None;
        Ok(true)
    }

    /// Writes lines or a message to what is open: whole, or not at all as far as readers can tell.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        match &mut self.place {
            Place::File(_, file) => append(file.as_mut().ok_or_else(closed)?, bytes),
            Place::Udp(_, socket) => {
                // An error may also be about the message before, which was lost then: it is counted once all the same.
                socket.as_ref().ok_or_else(closed)?.send(bytes).map(|_| ())
            }
            Place::Tcp(_, stream) => {
                let written = send_all(stream.as_mut().ok_or_else(closed)?, bytes);
                if written.is_err() {
                    (*stream, self.failed) = (None, Some(Instant::now()));
                }
                written
            }
        }
    }

    /// Closes a file that was moved away or removed since (logrotate): the next record goes to a new one.
    pub(super) fn look(&mut self) {
        if let Place::File(path, file) = &mut self.place {
            let is_there = |file: &File| {
                let (open, named) = (file.metadata().ok()?, path.metadata().ok()?);
                Some((open.dev(), open.ino()) == (named.dev(), named.ino()))
            };
            if file
                .as_ref()
                .is_some_and(|file| is_there(file) != Some(true))
            {
                *file = None;
            }
        }
    }
}

/// Sends all of it within [`PATIENCE`], however little the collector takes at a time.
fn send_all(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => bytes = &bytes[sent..],
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // A pipe without a reader does not hold the thread up.
    options.create(true).append(true).mode(0o640);
    options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open(path)?;
    // It takes parts of lines, which nothing can take back.
    match file.metadata()?.file_type().is_fifo() {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a named pipe cannot have the log",
        )),
        false => Ok(file),
    }
}

/// Appends all of it. A regular file that took a part loses it again, so that the next line or message begins where one may.
fn append(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let before = file.metadata()?;
    let written = file.write_all(bytes);
    let is_device = before.file_type().is_char_device();
    if written.is_err() && !is_device {
        let _ = file.set_len(before.len());
    }
    written
}

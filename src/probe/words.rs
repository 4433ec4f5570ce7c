//! Why a check failed, in words.

use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It says something of the real server.
    Real(String),
    /// Nothing leads to it: the real server is not there, or this machine has no route.
    NoWay(String),
    /// It could not be made.
    Own(String),
}

pub(super) type Checked = Result<String, Failure>;

/// Of the real server.
pub(super) fn failed<T>(words: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Real(words.into()))
}

/// Of this machine.
pub(super) fn not_made<T>(words: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Own(words.into()))
}

impl Failure {
    /// What an I/O error at some stage says: "connect: connection refused".
    pub(super) fn at(stage: &str, error: &io::Error) -> Failure {
        // Without "(os error 111)".
        let words = error.to_string();
        let words = words.split(" (os error").next().unwrap_or_default();
        let words = format!("{stage}: {}", words.to_lowercase());
        match Errno::from_io_error(error) {
            Some(errno) if OWN.contains(&errno) => Failure::Own(words),
            Some(Errno::NETUNREACH | Errno::HOSTUNREACH) => Failure::NoWay(words),
            _ => Failure::Real(words),
        }
    }
}

/// Errors of this machine: descriptors, memory or local ports have run out, it may not, or it does not speak the address's family.
const OWN: [Errno; 10] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::NOBUFS,
    Errno::ADDRNOTAVAIL,
    Errno::PERM,
    Errno::ACCESS,
    Errno::AGAIN,
    Errno::AFNOSUPPORT,
    Errno::NETDOWN,
];

/// Why this machine has no route to an address, if it has none: then a check has not been sent, and says nothing of the real
/// server. Neighbours that do not answer, and routers that say so, give the same errors to a check.
pub(super) fn why_no_route(to: IpAddr) -> Option<String> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a UDP socket looks the route up, and sends nothing.
    let looked_up = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((to, 9)));
    match looked_up.map_err(|error| Errno::from_io_error(&error)) {
        Err(Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL)) => {
            Some(format!("the host that weir runs on has no route to {to}"))
        }
        _ => None,
    }
}

/// What a check says, as a part of a line: the real server may have had a say in it.
pub(super) fn plain(words: String) -> String {
    const MOST: usize = 300;
    // They turn the rest of a line round.
    let turns = |letter| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_bad = |letter: char| letter.is_control() || turns(letter);
    if words.len() <= MOST && !words.contains(is_bad) {
        return words;
    }
    let mut plain: String = words
        .chars()
        .map(|letter| if is_bad(letter) { '.' } else { letter })
        .take(MOST)
        .collect();
    if words.chars().nth(MOST).is_some() {
        plain.push('…');
    }
    plain
}

/// An answer as a part of a sentence, cut short.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MOST)]);
    let line = text.lines().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or_default().trim();
    let plain: String = line
        .chars()
        .map(|letter| if letter.is_control() { '.' } else { letter })
        .take(MOST)
        .collect();
    format!("{plain:?}")
}

/// Whether `part` is in `whole`.
pub(super) fn contains(whole: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(whole, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_no_failure_of_a_real_server() {
        for (number, is_own) in [
            (libc::EAFNOSUPPORT, true),
            (libc::ENETDOWN, true),
            (libc::EMFILE, true),
            (libc::ECONNREFUSED, false),
            (libc::EHOSTUNREACH, false),
            (libc::ENETUNREACH, false),
        ] {
            let failure = Failure::at("connect", &io::Error::from_raw_os_error(number));
            assert_eq!(matches!(failure, Failure::Own(_)), is_own, "{failure:?}");
            let may_be_own = [libc::EHOSTUNREACH, libc::ENETUNREACH].contains(&number);
            assert_eq!(matches!(failure, Failure::NoWay(_)), may_be_own);
        }
    }

    #[test]
    fn a_route_is_looked_up_without_a_packet() {
        assert_eq!(why_no_route(Ipv4Addr::LOCALHOST.into()), None);
        // Another network stack, of this thread alone, where the process may make one: it has no routes at all.
        let alone = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
            let to = [IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().ok()?];
            Some(to.map(|to| why_no_route(to).unwrap_or_default()))
        });
        if let Some(found) = alone.join().unwrap() {
            for (why, to) in found.iter().zip(["192.0.2.1", "2001:db8::1"]) {
                assert_eq!(
                    why,
                    &format!("the host that weir runs on has no route to {to}")
                );
            }
        }
    }
}

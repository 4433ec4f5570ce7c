//! Names of ports, as `/etc/services` has them.

use crate::config::read_file;
use std::path::Path;
use std::sync::OnceLock;

const FILE: &str = "/etc/services";
/// Debian's has 13 kB.
const LONGEST: u64 = 8 << 20;

/// Name, number and protocol.
type Entry = (String, u16, String);

fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let read = read_file(Path::new(FILE), LONGEST);
        // A machine without the file has no names.
        let text = read.map(|(bytes, _)| bytes).unwrap_or_default();
        parse(&String::from_utf8_lossy(&text))
    })
}

fn parse(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (Some(name), Some(place)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((Ok(port), protocol)) = place.split_once('/').map(|(it, of)| (it.parse(), of))
        else {
            continue;
        };
        for name in std::iter::once(name).chain(words) {
            entries.push((name.to_owned(), port, protocol.to_owned()));
        }
    }
    entries
}

/// The port of that name.
pub(super) fn port(name: &str, protocol: &str) -> Option<u16> {
    let mut all = entries().iter();
    all.find(|(known, _, of)| known == name && of == protocol)
        .map(|(_, port, _)| *port)
}

/// The port, by its name where it has one.
pub(super) fn of_port(port: u16, protocol: &str) -> String {
    let mut all = entries().iter();
    let named = all.find(|(_, known, of)| *known == port && of == protocol);
    named.map_or_else(|| port.to_string(), |(name, ..)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_read() {
        let text =
            "# c\nhttp\t80/tcp\twww # web\ndomain 53/tcp\ndomain 53/udp\nbroken x/tcp\nalone\n";
        let entry = |name: &str, port, protocol: &str| (name.to_owned(), port, protocol.to_owned());
        assert_eq!(
            parse(text),
            [
                entry("http", 80, "tcp"),
                entry("www", 80, "tcp"),
                entry("domain", 53, "tcp"),
                entry("domain", 53, "udp"),
            ]
        );
    }
}

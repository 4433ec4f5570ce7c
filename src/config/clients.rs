//! `allow` and `deny` of a service: prefixes of clients, as they are written or in files of their own.
//!
//! A file has an address or a prefix on each line; `#` and `;` begin a comment. It is read at each reload, once however many
//! services name it, and they share what it says. One that says what it said before is not taken apart again.

use super::address;
use super::error::{Log, Source, Span, quote};
use super::files;
use super::value::{Value, text};
use crate::prefixes::PrefixSet;
use foldhash::HashMap;
use ipnet::IpNet;
use parking_lot::Mutex;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};
use toml::de::DeValue;

/// The most entries of one list, with those of its files: so many take about 30 MB where they are of IPv6.
pub(super) const MOST: usize = 1_000_000;
/// The most files of one list: each is asked in turn.
pub(super) const MOST_FILES: usize = 16;
/// The most bytes of all files of one configuration.
const MOST_BYTES: usize = 256 << 20;

/// A list of clients' prefixes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientList {
    /// As they are written, in their order.
    pub prefixes: Arc<[IpNet]>,
    pub files: Vec<Arc<ListFile>>,
}

impl ClientList {
    /// Entries, with those of its files.
    pub fn entries(&self) -> usize {
        let files = self.files.iter().map(|file| file.entries);
        self.prefixes.len() + files.sum::<usize>()
    }

    /// What it covers: the prefixes of its own, and each file's.
    pub fn sets(&self) -> impl Iterator<Item = Arc<PrefixSet>> {
        let own = !self.prefixes.is_empty();
        let own = own.then(|| Arc::new(self.prefixes.iter().copied().collect()));
        let files = self.files.iter().map(|file| file.set.clone());
        own.into_iter().chain(files)
    }

    /// Whether it has every client of a family, or at least every one that another list has. Of files only the same one is known
    /// to have all of a file.
    pub(super) fn has_all(&self, of: Option<&ClientList>, is_v6: bool) -> bool {
        let mut joined = IpNet::aggregate(&self.prefixes.to_vec());
        joined.sort_unstable();
        let has = |net: &IpNet| {
            // Joined ones do not overlap: only the last that begins before may have it.
            let after = joined.partition_point(|it| it.network() <= net.network());
            after > 0 && joined[after - 1].contains(net)
        };
        if joined
            .iter()
            .any(|it| it.prefix_len() == 0 && it.addr().is_ipv6() == is_v6)
        {
            return true;
        }
        of.is_some_and(|of| {
            let mut files = of.files.iter();
            let mut prefixes = of.prefixes.iter();
            files.all(|file| self.files.contains(file) || !file.set.has_family(is_v6))
                && prefixes.all(|net| net.addr().is_ipv6() != is_v6 || has(net))
        })
    }

    /// Whether any client of a family is in it.
    pub(super) fn has_family(&self, is_v6: bool) -> bool {
        let is_of = |net: &IpNet| net.addr().is_ipv6() == is_v6;
        let mut files = self.files.iter();
        self.prefixes.iter().any(is_of) || files.any(|file| file.set.has_family(is_v6))
    }
}

/// For a plan: how much it has, and from where.
impl fmt::Display for ClientList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.prefixes.len();
        let mut parts = Vec::new();
        if own > 0 || self.files.is_empty() {
            parts.push(counted(own));
        }
        for file in &self.files {
            parts.push(format!(
                "{} ({})",
                file.path.display(),
                counted(file.entries)
            ));
        }
        f.write_str(&parts.join(", "))
    }
}

fn counted(count: usize) -> String {
    match count {
        1 => "1 prefix".to_owned(),
        count => format!("{count} prefixes"),
    }
}

/// A file of prefixes, as it was when it was read.
pub struct ListFile {
    pub path: PathBuf,
    pub entries: usize,
    set: Arc<PrefixSet>,
    digest: Digest,
}

/// Of a text, under keys of this process: no text that is made up has that of another.
type Digest = [u64; 2];

static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);

/// The files that are in use, by their paths: a file that is read again and says the same is the same.
static IN_USE: Mutex<Option<HashMap<PathBuf, Weak<ListFile>>>> = Mutex::new(None);

impl PartialEq for ListFile {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.digest) == (&other.path, other.digest)
    }
}

impl fmt::Debug for ListFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} entries)", self.path.display(), self.entries)
    }
}

/// An entry of a list, as it is written.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Prefix(IpNet),
    File(PathBuf),
}

impl Value for Entry {
    const LIST: &'static str = "a list of prefixes in brackets";

    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "a prefix in quotes", at, log)?;
        let Some(path) = written.strip_prefix("file:") else {
            if written.starts_with('/') {
                log.error(at, format!("{} is no prefix", quote(written)))
                    .help(format!(
                        "a file of prefixes is written so: \"file:{written}\""
                    ));
                return None;
            }
            return prefix(written, at, log).map(Entry::Prefix);
        };
        if !path.starts_with('/') || path.contains('\0') {
            log.error(at, format!("{} is no absolute path", quote(path)))
                .help("write the whole path, such as \"file:/etc/weir/allow.txt\"");
            return None;
        }
        Some(Entry::File(path.into()))
    }
}

/// An address, or a prefix without bits beyond its length.
fn prefix(written: &str, at: Span, log: &mut Log) -> Option<IpNet> {
    if let Ok(address) = written.parse::<std::net::IpAddr>() {
        return fitting(written, address.into(), at, log);
    }
    match written.parse::<IpNet>() {
        Ok(net) => fitting(written, net, at, log),
        Err(_) if written.contains('/') => {
            log.error(at, format!("{} is no prefix", quote(written)))
                .help("write an address and a prefix length, such as \"203.0.113.0/24\" or \"2001:db8::/32\"");
            None
        }
        Err(_) => {
            address::no_address(written, at, log);
            None
        }
    }
}

fn fitting(written: &str, net: IpNet, at: Span, log: &mut Log) -> Option<IpNet> {
    let mapped = match net {
        IpNet::V6(net) => (net.addr().to_ipv4_mapped()).filter(|_| net.prefix_len() >= 96),
        IpNet::V4(_) => None,
    };
    if let Some(mapped) = mapped {
        let mapped =
            IpNet::new(mapped.into(), net.prefix_len() - 96).map_or(net, |net| net.trunc());
        log.error(
            at,
            format!("{} is of IPv4-mapped addresses", quote(written)),
        )
        .help(format!("write \"{mapped}\": no packet has such a source"));
        return None;
    }
    if net.trunc() != net {
        log.error(
            at,
            format!("{} has bits set beyond its prefix", quote(written)),
        )
        .help(format!("write \"{}\"", net.trunc()));
        return None;
    }
    Some(net)
}

/// The files of prefixes that one configuration names: each is read once.
pub(super) struct Lists {
    /// The number of the next text that something is wrong with.
    next: u32,
    /// The texts that something is wrong with.
    pub(super) sources: Vec<Source>,
    /// Of all texts that were read.
    bytes: usize,
    /// None: it cannot be used, which is said.
    read: HashMap<PathBuf, Option<Arc<ListFile>>>,
}

impl Lists {
    /// `sources`: how many texts there are that places refer to.
    pub(super) fn new(sources: usize) -> Self {
        Lists {
            next: sources as u32,
            sources: Vec::new(),
            bytes: 0,
            read: HashMap::default(),
        }
    }

    /// The file of that path, which is named `at` a place; what is wrong with it is said where it is first named.
    pub(super) fn file(&mut self, path: &Path, at: Span, log: &mut Log) -> Option<Arc<ListFile>> {
        if let Some(known) = self.read.get(path) {
            return known.clone();
        }
        let file = self.load(path, at, log);
        self.read.insert(path.to_owned(), file.clone());
        file
    }

    fn load(&mut self, path: &Path, at: Span, log: &mut Log) -> Option<Arc<ListFile>> {
        let name = path.display().to_string();
        let (text, mode) = match files::text_and_mode(path) {
            Ok(read) => read,
            Err(refused) => {
                log.error(at, format!("{}: {}", quote(&name), refused.why()))
                    .help("let weir read the file: UTF-8 text of at most 16 MiB with a prefix on each line");
                return None;
            }
        };
        self.bytes += text.len();
        if self.bytes > MOST_BYTES {
            let most = MOST_BYTES >> 20;
            log.error(
                at,
                format!(
                    "{} would be too much: at most {most} MiB of lists are read in all",
                    quote(&name)
                ),
            )
            .help("name fewer or shorter files");
            return None;
        }
        let digest = KEYS.each_ref().map(|key| key.hash_one(&text));
        let mut in_use = IN_USE.lock();
        let in_use = in_use.get_or_insert_default();
        let known = in_use.get(path).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.digest == digest) {
            return Some(known);
        }
        let mut found = Log::default();
        let prefixes = entries(&text, 0, &mut found);
        if found.errors() > 0 {
            if is_public(path, mode) {
                entries(&text, self.next, log);
                self.sources.push(Source { name, text });
                self.next += 1;
                return None;
            }
            let said = found.into_diagnostics(&[Source { name, text }]);
            if let Some(first) = said.iter().next() {
                let (file, line, column) = (&first.file, first.line, first.column);
                log.error(at, format!("{file}:{line}:{column} is no prefix")).help(
                    "write a prefix on each line; nothing of the file is shown, as not every user may read it",
                );
            }
            return None;
        }
        let file = Arc::new(ListFile {
            path: path.to_owned(),
            entries: prefixes.len(),
            set: Arc::new(prefixes.into_iter().collect()),
            digest,
        });
        in_use.retain(|_, file| file.strong_count() > 0);
        in_use.insert(path.to_owned(), Arc::downgrade(&file));
        Some(file)
    }
}

/// Whether every user may read a file of those permissions: it, and each folder on the way to it. Errors quote no other: a user who
/// may change the configuration by the API would see lines of files that are root's alone.
fn is_public(path: &Path, mode: u32) -> bool {
    let Ok(real) = path.canonicalize() else {
        return false;
    };
    let is_open = |folder: &Path| {
        folder
            .metadata()
            .is_ok_and(|about| about.permissions().mode() & 0o001 != 0)
    };
    mode & 0o004 != 0 && real.ancestors().skip(1).all(is_open)
}

/// The prefixes of a text: one a line. What is wrong is said at its place in the text, which is file number `file`.
fn entries(text: &str, file: u32, log: &mut Log) -> Vec<IpNet> {
    let mut prefixes = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let begin = start;
        start += line.len();
        let written = line.split(['#', ';']).next().unwrap_or_default();
        // A byte order mark, as some editors put before the first line.
        let written = written.trim_start_matches('\u{feff}').trim();
        if written.is_empty() || log.is_full() {
            continue;
        }
        let from = begin + line.find(written).unwrap_or_default();
        let at = Span::new(file, from..from + written.len());
        if let Some(prefix) = prefix(written, at, log) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn a_line_has_a_prefix_or_a_comment() {
        let text = "\u{feff}203.0.113.0/24\r\n# all\n\n  198.51.100.7  # a host\n2001:db8::/32 ; SBL1\n10.0.0.0/8";
        let mut log = Log::default();
        let found: Vec<_> = (entries(text, 0, &mut log).iter().map(ToString::to_string)).collect();
        assert_eq!(
            found,
            [
                "203.0.113.0/24",
                "198.51.100.7/32",
                "2001:db8::/32",
                "10.0.0.0/8"
            ]
        );
        assert_eq!(log.findings(), 0);
    }

    #[test]
    fn what_is_no_prefix_is_said_at_its_place() {
        for (line, column, wrong) in [
            ("203.0.113.5/24", 1, "has bits set beyond its prefix"),
            ("  203.0.113.0/33 # x", 3, "is no prefix"),
            ("\t2001:db8::1/32", 2, "has bits set beyond its prefix"),
            ("::ffff:10.0.0.1", 1, "is of IPv4-mapped addresses"),
            ("::ffff:10.0.0.0/104", 1, "is of IPv4-mapped addresses"),
            ("203.0.113.0/24 198.51.100.0/24", 1, "is no prefix"),
            ("203.0.113", 1, "is no IPv4 address"),
            ("fe80::1%eth0", 1, "names a zone"),
            ("file:/etc/weir/more.txt", 1, "is no"),
            ("0x0a000000/8", 1, "is no prefix"),
        ] {
            let text = format!("10.0.0.0/8\n{line}\n");
            let mut log = Log::default();
            assert_eq!(entries(&text, 0, &mut log).len(), 1, "{line}");
            let source = Source {
                name: "list".to_owned(),
                text,
            };
            let said = log.into_diagnostics(&[source]);
            assert_eq!(said.len(), 1, "{line}: {said}");
            let said = said.iter().next().unwrap();
            assert_eq!((said.line, said.column), (2, column), "{line}");
            assert!(said.message.contains(wrong), "{line}: {}", said.message);
            assert!(said.help.is_some(), "{line}");
        }
    }

    #[test]
    fn a_file_that_says_the_same_is_the_same_and_errors_have_an_end() {
        let folder = tempfile::tempdir().unwrap();
        // What is not for every user is not in a folder of every user either.
        let allow = |mode| {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        };
        allow(0o711);
        let path = folder.path().join("list");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let (mut lists, mut log) = (Lists::new(1), Log::default());
            let found = lists.file(&path, Span::default(), &mut log);
            let main = Source {
                name: "lb.toml".to_owned(),
                text: String::new(),
            };
            let sources: Vec<_> = std::iter::once(main).chain(lists.sources).collect();
            (found, log.into_diagnostics(&sources))
        };
        let (first, _) = read("10.0.0.0/8\n");
        let (again, _) = read("10.0.0.0/8\n");
        let (other, _) = read("10.0.0.0/8\n10.0.0.0/9\n");
        let (first, again, other) = (first.unwrap(), again.unwrap(), other.unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        assert!(
            first != other && Arc::ptr_eq(&other, &read("10.0.0.0/8\n10.0.0.0/9\n").0.unwrap())
        );
        assert_eq!((other.entries, other.set.bytes()), (2, 8));
        let hide = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for (of_folder, of_file) in [(0o711, 0o640), (0o700, 0o644)] {
            allow(of_folder);
            hide(of_file);
            let (none, said) = read("10.0.0.0/8\n a secret\n");
            let said = said.to_string();
            assert!(
                none.is_none() && said.contains("list:2:2 is no prefix"),
                "{said}"
            );
            assert!(!said.contains("secret"), "{said}");
        }
        allow(0o711);
        hide(0o644);
        // Of a line without end an excerpt is shown.
        let (_, said) = read(&"x".repeat(800_000));
        let shown = said.to_string();
        assert!(shown.len() < 4096, "{} bytes", shown.len());
        let (none, said) = read(&"x\n".repeat(100_000));
        let last = said.iter().last().unwrap();
        assert!(none.is_none() && last.file.ends_with("list"));
        assert_eq!((said.iter().count(), last.line), (100, 100));
    }
}

//! Cuts a file into its services, so that each is parsed by itself: on several threads, in little memory, and not at all
//! where it is written as it was in the configuration before.
//!
//! A piece begins with a line `[[service]]` and ends where the next one begins, or a table of something else. What remains
//! is parsed as one text, with blanks where the pieces were, so that every place in it stays what it is. A file in which
//! `service` is written in any other way is not cut.

use super::error::{At, Log};
use super::plain::{self, Numbers};
use super::raw;
use super::size::Cost;
use super::validate;
use super::value::Given;
use super::{Protocol, ServiceConfig};
use arrayvec::ArrayVec;
use foldhash::HashMap;
use memchr::memmem;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use toml::de::DeTable;
use toml_parser::Source;
use toml_parser::lexer::{Token, TokenKind};

/// What a piece starts with.
const HEADER: &str = "[[service]]";

/// A piece's text, as two hashes under secret keys: no text that is made up has that of another.
type Digest = [u64; 2];

/// What one `[[service]]` means: a service for each of its protocols.
pub(super) type Services = ArrayVec<Arc<ServiceConfig>, { Protocol::ALL.len() }>;

/// The services of a configuration by their texts: those of the next one that are written alike are the same.
#[derive(Clone, Debug, Default)]
pub struct Known {
    keys: [RandomState; 2],
    services: Arc<HashMap<Digest, (Services, u32)>>,
}

impl Known {
    /// As `self`, without the services: for those of the next configuration.
    pub(super) fn next(&self) -> Known {
        Known {
            keys: self.keys.clone(),
            services: Arc::default(),
        }
    }

    /// Remembers what a piece means.
    pub(super) fn add(&mut self, piece: &Piece, means: Services) {
        let services = Arc::make_mut(&mut self.services);
        services.insert(piece.digest, (means, piece.cost));
    }

    fn digest(&self, text: &str) -> Digest {
        self.keys.each_ref().map(|key| key.hash_one(text))
    }

    /// How many services are known.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.services.len()
    }
}

/// The text of one `[[service]]`.
#[derive(Debug)]
pub(super) struct Piece {
    pub range: Range<usize>,
    digest: Digest,
    /// As of [`Cost`].
    cost: u32,
    pub known: Option<Services>,
}

/// A service, as far as it was read.
#[derive(Debug)]
pub(super) enum Item {
    /// With the places of all that is written, for what may have to be said of it.
    Written(Box<At<raw::Service>>),
    /// There is nothing to say of it by itself.
    Checked(Services),
}

/// Pieces that are worth a thread.
const WORTHWHILE: usize = 512;

/// Reads the services of a file. None: something is wrong, and the parser has to see the whole to say what.
pub(super) fn read(text: &str, file: u32, pieces: &[Piece]) -> Option<Vec<Item>> {
    let unknown = pieces.iter().filter(|piece| piece.known.is_none()).count();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(unknown / WORTHWHILE).max(1);
    let read = |pieces: &[Piece]| -> Option<Vec<Item>> {
        let mut numbers = Numbers::default();
        let items = pieces.iter();
        items
            .map(|piece| item(text, file, piece, &mut numbers))
            .collect()
    };
    let mut parts = pieces.chunks(pieces.len().div_ceil(threads).max(1));
    let first = parts.next()?;
    thread::scope(|scope| {
        let others: Vec<_> = parts
            .map(|part| {
                // Where the system has no thread left, this one reads that part too.
                let thread = thread::Builder::new().spawn_scoped(scope, move || read(part));
                (part, thread)
            })
            .collect();
        let mut items = read(first);
        for (part, thread) in others {
            let more = match thread {
                // One that panicked has read nothing.
                Ok(thread) => thread.join().ok().flatten(),
                Err(_) => read(part),
            };
            items = items.zip(more).map(|(mut items, more)| {
                items.extend(more);
                items
            });
        }
        items
    })
}

fn item<'a>(text: &'a str, file: u32, piece: &Piece, numbers: &mut Numbers<'a>) -> Option<Item> {
    if let Some(services) = &piece.known {
        return Some(Item::Checked(services.clone()));
    }
    let text = text.get(piece.range.clone())?;
    let (plain, parsed);
    let written = match plain::table(text, numbers) {
        Some(table) => {
            plain = table;
            &plain
        }
        None => {
            parsed = DeTable::parse(text).ok()?;
            let (_, list) = parsed.get_ref().iter().next()?;
            list.get_ref().as_array()?.first()?
        }
    };
    let raw = || {
        let mut log = Log::from(piece.range.start);
        let raw = Given::<raw::Service>::read(written, file, &mut log);
        (log.errors() == 0).then_some(raw)
    };
    let read = |raw| match raw {
        Given::Yes(raw) => Some(raw),
        Given::Bad | Given::No => None,
    };
    Some(match validate::alone(read(raw()?)?) {
        Some(services) => Item::Checked(services),
        None => Item::Written(Box::new(read(raw()?)?)),
    })
}

/// A file in pieces.
#[derive(Debug)]
pub(super) struct Cut {
    /// Everything else, where it is in the file.
    pub rest: String,
    pub services: Vec<Piece>,
}

/// Cuts a text that costs at most `most`. None: it has no services, is not written so that it can be cut, or has too much
/// in it.
pub(super) fn cut(text: &str, known: &Known, most: usize) -> Option<Cut> {
    let mut cost = Cost::default();
    let mut services = Vec::new();
    let mut rest = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let left = &text[at..];
        let unknown = |length: usize, cost: usize| Piece {
            range: at..at + length,
            digest: known.digest(&left[..length]),
            cost: cost as u32,
            known: None,
        };
        if let Some(piece) = known_piece(text, at, known) {
            cost.add_part(piece.cost as usize);
            at = piece.range.end;
            services.push(piece);
        } else if let Some((length, its_cost)) = plain::measure(left) {
            cost.add_part(its_cost);
            services.push(unknown(length, its_cost));
            at += length;
        } else {
            let before = cost.total();
            let is_start = services.is_empty() && rest.is_empty();
            let (part, length) = next(left, is_start, &mut cost)?;
            match part {
                Part::Service => services.push(unknown(length, cost.total() - before)),
                Part::Rest => rest.push(at..at + length),
            }
            at += length;
        }
        if cost.total() > most {
            return None;
        }
    }
    if services.is_empty() {
        return None;
    }
    let end = rest.last().map_or(0, |range| range.end);
    let mut blanked = vec![b' '; end];
    for range in rest {
        // A comment or a line's end may be right before.
        if let Some(last) = range.start.checked_sub(1) {
            blanked[last] = b'\n';
        }
        blanked[range.clone()].copy_from_slice(&text.as_bytes()[range]);
    }
    Some(Cut {
        rest: String::from_utf8(blanked).ok()?,
        services,
    })
}

/// The piece at a place of the text, if it is known. Where the same text was a piece before, its last line was complete: what
/// follows cannot change what it means.
fn known_piece(text: &str, at: usize, known: &Known) -> Option<Piece> {
    let left = &text[at..];
    if known.services.is_empty() || !left.starts_with(HEADER) {
        return None;
    }
    let end = memmem::find(left.as_bytes(), b"\n[[service]]");
    let length = end.map_or(left.len(), |line_end| line_end + 1);
    let digest = known.digest(&left[..length]);
    let (services, cost) = known.services.get(&digest)?;
    Some(Piece {
        range: at..at + length,
        digest,
        cost: *cost,
        known: Some(services.clone()),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Service,
    Rest,
}

/// What a line is that is in no value: with the lines that its own value goes on in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// `[[service]]`
    Service,
    /// The header of a table in a service.
    InService,
    /// The header of any other table.
    Table,
    Other,
}

/// What the part of a file is that a text begins with, and its length. `is_start`: it is the whole file. None: it cannot be
/// told.
fn next(text: &str, is_start: bool, cost: &mut Cost) -> Option<(Part, usize)> {
    let mut tokens = Source::new(text).lex().peekable();
    let mut part = None;
    let mut is_root = is_start;
    loop {
        let token = tokens.peek()?;
        let start = token.span().start();
        if token.kind() == TokenKind::Eof {
            return Some((part?, text.len()));
        }
        let before = *cost;
        let line = line(text, &mut tokens, is_root, cost)?;
        is_root &= line == Line::Other;
        part = match (part, line) {
            (None, Line::Service) => Some(Part::Service),
            (None, Line::Table | Line::Other) => Some(Part::Rest),
            (None | Some(Part::Rest), Line::InService) => return None,
            (Some(Part::Service), Line::InService | Line::Other)
            | (Some(Part::Rest), Line::Table | Line::Other) => part,
            (Some(Part::Rest), Line::Service)
            | (Some(Part::Service), Line::Service | Line::Table) => {
                *cost = before;
                return Some((part?, start));
            }
        };
    }
}

/// Reads a line. `is_root`: its key is one of the whole file. None: it is no TOML, or writes `service` in another way.
fn line(
    text: &str,
    tokens: &mut impl Iterator<Item = Token>,
    is_root: bool,
    cost: &mut Cost,
) -> Option<Line> {
    let mut tokens = tokens.inspect(|token| cost.add(token.kind()));
    let mut solid = || tokens.find(|token| token.kind() != TokenKind::Whitespace);
    let of = |token: Token| &text[token.span().start()..token.span().end()];
    let mut token = solid()?;
    let mut line = Line::Other;
    if token.kind() == TokenKind::LeftSquareBracket {
        let mut key = solid()?;
        let is_array = key.kind() == TokenKind::LeftSquareBracket;
        if is_array {
            key = solid()?;
        }
        token = solid()?;
        let is_whole = token.kind() == TokenKind::RightSquareBracket;
        line = match (is_service(key.kind(), of(key))?, is_whole) {
            (false, _) => Line::Table,
            (true, false) => Line::InService,
            (true, true) if is_array => Line::Service,
            (true, true) => return None,
        };
        while !matches!(token.kind(), TokenKind::Newline | TokenKind::Eof) {
            token = solid()?;
        }
        return Some(line);
    }
    if is_root && is_service(token.kind(), of(token))? {
        return None;
    }
    let mut depth = 0_usize;
    loop {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                depth = depth.checked_sub(1)?;
            }
            TokenKind::Newline if depth == 0 => return Some(line),
            TokenKind::Eof => return (depth == 0).then_some(line),
            _ => {}
        }
        token = solid()?;
    }
}

/// Whether a key is `service`. None: it is quoted, and may be.
fn is_service(kind: TokenKind, key: &str) -> Option<bool> {
    match kind {
        TokenKind::Atom => Some(key == "service"),
        _ if key.contains('\\') || key.contains("service") => None,
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{self, Context, Known, Text};
    use proptest::prelude::*;

    const CONTEXT: Context = Context {
        cpus: None,
        devices: false,
    };
    const PORT: &str =
        "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/24\"]\n";
    const ROUTE: &str = "[[route]]\nto = \"10.1.0.0/16\"\nvia = \"10.0.0.254\"\n";
    const POOL: &str = "[[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.99\"]\n";

    /// Services, good ones and others, and whatever else there may be between them.
    const PARTS: &[&str] = &[
        "reverse_path = \"loose\"\n",
        PORT,
        ROUTE,
        POOL,
        "[limits]\nconnections = 1000\n",
        "[[service]]\nname = \"a\"\naddress = \"192.0.2.1\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n\n[[service.real]]\naddress = \"10.0.0.11\"\n",
        "[[service]]\naddress = \"192.0.2.2\"\nport = 80\nprotocol = \"tcp\"\nmode = \"dr\"\nreal = [{ address = \"10.0.0.11\" }]\n",
        "[[service]]\naddress = \"192.0.2.3\"\nport = 80\nprotocol = \"udp\"\nmode = \"fullnat\"\nlocal_pool = \"inside\"\n[[service.real]]\naddress = \"10.0.0.12\"\n[service.persistence]\ntimeout = 60\n",
        // A warning each: without real servers, and behind a router.
        "[[service]]\naddress = \"192.0.2.4\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n",
        "[[service]]\naddress = \"192.0.2.5\"\nport = 80\nprotocol = \"tcp\"\nmode = \"dr\"\n  [[service.real]]\n  address = \"10.1.0.12\"\n",
        // Errors: with others or by themselves.
        "[[service]]\nname = \"a\"\naddress = \"192.0.2.6\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n[[service.real]]\naddress = \"10.0.0.11\"\n",
        "[[service]]\naddress = \"10.0.0.11\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n[[service.real]]\naddress = \"10.0.0.12\"\n",
        "[[service]]\naddress = \"10.0.0.99\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n[[service.real]]\naddress = \"10.9.0.12\"\n",
        "[[service]]\naddress = \"192.0.2.7\"\nport = 80\n",
        "[[service]]\nadress = \"192.0.2.8\"\n",
        // What is not as it looks.
        "[[service]]\naddress = \"192.0.2.9\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\nname = \"\"\"\\\n[[service]]\n\"\"\"\n",
        "# [[service]]\n\n",
        "\t[[ service ]] # spaced\naddress = '192.0.2.10'\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n  [[ service . real ]]\n  address = \"10.0.0.11\"\n",
        "[[\"service\"]]\naddress = \"192.0.2.11\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n[[service.real]]\naddress = \"10.0.0.11\"\n",
        "[[service.real]]\naddress = \"10.0.0.13\"\nweight = 0\n",
        "[service]\n",
        "service = []\n",
        "[[service]]\naddress = [\n",
        "x = [\n[[service]]\n]\n",
        // Health checks: a template that a service of every port can use or not, and who uses it.
        "[health.t]\ntype = \"icmp\"\n",
        "[health.t]\ntype = \"tcp\"\n",
        "[[service]]\naddress = \"192.0.2.12\"\nport = 0\nprotocol = \"tcp\"\nmode = \"nat\"\nhealth = \"t\"\n[[service.real]]\naddress = \"10.0.0.12\"\n",
        "[[service]]\naddress = \"192.0.2.13\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n[service.health]\ntype = \"http\"\nrequest = { path = \"/\" }\n[[service.real]]\naddress = \"10.0.0.12\"\n",
        // Both protocols, and the services that cannot be beside them.
        "[[service]]\nname = \"both\"\naddress = \"192.0.2.17\"\nport = 53\nprotocol = \"tcp+udp\"\nmode = \"nat\"\n[[service.real]]\naddress = \"10.0.0.12\"\n",
        "[[service]]\nname = \"both\"\naddress = \"192.0.2.17\"\nport = 53\nprotocol = \"udp\"\nmode = \"dr\"\n[[service.real]]\naddress = \"10.0.0.12\"\n",
        "[[service]]\nname = \"both\"\naddress = \"192.0.2.17\"\nport = 54\nprotocol = \"tcp\"\nmode = \"dr\"\n[[service.real]]\naddress = \"10.0.0.12\"\n",
        // Ranges, of which two overlap.
        "[[service]]\naddress = \"192.0.2.18\"\nport = \"80-90\"\nprotocol = \"tcp\"\nmode = \"nat\"\n[[service.real]]\naddress = \"10.0.0.12\"\n",
        "[[service]]\naddress = \"192.0.2.18\"\nport = \"90-91\"\nprotocol = \"tcp\"\nmode = \"nat\"\n[[service.real]]\naddress = \"10.0.0.12\"\n",
        "[[service]]\naddress = \"192.0.2.18\"\nport = \"91-92\"\nprotocol = \"tcp\"\nmode = \"nat\"\npool = \"p\"\n",
        // Real servers of pools: what fits a service, and what does not.
        "[[pool]]\nname = \"p\"\n[[pool.real]]\naddress = \"10.0.0.12\"\n",
        "[[pool]]\nname = \"p\"\n[[pool.real]]\naddress = \"10.0.0.12\"\nport = 0\nweight = 0\n",
        "[[pool]]\nname = \"p\"\nreal = [{ address = \"10.1.0.12\" }, { address = \"10.1.0.12\", port = 8080 }]\n",
        "[[service]]\naddress = \"192.0.2.14\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\npool = \"p\"\n",
        "[[service]]\naddress = \"192.0.2.15\"\nport = 8080\nprotocol = \"tcp\"\nmode = \"dr\"\npool = \"p\"\n",
        "[[service]]\naddress = \"192.0.2.16\"\nport = 0\nprotocol = \"tcp\"\nmode = \"nat\"\npool = \"p\"\nmin_healthy = 2\nhealth = { type = \"tcp\" }\nfallback = [\"10.0.0.12:8080\"]\n",
    ];
    const CHECKS: usize = PARTS.len() - 16;
    const POOLS: usize = PARTS.len() - 6;

    fn texts() -> impl Strategy<Value = String> {
        // Mostly what can be beside each other.
        let part = prop_oneof![3 => 3..10usize, 1 => CHECKS..POOLS, 2 => POOLS..PARTS.len(), 1 => 0..PARTS.len()];
        prop::collection::vec(part, 0..6).prop_map(|parts| {
            let parts = parts.into_iter().map(|part| PARTS[part]);
            [PORT, ROUTE].into_iter().chain(parts).collect()
        })
    }

    /// What is found in texts, and what they mean.
    fn outcome(texts: &[&String], known: &Known) -> (String, Known) {
        let text = |(n, text): (usize, &&String)| Text {
            name: format!("{n}.toml"),
            text: (*text).clone(),
        };
        let files = texts.iter().enumerate().map(text).collect();
        match config::check_texts(files, &CONTEXT, known) {
            Ok(loaded) => {
                let (config, warnings) = (loaded.config, loaded.warnings);
                (
                    format!("{config:#?}\n{warnings:?}\n{:?}", loaded.devices),
                    loaded.known,
                )
            }
            Err(wrong) => (format!("{wrong:?}"), Known::default()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        /// In pieces or as a whole, after whatever other file.
        #[test]
        fn a_file_means_the_same_however_it_is_read(before in texts(), after in texts()) {
            let whole = config::parse(&after, "0.toml", &CONTEXT);
            let whole = match whole {
                Ok(loaded) => format!("{:#?}\n{:?}\n{:?}", loaded.config, loaded.warnings, loaded.devices),
                Err(wrong) => format!("{wrong:?}"),
            };
            let (_, known) = outcome(&[&before], &Known::default());
            for known in [Known::default(), known] {
                let (pieces, its) = outcome(&[&after], &known);
                prop_assert_eq!(&pieces, &whole);
                prop_assert_eq!(outcome(&[&after], &its).0, pieces);
            }
        }

        #[test]
        fn several_files_mean_the_same_as_before(first in texts(), second in texts()) {
            let second = second.replacen(PORT, "", 1).replacen(ROUTE, "", 1);
            let (fresh, known) = outcome(&[&first, &second], &Known::default());
            prop_assert_eq!(outcome(&[&first, &second], &known).0, fresh);
        }
    }

    #[test]
    fn a_service_that_is_written_as_before_is_the_one_of_before() {
        let good = [PORT, ROUTE, POOL, PARTS[5], PARTS[6], PARTS[7]].concat();
        let load = |text: &str, known: &Known| {
            let text = text.to_owned();
            let name = "lb.toml".to_owned();
            config::check_texts(vec![Text { name, text }], &CONTEXT, known).unwrap()
        };
        let first = load(&good, &Known::default());
        assert_eq!(first.known.len(), 3);
        let second = load(&good.replace("10.0.0.12", "10.0.0.13"), &first.known);
        let same = |n: usize| {
            std::sync::Arc::ptr_eq(&first.config.services[n], &second.config.services[n])
        };
        assert_eq!([0, 1, 2].map(same), [true, true, false]);
        // What is no longer written is not kept.
        assert_eq!(second.known.len(), 3);
    }

    /// However many services use a pool, those of which not a byte is another have what it has now.
    #[test]
    fn a_changed_pool_changes_the_services_that_use_it() {
        let [pool, nat, other] = [POOLS, POOLS + 3, 5].map(|part| PARTS[part]);
        let before = [PORT, pool, nat, other].concat();
        let after = before.replacen("10.0.0.12\"", "10.0.0.13\"\nweight = 5", 1);
        let load = |text: &str, known: &Known| {
            let (name, text) = ("lb.toml".to_owned(), text.to_owned());
            config::check_texts(vec![Text { name, text }], &CONTEXT, known).unwrap()
        };
        let first = load(&before, &Known::default());
        let second = load(&after, &first.known);
        let real = |loaded: &config::Loaded| loaded.config.services[0].reals.clone();
        assert_eq!(real(&first)[0].address.to_string(), "10.0.0.12");
        let [now] = &real(&second)[..] else { panic!() };
        assert_eq!(
            (now.address.to_string(), now.weight),
            ("10.0.0.13".to_owned(), 5)
        );
        assert!(std::sync::Arc::ptr_eq(
            &first.config.services[1],
            &second.config.services[1]
        ));
    }
}

//! A packet in words: `tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN`. Read with the place of what is wrong, and written the
//! same way again.
//!
//! ```text
//! packet   = protocol end ">" end { flag | chunk | option }
//! protocol = "tcp" | "udp" | "sctp" | "icmp"           ICMPv6 where the addresses are of IPv6
//! end      = address ":" port | "[" address "]:" port  of icmp: the address alone
//! flag     = "SYN" | "ACK" | "FIN" | "RST" | "PSH" | "URG"        of tcp; none: SYN
//! chunk    = "INIT" | "INIT-ACK" | "COOKIE-ECHO" | "COOKIE-ACK" | "DATA" | "SACK" | "HEARTBEAT" | "HEARTBEAT-ACK"
//!          | "SHUTDOWN" | "SHUTDOWN-ACK" | "SHUTDOWN-COMPLETE" | "ERROR" | "ABORT"          of sctp; none: INIT
//! option   = "ttl=" 0-255 | "len=" bytes of payload | "dscp=" 0-63 | "df"
//!          | "mss=" bytes | "seq=" number | "ack=" number         of tcp
//!          | "tag=" number                                        of sctp; none: 0 of an INIT, else 1
//!          | "type=" 0-255 | "code=" 0-255                        of icmp; none: an echo request
//! ```

use super::chunk::Chunk;
use crate::wire::ipv4::DEFAULT_TTL;
use crate::wire::tcp::Flags;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A packet as a person describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// With the port 0 where the protocol has none.
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub upper: Upper,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes of payload behind the header of TCP, UDP or ICMP, or what a chunk of SCTP begins with.
    pub length: u16,
    pub dscp: u8,
    /// Of IPv4 only.
    pub dont_fragment: bool,
}

/// What is behind the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    Tcp {
        flags: Flags,
        sequence: u32,
        acknowledged: u32,
        mss: Option<u16>,
    },
    Udp,
    /// With one chunk.
    Sctp {
        chunk: Chunk,
        /// The verification tag; none: the one that such a packet has.
        tag: Option<u32>,
    },
    /// ICMP, or ICMPv6.
    Icmp {
        kind: u8,
        code: u8,
    },
}

/// Most bytes of payload: of the shortest packet that may hold them.
const LONGEST: u16 = 65_535 - 60;

/// TCP's flags by their names, in the order in which they are written.
const FLAGS: [(&str, u8); 6] = [
    ("SYN", Flags::SYN),
    ("FIN", Flags::FIN),
    ("RST", Flags::RST),
    ("PSH", 0x08),
    ("ACK", Flags::ACK),
    ("URG", 0x20),
];

const NUMBER_OPTIONS: [&str; 9] = [
    "ttl", "len", "dscp", "mss", "seq", "ack", "tag", "type", "code",
];

impl Upper {
    /// What an echo request of that family is.
    fn echo_request(is_v6: bool) -> Upper {
        let kind = if is_v6 { 128 } else { 8 };
        Upper::Icmp { kind, code: 0 }
    }

    const INIT: Upper = Upper::Sctp {
        chunk: Chunk::INIT,
        tag: None,
    };

    const SYN: Upper = Upper::Tcp {
        flags: Flags(Flags::SYN),
        sequence: 1,
        acknowledged: 0,
        mss: None,
    };

    fn name(&self) -> &'static str {
        match self {
            Upper::Tcp { .. } => "tcp",
            Upper::Udp => "udp",
            Upper::Sctp { .. } => "sctp",
            Upper::Icmp { .. } => "icmp",
        }
    }
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Characters before it.
    pub column: usize,
    /// How many characters it has.
    pub width: usize,
    pub why: String,
    pub help: String,
}

impl Wrong {
    /// The lines for a person, of the text that was read. The column is counted from 1.
    pub fn show(&self, text: &str) -> String {
        /// More would fill the terminal, as a long frame in hex does.
        const SHOWN: usize = 72;
        let before = self.column.saturating_sub(SHOWN / 2);
        let shown: String = text
            .chars()
            .skip(before)
            .take(SHOWN)
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        let indent = " ".repeat(self.column - before);
        let marks = "^".repeat(
            self.width
                .clamp(1, SHOWN - (self.column - before).min(SHOWN - 1)),
        );
        format!(
            "packet:{}: {}\n  | {shown}\n  | {indent}{marks}\nhelp: {}",
            self.column + 1,
            self.why,
            self.help
        )
    }
}

/// A word, and the characters before it.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    column: usize,
}

impl Token<'_> {
    fn wrong(self, why: impl Into<String>, help: impl Into<String>) -> Wrong {
        Wrong {
            column: self.column,
            width: self.text.chars().count(),
            why: why.into(),
            help: help.into(),
        }
    }
}

/// Words that white space separates; `>` and `->` are words of their own, and a comma between words is none.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let is_end = |letter: char| letter.is_whitespace() || letter == ',';
    let (mut tokens, mut column, mut rest) = (Vec::new(), 0, text);
    loop {
        let skipped = rest.len() - rest.trim_start_matches(is_end).len();
        column += rest[..skipped].chars().count();
        rest = &rest[skipped..];
        let arrow = ["->", ">"].into_iter().find(|it| rest.starts_with(it));
        let length = match arrow {
            Some(arrow) => arrow.len(),
            None => rest
                .find(|it| is_end(it) || it == '>')
                .unwrap_or(rest.len()),
        };
        // The arrow's dash is not the word's before it.
        let length = match rest[..length].strip_suffix('-') {
            Some(word)
                if arrow.is_none() && !word.is_empty() && rest[length..].starts_with('>') =>
            {
                word.len()
            }
            _ => length,
        };
        if length == 0 {
            return tokens;
        }
        let (word, after) = rest.split_at(length);
        tokens.push(Token { text: word, column });
        column += word.chars().count();
        rest = after;
    }
}

const EXAMPLE: &str = "write it as in `tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN`";

impl FromStr for Words {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Words, Wrong> {
        let tokens = tokens(text);
        let mut rest = tokens.iter().copied();
        let missing = |what: &str| Wrong {
            column: text.trim_end().chars().count(),
            width: 1,
            why: format!("{what} is missing"),
            help: EXAMPLE.to_owned(),
        };
        let protocol = rest.next().ok_or_else(|| missing("the packet"))?;
        let name = protocol.text.to_ascii_lowercase();
        let has_ports = match name.as_str() {
            "tcp" | "udp" | "sctp" => true,
            "icmp" | "icmp6" | "icmpv6" => false,
            _ => {
                return Err(protocol.wrong(
                    format!("`{}` is no protocol that can be described", protocol.text),
                    "tcp, udp, sctp and icmp can be described in words; any other packet as the bytes of its Ethernet frame in hex",
                ));
            }
        };
        let from = rest.next().ok_or_else(|| missing("the source"))?;
        let source = end(from, has_ports)?;
        match rest.next() {
            Some(arrow) if matches!(arrow.text, ">" | "->") => {}
            Some(other) => {
                return Err(other.wrong(
                    format!("`{}` stands where `>` is expected", other.text),
                    "write SOURCE > DESTINATION, in quotes, or the shell takes `>` for a file",
                ));
            }
            None => {
                let mut wrong = missing("`> DESTINATION`");
                wrong.help = "write the packet in quotes, or the shell takes `>` for a file".into();
                return Err(wrong);
            }
        }
        let to = rest.next().ok_or_else(|| missing("the destination"))?;
        let destination = end(to, has_ports)?;
        let is_v6 = source.is_ipv6();
        if destination.is_ipv6() != is_v6 {
            let family = if is_v6 { "IPv6" } else { "IPv4" };
            return Err(to.wrong(
                format!("the source is of {family}, and the destination is not"),
                "a packet has both addresses of one family; weir itself translates between them",
            ));
        }
        if name.ends_with('6') && !is_v6 {
            return Err(protocol.wrong("ICMPv6 has addresses of IPv6", "write icmp"));
        }
        let upper = match name.as_str() {
            "tcp" => Upper::SYN,
            "udp" => Upper::Udp,
            "sctp" => Upper::INIT,
            _ => Upper::echo_request(is_v6),
        };
        let mut words = Words {
            source,
            destination,
            upper,
            ttl: DEFAULT_TTL,
            length: 0,
            dscp: 0,
            dont_fragment: false,
        };
        words.take_options(rest)?;
        Ok(words)
    }
}

impl Words {
    fn take_options<'a>(&mut self, rest: impl Iterator<Item = Token<'a>>) -> Result<(), Wrong> {
        let mut has_word = false;
        let mut seen: Vec<String> = Vec::new();
        for token in rest {
            let (key, value) = match token.text.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (token.text, None),
            };
            let key = key.to_ascii_lowercase();
            let known = value.map(|value| (value, NUMBER_OPTIONS.iter().find(|it| **it == key)));
            match known {
                Some((value, Some(key))) => {
                    if seen.iter().any(|it| it == key) {
                        return Err(token.wrong(format!("`{key}=` stands twice"), "say it once"));
                    }
                    seen.push((*key).to_owned());
                    self.set(token, key, value)?;
                }
                None if key == "df" && !self.source.is_ipv6() => self.dont_fragment = true,
                None if key == "df" => {
                    return Err(token.wrong(
                        "an IPv6 packet has no DF bit",
                        "leave it out: routers never fragment IPv6",
                    ));
                }
                _ => self.add_word(token, &mut has_word)?,
            }
        }
        Ok(())
    }

    /// What is no option: TCP's flags, or SCTP's chunk.
    fn add_word(&mut self, token: Token, has_word: &mut bool) -> Result<(), Wrong> {
        let is_first = !std::mem::replace(has_word, true);
        match &mut self.upper {
            Upper::Tcp { flags, .. } => add_flags(token, flags, is_first),
            Upper::Sctp { chunk, .. } if is_first => {
                *chunk = named_chunk(token)?;
                Ok(())
            }
            Upper::Sctp { chunk, .. } => Err(token.wrong(
                format!("`{}` stands behind the chunk {chunk}", token.text),
                "write one chunk, in one word: INIT-ACK",
            )),
            Upper::Udp | Upper::Icmp { .. } => Err(token.wrong(
                format!("`{}` is no option of {}", token.text, self.upper.name()),
                format!("{} takes {}", self.upper.name(), self.options()),
            )),
        }
    }

    fn options(&self) -> &'static str {
        match self.upper {
            Upper::Tcp { .. } => "ttl=, len=, dscp=, df, mss=, seq= and ack=",
            Upper::Udp => "ttl=, len=, dscp= and df",
            Upper::Sctp { .. } => "ttl=, len=, dscp=, df and tag=",
            Upper::Icmp { .. } => "ttl=, len=, dscp=, df, type= and code=",
        }
    }

    fn set(&mut self, token: Token, key: &str, value: &str) -> Result<(), Wrong> {
        let options = self.options();
        let number = |most: u32| match value.parse::<u32>() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(token.wrong(
                format!("`{value}` is no number from 0 to {most}"),
                format!("write {key}=N with such a number"),
            )),
        };
        match (key, &mut self.upper) {
            ("ttl", _) => self.ttl = number(255)? as u8,
            ("len", _) => self.length = number(LONGEST.into())? as u16,
            ("dscp", _) => self.dscp = number(63)? as u8,
            ("mss", Upper::Tcp { mss, .. }) => *mss = Some(number(65_535)? as u16),
            ("seq", Upper::Tcp { sequence, .. }) => *sequence = number(u32::MAX)?,
            ("ack", Upper::Tcp { acknowledged, .. }) => *acknowledged = number(u32::MAX)?,
            ("tag", Upper::Sctp { tag, .. }) => *tag = Some(number(u32::MAX)?),
            ("type", Upper::Icmp { kind, .. }) => *kind = number(255)? as u8,
            ("code", Upper::Icmp { code, .. }) => *code = number(255)? as u8,
            (_, upper) => {
                let name = upper.name();
                return Err(token.wrong(
                    format!("{name} has no `{key}=`"),
                    format!("{name} takes {options}"),
                ));
            }
        }
        Ok(())
    }
}

/// `SYN`, or several: `SYN+ACK`, `SYN|ACK`, `SYN-ACK`. `is_first`: no others stand ahead of them.
fn add_flags(token: Token, flags: &mut Flags, is_first: bool) -> Result<(), Wrong> {
    if is_first {
        *flags = Flags(0);
    }
    for word in token.text.split(['+', '|', '-']) {
        let known = FLAGS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        let Some((_, bit)) = known else {
            return Err(token.wrong(
                format!("`{}` is neither a TCP flag nor an option", token.text),
                "the flags are SYN, ACK, FIN, RST, PSH and URG; tcp takes ttl=, len=, dscp=, df, mss=, seq= and ack=",
            ));
        };
        *flags = Flags(flags.0 | bit);
    }
    Ok(())
}

fn named_chunk(token: Token) -> Result<Chunk, Wrong> {
    Chunk::named(token.text).ok_or_else(|| {
        let names: Vec<_> = Chunk::all().map(|chunk| chunk.to_string()).collect();
        let names = names.join(", ");
        token.wrong(
            format!("`{}` is neither a chunk of SCTP nor an option", token.text),
            format!("the chunks are {names}; sctp takes ttl=, len=, dscp=, df and tag="),
        )
    })
}

/// An end of a packet.
fn end(token: Token, has_port: bool) -> Result<SocketAddr, Wrong> {
    let text = token.text;
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address: Option<IpAddr> = bare.unwrap_or(text).parse().ok();
    match (has_port, address, text.parse::<SocketAddr>()) {
        // A scope is no part of a packet.
        (_, _, Ok(SocketAddr::V6(end))) if end.scope_id() != 0 => Err(token.wrong(
            format!("`{text}` has a scope"),
            "leave out what follows `%`; --port says which port the packet comes in by",
        )),
        (true, _, Ok(end)) => Ok(end),
        (false, Some(address), _) => Ok(SocketAddr::new(address, 0)),
        (true, Some(address), _) => Err(token.wrong(
            format!("`{text}` has no port"),
            format!("write {}", SocketAddr::new(address, 80)),
        )),
        (false, _, Ok(end)) => Err(token.wrong(
            format!("`{text}` has a port, and ICMP has none"),
            format!("write {}", end.ip()),
        )),
        (true, None, Err(_)) => Err(token.wrong(
            format!("`{text}` is no address with a port"),
            "write 203.0.113.5:1234 or [2001:db8::5]:1234",
        )),
        (false, None, Err(_)) => Err(token.wrong(
            format!("`{text}` is no address"),
            "write 203.0.113.5 or 2001:db8::5",
        )),
    }
}

/// As it is read; what is as if nothing were said is left out.
impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = (self.source, self.destination);
        write!(f, "{} ", self.upper.name())?;
        match self.upper {
            Upper::Icmp { .. } => write!(f, "{} > {}", source.ip(), destination.ip())?,
            _ => write!(f, "{source} > {destination}")?,
        }
        match self.upper {
            Upper::Tcp {
                flags,
                sequence,
                acknowledged,
                mss,
            } => {
                for (name, _) in FLAGS.iter().filter(|(_, bit)| flags.0 & bit != 0) {
                    write!(f, " {name}")?;
                }
                if sequence != 1 {
                    write!(f, " seq={sequence}")?;
                }
                if acknowledged != 0 {
                    write!(f, " ack={acknowledged}")?;
                }
                if let Some(mss) = mss {
                    write!(f, " mss={mss}")?;
                }
            }
            Upper::Sctp { chunk, tag } => {
                write!(f, " {chunk}")?;
                if let Some(tag) = tag {
                    write!(f, " tag={tag}")?;
                }
            }
            Upper::Icmp { kind, code } if self.upper != Upper::echo_request(source.is_ipv6()) => {
                write!(f, " type={kind} code={code}")?;
            }
            Upper::Udp | Upper::Icmp { .. } => {}
        }
        if self.ttl != DEFAULT_TTL {
            write!(f, " ttl={}", self.ttl)?;
        }
        if self.length != 0 {
            write!(f, " len={}", self.length)?;
        }
        if self.dscp != 0 {
            write!(f, " dscp={}", self.dscp)?;
        }
        match self.dont_fragment {
            true => f.write_str(" df"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;

//! ipvsadm's commands and options, which command takes which, and how popt takes a line apart.

use super::words::{Failed, refused};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Edit,
    Delete,
    Flush,
    List,
    AddServer,
    EditServer,
    DeleteServer,
    Timeout,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
    Help,
    Version,
}

/// With their short and long options, and the names that errors have.
pub(super) const COMMANDS: [(Command, char, &str, &str); 17] = [
    (Command::Add, 'A', "add-service", "add-service"),
    (Command::Edit, 'E', "edit-service", "edit-service"),
    (Command::Delete, 'D', "delete-service", "delete-service"),
    (Command::Flush, 'C', "clear", "flush"),
    (Command::List, 'L', "list", "list"),
    (Command::List, 'l', "list", "list"),
    (Command::AddServer, 'a', "add-server", "add-server"),
    (Command::EditServer, 'e', "edit-server", "edit-server"),
    (Command::DeleteServer, 'd', "delete-server", "delete-server"),
    (Command::Timeout, '\0', "set", "set"),
    (Command::StartDaemon, '\0', "start-daemon", "start-daemon"),
    (Command::StopDaemon, '\0', "stop-daemon", "stop-daemon"),
    (Command::Restore, 'R', "restore", "restore"),
    (Command::Save, 'S', "save", "save"),
    (Command::Zero, 'Z', "zero", "zero"),
    (Command::Help, 'h', "help", "help"),
    (Command::Version, 'v', "version", "version"),
];

/// What an option is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// The next word, unless it is an option.
    Maybe,
    One,
}

/// The options, each with its short and long name and the name of its group, which errors have.
pub(super) const OPTIONS: [(&str, char, &str, Takes); 41] = [
    ("numeric", 'n', "numeric", Takes::Nothing),
    ("connection", 'c', "connection", Takes::Nothing),
    ("tcp-service", 't', "service-address", Takes::One),
    ("udp-service", 'u', "service-address", Takes::One),
    ("sctp-service", '\0', "service-address", Takes::One),
    ("fwmark-service", 'f', "service-address", Takes::One),
    ("ipv6", '6', "ipv6", Takes::Nothing),
    ("scheduler", 's', "scheduler", Takes::One),
    ("persistent", 'p', "persistent", Takes::Maybe),
    ("netmask", 'M', "netmask", Takes::One),
    ("real-server", 'r', "real-server", Takes::One),
    ("gatewaying", 'g', "forwarding-method", Takes::Nothing),
    ("ipip", 'i', "forwarding-method", Takes::Nothing),
    ("masquerading", 'm', "forwarding-method", Takes::Nothing),
    ("weight", 'w', "weight", Takes::One),
    ("u-threshold", 'x', "u-threshold", Takes::One),
    ("l-threshold", 'y', "l-threshold", Takes::One),
    ("mcast-interface", '\0', "mcast-interface", Takes::One),
    ("timeout", '\0', "timeout", Takes::Nothing),
    ("daemon", '\0', "daemon", Takes::Nothing),
    ("stats", '\0', "stats", Takes::Nothing),
    ("rate", '\0', "rate", Takes::Nothing),
    ("thresholds", '\0', "thresholds", Takes::Nothing),
    ("persistent-conn", '\0', "persistent-conn", Takes::Nothing),
    ("nosort", '\0', "nosort", Takes::Nothing),
    ("sort", '\0', "sort", Takes::Nothing),
    ("exact", 'X', "exact", Takes::Nothing),
    ("ops", 'o', "ops", Takes::Nothing),
    ("pe", '\0', "pe", Takes::One),
    ("sched-flags", 'b', "sched-flags", Takes::One),
    ("syncid", '\0', "syncid", Takes::One),
    ("sync-maxlen", '\0', "sync-maxlen", Takes::One),
    ("mcast-group", '\0', "mcast-group", Takes::One),
    ("mcast-port", '\0', "mcast-port", Takes::One),
    ("mcast-ttl", '\0', "mcast-ttl", Takes::One),
    ("tun-type", '\0', "tun-type", Takes::One),
    ("tun-port", '\0', "tun-port", Takes::One),
    ("tun-nocsum", '\0', "tun-nocsum", Takes::Nothing),
    ("tun-csum", '\0', "tun-csum", Takes::Nothing),
    ("tun-remcsum", '\0', "tun-remcsum", Takes::Nothing),
    ("tun-info", '\0', "tun-info", Takes::Nothing),
];

/// The groups that a command takes (`commands_v_options`); one with a mark has to be there.
pub(super) const fn taken(command: Command) -> &'static [&'static str] {
    match command {
        Command::Add | Command::Edit => &[
            "service-address!",
            "ipv6",
            "scheduler",
            "persistent",
            "netmask",
            "ops",
            "pe",
            "sched-flags",
        ],
        Command::Delete => &["service-address!", "ipv6"],
        Command::AddServer | Command::EditServer => &[
            "service-address!",
            "ipv6",
            "real-server!",
            "forwarding-method",
            "weight",
            "u-threshold",
            "l-threshold",
            "tun-type",
            "tun-port",
            "tun-nocsum",
            "tun-csum",
            "tun-remcsum",
        ],
        Command::DeleteServer => &["service-address!", "ipv6", "real-server!"],
        Command::List => &[
            "numeric",
            "connection",
            "service-address",
            "ipv6",
            "timeout",
            "daemon",
            "stats",
            "rate",
            "thresholds",
            "persistent-conn",
            "nosort",
            "sort",
            "exact",
            "tun-info",
        ],
        Command::Save => &["numeric", "sort", "nosort"],
        Command::Zero => &["service-address", "ipv6"],
        Command::StartDaemon => &[
            "mcast-interface",
            "syncid",
            "sync-maxlen",
            "mcast-group",
            "mcast-port",
            "mcast-ttl",
        ],
        Command::Flush
        | Command::Timeout
        | Command::StopDaemon
        | Command::Restore
        | Command::Help
        | Command::Version => &[],
    }
}

/// Of these a list has one at most.
pub(super) const EXCLUSIVE: [&str; 4] = ["connection", "service-address", "timeout", "daemon"];

/// An option as it was given.
pub(super) struct Given {
    pub written: String,
    /// Of a short one.
    short: Option<char>,
    long: String,
    pub value: Option<String>,
}

impl Given {
    pub(super) fn is(&self, short: char, long: &str) -> bool {
        match self.short {
            Some(given) => given == short,
            None => self.long == long,
        }
    }
}

/// Takes options and other words apart, as popt does.
pub(super) fn split(words: &[String]) -> Result<(Vec<Given>, Vec<String>), Failed> {
    let (mut options, mut others) = (Vec::new(), Vec::new());
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        if word == "--" {
            others.extend(words.by_ref().cloned());
            break;
        }
        let next_of = |words: &mut std::iter::Peekable<std::slice::Iter<String>>, takes| match takes
        {
            Takes::Nothing => None,
            Takes::Maybe => words.next_if(|next| !next.starts_with('-')).cloned(),
            Takes::One => words.next().cloned(),
        };
        let check = |given: &Given, takes| match (&given.value, takes) {
            (None, Takes::One) => Err(refused(format!("{}: missing argument", given.written))),
            _ => Ok(()),
        };
        if let Some(long) = word.strip_prefix("--") {
            let (name, attached) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let takes = takes_of(None, name);
            let takes = takes.ok_or_else(|| refused(format!("{word}: unknown option")))?;
            let given = Given {
                written: word.clone(),
                short: None,
                long: name.to_owned(),
                value: attached.or_else(|| next_of(&mut words, takes)),
            };
            check(&given, takes)?;
            options.push(given);
        } else if let Some(bundle) = word.strip_prefix('-').filter(|it| !it.is_empty()) {
            let mut letters = bundle.char_indices();
            while let Some((at, letter)) = letters.next() {
                let written = format!("-{letter}");
                let takes = takes_of(Some(letter), "");
                let takes = takes.ok_or_else(|| refused(format!("{written}: unknown option")))?;
                let attached = &bundle[at + letter.len_utf8()..];
                let value = match takes {
                    Takes::Nothing => None,
                    _ if !attached.is_empty() => {
                        letters = "".char_indices();
                        let attached = attached.strip_prefix('=').unwrap_or(attached);
                        Some(attached.to_owned())
                    }
                    takes => next_of(&mut words, takes),
                };
                let given = Given {
                    written,
                    short: Some(letter),
                    long: String::new(),
                    value,
                };
                check(&given, takes)?;
                options.push(given);
            }
        } else {
            others.push(word.clone());
        }
    }
    Ok((options, others))
}

fn takes_of(short: Option<char>, long: &str) -> Option<Takes> {
    let is = |(known, name): (char, &str)| match short {
        Some(short) => short == known && known != '\0',
        None => name == long,
    };
    let option = OPTIONS
        .iter()
        .find(|(name, letter, ..)| is((*letter, name)));
    let command = COMMANDS
        .iter()
        .find(|(_, letter, name, _)| is((*letter, name)));
    option
        .map(|(.., takes)| *takes)
        .or(command.map(|_| Takes::Nothing))
}

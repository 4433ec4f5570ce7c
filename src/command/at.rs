//! Where a running daemon is, and what it takes to be let in.

use super::client::Error;
use crate::api::listen::{connect, reachable};
use crate::api::tls;
use crate::api::tokens::{NoTokens, Tokens};
use crate::config::{self, Api, Listen};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

/// Where the daemon's API is.
#[derive(Debug, clap::Args)]
pub(crate) struct At {
    // Not a doc comment: rustdoc would take `[api]` for a link.
    #[arg(
        long,
        visible_alias = "url",
        env = "WEIR_API",
        value_name = "ADDR",
        help = "The daemon's [api] control or listen: unix:/path, an address and port, or https://NAME:PORT; default: the \
                control socket, else 127.0.0.1:9900"
    )]
    pub api: Option<Address>,
    /// The daemon's configuration file: asks the control socket that it names, whatever else is wrong in it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    own: Own,
}

/// What an address that is named gets of the client's own.
#[derive(Clone, Debug, Default, clap::Args)]
struct Own {
    /// A PEM file of certificates that sign the daemon's; default: those that this machine trusts
    #[arg(long, env = "WEIR_CA", value_name = "FILE", hide_short_help = true)]
    ca: Option<PathBuf>,
    /// The client's own certificate, where the daemon wants one (client_ca), and those behind it, as a PEM file
    #[arg(
        long,
        env = "WEIR_CERT",
        value_name = "FILE",
        requires = "key",
        hide_short_help = true
    )]
    cert: Option<PathBuf>,
    /// The key of --cert, as a PEM file
    #[arg(
        long,
        env = "WEIR_KEY",
        value_name = "FILE",
        requires = "cert",
        hide_short_help = true
    )]
    key: Option<PathBuf>,
    /// A file with the token for a TCP address; WEIR_TOKEN may be the token itself
    #[arg(
        long,
        env = "WEIR_TOKEN_FILE",
        value_name = "FILE",
        hide_short_help = true
    )]
    token_file: Option<PathBuf>,
}

impl At {
    /// The daemon's address: of `--config`, else of `--api` or `WEIR_API`, else where a weir is by default.
    pub(super) fn address(&self) -> Result<Address, Error> {
        if let Some(file) = &self.config {
            let address = of_file(file)?;
            // Its certificate proves who it is.
            if matches!(address, Address::Https(..)) {
                let _ = OWN.set(self.own.clone());
            }
            return Ok(address);
        }
        if self.api.is_some() {
            // A command asks one daemon.
            let _ = OWN.set(self.own.clone());
        }
        Ok(self.api.clone().unwrap_or_else(Address::found))
    }

    /// The same for a command that is given a configuration, whose control socket is asked unless another daemon is named.
    pub(super) fn address_for(&self, file: &Path) -> Result<Address, Error> {
        match (&self.config, &self.api) {
            (None, None) => of_file(file),
            _ => self.address(),
        }
    }
}

/// Where a configuration says that changes are taken; what it does not say is as by default.
fn of_file(file: &Path) -> Result<Address, Error> {
    let api = config::api(file)
        .map_err(|wrong| Error::Refused(wrong.to_string().trim_end().to_owned()))?;
    match (api.control, api.listen) {
        (Some(_), _) if api.control_is_default => Ok(Address::found()),
        (Some(path), _) | (None, Listen::Unix(path)) => Ok(Address::Unix(path)),
        (None, Listen::Tcp(address)) => Ok(match api.tls {
            None => Address::Tcp(reachable(address)),
            Some(_) => {
                let address = reachable(address);
                Address::Https(address.ip().to_string(), address.port())
            }
        }),
        (None, Listen::Off) => Err(Error::Refused(format!(
            "{}: [api] has neither a `control` socket nor `listen`: such a weir takes SIGHUP only",
            file.display()
        ))),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A name or an address without brackets, and a port.
    Https(String, u16),
}

impl Default for Address {
    /// The default of `[api] listen`.
    fn default() -> Self {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 9900)))
    }
}

impl Address {
    /// The default of `[api] control` where a weir of this network namespace answers there, else that of `listen`: a
    /// namespace has its own 127.0.0.1, and all of them have one /run.
    pub(super) fn found() -> Address {
        let control = PathBuf::from(Api::CONTROL);
        let answers = match connect(&control) {
            Ok(stream) => !is_of_another_namespace(&stream),
            // A weir listens there, and its queue of connections is full.
            Err(why) => why.kind() == io::ErrorKind::WouldBlock,
        };
        match answers {
            true => Address::Unix(control),
            false => Address::default(),
        }
    }

    /// As the header `host` says it.
    pub(super) fn host(&self) -> String {
        match self {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
            Address::Https(host, port) => match host.parse() {
                Ok(address) => SocketAddr::new(address, *port).to_string(),
                Err(_) => format!("{host}:{port}"),
            },
        }
    }
}

/// Whether the process at the other end is known to be in another network namespace.
fn is_of_another_namespace(stream: &std::os::unix::net::UnixStream) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(stream) else {
        return false;
    };
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
    let theirs = namespace(&peer.pid.as_raw_nonzero().to_string());
    matches!((namespace("self"), theirs), (Ok(here), Ok(there)) if here != there)
}

/// Of a command whose `--api` or `WEIR_API` gave the daemon's address, or whose `--config` one of TLS: what that daemon gets of
/// the client's own.
static OWN: OnceLock<Own> = OnceLock::new();

/// The token in WEIR_TOKEN, or in the file that `--token-file` or WEIR_TOKEN_FILE names. It goes only to a TCP address that
/// `--api` or `WEIR_API` gave, or by TLS: while weir is down, any local user can listen on the default address and would get it.
pub(super) fn token(address: &Address) -> Result<Option<String>, Error> {
    let Some(own) = OWN.get().filter(|_| !matches!(address, Address::Unix(_))) else {
        return Ok(None);
    };
    if let Some(token) = std::env::var_os("WEIR_TOKEN").filter(|token| !token.is_empty()) {
        let token = token.into_string();
        return token
            .map(Some)
            .map_err(|_| Error::Refused("WEIR_TOKEN is no text".to_owned()));
    }
    let Some(file) = &own.token_file else {
        return Ok(None);
    };
    let wrong =
        |why: &dyn fmt::Display| Error::Refused(format!("token file {}: {why}", file.display()));
    let (tokens, _) = Tokens::read(file).map_err(|why: NoTokens| wrong(&why))?;
    let only = tokens.only();
    only.map(Some)
        .ok_or_else(|| wrong(&"it has several tokens: a client's own file has one"))
}

/// What TLS connections are made with.
pub(super) fn tls() -> Result<Arc<rustls::ClientConfig>, Error> {
    let own = OWN.get().cloned().unwrap_or_default();
    let pair = own.cert.as_deref().zip(own.key.as_deref());
    let config = tls::client(own.ca.as_deref(), pair);
    config.map(Arc::new).map_err(Error::Refused)
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "use 127.0.0.1:9900, https://NAME:PORT or unix:/run/weir/weir.sock";
        let plain = text.strip_prefix("http://").unwrap_or(text);
        match (text.strip_prefix("unix:"), text.strip_prefix("https://")) {
            (Some(""), _) => Err("unix: needs a path behind it"),
            (Some(path), _) => Ok(Address::Unix(path.into())),
            (None, Some(place)) => secure_place(place).ok_or(WANTED),
            (None, None) => {
                let place = plain.strip_suffix('/').unwrap_or(plain);
                place.parse().map(Address::Tcp).map_err(|_| WANTED)
            }
        }
    }
}

/// `lb1.example.org:9900`, `[2001:db8::1]:9900`, `192.0.2.1:9900`; without a port: weir's.
fn secure_place(place: &str) -> Option<Address> {
    const PORT: u16 = 9900;
    let place = place.strip_suffix('/').unwrap_or(place);
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (place, PORT),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_right = match bare {
        Some(host) => host.parse::<IpAddr>().is_ok_and(|it| it.is_ipv6()),
        None => !host.contains([':', '/', '@', '[']),
    };
    let host = bare.unwrap_or(host);
    (is_right && !host.is_empty()).then(|| Address::Https(host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Https(..) => write!(f, "https://{}", self.host()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in [
            "127.0.0.1:9900",
            "[::1]:9900",
            "unix:/run/weir/weir.sock",
            "https://lb1.example.org:9900",
            "https://[2001:db8::1]:443",
            "https://192.0.2.1:9900",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for (text, written) in [
            ("http://127.0.0.1:9900/", "127.0.0.1:9900"),
            ("https://lb1/", "https://lb1:9900"),
            ("https://[::1]", "https://[::1]:9900"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), written);
        }
        for text in [
            "",
            "9900",
            "localhost:9900",
            "unix:",
            "/run/weir.sock",
            "https://",
            "https://:9900",
            "https://lb1:port",
            "https://lb1/v1",
            "https://user@lb1",
            "https://::1:9900",
            "https://[lb1]:9900",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert_eq!(Address::default().to_string(), "127.0.0.1:9900");
    }
}

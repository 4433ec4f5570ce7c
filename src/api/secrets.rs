//! The files that `[api]` names, tokens and certificates: looked at by `weir check` and at the start, and again at each reload,
//! which one that cannot be used refuses.

use super::tls::{self, Wrong};
use super::tokens::{NoTokens, Tokens};
use crate::config::{Api, Diagnostic, Diagnostics, Loaded, Severity};
use parking_lot::RwLock;
use rustls::ServerConfig;
use std::sync::Arc;

/// What TLS connections are taken with from now on.
pub(crate) type Tls = Arc<RwLock<Arc<ServerConfig>>>;

/// The files of a daemon, which cannot come to be others while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    api: Api,
    tls: Option<Tls>,
}

/// What was found in the files.
#[derive(Default)]
pub(crate) struct Found {
    tls: Option<ServerConfig>,
    wrongs: Vec<Wrong>,
    doubts: Vec<Wrong>,
}

fn look(api: &Api) -> Found {
    let mut found = Found::default();
    if let Some(file) = &api.token_file {
        match Tokens::read(file) {
            Ok((_, doubt)) => found.doubts.extend(doubt.map(|why| Wrong {
                key: "token_file",
                why,
                help: "tokens are secrets",
                is_denied: false,
            })),
            Err(NoTokens::Unreadable(why)) => {
                found.wrongs.push(Wrong::unreadable("token_file", &why));
            }
            Err(why) => found.wrongs.push(Wrong {
                key: "token_file",
                why: why.to_string(),
                help: "a line for each token: name:read:TOKEN or name:write:TOKEN",
                is_denied: false,
            }),
        }
    }
    if let Some(files) = &api.tls {
        match tls::server(files) {
            Ok((config, doubts)) => {
                found.tls = Some(config);
                found.doubts.extend(doubts);
            }
            Err(wrongs) => found.wrongs.extend(wrongs),
        }
    }
    found
}

/// What is wrong with the files of a configuration that was read on this machine, at the lines that name them. A file that
/// this user may not read is only doubtful: the daemon is another.
pub(crate) fn check(loaded: &Loaded) -> Diagnostics {
    let found = look(&loaded.config.api);
    let wrongs = found.wrongs.iter().map(|wrong| match wrong.is_denied {
        true => (wrong, Severity::Warning),
        false => (wrong, Severity::Error),
    });
    let doubts = found.doubts.iter().map(|doubt| (doubt, Severity::Warning));
    let told = wrongs.chain(doubts);
    told.map(|(wrong, severity)| at_key(loaded, wrong, severity))
        .collect()
}

fn at_key(loaded: &Loaded, wrong: &Wrong, severity: Severity) -> Diagnostic {
    let mut places = loaded.api_files.iter();
    let place = places.find(|(key, _)| *key == wrong.key);
    let place = place.map(|(_, place)| place.clone()).unwrap_or_default();
    let message = format!("`{}`: {}", wrong.key, wrong.why);
    place.saying(severity, message).helping(wrong.help)
}

impl Secrets {
    /// Reads every file for the first time.
    ///
    /// # Errors
    /// What is wrong with them, at their lines.
    pub(crate) fn start(loaded: &Loaded) -> Result<(Secrets, Diagnostics), Diagnostics> {
        let api = loaded.config.api.clone();
        let found = look(&api);
        let told = |wrongs: &[Wrong], severity| -> Diagnostics {
            let wrongs = wrongs.iter();
            wrongs.map(|it| at_key(loaded, it, severity)).collect()
        };
        if !found.wrongs.is_empty() {
            return Err(told(&found.wrongs, Severity::Error));
        }
        let doubts = told(&found.doubts, Severity::Warning);
        let tls = found.tls.map(|tls| Arc::new(RwLock::new(Arc::new(tls))));
        Ok((Secrets { api, tls }, doubts))
    }

    /// Of TCP connections; none: they are without TLS.
    pub(crate) fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// Reads the files again, and changes nothing yet.
    ///
    /// # Errors
    /// What is wrong with the first of them that cannot be used.
    pub(crate) fn read(&self) -> Result<Found, String> {
        let found = look(&self.api);
        match found.wrongs.first() {
            Some(Wrong { key, why, help, .. }) => Err(format!("[api] {key}: {why}; {help}")),
            None => Ok(found),
        }
    }

    /// Connections that come from now on are taken with what was found.
    pub(crate) fn use_from_now(&self, found: Found) {
        for Wrong { key, why, help, .. } in &found.doubts {
            tracing::warn!("[api] {key}: {why}; {help}");
        }
        if let (Some(tls), Some(found)) = (&self.tls, found.tls) {
            *tls.write() = Arc::new(found);
        }
    }
}

//! The tokens of `token_file`: who has one, and whether it is for changes too.
//!
//! One line a token, `name:read:TOKEN` or `name:write:TOKEN`; or nothing but a token, which is for everything.

use crate::config;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// The shortest token that takes too long to guess.
const SHORTEST: usize = 16;
/// Bytes of the file.
const LONGEST: u64 = 64 << 10;
/// Bytes of a token's name.
const LONGEST_NAME: usize = 64;
/// The name of a token that has none.
const UNNAMED: &str = "token";
const WORDS: [&str; 2] = ["read", "write"];

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub name: Arc<str>,
    /// It is for reading and changes, not for reading alone.
    pub may_change: bool,
}

/// Every token of a file. Debug output has no secret.
pub(crate) struct Tokens(Vec<(Token, String)>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.0.iter().map(|(token, _)| token);
        f.debug_list().entries(tokens).finish()
    }
}

/// Why a file has no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTokens {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("line {line}: {why}")]
    Wrong { line: usize, why: String },
    #[error(
        "there is no token in it: write a line `name:read:TOKEN` or `name:write:TOKEN` for each"
    )]
    Empty,
}

impl Tokens {
    /// The tokens of a file, and what is doubtful about it.
    ///
    /// # Errors
    /// If the file cannot be read, or any line of it is no token that is worth the name.
    pub(crate) fn read(file: &Path) -> Result<(Tokens, Option<String>), NoTokens> {
        let (bytes, about) = config::read_file(file, LONGEST)?;
        let text = String::from_utf8(bytes).map_err(|_| NoTokens::Wrong {
            line: 1,
            why: "the file is not UTF-8 text".to_owned(),
        })?;
        let mode = about.permissions().mode() & 0o777;
        let doubt = (mode & 0o007 != 0).then(|| {
            format!("every user of this machine may open it (mode {mode:04o}): chmod 0640 it")
        });
        Ok((Tokens::parse(&text)?, doubt))
    }

    fn parse(text: &str) -> Result<Tokens, NoTokens> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let lines: Vec<(usize, &str)> = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .collect();
        let mut tokens = Tokens(Vec::new());
        for &(line, text) in &lines {
            let added = token(text, lines.len() == 1).and_then(|found| tokens.add(found));
            added.map_err(|why| NoTokens::Wrong { line, why })?;
        }
        match tokens.0.is_empty() {
            true => Err(NoTokens::Empty),
            false => Ok(tokens),
        }
    }

    fn add(&mut self, (token, secret): (Token, String)) -> Result<(), String> {
        if self.0.iter().any(|(other, _)| other.name == token.name) {
            return Err(format!("a second token has the name {:?}", token.name));
        }
        if let Some((other, _)) = self.0.iter().find(|(_, other)| *other == secret) {
            return Err(format!("it is the same token as {:?}", other.name));
        }
        self.0.push((token, secret));
        Ok(())
    }

    /// The token that a client has sent. All of them are compared, and each as a whole, so that the time it takes says
    /// nothing of any.
    pub(super) fn find(&self, sent: &str) -> Option<&Token> {
        let mut found = None;
        for (token, secret) in &self.0 {
            if constant_time_eq::constant_time_eq(secret.as_bytes(), sent.as_bytes()) {
                found = Some(token);
            }
        }
        found
    }

    /// The one secret of a client's own file; none: it has several.
    pub(crate) fn only(mut self) -> Option<String> {
        match self.0.len() {
            1 => self.0.pop().map(|(_, secret)| secret),
            _ => None,
        }
    }
}

/// One line. A line alone may be nothing but a token.
fn token(line: &str, is_alone: bool) -> Result<(Token, String), String> {
    let mut parts = line.splitn(3, ':');
    let parts = (parts.next(), parts.next(), parts.next());
    let (name, may_change, secret) = match parts {
        (Some(name), Some("read"), Some(secret)) => (name, false, secret),
        (Some(name), Some("write"), Some(secret)) => (name, true, secret),
        (Some(_), Some(word), Some(_)) if !config::did_you_mean(word, WORDS).is_empty() => {
            let guess = config::did_you_mean(word, WORDS);
            return Err(format!(
                "a token is for `read` or `write`, not for {word:?}{guess}"
            ));
        }
        _ if is_alone => (UNNAMED, true, line),
        _ => {
            return Err("write name:read:TOKEN or name:write:TOKEN".to_owned());
        }
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_plain) {
        return Err(format!(
            "a token's name has 1 to {LONGEST_NAME} letters, digits and `._-@`"
        ));
    }
    let is_printable = secret.bytes().all(|byte| byte.is_ascii_graphic());
    if secret.len() < SHORTEST || !is_printable {
        return Err(format!(
            "a token has at least {SHORTEST} printable characters, and no spaces"
        ));
    }
    let token = Token {
        name: name.into(),
        may_change,
    };
    Ok((token, secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef";
    const B: &str = "fedcba9876543210";

    #[test]
    fn tokens_read_as_they_are_written_and_every_mistake_has_its_line() {
        for (text, expected) in [
            (format!("{A}\n"), Ok(vec![("token", true)])),
            (format!("  {A}\r\n\r\n"), Ok(vec![("token", true)])),
            (format!("# ours\n\n{A}"), Ok(vec![("token", true)])),
            // As it was taken before there were names.
            (format!("{A}:{B}"), Ok(vec![("token", true)])),
            (
                format!("grafana:read:{A}\n# the deployment\nci.main:write:{B}:x\n"),
                Ok(vec![("grafana", false), ("ci.main", true)]),
            ),
            (String::new(), Err("there is no token")),
            ("# none\n".to_owned(), Err("there is no token")),
            ("short".to_owned(), Err("line 1: a token has at least 16")),
            ("0123456789abcde".to_owned(), Err("line 1: a token has")),
            ("0123456789 abcdef".to_owned(), Err("line 1: a token has")),
            ("0123456789äbcdefg".to_owned(), Err("line 1: a token has")),
            (format!("{A}\n{B}"), Err("line 1: write name:read:TOKEN")),
            (format!("a:read:{A}\n{B}"), Err("line 2: write name:read:")),
            (
                format!("a:read:{A}\nb:write:short"),
                Err("line 2: a token has"),
            ),
            (
                format!("ci:wirte:{A}"),
                Err(
                    "line 1: a token is for `read` or `write`, not for \"wirte\"; did you mean `write`?",
                ),
            ),
            (format!(":read:{A}"), Err("line 1: a token's name")),
            (format!("a b:read:{A}"), Err("line 1: a token's name")),
            (
                format!("{}:read:{A}", "n".repeat(65)),
                Err("line 1: a token's name"),
            ),
            (
                format!("a:read:{A}\na:write:{B}"),
                Err("line 2: a second token has the name \"a\""),
            ),
            (
                format!("a:read:{A}\nb:write:{A}"),
                Err("line 2: it is the same token as \"a\""),
            ),
        ] {
            let found = Tokens::parse(&text);
            let found = found.as_ref().map(|tokens| {
                let tokens = tokens
                    .0
                    .iter()
                    .map(|(token, _)| (&*token.name, token.may_change));
                tokens.collect::<Vec<_>>()
            });
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text:?}"),
                (Err(why), Err(part)) => {
                    let why = why.to_string();
                    assert!(why.starts_with(part), "{text:?}: {why}");
                    assert!(!why.contains(A), "no secret is in a message: {why}");
                }
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_token_is_found_by_all_of_its_characters_alone() {
        let tokens = Tokens::parse(&format!("a:read:{A}\nb:write:{B}")).unwrap();
        assert_eq!(tokens.find(A).unwrap().name.as_ref(), "a");
        assert!(tokens.find(B).unwrap().may_change);
        for wrong in [
            "",
            "a",
            &A[1..],
            &format!("{A}0"),
            &A.to_uppercase(),
            "a:read:0123456789abcdef",
        ] {
            assert_eq!(tokens.find(wrong), None, "{wrong}");
        }
        assert!(!format!("{tokens:?}").contains(A));
        assert_eq!(tokens.only(), None);
        assert_eq!(Tokens::parse(A).unwrap().only().as_deref(), Some(A));
    }

    #[test]
    fn a_file_that_everyone_may_open_is_doubted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, A).unwrap();
        for (mode, is_doubtful) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let (_, doubt) = Tokens::read(&file).unwrap();
            assert_eq!(doubt.is_some(), is_doubtful, "{mode:o}");
        }
        assert!(Tokens::read(folder.path()).is_err());
        assert!(Tokens::read(&folder.path().join("none")).is_err());
    }
}

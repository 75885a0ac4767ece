//! Takes secrets out of texts that leave the machine: those that are known here, and whatever looks
//! like one.

use crate::config::env::{TABLE, Variable};
use crate::secret::Secret;

/// Stands for a secret.
pub(super) const REDACTED: &str = "[redacted]";
/// Secrets, and their parts, of fewer bytes are words of any text.
const SHORTEST: usize = 4;
/// Parts of a secret between dots, of fewer bytes, say nothing of it.
const SHORTEST_PART: usize = 8;
/// How a JSON web token begins: `{"` in base64.
const JWT: &str = "eyJ";
/// Fewer characters are no JSON web token.
const SHORTEST_JWT: usize = 20;
const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_PRIVATE: &str = "PRIVATE KEY-----";
const PEM_END: &str = "-----END ";
const DASHES: &str = "-----";
/// What stands before a secret in a header, in lower case.
const SCHEMES: [&str; 2] = ["bearer ", "basic "];

/// Knows the secrets of this machine.
#[derive(Debug, Default)]
pub(super) struct Redaction {
    /// The longest first, so that a part of one does not keep the rest from being found.
    secrets: Vec<Secret>,
    /// What a secret follows: the names of variables, and flags.
    names: Vec<String>,
}

impl Redaction {
    /// One that knows `secrets`, each of which may hold several lines or parts.
    pub(super) fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut all = Vec::new();
        for secret in secrets {
            let text = secret.expose().trim();
            for line in text.lines().map(str::trim) {
                let parts = line
                    .split(['.', ':', '='])
                    .filter(|part| part.len() >= SHORTEST_PART);
                all.extend(parts.map(Secret::new));
                if line.len() >= SHORTEST {
                    all.push(Secret::new(line));
                }
            }
        }
        all.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        let is_secret = |known: &&&Variable| known.secret;
        let names = TABLE.iter().filter(is_secret).flat_map(|known| {
            let flags = known.flags.iter().filter(|flag| !flag.reads_file);
            let flags = flags.map(|flag| flag.name.to_owned());
            let keys = known.names().map(str::to_owned);
            keys.chain(flags)
        });
        Self {
            secrets: all,
            names: names.filter(|name| !name.is_empty()).collect(),
        }
    }

    /// `text` without them.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut text = private_keys(text);
        for secret in &self.secrets {
            if text.contains(secret.expose()) {
                text = text.replace(secret.expose(), REDACTED);
            }
        }
        let mut lines = Vec::new();
        for line in text.split('\n') {
            lines.push(credentials_of_urls(&web_tokens(&headers(
                &self.named(line),
            ))));
        }
        lines.join("\n")
    }

    /// `line` without the values of secret settings, as `NAME=value` or `--flag value`.
    fn named(&self, line: &str) -> String {
        let mut out = line.to_owned();
        for name in self
            .names
            .iter()
            .filter(|name| line.contains(name.as_str()))
        {
            out = after(&out, name, |rest| {
                rest.starts_with('=') || (name.starts_with('-') && rest.starts_with(' '))
            });
        }
        out
    }
}

/// Replaces the word after each `mark` in `line`, where `is_one` says so of what follows.
fn after(line: &str, mark: &str, is_one: impl Fn(&str) -> bool) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = find(rest, mark) {
        let end = at + mark.len();
        let (before, tail) = rest.split_at(end);
        let is_word = !before
            .get(..at)
            .is_some_and(|text| text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        out.push_str(before);
        rest = tail;
        if !is_word || !is_one(tail) {
            continue;
        }
        let value = tail.trim_start_matches([' ', '=', ':', '"', '\'']);
        let skipped = tail.len() - value.len();
        out.push_str(tail.get(..skipped).unwrap_or_default());
        let length = value.find(is_end_of_word).unwrap_or(value.len());
        let is_shown = length == 0 || value.starts_with('<') || value.starts_with(REDACTED);
        if !is_shown {
            out.push_str(REDACTED);
        }
        rest = match is_shown {
            true => value,
            false => value.get(length..).unwrap_or_default(),
        };
    }
    out.push_str(rest);
    out
}

/// Where `mark` is in `text`, in whichever case.
fn find(text: &str, mark: &str) -> Option<usize> {
    let text = text.as_bytes();
    let mut windows = text.windows(mark.len());
    windows.position(|window| window.eq_ignore_ascii_case(mark.as_bytes()))
}

fn is_end_of_word(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '"' | '\'' | ',' | ';' | '\\' | '`' | '<' | '>' | ')' | '}'
        )
}

/// `text` without what is between the lines of private keys in PEM form.
fn private_keys(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find(PEM_BEGIN) {
        let (before, block) = rest.split_at(begin);
        out.push_str(before);
        let label = block.get(PEM_BEGIN.len()..).unwrap_or_default();
        let label_end = label
            .find(DASHES)
            .map(|at| at + PEM_BEGIN.len() + DASHES.len());
        let head = block
            .get(..label_end.unwrap_or(block.len()))
            .unwrap_or_default();
        out.push_str(head);
        rest = block.get(head.len()..).unwrap_or_default();
        if head.ends_with(PEM_PRIVATE) {
            out.push_str(REDACTED);
            // One that is cut off is a secret to its end.
            rest = rest
                .find(PEM_END)
                .and_then(|end| rest.get(end..))
                .unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

/// `line` without the credentials of an `Authorization` or `Proxy-Authorization`.
fn headers(line: &str) -> String {
    let line = after(line, "authorization", |rest| {
        let value = rest.trim_start_matches([' ', '=', ':', '"', '\'']);
        let is_scheme = SCHEMES.iter().any(|scheme| find(value, scheme) == Some(0));
        !is_scheme && rest.starts_with([':', '=', '"'])
    });
    SCHEMES.iter().fold(line, |line, scheme| {
        after(&line, scheme, |rest| {
            // "basic authentication" in a sentence is none.
            let word = rest.split(is_end_of_word).next().unwrap_or_default();
            let is_word = word.chars().all(|c| c.is_ascii_lowercase() || c == '.');
            word.len() >= SHORTEST_PART && !is_word
        })
    })
}

/// `line` without what looks like a JSON web token.
fn web_tokens(line: &str) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(JWT) {
        let (before, token) = rest.split_at(at);
        out.push_str(before);
        let length = token.find(|c| !is_token(c)).unwrap_or(token.len());
        let (token, tail) = token.split_at(length);
        let is_secret = token.len() >= SHORTEST_JWT || token.contains('.');
        out.push_str(if is_secret { REDACTED } else { token });
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// `line` without user names and passwords in URLs.
fn credentials_of_urls(line: &str) -> String {
    const SCHEME: &str = "://";
    /// In advice.
    const EXAMPLE: &str = "USER:PASSWORD";
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(SCHEME) {
        let (before, url) = rest.split_at(at + SCHEME.len());
        out.push_str(before);
        let end = url.find(|c: char| is_end_of_word(c) || matches!(c, '/' | '?' | '#'));
        let (authority, tail) = url.split_at(end.unwrap_or(url.len()));
        match authority.rsplit_once('@') {
            Some((user, host)) if user != EXAMPLE => {
                out.push_str(REDACTED);
                out.push('@');
                out.push_str(host);
            }
            Some(_) | None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::{REDACTED, Redaction};
    use crate::secret::Secret;

    const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\naC1rZXk=\n-----END OPENSSH PRIVATE KEY-----\n";

    fn apply(secrets: &[&str], text: &str) -> String {
        Redaction::new(secrets.iter().map(|text| Secret::new(*text))).apply(text)
    }

    #[test]
    fn known_secrets_and_their_parts_go() {
        let secrets = [
            "st.first-part.second-part",
            "name=one-header\nother=two-header",
        ];
        let text = "a st.first-part.second-part b second-part c two-header d";
        let expected = "a [redacted] b [redacted] c [redacted] d";
        assert_eq!(apply(&secrets, text), expected);
        assert_eq!(apply(&["abc"], "abc"), "abc", "too short to be one");
    }

    #[test]
    fn private_keys_go_whole() {
        let text = apply(&[], &format!("a\n{KEY}b\n"));
        assert!(!text.contains("b3Blbn") && !text.contains("aC1r"), "{text}");
        assert!(
            text.starts_with("a\n-----BEGIN") && text.ends_with("KEY-----\nb\n"),
            "{text}"
        );
        let cut = KEY.split("-----END").next().expect("a begin");
        assert!(!apply(&[], cut).contains("b3Blbn"));
        let json = serde_json::json!({ "k": KEY }).to_string();
        let json: serde_json::Value = serde_json::from_str(&apply(&[], &json)).expect("JSON");
        assert!(!json.to_string().contains("b3Blbn"), "{json}");
        let public = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert_eq!(apply(&[], public), public);
    }

    #[test]
    fn what_looks_like_a_secret_goes() {
        for (text, expected) in [
            (
                "Authorization: Bearer Abcdefgh1, x",
                "Authorization: Bearer [redacted], x",
            ),
            (
                "proxy-authorization=Basic dXNlcjpwYXNz",
                "proxy-authorization=Basic [redacted]",
            ),
            (
                "\"authorization\":\"opaque\",\"a\":1",
                "\"authorization\":\"[redacted]\",\"a\":1",
            ),
            ("the bearer token of it", "the bearer token of it"),
            (
                "basic authentication, token: wrong",
                "basic authentication, token: wrong",
            ),
            (
                "http://USER:PASSWORD@HOST:PORT",
                "http://USER:PASSWORD@HOST:PORT",
            ),
            (
                "t eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.sig-_1 u",
                "t [redacted] u",
            ),
            (
                "via http://user:p%40ss@proxy:3128/ now",
                "via http://[redacted]@proxy:3128/ now",
            ),
            ("http://proxy:3128/@x", "http://proxy:3128/@x"),
            ("http://USER:PASSWORD@HOST", "http://USER:PASSWORD@HOST"),
            (
                "Environment=INFISICAL_TOKEN=abc X=1",
                "Environment=INFISICAL_TOKEN=[redacted] X=1",
            ),
            (
                "start edge --token abc --domain d",
                "start edge --token [redacted] --domain d",
            ),
            (
                "--token=abc --token-file f",
                "--token=[redacted] --token-file f",
            ),
            (
                "INFISICAL_TOKEN=<secret> (environment)",
                "INFISICAL_TOKEN=<secret> (environment)",
            ),
            (
                "INFISICAL_TOKEN_2 is no such name",
                "INFISICAL_TOKEN_2 is no such name",
            ),
        ] {
            assert_eq!(apply(&[], text), expected);
        }
        assert_eq!(REDACTED, "[redacted]");
    }
}

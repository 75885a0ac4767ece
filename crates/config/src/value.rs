//! Checks of text values that are the same whatever a value comes from: a flag, a variable, a file,
//! standard input or a credential.
//!
//! [`clean`] removes what editors, shells and mounted secrets leave around a value.
//! [`Kind::check`] then refuses what can never be right. An error says what is wrong and never
//! contains the value; its caller names the source.

use std::path::{Component, Path};

use super::table::Kind;

/// Some editors begin a file with it.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Longest value, in bytes: an access token is a JSON web token of a few KiB.
pub(crate) const MAX_SIZE: usize = 64 << 10;

/// Why a value can never be right; the value is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidValue {
    #[error("the value is empty")]
    Empty,
    #[error("the value is longer than {MAX_SIZE} bytes")]
    TooLong,
    #[error("the value has several lines; give only one")]
    Lines,
    #[error("the value holds a control character or an invisible one; type it again")]
    Control,
    #[error("the value holds white space; it must be one word")]
    WhiteSpace,
    #[error("the value ends with a comment (`# …`); put the comment on a line of its own")]
    Comment,
    #[error("the value holds a character that is not ASCII; copy it again from where it is shown")]
    NotAscii,
    #[error("the value begins with \"Bearer\"; give the token alone")]
    Bearer,
    #[error("the value is a whole KEY=value line; give only the part after the equals sign")]
    Assignment,
    #[error("the value is JSON; give only the token in it")]
    Json,
    #[error("the value is in quotes; remove them, they are not removed here")]
    Quotes,
    #[error(
        "the value holds a variable that was not replaced (such as ${{NAME}}); give the value itself"
    )]
    Template,
    #[error("the value is a placeholder (`<…>`); give the value itself")]
    Placeholder,
    #[error("the path begins with '~', which only a shell replaces; give the whole path")]
    Tilde,
    #[error("the value is not a JSON web token, which has three parts with dots between them")]
    NotAJwt,
}

/// `text` without a byte order mark, white space and line breaks around it.
#[must_use]
pub fn clean(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == BYTE_ORDER_MARK)
}

/// `path`, as it is typed in `directory`, for a program that runs elsewhere. What can be no path is
/// left as it is, to be refused as it was given.
pub(super) fn absolute_path(directory: &Path, path: &str) -> String {
    let given = Path::new(path);
    if given.is_absolute() || path == "-" || Kind::Path.check(path).is_err() {
        return path.to_owned();
    }
    let mut absolute = directory.to_owned();
    let mut rest = given.components().peekable();
    // Only those at the beginning: behind a link, `..` is another directory than it seems.
    while let Some(part) = rest.next_if(|p| matches!(p, Component::CurDir | Component::ParentDir)) {
        if part == Component::ParentDir {
            absolute.pop();
        }
    }
    absolute.extend(rest);
    absolute.display().to_string()
}

impl Kind {
    /// Checks `text`, which is [`clean`].
    ///
    /// # Errors
    /// [`InvalidValue`] says what is wrong.
    pub fn check(self, text: &str) -> Result<(), InvalidValue> {
        if text.is_empty() {
            return Err(InvalidValue::Empty);
        }
        if text.len() > MAX_SIZE {
            return Err(InvalidValue::TooLong);
        }
        if has_template(text) {
            return Err(InvalidValue::Template);
        }
        match self {
            Self::Secret => check_token(text),
            Self::Jwt => match check_token(text) {
                Ok(()) if !is_jwt(text) => Err(InvalidValue::NotAJwt),
                checked => checked,
            },
            Self::Text(_) | Self::Address | Self::Number | Self::Choice(_) | Self::Switch => {
                check_ascii_word(text)
            }
            Self::Url => check_url(text),
            Self::Name => check_name(text),
            Self::Path => match check_name(text) {
                Ok(()) if text == "~" || text.starts_with("~/") => Err(InvalidValue::Tilde),
                checked => checked,
            },
            // Their parser does the rest.
            Self::Headers | Self::Rules => check_visible(text),
        }
    }
}

fn check_token(text: &str) -> Result<(), InvalidValue> {
    let begins_with = |word: &str| {
        let start = text.get(..word.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    if begins_with("authorization:")
        || (begins_with("bearer") && text.get(6..).is_some_and(|rest| !is_word(rest)))
    {
        return Err(InvalidValue::Bearer);
    }
    if text.starts_with('{') {
        return Err(InvalidValue::Json);
    }
    if is_assignment(text) {
        return Err(InvalidValue::Assignment);
    }
    check_ascii_word(text)
}

fn check_url(text: &str) -> Result<(), InvalidValue> {
    if is_assignment(text) {
        return Err(InvalidValue::Assignment);
    }
    check_word(text)?;
    if text.contains(['<', '>']) {
        return Err(InvalidValue::Placeholder);
    }
    Ok(())
}

fn check_ascii_word(text: &str) -> Result<(), InvalidValue> {
    check_word(text)?;
    if text.is_ascii() {
        Ok(())
    } else {
        Err(InvalidValue::NotAscii)
    }
}

/// True if the rest behind a word still belongs to that word.
fn is_word(rest: &str) -> bool {
    !rest.is_empty() && !rest.starts_with(|c: char| c.is_whitespace() || c == ':')
}

fn check_word(text: &str) -> Result<(), InvalidValue> {
    if text.starts_with(is_quote) || text.ends_with(is_quote) {
        return Err(InvalidValue::Quotes);
    }
    if text.starts_with('<') && text.ends_with('>') {
        return Err(InvalidValue::Placeholder);
    }
    if has_comment(text) {
        return Err(InvalidValue::Comment);
    }
    check_visible(text)?;
    if text.contains(char::is_whitespace) {
        return Err(InvalidValue::WhiteSpace);
    }
    Ok(())
}

fn check_name(text: &str) -> Result<(), InvalidValue> {
    if text.starts_with(is_quote) && text.ends_with(is_quote) {
        return Err(InvalidValue::Quotes);
    }
    if text.starts_with('<') && text.ends_with('>') {
        return Err(InvalidValue::Placeholder);
    }
    check_visible(text)
}

fn check_visible(text: &str) -> Result<(), InvalidValue> {
    if text.contains(['\n', '\r']) {
        return Err(InvalidValue::Lines);
    }
    if text.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Err(InvalidValue::Control);
    }
    Ok(())
}

/// Straight and typographic quotes.
pub(super) fn is_quote(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | '`' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}'
    )
}

/// Characters without a width: joiners, marks of the writing direction, byte order marks.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | BYTE_ORDER_MARK
    )
}

/// True if `text` ends with what some readers of files take for a comment.
pub(super) fn has_comment(text: &str) -> bool {
    let is_start = |(at, _): &(usize, &str)| {
        let before = text.get(..*at).and_then(|text| text.chars().next_back());
        before.is_some_and(char::is_whitespace)
    };
    text.match_indices('#').any(|found| is_start(&found))
}

/// True if a variable of a shell, of Helm or of a workflow was not replaced in `text`.
pub(super) fn has_template(text: &str) -> bool {
    let between = |open: &str, close: &str| {
        let rest = text.split_once(open).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.contains(close))
    };
    between("${", "}") || between("{{", "}}") || between("$(", ")") || begins_with_variable(text)
}

/// True for `$NAME`, alone or before a slash.
fn begins_with_variable(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('$') else {
        return false;
    };
    let name = rest.split_once('/').map_or(rest, |(name, _)| name);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// True for the assignment of one of our variables.
fn is_assignment(text: &str) -> bool {
    let text = text.strip_prefix("export ").unwrap_or(text);
    let Some((key, _)) = text.split_once('=') else {
        return false;
    };
    let all = |allowed: fn(&u8) -> bool| key.bytes().all(|byte| allowed(&byte));
    let is_name = all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
    is_name && (key.starts_with("INFISICAL_") || key == "TOKEN")
}

/// True for three parts of base64url with dots between them (RFC 7515 §3.1).
fn is_jwt(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"-_=".contains(&b);
        !part.is_empty() && part.bytes().all(is_base64)
    };
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{InvalidValue, Kind, MAX_SIZE, absolute_path, clean};

    /// What the validator makes of a value as it was given.
    fn check(kind: Kind, text: &str) -> Result<&str, InvalidValue> {
        let text = clean(text);
        kind.check(text).map(|()| text)
    }

    #[test]
    fn surroundings_of_a_value_are_removed() {
        for text in [
            "abc",
            "abc\n",
            "abc\r\n",
            " \t abc \n\n",
            "\u{feff}abc",
            "\u{feff} abc\u{feff}\n",
            "\u{a0}abc\u{a0}",
        ] {
            for kind in [Kind::Secret, Kind::Text("ID"), Kind::Name, Kind::Path] {
                assert_eq!(check(kind, text), Ok("abc"), "{text:?} {kind:?}");
            }
        }
    }

    #[test]
    fn impossible_tokens_are_refused() {
        use InvalidValue::{
            Assignment, Bearer, Comment, Control, Empty, Json, Lines, NotAscii, Placeholder,
            Quotes, Template, TooLong, WhiteSpace,
        };
        let long = "a".repeat(MAX_SIZE + 1);
        for (text, error) in [
            ("", Empty),
            (" \r\n", Empty),
            ("\u{feff}", Empty),
            (&long, TooLong),
            ("one\ntwo", Lines),
            ("one\r\ntwo", Lines),
            ("a\u{7}b", Control),
            ("a\u{0}b", Control),
            ("a\u{1b}[31mb", Control),
            ("a\u{200b}b", Control),
            ("a\u{feff}b", Control),
            ("one two", WhiteSpace),
            ("one\u{a0}two", WhiteSpace),
            ("abc # of the test", Comment),
            ("abc\t#x", Comment),
            ("tök", NotAscii),
            ("a\u{2013}b", NotAscii),
            ("Bearer abc", Bearer),
            ("bearer  abc", Bearer),
            ("BEARER", Bearer),
            ("Authorization: Bearer abc", Bearer),
            ("'abc'", Quotes),
            ("\"abc\"", Quotes),
            ("\"abc", Quotes),
            ("abc\"", Quotes),
            ("\u{201c}abc\u{201d}", Quotes),
            ("`abc`", Quotes),
            ("${TOKEN}", Template),
            ("${{ secrets.TOKEN }}", Template),
            ("$TOKEN", Template),
            ("$(cat token)", Template),
            ("{{ .Values.token }}", Template),
            ("prefix-${TOKEN}", Template),
            ("<your-token>", Placeholder),
            ("{\"accessToken\":\"abc\"}", Json),
            ("{\n  \"accessToken\": \"abc\"\n}", Json),
            ("INFISICAL_TOKEN=abc", Assignment),
            ("export INFISICAL_TOKEN=abc", Assignment),
            ("TOKEN=abc", Assignment),
        ] {
            assert_eq!(check(Kind::Secret, text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn possible_tokens_are_accepted() {
        for text in [
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-_A",
            "st.0123.abc.def",
            "gwe_abc==",
            "bearerabc",
            "a#b",
            "pa$$word",
            "$1abc",
            "a=b",
            "a\"b",
            "!$%&/()=?",
        ] {
            assert_eq!(check(Kind::Secret, text), Ok(text));
        }
    }

    #[test]
    fn json_web_token_has_three_parts() {
        for (text, is_jwt) in [
            ("eyJh.eyJz.c2ln", true),
            ("a.b.c", true),
            ("abc", false),
            ("a.b", false),
            ("a.b.c.d", false),
            ("a..c", false),
            ("a.b.c!", false),
        ] {
            assert_eq!(check(Kind::Jwt, text).is_ok(), is_jwt, "{text}");
        }
    }

    #[test]
    fn relative_paths_begin_in_the_directory() {
        for (path, absolute) in [
            ("/etc/jwt", "/etc/jwt"),
            ("jwt", "/srv/a/jwt"),
            ("./keys/../jwt", "/srv/a/keys/../jwt"),
            ("../jwt", "/srv/jwt"),
            (".././../../jwt", "/jwt"),
            ("a b", "/srv/a/a b"),
            ("-", "-"),
            ("~/jwt", "~/jwt"),
            ("$HOME/jwt", "$HOME/jwt"),
            ("'jwt'", "'jwt'"),
        ] {
            assert_eq!(absolute_path(Path::new("/srv/a"), path), absolute);
        }
    }

    #[test]
    fn names_and_paths_may_hold_spaces() {
        use InvalidValue::{Control, Lines, Placeholder, Quotes, Template, Tilde};
        for text in [
            "Office gateway 2",
            "Büro",
            "it's",
            "/var/log/a b.log",
            "a\"b",
        ] {
            assert_eq!(check(Kind::Path, text), Ok(text));
        }
        for (text, error) in [
            ("'Office'", Quotes),
            ("a\nb", Lines),
            ("a\tb", Control),
            ("${NAME}", Template),
            ("<name>", Placeholder),
        ] {
            assert_eq!(check(Kind::Name, text), Err(error), "{text:?}");
        }
        for (text, error) in [
            ("~/token", Tilde),
            ("~", Tilde),
            ("$HOME/token", Template),
            ("${HOME}/token", Template),
        ] {
            assert_eq!(check(Kind::Path, text), Err(error), "{text:?}");
        }
        assert_eq!(check(Kind::Path, "a~"), Ok("a~"));
    }
}

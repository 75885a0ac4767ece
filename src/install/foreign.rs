//! Lines of an environment file that are no settings of this program: a proxy's address, a time
//! zone, whatever a person or another program has added. They move with the file that they stand
//! in. Pure.

use crate::config::env::{Variable, aliases};
use crate::config::file::Form;

/// The lines of `text` that assign something that is no setting; none for a file that is not made
/// of such lines.
pub(crate) fn lines(text: &str) -> Vec<String> {
    if Form::of(text) != Form::KeyValue {
        return Vec::new();
    }
    let is_setting =
        |key: &str| Variable::named(key).is_some() || aliases().any(|(alias, _)| alias == key);
    let is_foreign = |line: &&str| key(line).is_some_and(|key| !is_setting(key));
    text.lines().filter(is_foreign).map(str::to_owned).collect()
}

/// `text` with those of `lines` whose keys it does not have yet.
pub(crate) fn added(text: &str, lines: &[String]) -> String {
    let mut out = text.to_owned();
    for line in lines {
        let is_there = text.lines().any(|old| key(old) == key(line));
        if !is_there {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The key of an assignment.
pub(crate) fn key(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!key.is_empty() && key.chars().all(is_name)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::{added, lines};

    #[test]
    fn foreign_lines_are_moved_once() {
        let old = "INFISICAL_RELAY_HOST=h\nHTTPS_PROXY=http://p:3128\n# TZ=UTC\n\nTZ=\"Europe/Berlin\"\n\
                   INFISICAL_DOMAIN=https://h\nnonsense\n";
        let foreign = lines(old);
        assert_eq!(
            foreign,
            ["HTTPS_PROXY=http://p:3128", "TZ=\"Europe/Berlin\""]
        );
        let text = added("INFISICAL_RELAY_NAME=eu\nTZ=UTC", &foreign);
        assert_eq!(
            text,
            "INFISICAL_RELAY_NAME=eu\nTZ=UTC\nHTTPS_PROXY=http://p:3128\n"
        );
        assert_eq!(added(&text, &foreign), text);
        assert!(lines("[relay]\nname = \"eu\"\nTZ = \"UTC\"\n").is_empty());
    }
}

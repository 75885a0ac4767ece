//! The text of a configuration file as it may be shown.

use super::lines::{is_comment, is_section};
use super::{Entry, read};
use crate::table::{Kind, is_plain};

/// The lines of a file's text, with `<secret>` in place of every value that may be one.
#[must_use]
pub fn masked(text: &str) -> Vec<String> {
    let entries = read(text).entries;
    let entry_at = |line| entries.iter().find(|entry| entry.line == line);
    // Of rules, which may have a line each.
    let mut is_in_list = false;
    (1..)
        .zip(text.lines())
        .map(|(number, line)| match entry_at(number) {
            Some(entry) if has_no_secret(entry) => {
                is_in_list = entry.key.kind == Kind::Rules && line.trim_end().ends_with(['[', ',']);
                line.to_owned()
            }
            Some(_) => without_value(line),
            None if is_section(line) => line.to_owned(),
            // An assignment may be kept as a comment.
            None if is_comment(line) && line.contains('=') => without_value(line),
            None if is_comment(line) => line.to_owned(),
            None if is_in_list => {
                is_in_list = !line.trim_start().starts_with(']');
                line.to_owned()
            }
            None => "<a line that is not understood>".to_owned(),
        })
        .collect()
}

/// True if the value of `entry` may be shown.
#[must_use]
pub fn has_no_secret(entry: &Entry) -> bool {
    !entry.key.secret || entry.value.is_empty() || is_plain(&entry.name)
}

/// `line` up to its value.
fn without_value(line: &str) -> String {
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let space = if value.starts_with(' ') { " " } else { "" };
    format!("{key}={space}<secret>")
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn lines_are_shown_without_secrets() {
        let text = "# The first.\n\nINFISICAL_GATEWAY_NAME=edge\nexport INFISICAL_TOKEN=hunter2\r\n\
                    #INFISICAL_TOKEN=hunter2\nHTTPS_PROXY=http://u:hunter2@p:1\nTZ=UTC\nOTHER='hunter2'\n\
                    INFISICAL_JWT=\nnonsense hunter2\nINFISICAL_TOKEN=hunter2 again";
        let lines = masked(text);
        assert_eq!(
            lines,
            [
                "# The first.",
                "",
                "INFISICAL_GATEWAY_NAME=edge",
                "export INFISICAL_TOKEN=<secret>",
                "#INFISICAL_TOKEN=<secret>",
                "HTTPS_PROXY=<secret>",
                "TZ=UTC",
                "OTHER=<secret>",
                "INFISICAL_JWT=",
                "<a line that is not understood>",
                "<a line that is not understood>",
            ]
        );
        let toml = "gateway_name = \"edge\" # The name.\ntoken = \"hunter2\"\n";
        let shown = "gateway_name = \"edge\" # The name.|token = <secret>";
        assert_eq!(masked(toml).join("|"), shown);
        let list =
            "[targets]\nallow = [\n  \"[fd00::/8]:1\",\n  # token = \"hunter2\"\n]\nhunter2\n";
        let shown = "[targets]|allow = [|  \"[fd00::/8]:1\",|  # token = <secret>|]|<a line that is not \
                     understood>";
        assert_eq!(masked(list).join("|"), shown);
    }
}

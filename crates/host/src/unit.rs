//! Unit files of the service manager: made to fit the program's path and the manager's version.
//! Pure.
//!
//! A unit is written once, for the newest manager; older ones get fewer settings. What a manager
//! does not know it would ignore with a warning in the journal, at every reload; [`render`] leaves
//! it out. Where a setting stands twice, an older and a newer value, one of them stays.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// Where packages put the program, and what units name.
pub const PACKAGED: &str = "/usr/bin/infisical";

/// The version of a service manager: `257`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// Newer than all that the tables below distinguish.
    pub const NEWEST: Self = Self(u32::MAX);
    /// The first that hands credentials over to a service.
    pub const CREDENTIALS: Self = Self(247);

    /// Reads the first line of `systemctl --version`: `systemd 257 (257.7-1)`.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let mut words = output.split_whitespace();
        let number = words
            .next()
            .filter(|word| *word == "systemd")
            .and_then(|_| words.next())?;
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().map(Self)
    }
}

/// Settings, and the version that first knew them. What is not here is older than all managers in
/// use.
const SINCE: &[(&str, u32)] = &[
    ("ProtectHostname", 242),
    ("RestrictSUIDSGID", 242),
    ("ProtectKernelLogs", 244),
    ("ProtectClock", 245),
    ("LoadCredential", 247),
    ("ProcSubset", 247),
    ("ProtectProc", 247),
    ("ExecPaths", 248),
    ("NoExecPaths", 248),
    ("PrivateIPC", 248),
    ("SocketBindAllow", 249),
    ("SocketBindDeny", 249),
    ("RestartMaxDelaySec", 254),
    ("RestartSteps", 254),
];

/// Settings that stand twice: the older value, the newer one, and the version that first knew the
/// newer.
const VALUES: &[(&str, &str, &str, u32)] = &[
    ("PrivateTmp", "yes", "disconnected", 257),
    ("ProtectControlGroups", "yes", "strict", 257),
    ("Type", "notify", "notify-reload", 253),
];

/// Settings, by the beginning of their value, that a newer value makes superfluous: from this
/// version on the manager sends the signal itself, and would send it twice.
const UNTIL: &[(&str, &str, u32)] = &[("ExecReload", "+/bin/kill ", 253)];

/// The path of a program as it may stand in a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(PathBuf);

/// A path that no unit can name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} cannot stand in a unit: the path must be absolute text without quotes, backslashes, colons, '$', '..' or control \
     characters", .0.display()
)]
pub struct InvalidProgram(PathBuf);

impl Program {
    /// Checks what no escape could cure: the manager refuses quotes and backslashes in the path of
    /// a program, and a colon or a `$` means something where paths are listed.
    ///
    /// # Errors
    /// [`InvalidProgram`] says the rule.
    pub fn try_new(path: &Path) -> Result<Self, InvalidProgram> {
        let bad = |c: char| c.is_control() || matches!(c, '"' | '\'' | '\\' | ':' | '$');
        let plain = |text: &str| {
            text.starts_with('/')
                && !text.contains(bad)
                && !text.split('/').any(|part| matches!(part, "." | ".."))
        };
        match path.to_str() {
            Some(text) if plain(text) => Ok(Self(path.to_owned())),
            Some(_) | None => Err(InvalidProgram(path.to_owned())),
        }
    }

    /// Where packages put it.
    #[must_use]
    pub fn packaged() -> Self {
        Self(PathBuf::from(PACKAGED))
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Program {
    /// As a word of a unit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(&self.0.to_string_lossy()))
    }
}

/// One word of a setting: `%` begins a specifier, a space ends a word.
#[must_use]
pub fn word(text: &str) -> String {
    let text = text.replace('%', "%%");
    if text.contains(char::is_whitespace) || text.contains(['"', '\'', '\\', ';']) {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    } else {
        text
    }
}

/// `unit` for a program and a manager. `head`, without comment signs, replaces the comment at the
/// top; a comment whose settings are all left out goes with them.
#[must_use]
pub fn render(unit: &str, head: &str, program: &Program, version: Version) -> String {
    let mut out = String::new();
    for line in head.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", format!("# {line}").trim_end());
    }
    let mut comment = String::new();
    // Comments at the top are the head's business.
    let body = unit.lines().skip_while(|line| line.starts_with('#'));
    let mut left_out = false;
    for line in body {
        if line.starts_with('#') {
            if left_out {
                comment.clear();
            }
            left_out = false;
            let _ = writeln!(comment, "{line}");
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            comment.clear();
            left_out = false;
            let _ = writeln!(out, "{line}");
            continue;
        };
        if is_known(key, value, version) {
            out.push_str(&comment);
            comment.clear();
            let _ = writeln!(out, "{key}={}", with_program(value, program));
        } else {
            left_out = true;
        }
    }
    out
}

fn is_known(key: &str, value: &str, Version(version): Version) -> bool {
    let of = |known: &str| known == key;
    let mut since = SINCE.iter().filter(|(known, _)| of(known));
    let mut until = UNTIL
        .iter()
        .filter(|(known, begin, _)| of(known) && value.starts_with(begin));
    let mut values = VALUES.iter().filter(|(known, ..)| of(known));
    since.all(|(_, first)| version >= *first)
        && until.all(|(.., first)| version < *first)
        && values.all(|(_, older, newer, first)| {
            let superseded = value == *older && version >= *first;
            let unknown = value == *newer && version < *first;
            !superseded && !unknown
        })
}

/// The program's path in place of the packages'. A `+` before it begins a command without the
/// sandbox.
fn with_program(value: &str, program: &Program) -> String {
    let words = value.split(' ').map(|word| match word.strip_prefix('+') {
        _ if word == PACKAGED => program.to_string(),
        Some(PACKAGED) => format!("+{program}"),
        Some(_) | None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The values of a setting, all of its lines in one; an empty one restarts.
pub fn values<'a>(unit: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = unit.lines().map(str::trim);
    let values =
        lines.filter_map(move |line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
    values.flat_map(str::split_whitespace)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Program, Version, render, values, word};

    const UNIT: &str = "# Top.\n# More.\n\n[Service]\nType=notify\nType=notify-reload\n\
        ExecStart=/usr/bin/infisical gateway start\n# Reload.\nExecReload=+/bin/kill -HUP\n# Again.\nRestart=on-failure\n\
        RestartSteps=5\n\n# Hidden.\nPrivateTmp=yes\nPrivateTmp=disconnected\nExecPaths=/usr/bin/infisical /usr/lib\n";

    fn rendered(path: &str, version: u32) -> String {
        let program = Program::try_new(Path::new(path)).expect("a path");
        render(UNIT, "Head.", &program, Version(version))
    }

    #[test]
    fn each_systemd_gets_what_it_knows() {
        let newest = "# Head.\n\n[Service]\nType=notify-reload\nExecStart=/usr/bin/infisical gateway start\n\
            # Again.\nRestart=on-failure\nRestartSteps=5\n\n# Hidden.\nPrivateTmp=disconnected\n\
            ExecPaths=/usr/bin/infisical /usr/lib\n";
        assert_eq!(rendered("/usr/bin/infisical", 257), newest);
        let older = "# Head.\n\n[Service]\nType=notify\nExecStart=/usr/bin/infisical gateway start\n\
            # Reload.\nExecReload=+/bin/kill -HUP\n# Again.\nRestart=on-failure\n\n# Hidden.\nPrivateTmp=yes\n\
            ExecPaths=/usr/bin/infisical /usr/lib\n";
        assert_eq!(rendered("/usr/bin/infisical", 252), older);
        assert!(!rendered("/usr/bin/infisical", 247).contains("ExecPaths"));
    }

    #[test]
    fn program_path_is_escaped_everywhere() {
        let unit = rendered("/usr/local/my 100%/infisical", 257);
        let path = "\"/usr/local/my 100%%/infisical\"";
        assert!(
            unit.contains(&format!("\nExecStart={path} gateway start\n")),
            "{unit}"
        );
        assert!(
            unit.contains(&format!("\nExecPaths={path} /usr/lib\n")),
            "{unit}"
        );
        assert_eq!(word("a\"b\\c"), "\"a\\\"b\\\\c\"");
        let check = "[Service]\nExecReload=+/usr/bin/infisical x\n";
        let program = Program::try_new(Path::new("/opt/a b")).expect("a path");
        let reload = render(check, "", &program, Version(257));
        assert_eq!(reload, "[Service]\nExecReload=+\"/opt/a b\" x\n");
    }

    #[test]
    fn path_unnameable_in_units_is_refused() {
        for path in [
            "relative", "/a/../b", "/a\"b", "/a'b", "/a\\b", "/a:b", "/a$b", "/a\nb",
        ] {
            Program::try_new(Path::new(path)).expect_err(path);
        }
    }

    #[test]
    fn version_is_the_number_after_the_name() {
        for (text, version) in [
            ("systemd 257 (257.7-1)\n+PAM", Some(257)),
            ("systemd 252.39", Some(252)),
            ("systemd 259~rc1 (x)", Some(259)),
            ("sysvinit 3", None),
            ("systemd", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text), version.map(Version), "{text}");
        }
    }

    #[test]
    fn lines_of_a_setting_are_one_list() {
        let unit = "[Service]\nA=1 2\n# A=3\nAB=4\nA = 5\n";
        assert!(values(unit, "A").eq(["1", "2", "5"]));
    }
}

//! Names of gateways and relays as parts of file and unit names.
//!
//! The rules are those by which `systemctl` itself reads a name that a person gives it
//! (`systemd-escape --mangle`), so that `systemctl start NAME` finds the unit: letters, digits,
//! `:`, `-`, `_` and `.` stand for themselves, every other byte becomes `\xNN`. Plain
//! `systemd-escape` would also escape `-`. Stricter than `systemctl` are only those rules without
//! which two names would share a file, or a name would leave its directory: `/`, `@`, `\`, and a
//! `.` or `-` at the beginning are escaped too. Pure.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// Longest result. A file name has 255 bytes, and the names made of it have a prefix or a suffix.
const MAX_LENGTH: usize = 180;
/// Hexadecimal digits that replace the rest of a name that is too long.
const DIGITS: usize = 16;
/// Suffixes that make `systemctl` take a name for the whole name of a unit.
const UNIT_TYPES: [&str; 11] = [
    ".service",
    ".socket",
    ".target",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".timer",
    ".path",
    ".slice",
    ".scope",
];

/// `name` as a part of file and unit names, at most 180 bytes long. Different names have different
/// results.
#[must_use]
pub fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for (index, byte) in name.bytes().enumerate() {
        let plain = match byte {
            b'.' | b'-' => index > 0,
            b':' | b'_' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if escaped.len() + 4 > MAX_LENGTH {
            return shortened(&escaped, name);
        }
        if plain {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

/// `name` as a part of the names of files and directories that a unit names. Systemd 257 unescapes
/// those once too often on the way to the process that starts the service: it starts no unit with a
/// `\` or a `:` in the name of its state directory, or a `\` in that of a credential. `@` is in no
/// escaped name. Different names have different results.
#[must_use]
pub fn file_name(name: &str) -> String {
    escape(name).replace(':', "@x3a").replace('\\', "@")
}

/// The escaped name whose [`file_name`] is `file`.
#[must_use]
pub fn escaped_of_file(file: &str) -> String {
    file.replace("@x3a", ":").replace('@', "\\")
}

/// The name whose [`file_name`] is `file`; `None` if there is none, or it was shortened.
#[must_use]
pub fn name_of_file(file: &str) -> Option<String> {
    let escaped = escaped_of_file(file);
    let (plain, parts) = escaped.split_once('\\').unwrap_or((&escaped, ""));
    let mut bytes = plain.as_bytes().to_vec();
    for part in parts.split('\\').filter(|part| !part.is_empty()) {
        let (hex, rest) = part.strip_prefix('x')?.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend(rest.bytes());
    }
    let name = String::from_utf8(bytes).ok()?;
    (file_name(&name) == file).then_some(name)
}

/// The beginning of a long name and a digest of all of it, as the service manager shortens names.
fn shortened(escaped: &str, name: &str) -> String {
    let mut short: String = escaped.chars().take(MAX_LENGTH - DIGITS - 1).collect();
    // Half an escape sequence would be another name.
    if let Some(at) = short.rfind('\\').filter(|at| short.len() - at < 4) {
        short.truncate(at);
    }
    short.push('_');
    let digest = digest(&SHA256, name.as_bytes());
    for byte in digest.as_ref().iter().take(DIGITS / 2) {
        let _ = write!(short, "{byte:02x}");
    }
    short
}

/// True if `systemctl` takes `escaped` for the name of a unit of another type, or for the whole
/// name of a service.
#[must_use]
pub fn has_unit_type(escaped: &str) -> bool {
    UNIT_TYPES.iter().any(|suffix| escaped.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{MAX_LENGTH, escape, file_name, has_unit_type, name_of_file};

    /// Names, and what becomes of them.
    const NAMES: &[(&str, &str)] = &[
        ("edge-1", "edge-1"),
        ("Edge_1.eu:a", "Edge_1.eu:a"),
        ("my gateway", "my\\x20gateway"),
        ("büro", "b\\xc3\\xbcro"),
        ("50%", "50\\x25"),
        ("a*b?c[d]", "a\\x2ab\\x3fc\\x5bd\\x5d"),
        ("a$b;c'd\"e", "a\\x24b\\x3bc\\x27d\\x22e"),
        // Where systemctl would read a path, a template or another name.
        ("a/b", "a\\x2fb"),
        ("../up", "\\x2e.\\x2fup"),
        ("a@b", "a\\x40b"),
        ("a\\x20b", "a\\x5cx20b"),
        (".hidden", "\\x2ehidden"),
        ("-option", "\\x2doption"),
    ];

    #[test]
    fn names_are_escaped_for_units_and_files() {
        for (name, expected) in NAMES {
            assert_eq!(escape(name), *expected, "{name}");
            let file = file_name(name);
            assert_eq!(name_of_file(&file).as_deref(), Some(*name), "{file}");
        }
        for (name, is_type) in [("a.socket", true), ("a.service", true), ("a.sock", false)] {
            assert_eq!(has_unit_type(&escape(name)), is_type, "{name}");
        }
    }

    #[test]
    fn names_of_foreign_files_are_none() {
        for file in [
            "a b", "@", "@x", "@x2", "@xzz", "@x61", "@xff", ".hidden", "ü",
        ] {
            assert_eq!(name_of_file(file), None, "{file}");
        }
    }

    #[test]
    fn long_names_stay_different_and_short_enough() {
        let longest = "ü".repeat(64);
        let other = format!("{}ä", "ü".repeat(63));
        let (longest, other) = (escape(&longest), escape(&other));
        assert_ne!(longest, other);
        for name in [&longest, &other] {
            assert!(name.len() <= MAX_LENGTH, "{name}");
            let (start, digest) = name.split_once('_').expect("a digest");
            assert!(start.len() % 4 == 0 && digest.len() == 16, "{name}");
        }
        assert_eq!(escape(&"g".repeat(64)).len(), 64);
    }

    /// Compares with `systemd-escape`: `systemctl start NAME` must find the unit.
    #[test]
    fn escapes_agree_with_systemd_escape() {
        let run = |arguments: &[&str]| {
            let output = Command::new("systemd-escape").args(arguments).output();
            let output = output.ok().filter(|output| output.status.success())?;
            Some(
                String::from_utf8_lossy(&output.stdout)
                    .trim_end()
                    .to_owned(),
            )
        };
        if run(&["a"]).is_none() {
            println!("SKIPPED: systemd-escape is not installed");
            return;
        }
        let mut compared = 0;
        for (name, escaped) in NAMES {
            let stricter = name.starts_with(['.', '-']) || name.contains(['/', '@', '\\']);
            if stricter {
                // The other escape of systemd, which knows them all, names the same bytes.
                let plain = run(&["--", name]).expect("it runs");
                let plain = plain.replace("\\x2d", "-");
                let ours = escaped.replace("\\x2f", "-").replace("\\x2d", "-");
                assert_eq!(ours, plain, "{name}");
            } else {
                let mangled = run(&["--mangle", "--", name]).expect("it runs");
                assert_eq!(format!("{escaped}.service"), mangled, "{name}");
                compared += 1;
            }
        }
        assert!(compared > 5);
    }
}

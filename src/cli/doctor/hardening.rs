//! Whether the unit that is installed still has the sandbox of the one that is shipped: a drop-in
//! or an edited unit may have taken parts of it away. Pure: texts of units in, what is weaker out.
//!
//! Drop-ins that the installer writes for settings, a port for instance, belong to what is shipped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::layer::{Check, Fault, HARDENED};
use crate::host::unit::{Program, Version, render};
use crate::install::existing_unit::{lines_of, words};
use crate::install::place::{PACKAGED_UNITS, Place};
use crate::install::unit_templates::{MARK, OWN_DROP_INS, USER_DROP_IN, unit, unit_for, user_for};

/// Settings of which the last value counts. The stronger of two has the higher [`rank`].
const SWITCHES: &[&str] = &[
    "DevicePolicy",
    "DynamicUser",
    "KeyringMode",
    "LimitCORE",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "RemoveIPC",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SocketBindDeny",
    "SystemCallArchitectures",
    "UMask",
];
/// Lists of what a service is kept from: each word less is weaker.
const DENIED: &[&str] = &["InaccessiblePaths", "NoExecPaths", "TemporaryFileSystem"];
/// Lists of what a service may: each word more is weaker, and so is no list where one is shipped.
const ALLOWED: &[&str] = &[
    "AmbientCapabilities",
    "BindPaths",
    "CapabilityBoundingSet",
    "ExecPaths",
    "ReadWritePaths",
    "RestrictAddressFamilies",
    "SocketBindAllow",
];
/// What docs/operations.md has a gateway allow that serves its metrics on a unix socket.
const FOR_METRICS: &[&str] = &["listen", "accept", "accept4"];

/// A file that is a part of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// The files in the output of `systemctl cat`: each begins with its path in a comment.
    pub(super) fn split(cat: &str, is_file: impl Fn(&Path) -> bool) -> Vec<Self> {
        let mut files: Vec<Self> = Vec::new();
        for line in cat.lines() {
            let path = line.strip_prefix("# ").filter(|rest| rest.starts_with('/'));
            match path.map(PathBuf::from).filter(|path| is_file(path)) {
                Some(path) => files.push(Self {
                    path,
                    text: String::new(),
                }),
                None => {
                    if let Some(file) = files.last_mut() {
                        file.text.push_str(line);
                        file.text.push('\n');
                    }
                }
            }
        }
        files
    }

    fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    }
}

/// A setting that is weaker than shipped.
#[derive(Debug, PartialEq, Eq)]
struct Weaker {
    key: &'static str,
    how: String,
}

/// Judges the unit of `place`, which consists of `files`, under the manager's `version`.
pub(super) fn examine(place: &Place, files: &[File], version: Version) -> Check {
    let Some((fragment, drop_ins)) = files.split_first() else {
        return Check::skipped(&HARDENED, "systemd does not show the unit's file");
    };
    let Some(shipped) = shipped(place, fragment, version) else {
        let because = format!(
            "{} was not written by infisical {} systemd install",
            fragment.path.display(),
            place.role()
        );
        return Check::skipped(&HARDENED, because);
    };
    let program = program(&fragment.text);
    let of_version = |text: &str| render(text, "", &program, version);
    let mut expected = vec![shipped];
    for file in drop_ins.iter().filter(|file| is_own(file)) {
        expected.push(match file.name() {
            USER_DROP_IN => user_for(place, &program, version),
            _ => of_version(&file.text),
        });
    }
    let actual: Vec<String> = files.iter().map(|file| of_version(&file.text)).collect();
    let weaker = weaker(&expected.join("\n"), &actual.join("\n"));
    if weaker.is_empty() {
        let path = fragment.path.display();
        return Check::good(
            &HARDENED,
            format!("{path} and its drop-ins have the shipped sandbox"),
        );
    }
    Check::failed(&HARDENED, fault(place, files, &weaker))
}

fn fault(place: &Place, files: &[File], weaker: &[Weaker]) -> Fault {
    let place_of = |key: &str| {
        let mut files = files.iter().rev().filter(|file| !is_own(file));
        files.find(|file| !lines_of(&file.text, key).is_empty())
    };
    let found: Vec<String> = weaker
        .iter()
        .map(|Weaker { key, how }| match place_of(key) {
            Some(file) => format!("{key}= in {} {how}", file.path.display()),
            None => format!("{key}= {how}"),
        })
        .collect();
    let keys: Vec<String> = weaker
        .iter()
        .map(|Weaker { key, .. }| format!("{key}="))
        .collect();
    let drop_in = weaker.iter().find_map(|Weaker { key, .. }| {
        let file = place_of(key)?;
        (files.first() != Some(file)).then_some(file)
    });
    let fix = match drop_in {
        Some(file) => format!(
            "Remove {} from {}, then: sudo systemctl daemon-reload && sudo systemctl restart {}",
            keys.join(", "),
            file.path.display(),
            place.short()
        ),
        None => format!("Write the unit again: sudo {}", place.command("install")),
    };
    let cause = "The service may do more than the shipped unit allows: the sandbox was weakened.";
    Fault::new(found.join("; "), cause, fix)
}

/// The unit as an installation or a package writes it; `None` if `fragment` is neither's.
fn shipped(place: &Place, fragment: &File, version: Version) -> Option<String> {
    let program = program(&fragment.text);
    let is_packaged = PACKAGED_UNITS
        .iter()
        .any(|folder| fragment.path.starts_with(folder));
    if is_packaged || fragment.name().contains("@.") {
        return Some(render(unit(place), "", &program, version));
    }
    fragment
        .text
        .starts_with(MARK)
        .then(|| unit_for(place, &program, version))
}

fn is_own(file: &File) -> bool {
    let is_packaged = PACKAGED_UNITS
        .iter()
        .any(|folder| file.path.starts_with(folder));
    OWN_DROP_INS.contains(&file.name()) && (is_packaged || file.text.starts_with(MARK))
}

/// The program that a unit starts.
fn program(unit: &str) -> Program {
    let line = lines_of(unit, "ExecStart").pop().unwrap_or_default();
    let first = words(&line).into_iter().next().unwrap_or_default();
    let path = first
        .trim_start_matches(['-', '+', '!', '@', ':'])
        .replace("%%", "%");
    let program = Program::try_new(Path::new(&path));
    program.unwrap_or_else(|_| Program::packaged())
}

fn weaker(expected: &str, actual: &str) -> Vec<Weaker> {
    let mut found = Vec::new();
    let mut add = |key, how| found.push(Weaker { key, how });
    for key in SWITCHES {
        let (Some(wanted), value) = (last(expected, key), last(actual, key)) else {
            continue;
        };
        let value = value.unwrap_or_default();
        let is_weaker = match (rank(&wanted), rank(&value)) {
            (Some(wanted), Some(value)) => value < wanted,
            _ => value != wanted,
        };
        if is_weaker {
            let value = if value.is_empty() { "not set" } else { &value };
            add(*key, format!("is {value} instead of {wanted}"));
        }
    }
    for key in DENIED {
        let (wanted, has) = (list(expected, key), list(actual, key));
        let missing: Vec<_> = difference(&wanted, &has);
        if !missing.is_empty() {
            add(*key, format!("lacks {}", missing.join(" ")));
        }
    }
    for key in ALLOWED {
        let (wanted, has) = (list(expected, key), list(actual, key));
        let more = difference(&has, &wanted);
        if !more.is_empty() {
            add(*key, format!("adds {}", more.join(" ")));
        } else if (has.is_empty() && !wanted.is_empty() && !is_restrictive_when_empty(key))
            || (last(actual, key).is_none() && last(expected, key).is_some())
        {
            add(*key, "is not set".to_owned());
        }
    }
    found.extend(calls(expected, actual));
    found
}

/// An empty list of these allows nothing.
fn is_restrictive_when_empty(key: &str) -> bool {
    key != "RestrictAddressFamilies"
}

/// What is weaker about the system calls that are allowed.
fn calls(expected: &str, actual: &str) -> Option<Weaker> {
    let key = "SystemCallFilter";
    let [(wanted_allowed, wanted_denied), (allowed, denied)] =
        [expected, actual].map(|text| allowed_and_denied(&lines_of(text, key)));
    if wanted_allowed.is_empty() {
        return None;
    }
    let how = if allowed.is_empty() {
        "is not set".to_owned()
    } else {
        let mut more = difference(&allowed, &wanted_allowed);
        more.extend(difference(&wanted_denied, &denied));
        more.sort_unstable();
        more.dedup();
        more.retain(|call| !FOR_METRICS.contains(call));
        if more.is_empty() {
            return None;
        }
        format!("allows {}", more.join(" "))
    };
    Some(Weaker { key, how })
}

/// The calls that the lines of a filter allow and deny: for each the last line counts.
fn allowed_and_denied(lines: &[String]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut allowed, mut denied) = (BTreeSet::new(), BTreeSet::new());
    for line in lines {
        if line.is_empty() {
            allowed.clear();
            denied.clear();
        }
        let (is_denied, calls) = match line.strip_prefix('~') {
            Some(calls) => (true, calls),
            None => (false, line.as_str()),
        };
        for call in calls.split_whitespace() {
            let (to, from) = match is_denied {
                true => (&mut denied, &mut allowed),
                false => (&mut allowed, &mut denied),
            };
            from.remove(call);
            to.insert(call.to_owned());
        }
    }
    (allowed, denied)
}

fn difference<'a>(more: &'a BTreeSet<String>, less: &'a BTreeSet<String>) -> Vec<&'a str> {
    more.difference(less).map(String::as_str).collect()
}

/// The words of a list; an empty line begins it again.
fn list(text: &str, key: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for line in lines_of(text, key) {
        if line.is_empty() {
            all.clear();
        }
        all.extend(words(&line));
    }
    all
}

/// The last value of a setting; `None` if no line has it.
fn last(text: &str, key: &str) -> Option<String> {
    lines_of(text, key).pop()
}

/// How much a value restricts; `None` for one that is only equal to itself.
fn rank(value: &str) -> Option<u8> {
    match value {
        "" | "no" | "false" | "0" | "off" | "default" | "all" | "auto" | "inherit" => Some(0),
        "read-only" | "shared" => Some(1),
        "yes" | "true" | "1" | "on" | "private" | "tmpfs" | "disconnected" | "ptraceable"
        | "invisible" | "noaccess" | "pid" | "closed" => Some(2),
        "full" => Some(3),
        "strict" => Some(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{File, examine};
    use crate::host::unit::{Program, Version};
    use crate::install::place::{Place, Role};
    use crate::install::unit_templates::{MARK, unit, unit_for, user_for};

    const VERSION: Version = Version(257);

    fn file(path: &str, text: &str) -> File {
        File {
            path: PathBuf::from(path),
            text: text.to_owned(),
        }
    }

    fn only() -> (Place, File) {
        let place = Place::try_new(Role::Gateway, None).expect("a place");
        let program = Program::try_new(Path::new("/opt/infisical")).expect("a path");
        let unit = unit_for(&place, &program, VERSION);
        let unit = file("/etc/systemd/system/infisical-gateway.service", &unit);
        (place, unit)
    }

    #[test]
    fn shipped_units_are_hardened() {
        for role in [Role::Gateway, Role::Relay] {
            for name in [None, Some("edge")] {
                for version in [Version(249), Version(252), VERSION] {
                    let place = Place::try_new(role, name).expect("a place");
                    let program = Program::try_new(Path::new("/opt/infisical")).expect("a path");
                    let written = unit_for(&place, &program, version);
                    let user = user_for(&place, &program, version);
                    let user = file("/etc/systemd/system/x.service.d/dynamic-user.conf", &user);
                    let written = file("/etc/systemd/system/x.service", &written);
                    let packaged = file("/usr/lib/systemd/system/x.service", unit(&place));
                    for files in [vec![written.clone()], vec![written, user], vec![packaged]] {
                        let json = examine(&place, &files, version).json();
                        assert_eq!(json["status"], "ok", "{json}");
                    }
                }
            }
        }
    }

    #[test]
    fn weakened_setting_is_named() {
        let (place, unit) = only();
        for (drop_in, named) in [
            (
                "NoNewPrivileges=no",
                "NoNewPrivileges= in /d/own.conf is no instead of yes",
            ),
            (
                "ProtectSystem=full",
                "ProtectSystem= in /d/own.conf is full instead of strict",
            ),
            ("ProtectHome=read-only", "ProtectHome="),
            (
                "InaccessiblePaths=",
                "InaccessiblePaths= in /d/own.conf lacks -/boot",
            ),
            ("CapabilityBoundingSet=CAP_NET_ADMIN", "adds CAP_NET_ADMIN"),
            ("RestrictAddressFamilies=AF_PACKET", "adds AF_PACKET"),
            (
                "RestrictAddressFamilies=",
                "RestrictAddressFamilies= in /d/own.conf is not set",
            ),
            (
                "ReadWritePaths=/etc",
                "ReadWritePaths= in /d/own.conf adds /etc",
            ),
            (
                "SystemCallFilter=@mount",
                "SystemCallFilter= in /d/own.conf allows @mount",
            ),
            (
                "SystemCallFilter=",
                "SystemCallFilter= in /d/own.conf is not set",
            ),
            ("SocketBindDeny=", "SocketBindDeny="),
        ] {
            let own = file("/d/own.conf", &format!("[Service]\n{drop_in}\n"));
            let json = examine(&place, &[unit.clone(), own], VERSION).json();
            let detail = json["detail"].as_str().expect("a detail");
            assert!(detail.contains(named), "{drop_in}: {json}");
            assert!(
                json["fix"]
                    .as_str()
                    .is_some_and(|fix| fix.contains("/d/own.conf")),
                "{json}"
            );
        }
    }

    #[test]
    fn harmless_changes_are_good() {
        let (place, unit) = only();
        for drop_in in [
            "Environment=HTTPS_PROXY=http://p:1",
            "IPAddressDeny=any",
            "ProtectHome=tmpfs",
            "ProtectProc=invisible",
            "BindReadOnlyPaths=/run/secrets",
            "SystemCallFilter=listen accept accept4",
            "SystemCallFilter=~connect",
        ] {
            let own = file("/d/own.conf", &format!("[Service]\n{drop_in}\n"));
            let json = examine(&place, &[unit.clone(), own], VERSION).json();
            assert_eq!(json["status"], "ok", "{drop_in}: {json}");
        }
        let ports =
            format!("{MARK} gateway systemd install\n[Service]\nSocketBindAllow=tcp:9090\n");
        let ports = file("/d/ports.conf", &ports);
        let json = examine(&place, &[unit, ports], VERSION).json();
        assert_eq!(json["status"], "ok", "{json}");
    }

    #[test]
    fn edited_unit_is_written_again() {
        let (place, unit) = only();
        let edited = file(
            "/etc/systemd/system/infisical-gateway.service",
            &unit.text.replace("PrivateDevices=yes\n", ""),
        );
        let json = examine(&place, &[edited], VERSION).json();
        assert!(
            json["detail"]
                .as_str()
                .is_some_and(|text| text.starts_with("PrivateDevices= is"))
        );
        let fix = "Write the unit again: sudo infisical gateway systemd install";
        assert_eq!(json["fix"], fix);
        let foreign = file(
            "/etc/systemd/system/infisical-gateway.service",
            "[Service]\n",
        );
        assert_eq!(
            examine(&place, &[foreign], VERSION).json()["status"],
            "skipped"
        );
    }

    #[test]
    fn files_of_a_unit_are_split() {
        let cat =
            "# /etc/a.service\n[Service]\n# /not/there\nA=1\n\n# /etc/a.service.d/b.conf\nB=2\n";
        let files = File::split(cat, |path| path.starts_with("/etc"));
        assert_eq!(
            files,
            [
                file("/etc/a.service", "[Service]\n# /not/there\nA=1\n\n"),
                file("/etc/a.service.d/b.conf", "B=2\n"),
            ]
        );
    }
}

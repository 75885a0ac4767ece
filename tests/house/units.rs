//! The unit files: that the four are one, that `systemd-analyze` finds nothing wrong with what is
//! installed, and that the sandbox is as tight as promised.

use std::path::Path;
use std::process::Command;

use infisical::install::place::{Place, Role};
use infisical::install::{platform, unit_templates};
use infisical_host::unit::{Program, Version};

/// Lines in which the relay's unit may differ from the gateway's, beside the role's name; comments
/// may differ anyway.
const RELAYS_OWN: &[&str] = &[
    "Documentation=",
    "InaccessiblePaths=-/etc/infisical/",
    "LimitNOFILE=",
    // A relay waits for others, and has no tunnel to look at when its network changes.
    "RestrictAddressFamilies=",
    "SocketBindAllow=tcp:",
    "SystemCallFilter=~listen accept accept4",
];

fn settings(unit: &str) -> Vec<String> {
    let lines = unit
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// Lines that only one of two lists has.
fn odd(one: &[String], other: &[String]) -> Vec<String> {
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).cloned().collect()
    };
    [only(one, other), only(other, one)].concat()
}

/// Where the relay's unit differs from the gateway's, and should not.
pub(crate) fn relay_against_gateway(gateway: &str, relay: &str) -> Vec<String> {
    let gateway = settings(&gateway.replace("gateway", "relay"));
    let mut lines = odd(&gateway, &settings(relay));
    lines.retain(|line| !RELAYS_OWN.iter().any(|own| line.starts_with(own)));
    lines
}

/// Where a template differs from the unit of the only one by more than the name.
pub(crate) fn template_against_unit(role: &str, unit: &str, template: &str) -> Vec<String> {
    let unit = unit
        .replace(
            &format!("/etc/infisical/{role}.conf"),
            &format!("/etc/infisical/{role}s/%i.conf"),
        )
        .replace(
            &format!("=infisical-{role}\n"),
            &format!("=infisical-{role}@%i\n"),
        )
        .replace(
            &format!("/infisical-{role} "),
            &format!("/infisical-{role}@%i "),
        )
        .replace(
            &format!("/infisical-{role}\n"),
            &format!("/infisical-{role}@%i\n"),
        )
        .replace(
            &format!("Infisical {role}\n"),
            &format!("Infisical {role} %i\n"),
        );
    let mut lines = odd(&settings(&unit), &settings(template));
    lines.retain(|line| !line.starts_with("InaccessiblePaths=-/etc/infisical/"));
    lines
}

/// Mounts of a unit that its drop-in, which restarts the list, does not repeat.
pub(crate) fn forgotten_mounts(unit: &str, drop_in: &str) -> Vec<String> {
    let mounts = settings(unit);
    let lists = ["BindReadOnlyPaths=", "NoExecPaths=/ ", "NoExecPaths=-/usr/"];
    let mounts = mounts
        .iter()
        .filter(|line| lists.iter().any(|list| line.starts_with(list)));
    let repeated = settings(drop_in);
    mounts
        .filter(|line| !repeated.contains(line))
        .cloned()
        .collect()
}

/// The version of `systemd-analyze`, if it is here.
pub(crate) fn analyzer() -> Option<Version> {
    let output = Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .ok()?;
    Version::parse(&String::from_utf8_lossy(&output.stdout))
}

/// Every place that can be installed.
fn places() -> Vec<Place> {
    let of = |role, name| Place::try_new(role, name).unwrap_or_else(|error| panic!("{error}"));
    let roles = [Role::Gateway, Role::Relay];
    roles
        .into_iter()
        .flat_map(|role| [of(role, None), of(role, Some("edge"))])
        .collect()
}

/// Writes what the installer writes into `directory`; gives the path by which to ask for it.
fn write(place: &Place, own_user: bool, version: Version, directory: &Path) -> String {
    // Any program that is there.
    let program = Program::try_new(Path::new("/bin/sh")).unwrap_or_else(|error| panic!("{error}"));
    let put = |path: &Path, text: &str| {
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    };
    put(
        &directory.join(place.service()),
        &unit_templates::unit_for(place, &program, version),
    );
    let drop_ins = directory.join(format!("{}.d", place.service()));
    if own_user {
        std::fs::create_dir(&drop_ins).unwrap_or_else(|error| panic!("{error}"));
        put(
            &drop_ins.join("dynamic-user.conf"),
            &unit_templates::user_for(place, &program, version),
        );
    }
    directory.join(place.service()).display().to_string()
}

/// The same for the platform, on a port that needs a capability or not.
fn write_platform(port: u16, version: Version, directory: &Path) -> String {
    let program = Program::try_new(Path::new("/bin/sh")).unwrap_or_else(|error| panic!("{error}"));
    let settings = platform::Settings {
        metrics_port: None,
        listen: ([127, 0, 0, 1], port).into(),
        tls: None,
        oidc_client_secret: Some("/etc/oidc/secret".into()),
        arguments: vec!["--organization=Ours & theirs".to_owned()],
    };
    let drop_ins = directory.join(format!("{}.d", platform::SERVICE));
    let unit = directory.join(platform::SERVICE);
    let put = |path: &Path, text: &str| {
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    };
    std::fs::create_dir(&drop_ins).unwrap_or_else(|error| panic!("{error}"));
    put(&unit, &platform::unit(&program, version));
    put(
        &drop_ins.join(platform::DROP_IN),
        &platform::drop_in(&settings, &program, version),
    );
    unit.display().to_string()
}

/// What `systemd-analyze verify` says about everything that the installer writes for this machine's
/// version.
pub(crate) fn complaints(version: Version) -> Vec<String> {
    let mut wrong = Vec::new();
    for place in places() {
        for own_user in [false, true] {
            let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
            let unit = write(&place, own_user, version, directory.path());
            let output = Command::new("systemd-analyze")
                .args(["verify", "--man=no", &unit])
                .output()
                .unwrap_or_else(|error| panic!("{error}"));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // It looks at the units of this machine too.
            let is_ours = |line: &&str| line.contains("infisical") || line.contains("edge.service");
            let ours = said.lines().filter(is_ours);
            wrong.extend(ours.map(str::to_owned));
        }
    }
    for port in [80, 8080] {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let unit = write_platform(port, version, directory.path());
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", &unit])
            .output()
            .unwrap_or_else(|error| panic!("{error}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours = said.lines().filter(|line| line.contains("infisical"));
        wrong.extend(ours.map(str::to_owned));
    }
    wrong
}

/// Units whose score is worse than promised, in tenths.
pub(crate) fn exposed(version: Version) -> Vec<String> {
    let mut wrong = Vec::new();
    // With the capability for a low port there is no user namespace.
    for (port, most) in [(8080, 11), (80, 14)] {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let unit = write_platform(port, version, directory.path());
        wrong.extend(too_exposed(&unit, most));
    }
    for place in places() {
        for own_user in [false, true] {
            let most = match (place.role(), own_user) {
                (Role::Gateway | Role::Relay, true) => 11,
                (Role::Gateway, false) => 14,
                (Role::Relay, false) => 16,
            };
            let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
            let unit = write(&place, own_user, version, directory.path());
            wrong.extend(too_exposed(&unit, most));
        }
    }
    wrong
}

/// Why `unit` is worse than `most`, in tenths, if it is.
fn too_exposed(unit: &str, most: u32) -> Option<String> {
    let output = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true"])
        .args([&format!("--threshold={most}"), unit])
        .output()
        .unwrap_or_else(|error| panic!("{error}"));
    if output.status.success() {
        return None;
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let score = said.lines().last().unwrap_or_default();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(format!("{unit}, at most {most}/10: {score} {error}"))
}

#[cfg(test)]
mod tests {
    use super::{forgotten_mounts, relay_against_gateway, template_against_unit};

    #[test]
    fn setting_of_only_one_unit_is_reported() {
        let gateway = "# G.\nA=/run/infisical-gateway\nLimitNOFILE=1\n";
        assert!(
            relay_against_gateway(gateway, "A=/run/infisical-relay\nLimitNOFILE=2\n").is_empty()
        );
        assert_eq!(
            relay_against_gateway(gateway, "A=/run/infisical-relay\nB=1\n"),
            ["B=1"]
        );
        let unit = "D=Infisical relay\nA=/var/lib/infisical-relay\nS=infisical-relay\n";
        let template =
            "D=Infisical relay %i\nA=/var/lib/infisical-relay@%i\nS=infisical-relay@%i\n";
        assert!(template_against_unit("relay", unit, template).is_empty());
        assert_eq!(template_against_unit("relay", unit, unit).len(), 6);
        let unit = "BindReadOnlyPaths=a\nBindReadOnlyPaths=b\n";
        assert_eq!(
            forgotten_mounts(unit, "BindReadOnlyPaths=b\n"),
            ["BindReadOnlyPaths=a"]
        );
    }
}

//! The installed service, as the cases see it: installed by the program itself, looked at by
//! `systemctl`.

use serde_json::Value;

use crate::container::Container;
use crate::lab::{Lab, PROGRAM};
use crate::wait;

/// The gateway's unit.
pub(crate) const UNIT: &str = "infisical-gateway.service";
/// The gateway's name.
pub(crate) const GATEWAY: &str = "office";
/// Its configuration.
pub(crate) const CONFIGURATION: &str = "/etc/infisical/gateway.conf";
/// Where the installer puts units.
pub(crate) const UNITS: &str = "/etc/systemd/system";
/// What begins the line of the configuration that holds the secret.
pub(crate) const SECRET: &str = "INFISICAL_GATEWAY_ACCESS_TOKEN=";

/// As whom the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    Dynamic,
}

/// The words that install the gateway, token and all.
pub(crate) fn words(lab: &Lab, user: User) -> Vec<String> {
    let token = token_file(lab, GATEWAY);
    let words = [PROGRAM, "gateway", "systemd", "install", "--name", GATEWAY];
    let mut words = words.map(str::to_owned).to_vec();
    words.extend(enrollment(lab, &token));
    words.extend((user == User::Dynamic).then(|| "--user".to_owned()));
    words
}

/// Makes the gateway a service, and starts it now and at every boot.
#[track_caller]
pub(crate) fn install(lab: &Lab, user: User) -> String {
    lab.container.run(words(lab, user)).ok()
}

/// The words that say with which token, and where.
pub(crate) fn enrollment(lab: &Lab, token_file: &str) -> Vec<String> {
    let words = ["--enroll-method=token", "--token-file", token_file];
    let mut words = words.map(str::to_owned).to_vec();
    words.extend(["--domain".to_owned(), lab.domain.to_owned()]);
    words
}

/// The template from which an earlier installer ran named gateways, as that wrote it.
pub(crate) fn template() -> String {
    let unit = include_str!("../../systemd/infisical-gateway@.service");
    let unit = unit.replace("/usr/bin/infisical", PROGRAM);
    format!("# Written by infisical gateway systemd install\n{unit}")
}

/// The configuration of one of several gateways, as a person writes it; gives its path.
#[track_caller]
pub(crate) fn configure(lab: &Lab, gateway: &str) -> String {
    let path = format!("/etc/infisical/gateways/{gateway}.conf");
    let token = lab.platform(&["identity", "create", gateway]);
    let text = format!(
        "INFISICAL_GATEWAY_NAME={gateway}\nINFISICAL_TOKEN={}\nINFISICAL_API_URL={}\n",
        token.trim(),
        lab.domain
    );
    lab.container.write(&path, &text, 0o600);
    path
}

/// The file with the one-time token of `gateway`; made if it is not there.
pub(crate) fn token_file(lab: &Lab, gateway: &str) -> String {
    let path = format!("/root/{gateway}.token");
    if lab.container.run(["test", "-e", &path]).status != Some(0) {
        let token = lab.enrollment_token(gateway);
        lab.container.write(&path, &token, 0o600);
    }
    path
}

/// The secret in the gateway's configuration.
pub(crate) fn secret(container: &Container) -> String {
    secret_in(container, CONFIGURATION)
}

/// The secret in one of several gateways' configuration.
pub(crate) fn secret_in(container: &Container, file: &str) -> String {
    let configuration = container.read(file);
    let mut lines = configuration.lines();
    let token = lines.find_map(|line| line.strip_prefix(SECRET));
    token.expect("a token").to_owned()
}

/// Sets one line of a configuration file, as a person with an editor would.
pub(crate) fn set(container: &Container, file: &str, key: &str, value: &str) {
    let begin = format!("{key}=");
    let mut lines = container.read(file);
    lines = lines
        .lines()
        .filter(|line| !line.starts_with(&begin))
        .map(|line| format!("{line}\n"))
        .collect();
    container.write(file, &format!("{lines}{begin}{value}\n"), 0o600);
}

/// A drop-in of the machine's administrator, under the name that `systemctl edit` gives it.
pub(crate) fn drop_in(container: &Container, unit: &str, text: &str) {
    let path = format!("{UNITS}/{unit}.d/override.conf");
    container.write(&path, &format!("[Service]\n{text}\n"), 0o644);
    container.run(["systemctl", "daemon-reload"]).ok();
}

/// Waits until the status line of `unit` has `part` in it; gives the line.
#[track_caller]
pub(crate) fn wait_for_status(container: &Container, unit: &str, part: &str) -> String {
    wait::until(&format!("a status with {part:?}"), || {
        let status = container.property(unit, "StatusText");
        let told = status.contains(part);
        if told { Ok(status) } else { Err(status) }
    })
}

/// Waits until the journal of `unit` has `part` in it.
#[track_caller]
pub(crate) fn wait_for_line(container: &Container, unit: &str, part: &str) {
    wait::until(&format!("a line with {part:?}"), || {
        let journal = container.journal(unit);
        let told = journal.contains(part);
        if told { Ok(()) } else { Err(journal) }
    });
}

/// What the journal has of one event of `unit` since the boot, by the event's id.
pub(crate) fn entries(container: &Container, unit: &str, id: &str) -> Vec<Value> {
    let filter = format!("MESSAGE_ID={id}");
    let look = ["journalctl", "-b", "-q", "-o", "json", "-u", unit, &filter];
    let entries = container.run(look).ok();
    let entries = entries.lines();
    entries
        .map(|entry| serde_json::from_str(entry).expect("JSON"))
        .collect()
}

/// Waits until `unit` is as `ActiveState=` says.
#[track_caller]
pub(crate) fn wait_for_state(container: &Container, unit: &str, wanted: &str) {
    wait::until(&format!("{unit} to be {wanted}"), || {
        let state = container.property(unit, "ActiveState");
        if state == wanted { Ok(()) } else { Err(state) }
    });
}

/// Asserts that doctor names `layer` and nothing else, and that its advice has `fix` in it.
#[track_caller]
pub(crate) fn assert_diagnosis(container: &Container, layer: &str, fix: &str) {
    let found = container.run([PROGRAM, "gateway", "doctor", "--json"]);
    let json: Value = serde_json::from_str(&found.exits(1)).expect("JSON");
    let checks = json["checks"].as_array().expect("checks").iter();
    let failed = checks.filter(|check| check["status"] == "failed");
    let failed: Vec<&Value> = failed.map(|check| &check["id"]).collect();
    assert_eq!(failed, [layer], "{json:#}");
    let advice = json["fix"].as_str().expect("a fix");
    assert!(advice.contains(fix), "{json:#}");
}

/// Which start of `unit` this is; another one has another id.
pub(crate) fn invocation(container: &Container, unit: &str) -> String {
    let id = container.property(unit, "InvocationID");
    assert_eq!(id.len(), 32, "{unit} never ran: {id:?}");
    id
}

/// Waits until `unit` is up, and was started after `before`.
#[track_caller]
pub(crate) fn wait_for_another(container: &Container, unit: &str, before: &str) {
    wait::until("another start", || {
        let state = container.property(unit, "ActiveState");
        let again = state == "active" && invocation(container, unit) != before;
        again.then_some(()).ok_or(state)
    });
}

/// Asserts that a dry run that printed `preview` had shown every line of the configuration at
/// `path`, and no other; secrets excepted.
pub(crate) fn assert_previewed(container: &Container, preview: &str, path: &str) {
    let head = format!("# {path} (mode 0600)");
    let lines = preview.lines().skip_while(|line| *line != head).skip(1);
    let shown: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let text = container.read(path);
    let kept: Vec<&str> = text.lines().collect();
    assert_eq!(shown.len(), kept.len(), "{preview}");
    for (shown, kept) in shown.iter().zip(kept) {
        match shown.strip_suffix("<secret>") {
            Some(key) => assert!(kept.starts_with(key), "{shown}"),
            None => assert_eq!(*shown, kept),
        }
    }
}

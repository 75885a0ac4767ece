//! `infisical gateway systemd install` and `uninstall`: what they refuse, change, keep and say.

use crate::container::Container;
use crate::lab::{Lab, PROGRAM};
use crate::service::{self, CONFIGURATION, GATEWAY, UNIT, UNITS, User};

/// Everything that the installer might write, with what is in it.
fn everything(container: &Container) -> String {
    let list = "find /etc/infisical /etc/systemd /usr/lib/systemd/system -type f -exec sha256sum {} + | sort; \
                find /etc/systemd /run/systemd/system -type l | sort";
    container.sh(list).stdout
}

pub(super) fn without_root_nothing_is_written(lab: &mut Lab) {
    let container = &lab.container;
    let before = everything(container);
    assert!(before.lines().count() > 20, "{before}");
    let unprivileged = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let unprivileged = unprivileged.map(str::to_owned).into_iter();
    let refused = container.run(unprivileged.chain(service::words(lab, User::Root)));
    assert_eq!(refused.status, Some(77), "{refused:?}");
    assert!(refused.stderr.contains("sudo infisical"), "{refused:?}");
    assert_eq!(everything(container), before);
}

pub(super) fn without_systemd_nothing_is_written(lab: &mut Lab) {
    let container = &lab.container;
    let before = everything(container);
    let hide = "mount -t tmpfs none /run/systemd && exec \"$@\"";
    let hidden = ["unshare", "--mount", "sh", "-c", hide, "sh"];
    let hidden = hidden.map(str::to_owned).into_iter();
    let refused = container.run(hidden.chain(service::words(lab, User::Root)));
    assert_eq!(refused.status, Some(69), "{refused:?}");
    assert!(refused.stderr.contains("systemd"), "{refused:?}");
    assert_eq!(everything(container), before);
}

pub(super) fn dry_run_hides_secrets_and_writes_nothing(lab: &mut Lab) {
    const SECRET: &str = "a-secret-of-the-dry-run";
    let container = &lab.container;
    let before = everything(container);
    let token = format!("INFISICAL_TOKEN={SECRET}");
    let dry_run = |words: &[&str]| {
        let install = [PROGRAM, "gateway", "systemd", "install", "--dry-run"];
        container.run(words.iter().copied().chain(install)).ok()
    };
    let shown = dry_run(&["env", &token]);
    for part in [
        "ExecStart=/usr/local/bin/infisical gateway start --config /etc/infisical/gateway.conf",
        "CapabilityBoundingSet=\n",
        "INFISICAL_TOKEN=<secret>",
        "INFISICAL_GATEWAY_NAME=",
    ] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    assert!(!shown.contains(SECRET), "{shown}");
    assert_eq!(everything(container), before);
    // A one-time token is not spent by looking.
    let mut words = service::words(lab, User::Root);
    words.push("--dry-run".to_owned());
    container.run(words).ok();
    // No one in particular may look, too.
    dry_run(&["setpriv", "--reuid=65534", "--clear-groups", "env", &token]);
}

pub(super) fn all_mistakes_are_reported_before_any_write(lab: &mut Lab) {
    let container = &lab.container;
    let before = everything(container);
    let mut words = service::words(lab, User::Root);
    // One more than the platform accepts.
    let long = "g".repeat(65);
    let wrong = [
        &format!("--name={long}"),
        "--target-relay-name=a b",
        "--log-file=/srv/log",
    ];
    words.retain(|word| word != "--name" && word != GATEWAY);
    words.extend(wrong.map(str::to_owned));
    let refused = container.run(&words);
    assert_eq!(refused.status, Some(78), "{refused:?}");
    for part in [long.as_str(), "a b", "/srv/log"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    for name in ["", "ssh", "-x\nExecStart=/bin/true"] {
        let words = [PROGRAM, "gateway", "systemd", "install", "--", name];
        let refused = container.run(words);
        assert!(matches!(refused.status, Some(64 | 78)), "{refused:?}");
    }
    assert_eq!(everything(container), before);
}

pub(super) fn program_hidden_by_the_sandbox_is_refused(lab: &mut Lab) {
    let container = &lab.container;
    let before = everything(container);
    for folder in ["/root", "/tmp"] {
        let copy = format!("{folder}/infisical");
        container.run(["cp", PROGRAM, &copy]).ok();
        let mut words = service::words(lab, User::Root);
        words[0] = copy;
        let refused = container.run(&words);
        assert_eq!(refused.status, Some(78), "{refused:?}");
        assert!(refused.stderr.contains("install -m 0755"), "{refused:?}");
    }
    assert_eq!(everything(container), before);
}

pub(super) fn failure_after_the_exchange_loses_no_token(lab: &mut Lab) {
    let container = &lab.container;
    let freeze = format!("mount --bind -o ro {UNITS} {UNITS} && exec \"$@\"");
    let frozen = ["unshare", "--mount", "sh", "-c", &freeze, "sh"];
    let frozen = frozen.map(str::to_owned).into_iter();
    let failed = container.run(frozen.chain(service::words(lab, User::Root)));
    assert_eq!(failed.status, Some(69), "{failed:?}");
    assert!(failed.stderr.contains(UNITS), "{failed:?}");
    // The token is spent, and what it obtained is there.
    let secret = service::secret(container);
    assert!(!failed.stderr.contains(&secret), "{failed:?}");
    assert_eq!(container.property(UNIT, "LoadState"), "not-found");
}

pub(super) fn held_back_it_neither_starts_nor_enables(lab: &mut Lab) {
    let container = &lab.container;
    // The token by standard input: then it is nowhere to be seen at all.
    let token = container.read(&service::token_file(lab, GATEWAY));
    let mut words = service::words(lab, User::Root);
    let file = words.iter().position(|word| word == "--token-file");
    let file = file.expect("a token");
    words.splice(file..file + 2, ["--token=-".to_owned()]);
    words.extend(["--no-start", "--no-enable"].map(str::to_owned));
    let account = container.run_with_input(&words, &token).ok();
    assert!(
        account.contains("systemctl start infisical-gateway"),
        "{account}"
    );
    assert!(account.contains(&format!("+ {UNITS}/{UNIT}")), "{account}");
    assert_eq!(container.property(UNIT, "LoadState"), "loaded");
    assert_eq!(container.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(container.property(UNIT, "UnitFileState"), "disabled");
    // What the token obtained is kept, and not shown.
    assert!(!account.contains(&service::secret(container)), "{account}");
}

pub(super) fn repeated_command_spends_no_second_token(lab: &mut Lab) {
    let account = service::install(lab, User::Root);
    assert!(account.contains(&format!("= {CONFIGURATION}")), "{account}");
    let container = &lab.container;
    assert_eq!(container.property(UNIT, "UnitFileState"), "enabled");
    lab.assert_session(GATEWAY);
}

pub(super) fn once_more_it_changes_and_restarts_nothing(lab: &mut Lab) {
    let container = &lab.container;
    let (before, invocation) = (everything(container), service::invocation(container, UNIT));
    let account = service::install(lab, User::Root);
    let changed = |line: &&str| line.starts_with(['+', '~', '-']);
    assert_eq!(account.lines().find(changed), None, "{account}");
    assert!(account.contains("nothing has changed"), "{account}");
    assert_eq!(everything(container), before);
    assert_eq!(service::invocation(container, UNIT), invocation);
}

pub(super) fn changed_flag_is_shown_written_and_used(lab: &mut Lab) {
    let container = &lab.container;
    let before = service::invocation(container, UNIT);
    let mut words = service::words(lab, User::Root);
    words.extend(["--target-relay-name", "relay-one"].map(str::to_owned));
    let account = container.run(&words).ok();
    for part in [
        &format!("~ {CONFIGURATION}"),
        "+ INFISICAL_RELAY_NAME=relay-one",
        &format!("= {UNITS}/{UNIT}"),
    ] {
        assert!(account.contains(part), "no {part} in {account}");
    }
    assert_ne!(service::invocation(container, UNIT), before);
    service::wait_for_status(container, UNIT, "connected to relay-one");
    // A file that was edited comes back, and says what was lost.
    let unit = format!("{UNITS}/{UNIT}");
    let edited = container
        .read(&unit)
        .replace("WatchdogSec=30\n", "WatchdogSec=0\n");
    container.write(&unit, &edited, 0o644);
    let account = container.run(&words).ok();
    for part in [&format!("~ {unit}"), "- WatchdogSec=0", "+ WatchdogSec=30"] {
        assert!(account.contains(part), "no {part} in {account}");
    }
    assert_eq!(container.property(UNIT, "WatchdogUSec"), "30s");
    lab.assert_session(GATEWAY);
}

pub(super) fn secret_in_command_line_is_warned_of(lab: &mut Lab) {
    let words = [PROGRAM, "gateway", "systemd", "install", "--dry-run"];
    let words = words.into_iter().chain(["--token=one-that-all-can-see"]);
    let shown = lab.container.run(words);
    let why = "visible to every user of this machine; use a file or the environment";
    assert!(shown.stderr.contains(why), "{shown:?}");
    let all = format!("{}{}", shown.stdout, shown.stderr);
    assert!(!all.contains("one-that-all-can-see"), "{shown:?}");
}

pub(super) fn uninstalled_it_leaves_the_configuration_and_comes_back_without_a_token(
    lab: &mut Lab,
) {
    let container = &lab.container;
    let uninstall = [PROGRAM, "gateway", "systemd", "uninstall"];
    let account = container.run(uninstall).ok();
    assert!(account.contains(&format!("- {UNITS}/{UNIT}")), "{account}");
    assert!(account.contains(CONFIGURATION), "{account}");
    assert_eq!(container.property(UNIT, "LoadState"), "not-found");
    let left = container
        .sh(&format!("find {UNITS} -name 'infisical*'"))
        .ok();
    assert_eq!(left, "");
    lab.try_session(GATEWAY).expect_err("it is gone");
    let again = container.run(uninstall).ok();
    assert!(again.contains("is not installed"), "{again}");
    service::install(lab, User::Root);
    lab.assert_session(GATEWAY);
}

pub(super) fn purged_it_leaves_nothing(lab: &mut Lab) {
    let container = &lab.container;
    let purge = [PROGRAM, "gateway", "systemd", "uninstall", "--purge"];
    container.run(purge).ok();
    let find = "find /etc /run /var/lib /var/log -name 'infisical*' -not -path '/var/lib/infisical*' \
                -not -path '/etc/logrotate.d/*'";
    assert_eq!(container.sh(find).ok(), "");
    container.run(purge).ok();
}

//! Services that are called after their gateway: which names can be, how an earlier service of that
//! gateway gives way, and that the commands of the deployed documentation work.

use crate::container::Container;
use crate::lab::{DOMAIN, Lab, PROGRAM};
use crate::service::{self, UNITS};

use super::sandbox;

/// A gateway, and its service.
const EDGE: &str = "edge-1";
/// One that was installed when services were instances of a template.
const OLD: &str = "old";
const OLD_UNIT: &str = "infisical-gateway@old.service";
const TEMPLATE: &str = "/etc/systemd/system/infisical-gateway@.service";

/// A name as people give one on the platform.
const SPACED: &str = "My Gateway";
const SPACED_UNIT: &str = "My\\x20Gateway.service";

/// The words that install a gateway whose configuration is there, and what it said and how it
/// ended.
fn install(container: &Container, name: &str, rest: &[&str]) -> (Option<i32>, String) {
    let words = [PROGRAM, "gateway", "systemd", "install", name];
    let output = container.run(words.iter().chain(rest));
    (output.status, output.stdout + &output.stderr)
}

/// Everything that an installation could have changed.
fn everything(container: &Container) -> String {
    let list = "find /etc/infisical /etc/systemd -type f -exec sha256sum {} + | sort; \
                find /etc/systemd -type l | sort";
    container.sh(list).stdout
}

#[track_caller]
fn is_running(container: &Container, unit: &str) -> bool {
    container.property(unit, "ActiveState") == "active"
}

pub(super) fn deployed_commands_work_for_a_named_gateway(lab: &mut Lab) {
    let token = service::token_file(lab, EDGE);
    let words = [PROGRAM, "gateway", "systemd", "install", EDGE].map(str::to_owned);
    let words = words.into_iter().chain(service::enrollment(lab, &token));
    let account = lab.container.run(words).ok();
    // What it shows is what the documentation says.
    for command in ["systemctl status edge-1\n", "journalctl -u edge-1\n"] {
        assert!(account.contains(command), "{account}");
    }
    let container = &lab.container;
    let status = container.run(["systemctl", "status", "--no-pager", EDGE]);
    assert!(status.ok().contains("Infisical gateway edge-1"));
    let before = service::invocation(container, EDGE);
    container.run(["systemctl", "restart", EDGE]).ok();
    service::wait_for_another(container, EDGE, &before);
    service::wait_for_line(container, EDGE, "Gateway started successfully");
    lab.assert_session(EDGE);
    // The template is for those who use it by hand.
    container.run(["test", "!", "-e", TEMPLATE]).ok();
    sandbox::assert_no_warnings(lab, "edge-1.service");
    sandbox::assert_exposure(lab, "edge-1.service", 16);
}

pub(super) fn an_instance_of_the_template_is_migrated(lab: &mut Lab) {
    let configuration = service::configure(lab, OLD);
    let container = &lab.container;
    container.write(TEMPLATE, &service::template(), 0o644);
    let drop_ins = format!("{UNITS}/{OLD_UNIT}.d");
    let edited = "[Service]\nEnvironment=OF_THE_ADMINISTRATOR=%i\n";
    container.write(&format!("{drop_ins}/override.conf"), edited, 0o644);
    container.run(["systemctl", "daemon-reload"]).ok();
    container
        .run(["systemctl", "enable", "--now", OLD_UNIT])
        .ok();
    lab.assert_session(OLD);
    let state = "/var/lib/infisical-gateway@old";
    container.write(&format!("{state}/kept"), "", 0o600);
    let before = container.read(&configuration);
    // Something in the way keeps the new one from being enabled, and the old one must not suffer
    // from it.
    let link = format!("{UNITS}/multi-user.target.wants/old.service");
    container.run(["mkdir", &link]).ok();
    let (code, said) = install(container, OLD, &["--user"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(is_running(container, OLD_UNIT), "{said}");
    container.run(["rmdir", &link]).ok();
    let (code, said) = install(container, OLD, &["--user", "--no-start"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is kept until"), "{said}");
    assert!(is_running(container, OLD_UNIT), "{said}");
    container
        .run(["systemctl", "is-enabled", OLD_UNIT])
        .exits(1);
    let reconnect = [PROGRAM, "gateway", "reconnect", OLD];
    container.run(reconnect).ok();
    let (code, said) = install(container, OLD, &[]);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        format!("{OLD_UNIT} gives way"),
        format!("- {drop_ins}/override.conf"),
        format!("- {TEMPLATE}"),
        "old.service is active".to_owned(),
    ] {
        assert!(said.contains(&part), "no {part} in {said}");
    }
    assert!(is_running(container, "old.service"));
    assert!(!is_running(container, OLD_UNIT));
    assert_eq!(container.property(OLD, "UnitFileState"), "enabled");
    container.run(["test", "!", "-e", &drop_ins]).ok();
    assert_eq!(container.read(&configuration), before);
    let environment = container.property(OLD, "Environment");
    assert!(
        environment.contains("OF_THE_ADMINISTRATOR=old"),
        "{environment}"
    );
    assert_eq!(container.property(OLD, "DynamicUser"), "yes");
    container.run(["test", "-e", &format!("{state}/kept")]).ok();
    lab.assert_session(OLD);
    let (_, said) = install(container, OLD, &[]);
    assert!(said.contains("nothing has changed"), "{said}");
    let wait = [PROGRAM, "gateway", "wait-online", OLD, "--timeout=60"];
    container.run(wait).ok();
}

pub(super) fn a_gateway_never_runs_twice(lab: &mut Lab) {
    let container = &lab.container;
    // As a package has it, which is not this installer's.
    let packaged = "/usr/lib/systemd/system/infisical-gateway@.service";
    let unit = service::template().replace("# Written by", "# From");
    container.write(packaged, &unit, 0o644);
    container.run(["systemctl", "daemon-reload"]).ok();
    container.run(["systemctl", "start", OLD_UNIT]).ok();
    assert!(is_running(container, OLD_UNIT));
    assert!(!is_running(container, "old.service"));
    container.run(["systemctl", "start", OLD]).ok();
    assert!(is_running(container, "old.service"));
    assert!(!is_running(container, OLD_UNIT));
    let (code, said) = install(container, OLD, &[]);
    assert_eq!(code, Some(0), "{said}");
    container.run(["test", "-e", packaged]).ok();
    container.run(["rm", packaged]).ok();
    container.run(["systemctl", "daemon-reload"]).ok();
}

pub(super) fn names_of_other_units_are_refused(lab: &mut Lab) {
    let container = &lab.container;
    let socket = "[Socket]\nListenStream=/run/test-socket\nAccept=yes\n";
    let timer = "[Timer]\nOnCalendar=monthly\nUnit=test-peer.service\n";
    let path = "[Path]\nPathExists=/nonexistent\nUnit=test-peer.service\n";
    for (file, text) in [
        ("/usr/lib/systemd/system/n-socket.socket", socket),
        ("/etc/systemd/system/n-timer.timer", timer),
        ("/run/systemd/system/n-path.path", path),
        ("/etc/systemd/system/n-dropin.service.d/a.conf", "[Unit]\n"),
    ] {
        container.write(file, text, 0o644);
    }
    let alias = format!("{UNITS}/n-alias.service");
    container
        .run(["ln", "-s", "test-peer.service", &alias])
        .ok();
    container.run(["mkdir", "/nmount"]).ok();
    container
        .run(["mount", "-t", "tmpfs", "none", "/nmount"])
        .ok();
    container.run(["systemctl", "daemon-reload"]).ok();
    let transient = [
        "systemd-run",
        "--unit=n-transient",
        "--remain-after-exit",
        "true",
    ];
    container.run(transient).ok();
    let before = everything(container);
    for (name, part) in [
        ("ssh", "a service of the system"),
        ("dbus", "a service of the system"),
        ("systemd-timesyncd", "a service of the system"),
        ("infisical-relay", "a service of the system"),
        ("n-socket", "n-socket.socket"),
        ("n-timer", "n-timer.timer"),
        ("n-path", "n-path.path"),
        ("n-dropin", "n-dropin.service.d/a.conf"),
        ("n-alias", "n-alias.service"),
        ("nmount", "nmount.mount"),
        ("n-transient", "n-transient.service"),
        ("test-peer", "test-peer.service"),
    ] {
        let (code, said) = install(container, name, &["--domain", DOMAIN, "--token=t"]);
        assert_eq!(code, Some(78), "{name}: {said}");
        assert!(said.contains(part), "{name}: {said}");
        assert_eq!(everything(container), before, "{name}");
    }
    container.run(["umount", "/nmount"]).ok();
    container.run(["systemctl", "stop", "n-transient"]).ok();
}

pub(super) fn later_unit_is_found_at_an_upgrade(lab: &mut Lab) {
    let container = &lab.container;
    let later = "/usr/lib/systemd/system/edge-1.socket";
    let socket = "[Socket]\nListenStream=/run/test-socket\nAccept=yes\n";
    container.write(later, socket, 0o644);
    let running = service::invocation(container, EDGE);
    let (code, said) = install(container, EDGE, &["--log-level=debug"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains(later), "{said}");
    assert_eq!(service::invocation(container, EDGE), running);
    container.run(["rm", later]).ok();
    // Drop-ins of the administrator are no such thing, once the service is there.
    service::drop_in(container, "edge-1.service", "Environment=A=b");
    let (code, said) = install(container, EDGE, &[]);
    assert_eq!(code, Some(0), "{said}");
}

pub(super) fn gateway_and_relay_cannot_share_a_name(lab: &mut Lab) {
    let container = &lab.container;
    let words = [
        PROGRAM,
        "relay",
        "systemd",
        "install",
        EDGE,
        "--host=127.0.0.9",
    ];
    let refused = container.run(words.iter().chain(&["--token=t", "--domain", DOMAIN]));
    assert_eq!(refused.status, Some(78), "{refused:?}");
    assert!(
        refused.stderr.contains("a gateway with the same name"),
        "{refused:?}"
    );
    let uninstall = [PROGRAM, "relay", "systemd", "uninstall", EDGE];
    container.run(uninstall).exits(78);
    assert!(is_running(container, EDGE));
}

pub(super) fn only_gateway_may_be_named(lab: &mut Lab) {
    // Without a name, it gets the one that the platform tells.
    let mut words = service::words(lab, service::User::Root);
    words.retain(|word| word != "--name" && word != service::GATEWAY);
    let said = lab.container.run(words).ok();
    let told = format!("The platform calls this gateway {}.", service::GATEWAY);
    assert!(said.contains(&told), "{said}");
    assert!(!said.contains("like this machine"), "{said}");
    let container = &lab.container;
    let text = container.read(service::CONFIGURATION);
    let name = format!("INFISICAL_GATEWAY_NAME={}", service::GATEWAY);
    assert!(text.lines().any(|line| line == name), "{text}");
    let (code, said) = install(container, service::GATEWAY, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("installed already as infisical-gateway"),
        "{said}"
    );
    let named = format!("{UNITS}/{}.service", service::GATEWAY);
    container.run(["test", "!", "-e", &named]).ok();
    let uninstall = [PROGRAM, "gateway", "systemd", "uninstall", service::GATEWAY];
    let said = container.run(uninstall).ok();
    assert!(said.contains("without NAME"), "{said}");
    lab.assert_session(service::GATEWAY);
}

pub(super) fn name_unknown_to_platform_is_warned_of(lab: &mut Lab) {
    const GIVEN: &str = "given";
    let token = service::token_file(lab, "told");
    let words = [
        PROGRAM,
        "gateway",
        "systemd",
        "install",
        GIVEN,
        "--no-start",
    ];
    let words = words.map(str::to_owned).into_iter();
    let said = lab
        .container
        .run(words.chain(service::enrollment(lab, &token)));
    let warning = "the enrollment token is of gateway told, and the name given is given.";
    assert!(said.ok().contains(warning));
    let uninstall = [PROGRAM, "gateway", "systemd", "uninstall", GIVEN, "--purge"];
    lab.container.run(uninstall).ok();
}

pub(super) fn a_name_with_spaces_is_escaped(lab: &mut Lab) {
    let container = &lab.container;
    let token = lab.platform(&["identity", "create", "spaced"]);
    container.write("/root/spaced.token", token.trim(), 0o600);
    let rest = [
        "--token-file=/root/spaced.token",
        "--domain",
        DOMAIN,
        "--user",
    ];
    let (code, said) = install(container, SPACED, &rest);
    assert_eq!(code, Some(0), "{said}");
    let stem = SPACED_UNIT.trim_end_matches(".service");
    assert!(
        said.contains(&format!("systemctl status '{stem}'\n")),
        "{said}"
    );
    let mangled = container.run(["systemd-escape", "--mangle", SPACED]).ok();
    assert_eq!(mangled.trim(), SPACED_UNIT);
    // By the name itself too, as systemctl reads it.
    for name in [SPACED, stem] {
        let status = container
            .run(["systemctl", "status", "--no-pager", name])
            .ok();
        assert!(status.contains("Infisical gateway My Gateway"), "{status}");
        let lines = container.run(["journalctl", "-b", "-q", "-u", name]).ok();
        assert!(lines.contains("Gateway started successfully"), "{lines}");
    }
    let configuration = "/etc/infisical/gateways/My@x20Gateway.conf";
    let text = container.read(configuration);
    assert!(text.contains(SPACED), "{text}");
    lab.assert_session(SPACED);
    container.run(["systemctl", "reload", SPACED_UNIT]).ok();
    let wait = [PROGRAM, "gateway", "wait-online", SPACED, "--timeout=60"];
    container.run(wait).ok();
    sandbox::assert_no_warnings(lab, SPACED_UNIT);
}

pub(super) fn uninstalled_and_purged_named_gateways_leave_nothing(lab: &mut Lab) {
    let container = &lab.container;
    for name in [EDGE, OLD, SPACED] {
        let uninstall = [PROGRAM, "gateway", "systemd", "uninstall", name];
        let said = container.run(uninstall).ok();
        assert!(said.contains("Its configuration stays"), "{said}");
        container.run(uninstall.iter().chain(&["--purge"])).ok();
    }
    let find = "find /etc/infisical/gateways /etc/systemd /var/lib /run -name '*edge-1*' \
                -o -name '*old.service*' -o -name '*@old' -o -name 'My*'";
    let left = container.sh(find).stdout;
    // What the administrator has added stays.
    let mut left: Vec<_> = left.lines().collect();
    left.sort_unstable();
    let drop_ins = ["edge-1", "old"].map(|name| format!("{UNITS}/{name}.service.d"));
    assert_eq!(left, drop_ins);
    lab.try_session(EDGE).expect_err("it is gone");
}

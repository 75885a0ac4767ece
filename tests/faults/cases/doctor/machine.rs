//! Faults of the gateway's own machine: its configuration, its process, its limits.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;

use infisical_runtime::events;
use nix::sys::signal::Signal;

use super::super::scarce::limit_descriptors;
use crate::doctor::{ABOVE_DNS, Doctor, Expected, Matrix};
use crate::figures::descriptors;
use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::Machine;
use crate::runner::Outcome;
use crate::small_disk::SmallDisk;
use crate::support::process::Process;
use crate::support::write_private;

/// A user who is not the gateway's.
const STRANGER: u32 = 65_534;

pub(super) fn run(lab: &mut Lab) -> Outcome {
    let (_relay, gateway) = lab.start(&GatewayPlan::pinned());
    lab.wait_line(&gateway, 0, events::GATEWAY_REACHABLE.text, PATIENCE);
    let doctor = Doctor::new(lab);
    Matrix::wait_healthy(lab, &doctor);
    let mut matrix = Matrix::new(lab, "machine");
    matrix.place(gateway.pid().to_string(), "PID");
    configuration(lab, &doctor, &mut matrix);
    disk(lab, &doctor, &mut matrix);

    // A reload that failed, and whose mistake was corrected since.
    let config = lab.home(Machine::Gateway).join("gateway.conf");
    let good = fs::read_to_string(&config).expect("the configuration");
    let mark = gateway.mark();
    write_private(&config, "INFISICAL_TOKEN=two words\n");
    gateway.signal(Signal::SIGHUP);
    lab.wait_line(&gateway, mark, events::RELOAD_REFUSED.text, PATIENCE);
    write_private(&config, &good);
    matrix.check(
        lab,
        &doctor,
        Expected {
            fault: "a reload failed, and the configuration was corrected since",
            layer: "reload",
            dependents: &[],
            cause: "cannot be used",
        },
    );
    reload(lab, &gateway);
    Matrix::wait_healthy(lab, &doctor);
    write_private(&config, &format!("{good}# Changed.\n"));
    let changed = Expected {
        fault: "the configuration was changed, and not reloaded",
        layer: "reload",
        dependents: &[],
        cause: "before the change",
    };
    matrix.check(lab, &doctor, changed);
    reload(lab, &gateway);
    Matrix::wait_healthy(lab, &doctor);

    let used = descriptors(gateway.pid());
    let fault = "the process has nearly as many descriptors open as it may";
    match limit_descriptors(&gateway, &(used + 1).to_string()) {
        Ok(()) => matrix.check(
            lab,
            &doctor,
            Expected {
                fault,
                layer: "descriptors",
                dependents: &[],
                cause: "limit",
            },
        ),
        Err(why) => matrix.skip(fault, &why),
    }
    limit_descriptors(&gateway, "4096").expect("as before");
    Matrix::wait_healthy(lab, &doctor);

    gateway.signal(Signal::SIGSTOP);
    let mut stopped = Expected {
        fault: "the gateway's process stands still",
        layer: "running",
        dependents: &["registration", "tunnel", "heartbeat"],
        cause: "does not answer",
    };
    matrix.check(lab, &doctor, stopped);
    gateway.signal(Signal::SIGCONT);
    lab.kill(&gateway);
    stopped.fault = "the gateway is not started";
    stopped.cause = "does not run";
    matrix.check(lab, &doctor, stopped);
    stale_copy(lab, &doctor, &mut matrix);
    matrix.finish()
}

/// Has the gateway read its configuration again.
fn reload(lab: &Lab, gateway: &Process) {
    let mark = gateway.mark();
    gateway.signal(Signal::SIGHUP);
    lab.wait_line(gateway, mark, events::RELOADED.text, PATIENCE);
}

/// The gateway has a copy of its configuration, as from `LoadCredential=`, and the file was
/// changed since.
fn stale_copy(lab: &Lab, doctor: &Doctor, matrix: &mut Matrix) {
    let copies = lab.home(Machine::Gateway);
    let plan = GatewayPlan {
        environment: vec![("CREDENTIALS_DIRECTORY", copies.display().to_string())],
        ..GatewayPlan::pinned()
    };
    let original = lab.dir().join("original.conf");
    fs::copy(copies.join("gateway.conf"), &original).expect("a copy");
    let gateway = lab.start_gateway(Machine::Gateway, &plan);
    lab.wait_line(&gateway, 0, events::GATEWAY_REACHABLE.text, PATIENCE);
    matrix.place(gateway.pid().to_string(), "PID");
    let doctor = doctor.clone().config(&original);
    Matrix::wait_healthy(lab, &doctor);
    let token = lab.ask(lab.platform().identity_token("another-identity"));
    write_private(&original, &format!("INFISICAL_TOKEN={token}\n"));
    let expected = Expected {
        fault: "the token was replaced, and the service has a copy of the old one",
        layer: "credentials",
        dependents: &[],
        cause: "old content",
    };
    matrix.check(lab, &doctor, expected);
}

/// The configuration is on a disk of its own.
fn disk(lab: &Lab, doctor: &Doctor, matrix: &mut Matrix) {
    let disk = SmallDisk::mount(&lab.dir().join("disk"));
    let config = disk.path().join("gateway.conf");
    write_private(&config, &lab.gateway_keys());
    let doctor = doctor.clone().config(&config);
    Matrix::wait_healthy(lab, &doctor);
    let mut expected = Expected {
        fault: "the disk with the configuration is full",
        layer: "disk",
        dependents: &[],
        cause: "full",
    };
    disk.fill();
    matrix.check(lab, &doctor, expected);
    disk.free();
    disk.read_only(true);
    Matrix::wait_healthy(lab, &doctor);
    expected.fault = "an enrollment cannot keep its token on a read-only disk";
    expected.cause = "read-only";
    let enrolling = doctor.argument("--enroll-method=token");
    matrix.check(lab, &enrolling, expected);
}

/// Of a gateway that runs well.
fn configuration(lab: &Lab, doctor: &Doctor, matrix: &mut Matrix) {
    let file = |name: &str, text: &str| -> PathBuf {
        let path = lab.dir().join(name);
        write_private(&path, text);
        path
    };
    let keys = lab.gateway_keys();
    let open = file("open.conf", &keys);
    fs::set_permissions(&open, Permissions::from_mode(0o644)).expect("a mode");
    let foreign = file("foreign.conf", &keys);
    chown(&foreign, Some(STRANGER), None).expect("an owner");
    let config = |path: PathBuf| doctor.clone().config(&path);
    let no_certificate = file("empty.pem", "");
    let cases = [
        (
            "the configuration file is not there",
            config(lab.dir().join("absent.conf")),
            "no such file",
        ),
        (
            "the configuration file can be read by other users",
            config(open),
            "other users",
        ),
        (
            "the configuration file belongs to another user",
            config(foreign),
            "",
        ),
        (
            "a line of the configuration is no assignment",
            config(file("syntax.conf", "INFISICAL_TOKEN\n")),
            "line 1",
        ),
        (
            "the token was pasted with a space in it",
            config(file("space.conf", "INFISICAL_TOKEN=two words\n")),
            "INFISICAL_TOKEN",
        ),
        (
            "the configuration has no credential",
            config(file("empty.conf", "")),
            "token",
        ),
        (
            "the domain is not an address",
            doctor.clone().domain("platform:port"),
            "must begin with https://",
        ),
        (
            "the file of `--ca-file` is not there",
            doctor
                .clone()
                .argument("--ca-file")
                .argument(&lab.dir().join("absent.pem").display().to_string()),
            "no such file",
        ),
        (
            "the file of `--ca-file` holds no certificate",
            doctor
                .clone()
                .argument("--ca-file")
                .argument(&no_certificate.display().to_string()),
            "certificate",
        ),
        (
            "this machine has no root certificates",
            doctor.clone().root(&lab.dir().join("absent.pem")),
            "no such file",
        ),
        (
            "doctor is run by a user who may not read the configuration",
            doctor.clone().by_stranger(),
            "may not read",
        ),
    ];
    for (fault, doctor, cause) in cases {
        matrix.check(
            lab,
            &doctor,
            Expected {
                fault,
                layer: "configuration",
                dependents: ABOVE_DNS,
                cause,
            },
        );
    }
}

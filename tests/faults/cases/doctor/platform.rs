//! Faults between the gateway's machine and the platform, while the gateway runs.

use std::net::SocketAddr;
use std::path::Path;

use infisical_runtime::events;
use nix::sys::signal::Signal;

use super::super::clocks::library;
use crate::doctor::{
    ABOVE_ANSWER, ABOVE_DNS, ABOVE_TCP, ABOVE_TLS, Doctor, Expected, Matrix, shifted,
};
use crate::lab::{GatewayPlan, Lab, PATIENCE, PLATFORM_NAME};
use crate::net::{Block, Machine};
use crate::runner::Outcome;
use crate::support::fake_platform::{Answer, FakePlatform};
use crate::support::process::{Process, infisical};
use crate::support::write_private;
use crate::support::x509::{Ca, Leaf};

/// Where platforms with other certificates listen, and what is no platform.
const OTHER_PORT: u16 = 8444;
const STATUS: &str = "GET /api/status";

pub(super) fn run(lab: &mut Lab) -> Outcome {
    lab.use_dns();
    let dns = lab.start_dns();
    let plan = GatewayPlan {
        by_name: true,
        ..GatewayPlan::pinned()
    };
    let (_relay, gateway) = lab.start(&plan);
    lab.wait_line(&gateway, 0, events::GATEWAY_REACHABLE.text, PATIENCE);
    let doctor = Doctor::new(lab).domain(&format!("https://{PLATFORM_NAME}"));
    Matrix::wait_healthy(lab, &doctor);
    let mut matrix = Matrix::new(lab, "platform");
    answers(lab, &doctor, &mut matrix);
    certificates(lab, &doctor, &mut matrix);
    clocks(lab, &doctor, &mut matrix);
    ports(lab, &doctor, &mut matrix);

    let mut lookup = Expected {
        fault: "the platform's name does not exist",
        layer: "platform-dns",
        dependents: ABOVE_DNS,
        cause: "name",
    };
    let unknown = doctor.clone().domain("https://nowhere.example.org");
    matrix.check(lab, &unknown, lookup);
    lab.kill(&dns);
    lookup.fault = "the resolver is not running";
    lookup.cause = "listens";
    matrix.check(lab, &doctor, lookup);
    for (fault, code, cause) in [
        ("the resolver refuses to answer", 5, "refuses"),
        ("the resolver fails (SERVFAIL)", 2, "cannot find out"),
    ] {
        let failing = lab.start_failing_dns(code);
        lookup.fault = fault;
        lookup.cause = cause;
        matrix.check(lab, &doctor, lookup);
        lab.kill(&failing);
    }
    lab.net.silence_dns(Machine::Gateway);
    lookup.fault = "the resolver does not answer";
    lookup.cause = "does not answer";
    matrix.check(lab, &doctor, lookup);
    matrix.finish()
}

/// Of firewalls before port 443, and of a platform that hangs or is down.
fn ports(lab: &mut Lab, doctor: &Doctor, matrix: &mut Matrix) {
    let platform = (Machine::Platform, 443);
    for (fault, how, layer, dependents, cause) in [
        (
            "a firewall drops packets to port 443 of the platform",
            Block::Drop,
            "platform-tcp",
            ABOVE_TCP,
            "drops",
        ),
        (
            "a firewall refuses connections to port 443 of the platform",
            Block::Reset,
            "platform-tcp",
            ABOVE_TCP,
            "Nothing listens",
        ),
        (
            "a firewall prohibits port 443 of the platform with ICMP",
            Block::Prohibit,
            "platform-tcp",
            ABOVE_TCP,
            "no route",
        ),
        (
            "a firewall resets connections to port 443 once TLS begins",
            Block::Cut,
            "platform-tls",
            ABOVE_TLS,
            "cuts",
        ),
    ] {
        lab.net.block(Machine::Gateway, platform, how);
        let expected = Expected {
            fault,
            layer,
            dependents,
            cause,
        };
        matrix.check(lab, doctor, expected);
        lab.net.heal();
    }
    let process = &lab.platform().process;
    process.signal(Signal::SIGSTOP);
    let expected = Expected {
        fault: "the platform accepts connections and says nothing",
        layer: "platform-answer",
        dependents: ABOVE_ANSWER,
        cause: "hangs",
    };
    matrix.check(lab, doctor, expected);
    process.signal(Signal::SIGCONT);
    lab.kill_platform();
    let expected = Expected {
        fault: "the platform is not running",
        layer: "platform-tcp",
        dependents: ABOVE_TCP,
        cause: "Nothing listens",
    };
    matrix.check(lab, doctor, expected);
    lab.start_platform();
}

/// A certificate of a platform that does not verify.
fn certificates(lab: &Lab, doctor: &Doctor, matrix: &mut Matrix) {
    // The clocks are compared without a verified certificate.
    const BESIDE_CLOCK: &[&str] = &["platform-answer", "token"];
    let address = Machine::Platform.address();
    let (ca, other) = (Ca::root("Platform CA"), Ca::root("Other CA"));
    let root = lab.dir().join("other-root.pem");
    write_private(&root, &ca.pem());
    let leaf = || Leaf::relay_server(address);
    let elsewhere = Leaf::relay_server(Machine::Client.address());
    let port = SocketAddr::from((address, OTHER_PORT));
    let doctor = doctor.clone().root(&root);
    for (fault, pem, dependents, cause) in [
        (
            "the platform's certificate is of a CA that is not known here",
            other.sign(&leaf()),
            ABOVE_TLS,
            "CA",
        ),
        (
            "the platform's certificate has expired",
            ca.sign(&leaf().expired()),
            BESIDE_CLOCK,
            "expired",
        ),
        (
            "the platform's certificate is not valid yet",
            ca.sign(&leaf().not_yet_valid()),
            BESIDE_CLOCK,
            "is not valid yet",
        ),
        (
            "the platform's certificate is for another name",
            ca.sign(&elsewhere),
            ABOVE_TLS,
            "another name",
        ),
    ] {
        let home = lab.dir().join("other-platform");
        std::fs::create_dir_all(&home).expect("a directory");
        let files = [("tls.pem", &pem.certificate), ("tls.key", &pem.key)];
        for (name, text) in files {
            write_private(&home.join(name), text);
        }
        let platform = other_platform(lab, &home, port);
        let expected = Expected {
            fault,
            layer: "platform-tls",
            dependents,
            cause,
        };
        let doctor = doctor.clone().domain(&format!("https://{port}"));
        matrix.check(lab, &doctor, expected);
        lab.kill(&platform);
    }
}

/// One more platform on the platform's machine.
fn other_platform(lab: &Lab, home: &Path, listen: SocketAddr) -> Process {
    let mut command = infisical(home);
    command.args(["platform", "start", "--listen", &listen.to_string()]);
    command.arg("--state-dir").arg(home.join("state"));
    command.arg("--tls-cert").arg(home.join("tls.pem"));
    command.arg("--tls-key").arg(home.join("tls.key"));
    let process = Process::spawn("other", lab.net.on(Machine::Platform, &command));
    lab.ask(process.wait_for_line("Platform started successfully"));
    process
}

/// What answers in the platform's place, or not as it should.
fn answers(lab: &Lab, doctor: &Doctor, matrix: &mut Matrix) {
    let address = SocketAddr::from((Machine::Client.address(), OTHER_PORT));
    let platform = lab.ask(FakePlatform::start(address));
    let doctor = |scheme: &str| doctor.clone().domain(&format!("{scheme}://{address}"));
    let expected = Expected {
        fault: "the platform's port speaks no TLS",
        layer: "platform-tls",
        dependents: ABOVE_TLS,
        cause: "not speak TLS",
    };
    matrix.check(lab, &doctor("https"), expected);
    let html =
        |status: u16, text: &str| Answer::raw(status, text).header("content-type", "text/html");
    for (fault, answer, cause) in [
        (
            "the platform answers with 500",
            Answer::error(500, "Something went wrong", "req-1"),
            "not well",
        ),
        (
            "the platform answers with 503",
            Answer::error(503, "The database is away", "req-2"),
            "not well",
        ),
        (
            "a web server that is no platform answers with 404",
            html(404, "<html><title>Not found</title></html>"),
            "Something else",
        ),
        (
            "a captive portal answers with a page of its own",
            html(
                200,
                "<html><title>Welcome to the guest network</title></html>",
            ),
            "Something else",
        ),
        (
            "a captive portal redirects to its login",
            Answer::raw(302, "").header("location", "https://portal.example/login"),
            "redirects",
        ),
        (
            "a proxy on the way, which is not configured, wants a password",
            html(
                407,
                "<html><title>Proxy authentication required</title></html>",
            ),
            "proxy",
        ),
        (
            "a load balancer before the platform answers with 502",
            html(502, "<html><title>Bad gateway</title></html>"),
            "does not reach",
        ),
    ] {
        platform.always(STATUS, answer);
        let expected = Expected {
            fault,
            layer: "platform-answer",
            dependents: ABOVE_ANSWER,
            cause,
        };
        matrix.check(lab, &doctor("http"), expected);
    }
}

fn clocks(lab: &Lab, doctor: &Doctor, matrix: &mut Matrix) {
    // The platform's certificate is good for a month in either direction.
    const LOOKS_INVALID: &[&str] = &["platform-tls", "platform-answer", "token"];
    for (fault, offset, dependents) in [
        ("this machine's clock is 2 days ahead", "+2d", &[][..]),
        ("this machine's clock is 2 days behind", "-2d", &[]),
        (
            "this machine's clock is 3 months ahead, so that certificates look expired",
            "+90d",
            LOOKS_INVALID,
        ),
        (
            "this machine's clock is 3 months behind, so that certificates look not valid yet",
            "-90d",
            LOOKS_INVALID,
        ),
    ] {
        let Some(library) = library() else {
            matrix.skip(fault, "the package faketime is not installed");
            continue;
        };
        let expected = Expected {
            fault,
            layer: "clock",
            dependents,
            cause: "clock",
        };
        let doctor = shifted(doctor, library.as_os_str(), offset);
        matrix.check(lab, &doctor, expected);
    }
}

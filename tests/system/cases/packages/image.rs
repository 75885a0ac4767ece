//! The container image's root file system, run as an engine runs it: as an ordinary user by number,
//! read-only, with a volume for the home directory and none of our environment. Engines need a
//! kernel that lets them nest; the service manager has what is needed here.

use super::DIST;
use crate::container::Output;
use crate::image::Release;
use crate::lab::Lab;
use crate::service::{self, GATEWAY};
use crate::wait;

const UNIT: &str = "image.service";

pub(in crate::cases) fn boot(release: Release) -> Lab {
    super::boot(release)
}

/// The same surroundings for the gateway and for the probe of its health.
fn run(lab: &Lab, how: &[&str], words: &[&str]) -> Output {
    let root = format!("RootDirectory={DIST}/container/root");
    let mut command = vec!["systemd-run", "--quiet"];
    command.extend(how);
    for property in [
        root.as_str(),
        "MountAPIVFS=yes",
        "ProtectSystem=strict",
        "User=65532",
        "Group=65532",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "BindPaths=/srv/volume:/home/infisical",
        "TemporaryFileSystem=/tmp:mode=1777",
        "TemporaryFileSystem=/var/lib/infisical:mode=0777",
        "BindReadOnlyPaths=/etc/resolv.conf",
        "Environment=HOME=/home/infisical",
    ] {
        command.extend(["--property", property]);
    }
    command.push("/usr/bin/infisical");
    command.extend(words);
    lab.container.run(command)
}

/// With the words of the deployed Helm chart.
fn start(lab: &Lab) {
    let token = lab.container.read(&service::token_file(lab, GATEWAY));
    let token = format!("--token={token}");
    let domain = format!("--domain={}", lab.domain);
    let words = [
        "gateway",
        "start",
        GATEWAY,
        "--enroll-method=token",
        &domain,
        &token,
        "--pam-session-recording-path=/var/lib/infisical/session_recordings",
    ];
    serve(lab, &[], &words);
}

fn serve(lab: &Lab, how: &[&str], words: &[&str]) {
    let unit = ["--unit", UNIT, "--property=KillSignal=SIGTERM"];
    run(lab, &[&unit[..], how].concat(), words).ok();
}

fn is_healthy(lab: &Lab) -> bool {
    let probe = run(lab, &["--pipe", "--wait"], &["gateway", "healthcheck"]);
    probe.status == Some(0)
}

pub(in crate::cases) fn containers_gateway_reaches_a_private_service(lab: &mut Lab) {
    // The service manager, unlike an engine, starts nothing as a user that has no name.
    let volume = "echo image:x:65532:65532::/home/infisical:/bin/false >>/etc/passwd && \
                  echo image:x:65532: >>/etc/group && install -d -m 0700 -o 65532 -g 65532 /srv/volume && touch /etc/resolv.conf";
    lab.container.sh(volume).ok();
    start(lab);
    service::wait_for_line(&lab.container, UNIT, "Gateway started successfully");
    lab.assert_session(GATEWAY);
    wait::until("a healthy gateway", || {
        is_healthy(lab)
            .then_some(())
            .ok_or_else(|| lab.container.journal(UNIT))
    });
}

pub(in crate::cases) fn restarted_container_needs_no_token(lab: &mut Lab) {
    let container = &lab.container;
    container.run(["systemctl", "stop", UNIT]).ok();
    assert!(!is_healthy(lab), "nothing runs");
    // The enrollment token is spent; what it was exchanged for is in the volume.
    start(lab);
    lab.assert_session(GATEWAY);
    service::wait_for_line(container, UNIT, "Gateway started successfully");
}

/// With the words of our Helm chart, which `tests/packages` compares with what Helm makes of it.
pub(in crate::cases) fn charts_pod_starts_after_the_kubelet(lab: &mut Lab) {
    let container = &lab.container;
    container.run(["systemctl", "stop", UNIT]).ok();
    // What the kubelet does to the files of a volume at each start, for the group of the pod, and
    // to those of a Secret.
    let token = service::token_file(lab, GATEWAY);
    let prepare = format!(
        "chgrp -R 65532 /srv/volume && chmod -R g+rwX /srv/volume && \
         find /srv/volume -type d -exec chmod g+s '{{}}' + && \
         install -d /srv/secret && install -m 0440 -g 65532 {token} /srv/secret/enrollment-token"
    );
    container.sh(&prepare).ok();
    let domain = format!("--domain={}", lab.domain);
    let words = [
        "gateway",
        "start",
        GATEWAY,
        "--enroll-method=token",
        &domain,
        "--token-file=/run/secrets/infisical/enrollment-token",
    ];
    let pod = [
        "--property=BindReadOnlyPaths=/srv/secret:/run/secrets/infisical",
        "--setenv=KUBERNETES_SERVICE_HOST=192.0.2.1",
        "--setenv=KUBERNETES_SERVICE_PORT_HTTPS=443",
    ];
    serve(lab, &pod, &words);
    lab.assert_session(GATEWAY);
    assert!(is_healthy(lab));
}

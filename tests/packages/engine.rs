//! The image as an engine builds it: its configuration, and a round trip through a gateway in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::tools::{dist, find, ok, root, run, text};

const IMAGE: &str = "infisical-gateway:test";

/// buildah, with a store of its own. No driver but this needs the kernel's help.
struct Engine {
    program: PathBuf,
    store: tempfile::TempDir,
}

impl Engine {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let at = |name: &str| self.store.path().join(name);
        command.arg("--root").arg(at("root"));
        command.arg("--runroot").arg(at("run"));
        command.args(["--storage-driver", "vfs"]).args(words);
        command
    }
}

/// The container's root that `make dist` has laid out.
fn container() -> Option<PathBuf> {
    let container = dist().join("container");
    if !container.join("root").is_dir() {
        eprintln!("SKIPPED: no image is built, {container:?} is made by make dist");
        return None;
    }
    Some(container)
}

/// Builds the image; says so where the kernel does not let an engine work.
fn build(container: &Path) -> Option<Engine> {
    let engine = Engine {
        program: find("buildah")?,
        store: tempfile::tempdir().expect("a directory"),
    };
    let probe = engine.command(&["from", "scratch"]).output();
    if let Some(why) = probe.ok().filter(|probe| !probe.status.success()) {
        eprintln!(
            "SKIPPED: no image is built, buildah cannot work here: {}",
            text(&why).1
        );
        return None;
    }
    let file = root().join("packaging/container/Containerfile");
    // Without this form there is no health check.
    let words = ["build", "--isolation=chroot", "--format=docker", "--tag"];
    let mut command = engine.command(&words);
    command.arg(IMAGE).arg("--file").arg(file);
    ok(command.arg(container));
    Some(engine)
}

#[test]
fn engine_builds_an_image_that_works() {
    let Some(engine) = container().and_then(|container| build(&container)) else {
        return;
    };
    let inspected = ok(&mut engine.command(&["inspect", "--type", "image", IMAGE]));
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    let config = &inspected["Docker"]["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], json!(["/usr/bin/infisical"]));
    assert_eq!(config["Cmd"], json!(["gateway", "start"]));
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(
        config["Volumes"],
        json!({"/home/infisical": {}, "/var/lib/infisical": {}})
    );
    assert_eq!(
        config["Healthcheck"]["Test"],
        json!(["CMD", "/usr/bin/infisical", "gateway", "healthcheck"])
    );
    let layers = inspected["OCIv1"]["rootfs"]["diff_ids"].as_array();
    assert_eq!(layers.map(Vec::len), Some(1));

    let made = ok(&mut engine.command(&["from", IMAGE]));
    let container = made.trim();
    let inside = |words: &[&str]| {
        let mut command = engine.command(&["run", "--isolation=chroot", container, "--"]);
        command.arg("/usr/bin/infisical").args(words);
        command
    };
    // A platform, a relay, a gateway and a private service, all of them in the container.
    ok(&mut inside(&["dev", "--check"]));
    let health = run(&mut inside(&["gateway", "healthcheck"]));
    assert_ne!(health.status.code(), Some(0), "nothing runs");
}

//! What `make install` puts where.

use std::path::Path;

use crate::image::Release;
use crate::lab::{Lab, PROGRAM};

/// Where the container sees the source.
const SOURCE: &str = "/usr/src/infisical";

pub(super) fn boot(release: Release) -> Lab {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    Lab::start(Lab::setup(release).bind_ro(source, SOURCE))
}

pub(super) fn make_install_needs_only_a_built_source(lab: &mut Lab) {
    let container = &lab.container;
    // The program was built by the one who runs the test, in the profile of tests.
    let built = format!("BINARY={PROGRAM}");
    let make = [
        "make",
        "-C",
        SOURCE,
        "install",
        &built,
        "PREFIX=/usr",
        "DESTDIR=/tmp/to",
    ];
    container.run(make).ok();
    container
        .run(["/tmp/to/usr/bin/infisical", "--version"])
        .ok();
}

//! What the build has made, found from the test program that runs.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The folder of the build's profile: the program lies in it, and test programs one below.
static PROFILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().expect("the test program's own path");
    let deps = test.parent().expect("the folder of test programs");
    deps.parent().expect("the profile's folder").to_path_buf()
});
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| PROFILE.join("infisical"));
static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    let scratch = PROFILE.with_file_name("tmp");
    std::fs::create_dir_all(&scratch).expect("the folder of the tests' files");
    scratch
});

/// The program under test, which cargo builds before the tests of its package.
pub(crate) fn program() -> &'static Path {
    &PROGRAM
}

/// Where tests may keep what is slow to make, from one run to the next.
pub(crate) fn scratch() -> &'static Path {
    &SCRATCH
}

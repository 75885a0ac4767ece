//! `platform systemd hand-over-tls`: what the unit of the platform does before a start and a reload.
//!
//! The key may be readable by root alone, and `LoadCredential=` hands it over at a start only. So
//! the unit runs this as root and outside of the sandbox: it writes certificate and key, if they
//! fit, into one file of the service's own runtime directory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use super::exit::Failure;
use super::service::say;
use crate::config::file;
use crate::error::chain;
use crate::install::plan::Error;
use crate::platform::TlsFiles;

/// Give the service its certificate and key, if they can be used
#[derive(Debug, Args)]
pub(crate) struct HandOverTlsArgs {
    /// PEM, with its chain
    certificate: PathBuf,
    /// PEM
    key: PathBuf,
    /// The file of the service, in a directory that belongs to its user
    file: PathBuf,
}

/// The machine as its first process sees it.
const MACHINE: &str = "/proc/1/root";

/// Fails, and leaves the file as it is, if they cannot be used.
pub(crate) fn run(args: HandOverTlsArgs) -> anyhow::Result<()> {
    // A command of a unit that has all privileges still gets the bind mounts and the empty
    // directories of the unit, which are in the way of what is below /var/lib, for instance.
    if let Err(error) = nix::unistd::chroot(MACHINE).and_then(|()| nix::unistd::chdir("/")) {
        tracing::debug!(%error, "the files are looked for in the sandbox");
    }
    let said = |error: anyhow::Error| {
        // The journal may not know the unit of a process that ends at once, but knows whose output
        // this is.
        say(&format!(
            "The certificate is not used: {}",
            chain(error.as_ref())
        ));
        Failure::configuration(error)
    };
    // At a start there is no other one, and an expired one is better than none: it is reported.
    let now = args.file.exists().then(SystemTime::now);
    let files = TlsFiles {
        certificate: args.certificate,
        key: args.key,
    };
    let text = files.joined(now).map_err(|error| said(error.into()))?;
    let directory = args.file.parent().unwrap_or(&args.file);
    let owner = fs::metadata(directory);
    let owner = owner.map_err(|e| Failure::unavailable(Error::new("examine", directory, e)))?;
    let owner = (owner.uid(), owner.gid());
    file::write_whole_for(&args.file, text.as_bytes(), 0o400, owner)
        .map_err(|e| Failure::unavailable(Error::new("write", &args.file, e)))?;
    Ok(())
}

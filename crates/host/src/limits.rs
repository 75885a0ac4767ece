//! What the system allows this process: descriptors.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process open as many descriptors as it may give itself: every connection needs one,
/// and the limit that processes start with is kept low for programs that use select(2), which this
/// one does not. Never fails: without it, connections wait earlier.
pub fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok((soft, hard))
    });
    match raised {
        Ok((before, limit)) => tracing::debug!(before, limit, "limit of open descriptors"),
        Err(error) => tracing::debug!(%error, "cannot raise the limit of open descriptors"),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource, getrlimit};

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
        for _ in 0..2 {
            super::raise_descriptors();
            let limits = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
            assert_eq!(limits, (hard, hard));
        }
    }
}

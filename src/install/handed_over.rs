//! Whether a service that gets its configuration from the service manager still has the one that is
//! in the file.
//!
//! `LoadCredential=` copies the file when the service starts, and a reload does not copy it again.
//! So the unit asks this before it reloads, as root and outside of the sandbox, where both can be
//! seen.

use std::fs;
use std::io;
use std::path::Path;

use super::plan::Error;

/// True if the service has what is in `file`: `credential` is the copy that the manager handed
/// over.
///
/// A configuration that is kept encrypted is not in `file` but in `file` with `.cred` at its end;
/// of that one only the time of its last change is compared.
pub(crate) fn is_current(file: &Path, credential: &Path) -> Result<bool, Error> {
    let copy = fs::read(credential).map_err(|e| Error::new("read", credential, e))?;
    match fs::read(file) {
        Ok(content) => return Ok(content == copy),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::new("read", file, error)),
    }
    let mut encrypted = file.as_os_str().to_owned();
    encrypted.push(".cred");
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
    match changed(Path::new(&encrypted)) {
        Ok(changed_at) => {
            let handed_over_at = changed(credential);
            let handed_over_at = handed_over_at.map_err(|e| Error::new("read", credential, e))?;
            Ok(changed_at <= handed_over_at)
        }
        // It comes from elsewhere, which no one can compare.
        Err(_) => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::is_current;

    #[test]
    fn copy_is_current_until_its_file_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("gateway.conf");
        let copy = directory.path().join("copy");
        is_current(&file, &copy).expect_err("there is no copy");
        fs::write(&file, "A=1\n").expect("written");
        fs::write(&copy, "A=1\n").expect("written");
        assert!(is_current(&file, &copy).expect("read"));
        fs::write(&file, "A=2\n").expect("written");
        assert!(!is_current(&file, &copy).expect("read"));
    }

    #[test]
    fn encrypted_file_is_judged_by_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("gateway.conf");
        let encrypted = directory.path().join("gateway.conf.cred");
        let copy = directory.path().join("copy");
        fs::write(&copy, "A=1\n").expect("written");
        assert!(is_current(&file, &copy).expect("read"));
        fs::write(&encrypted, "x").expect("written");
        let hour = Duration::from_secs(3600);
        let opened = File::options().write(true).open(&encrypted);
        let opened = opened.expect("opened");
        for (at, current) in [
            (SystemTime::now() - hour, true),
            (SystemTime::now() + hour, false),
        ] {
            opened.set_modified(at).expect("a time");
            assert_eq!(is_current(&file, &copy).expect("read"), current);
        }
    }
}

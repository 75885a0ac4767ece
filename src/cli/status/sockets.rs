//! Where a role serves its status, and where those of this machine are found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::agent::status::socket::SERVICE;
use crate::config::env::Environment;
use crate::install::place::Role;

/// The end of a socket's name in a directory that several programs share.
const SHARED: &str = ".sock";
/// The longest path of a socket (unix(7)), without its end.
const MAX_PATH: usize = 107;

/// The socket of the role that starts here under `name`: in the runtime directory of a service,
/// otherwise in one of its user. `None` if there is no place for it.
pub(crate) fn of_this_process(
    role: Role,
    name: &str,
    is_root: bool,
    environment: &Environment,
) -> Option<PathBuf> {
    let path = match &environment.runtime_directory {
        Some(directory) => directory.join(SERVICE),
        None => {
            let base = users(is_root, environment).into_iter().next()?;
            base.join(role.keys().folder)
                .join(format!("{name}{SHARED}"))
        }
    };
    (path.as_os_str().len() <= MAX_PATH).then_some(path)
}

/// The directories for the sockets of this user's programs that are no services; the first is used
/// for new ones.
fn users(is_root: bool, environment: &Environment) -> Vec<PathBuf> {
    let runtime = environment.xdg_runtime_directory.as_ref();
    let mut bases: Vec<_> = runtime
        .map(|path| path.join("infisical"))
        .into_iter()
        .collect();
    if is_root {
        bases.push("/run/infisical".into());
        // Of a session of root, for a command that sudo started.
        bases.push("/run/user/0/infisical".into());
    } else if let Some(home) = &environment.home {
        bases.push(home.join(".infisical/run"));
    }
    bases
}

/// The sockets of all roles of this kind that run here, as far as this user may see: services
/// first, each by the paths' order.
pub(crate) fn of_this_machine(
    role: Role,
    is_root: bool,
    environment: &Environment,
) -> Vec<PathBuf> {
    let runtime = environment.xdg_runtime_directory.as_deref();
    let bases = [Some(Path::new("/run")), runtime];
    let mut paths = Vec::new();
    for base in bases.into_iter().flatten() {
        let prefix = format!("infisical-{role}");
        let mut services = names(base, |name| {
            let rest = name.strip_prefix(&prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
        });
        services.iter_mut().for_each(|path| path.push(SERVICE));
        services.retain(|path| match fs::symlink_metadata(path) {
            Ok(_) => true,
            // A directory of another user cannot be looked into; connecting says so.
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        });
        paths.append(&mut services);
    }
    for base in users(is_root, environment) {
        let directory = base.join(role.keys().folder);
        let mut sockets = names(&directory, |name| name.ends_with(SHARED));
        sockets.retain(|path| !paths.contains(path));
        paths.append(&mut sockets);
    }
    paths
}

/// What is in `directory` under names that `is_wanted`.
fn names(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let wanted = entries.filter(|entry| entry.file_name().to_str().is_some_and(&is_wanted));
    let mut paths: Vec<_> = wanted.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{of_this_machine, of_this_process};
    use crate::config::env::Environment;
    use crate::install::place::Role;

    fn with(runtime: Option<&str>, xdg: Option<&Path>, home: Option<&str>) -> Environment {
        let mut environment = Environment::default();
        environment.runtime_directory = runtime.map(PathBuf::from);
        environment.xdg_runtime_directory = xdg.map(PathBuf::from);
        environment.home = home.map(PathBuf::from);
        environment
    }

    #[test]
    fn each_process_has_its_socket() {
        let xdg = Path::new("/run/user/7");
        for (environment, is_root, path) in [
            (
                with(Some("/run/infisical-gateway"), Some(xdg), Some("/h")),
                true,
                Some("/run/infisical-gateway/status.sock"),
            ),
            (
                with(None, None, Some("/h")),
                true,
                Some("/run/infisical/gateways/g.sock"),
            ),
            (
                with(None, Some(xdg), Some("/h")),
                false,
                Some("/run/user/7/infisical/gateways/g.sock"),
            ),
            (
                with(None, None, Some("/h")),
                false,
                Some("/h/.infisical/run/gateways/g.sock"),
            ),
            (with(None, None, None), false, None),
            (
                with(Some(&format!("/run/{}", "x".repeat(99))), None, None),
                false,
                None,
            ),
        ] {
            let found = of_this_process(Role::Gateway, "g", is_root, &environment);
            assert_eq!(found.as_deref(), path.map(Path::new), "{environment:?}");
        }
    }

    #[test]
    fn sockets_of_the_same_role_are_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path();
        let environment = with(None, Some(base), None);
        for file in [
            "infisical-gateway/status.sock",
            "infisical-gateway@b/status.sock",
            "infisical-gateway-online/status.sock",
            "infisical-relay/status.sock",
            "infisical/gateways/c.sock",
            "infisical/relays/d.sock",
        ] {
            let path = base.join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        }
        let found = of_this_machine(Role::Gateway, false, &environment);
        let found: Vec<_> = found
            .iter()
            .filter_map(|path| path.strip_prefix(base).ok())
            .collect();
        let expected = [
            "infisical-gateway/status.sock",
            "infisical-gateway@b/status.sock",
            "infisical/gateways/c.sock",
        ];
        assert_eq!(found, expected.map(Path::new));
    }
}

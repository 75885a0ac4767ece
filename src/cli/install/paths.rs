//! The files that settings name, judged as the service would find them: it starts in another
//! directory than the command, and does not see all of the machine.

use std::path::Path;

use super::super::service::say;
use super::Install;
use super::decide::Settings;
use crate::config::credential::POD_TOKEN;
use crate::config::env::{AUDIT_FILE, KUBERNETES_TOKEN_PATH, Kind, LOG_FILE, TABLE, Variable};
use crate::config::metrics::MetricsListen;
use crate::config::raw::{Origin, Raw};
use crate::config::warning::Problem;
use crate::install::config_changes;
use crate::install::place::Role;
use crate::install::sandbox::Sandbox;
use crate::install::setting_file;
use crate::install::unit_templates::LogDirectory;

impl Install<'_> {
    /// The directory of the log file and the audit file, if there are any: the only one that the
    /// service can write to.
    pub(super) fn log_directory(
        &self,
        raw: &Raw<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<LogDirectory> {
        let role = self.place.role();
        let files = match role {
            Role::Gateway => &[&LOG_FILE, &AUDIT_FILE][..],
            Role::Relay => &[&LOG_FILE],
        };
        let mut found: Option<LogDirectory> = None;
        for value in files.iter().filter_map(|variable| raw.value(variable)) {
            match LogDirectory::of(Path::new(value.text.expose()), role) {
                Ok(other) if found.as_ref().is_some_and(|found| *found != other) => {
                    problems.push(Problem::new(format!(
                        "{}: a service has one directory for its log file and its audit file",
                        value.origin
                    )));
                }
                Ok(directory) => found = Some(directory),
                Err(error) => problems.push(Problem::of(&value.origin, &error)),
            }
        }
        found
    }

    /// What is wrong with the files that the settings name, which `raw` holds as they were given. Log
    /// and audit files have rules of their own.
    pub(super) fn judge_paths(
        &self,
        settings: Option<&Settings>,
        raw: &Raw<'_>,
        sandbox: &Sandbox,
        own_user: bool,
        problems: &mut Vec<Problem>,
    ) {
        let role = self.place.role();
        let proof = settings.map(Settings::proof);
        let is_kept = |variable: &Variable| config_changes::keeps(role, proof, variable);
        let writes = [&LOG_FILE, &AUDIT_FILE];
        let files = TABLE
            .iter()
            .filter(|known| known.kind == Kind::Path && !writes.contains(known) && is_kept(known));
        for variable in files {
            let Some(value) = raw.value(variable) else {
                continue;
            };
            let path = Path::new(value.text.expose());
            match setting_file::check(path, sandbox, own_user) {
                Ok(()) => warn_of_closed(path, &value.origin, sandbox, own_user),
                Err(error) => problems.push(Problem::of(&value.origin, &error)),
            }
        }
        let metrics = settings.and_then(|settings| settings.common().metrics.as_ref());
        if let Some(MetricsListen::Unix(path)) = metrics {
            let directory = self.place.runtime();
            if path.parent() != Some(directory.as_path()) {
                problems.push(Problem::new(format!(
                    "--metrics-listen unix:{}: a service can make a socket in its own directory only; write unix:{}",
                    path.display(),
                    directory.join("metrics.sock").display()
                )));
            }
        }
        let of_pod = settings.is_some_and(Settings::logs_in_as_pod);
        if of_pod && raw.value(&KUBERNETES_TOKEN_PATH).is_none() {
            problems.push(Problem::new(format!(
                "--auth-method=kubernetes: a service of systemd is in no pod, so there is no \
                 {POD_TOKEN}; give the file of the token with --service-account-token-path"
            )));
        }
    }
}

/// Says so if permissions keep the service from reading a file that it would see. Only that: access
/// lists may allow it all the same.
fn warn_of_closed(path: &Path, origin: &Origin<'_>, sandbox: &Sandbox, own_user: bool) {
    if sandbox.has_groups() {
        return;
    }
    let Some((part, mode)) = setting_file::closed_to_service(path, own_user) else {
        return;
    };
    let user = if own_user {
        "a user of its own"
    } else {
        "root without capabilities"
    };
    say(&format!(
        "Warning: {origin}: the service runs as {user}, which probably cannot read {}: {} has the \
         mode {mode:04o}.",
        path.display(),
        part.display()
    ));
}

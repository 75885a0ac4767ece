//! The rule for logrotate that the deployed installer wrote beside a unit with a log file. The unit
//! that replaces that one does not write the file, and has a rule of its own.

use std::path::{Path, PathBuf};

use super::place::Place;

/// Where logrotate reads its rules.
const RULES: &str = "/etc/logrotate.d";

/// A rule of the deployed installer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Its file.
    pub(crate) path: PathBuf,
    /// The log file that it is for.
    pub(crate) log: String,
}

/// The rule that was written with the deployed `unit` of `place`, if it is below `root`.
pub(crate) fn deployed(root: &Path, place: &Place, unit: &str) -> Option<Rule> {
    let stem = place.stem();
    let names = [place.name(), Some(stem.as_str())];
    // A path with another `/` in it is not the rule of a unit.
    let mut names = names.into_iter().flatten().filter(|n| !n.contains('/'));
    names.find_map(|name| {
        let path = Path::new(RULES).join(name);
        let text = std::fs::read_to_string(root.join(path.strip_prefix("/").ok()?)).ok()?;
        let log = only_log(&text)?.to_owned();
        logs_to(unit, &log).then_some(Rule { path, log })
    })
}

/// The log file of a rule that is for one file.
fn only_log(rule: &str) -> Option<&str> {
    let lines = rule.lines().map(str::trim);
    let mut blocks = lines.filter(|line| !line.starts_with('#') && line.contains('{'));
    let head = blocks.next()?.split('{').next()?.trim();
    let log = head.trim_matches(|c| c == '"' || c == '\'');
    let is_one = blocks.next().is_none() && log.starts_with('/') && !log.contains(['*', ' ']);
    is_one.then_some(log)
}

/// True if the command of `unit` names `log`.
fn logs_to(unit: &str, log: &str) -> bool {
    let commands = unit.lines().filter(|line| line.starts_with("ExecStart="));
    let is_log = |word: &str| word.trim_matches(|c| c == '"' || c == '\'') == log;
    commands.flat_map(str::split_whitespace).any(is_log)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{deployed, only_log};
    use crate::install::place::{Place, Role};

    const UNIT: &str = "[Service]\nEnvironmentFile=/etc/infisical/gateways/edge.conf\n\
        ExecStart=/bin/bash -c 'infisical gateway start 2>&1 | tee /var/log/edge.log'\n";
    const RULE: &str = "/var/log/edge.log {\n    daily\n    rotate 7\n    compress\n\
        \x20   create 0644 root root\n}\n";

    #[test]
    fn only_the_replaced_units_rule_is_found() {
        let root = tempfile::tempdir().expect("a directory");
        let rules = root.path().join("etc/logrotate.d");
        std::fs::create_dir_all(&rules).expect("created");
        let place = Place::try_new(Role::Gateway, Some("edge")).expect("a place");
        let found = |unit: &str| deployed(root.path(), &place, unit).map(|rule| rule.path);
        assert_eq!(found(UNIT), None);
        std::fs::write(rules.join("edge"), RULE).expect("written");
        assert_eq!(
            found(UNIT).as_deref(),
            Some(Path::new("/etc/logrotate.d/edge"))
        );
        // That of another program with the same name.
        assert_eq!(found(&UNIT.replace("edge.log", "other.log")), None);
        assert_eq!(
            found("[Service]\nExecStart=infisical gateway start\n"),
            None
        );
        let both = format!("{RULE}/var/log/b.log {{\n}}\n");
        std::fs::write(rules.join("edge"), both).expect("written");
        assert_eq!(found(UNIT), None);
    }

    #[test]
    fn rules_for_several_files_are_left_alone() {
        for (rule, log) in [
            ("# a {\n\"/var/log/a.log\" {\n}\n", Some("/var/log/a.log")),
            ("/var/log/a.log{\n}\n", Some("/var/log/a.log")),
            ("/var/log/*.log {\n}\n", None),
            ("/var/log/a.log /var/log/b.log {\n}\n", None),
            ("weekly\n", None),
        ] {
            assert_eq!(only_log(rule), log, "{rule}");
        }
    }
}

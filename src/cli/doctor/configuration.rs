//! The configuration as a start would read it, with the files that it names, and what it comes to.

use std::path::PathBuf;

use super::super::check::{self, Checked};
use super::super::global::Global;
use super::super::start::{Daemon, Start};
use super::layer::{CONFIGURATION, Check, Fault, SETTINGS, blocked};
use crate::config::effective::{EffectiveConfig, Row};
use crate::config::warning::Problem;
use crate::humanize::Count;

/// What was read.
pub(super) struct Configuration<S> {
    pub(super) check: Check,
    pub(super) effective: Check,
    pub(super) settings: Option<S>,
    /// The role's file.
    pub(super) file: Option<PathBuf>,
    /// The effective settings, or why there are none, for the bundle.
    pub(super) text: String,
}

/// Reads it.
pub(super) async fn examine<R: Daemon>(
    start: &Start<R>,
    global: &Global,
) -> Configuration<R::Settings> {
    let role = R::ROLE;
    match check::read(start, global, "doctor").await {
        Err(problems) => {
            let fault = fault::<R>(&problems);
            let text = format!("{}\n", fault.detail);
            let check = Check::failed(&CONFIGURATION, fault);
            let effective = blocked(&SETTINGS, &[&check]);
            let effective = effective.unwrap_or_else(|| Check::skipped(&SETTINGS, "not read"));
            Configuration {
                check,
                effective,
                settings: None,
                file: None,
                text,
            }
        }
        Ok(Checked {
            settings,
            effective,
            missing,
        }) => {
            let check = if missing.is_empty() {
                let form = effective
                    .form
                    .map_or_else(|| "not there".to_owned(), |form| form.to_string());
                let (file, credential) = (effective.file.display(), &effective.credential);
                Check::good(
                    &CONFIGURATION,
                    format!("{file} ({form}); credential: {credential}"),
                )
            } else {
                let cause = match missing.as_slice() {
                    [one] => stopped(one),
                    _ => format!("This machine lacks what the {role} needs, as the detail says."),
                };
                let fix = format!("Provide it; infisical {role} check names the settings.");
                Check::failed(&CONFIGURATION, Fault::new(missing.join("; "), cause, fix))
            };
            Configuration {
                check,
                effective: Check::good(&SETTINGS, summary(&effective)),
                settings: Some(settings),
                file: Some(effective.file.clone()),
                text: check::render(&effective, missing),
            }
        }
    }
}

/// How many settings are given, and where; then each of them on a line.
fn summary(effective: &EffectiveConfig) -> String {
    let given = effective.rows.iter().filter(|row| row.origin != "default");
    let given: Vec<&Row> = given.collect();
    let from = |begin: &str| given.iter().any(|row| row.origin.starts_with(begin));
    let mut places = Vec::new();
    if from("file") {
        places.push(effective.file.display().to_string());
    }
    if from("environment") {
        places.push("environment".to_owned());
    }
    if from("-") || from("NAME") {
        places.push("flags".to_owned());
    }
    let mut text = format!("{}", Count(given.len(), "value"));
    if !places.is_empty() {
        text.push_str(", from ");
        text.push_str(&places.join(", "));
    }
    for row in &effective.rows {
        let Row { key, value, origin } = row;
        text.push_str(&format!("\n {key}={value} ({origin})"));
    }
    text
}

fn fault<R: Daemon>(problems: &[Problem]) -> Fault {
    let role = R::ROLE;
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let is_denied = !problems.is_empty() && problems.iter().all(Problem::is_denied);
    let check = format!("infisical {role} check");
    let (cause, fix) = match texts.as_slice() {
        _ if is_denied => (
            "This user may not read the configuration.".to_owned(),
            format!("Run it as root: sudo infisical {role} doctor"),
        ),
        [one] => match one.rsplit_once("; ") {
            Some((what, advice)) => (stopped(what), sentence(advice)),
            None => (
                stopped(one),
                format!("Correct it; {check} shows each setting and where it is from."),
            ),
        },
        _ => (
            format!("{} things in the configuration are wrong.", texts.len()),
            format!("Correct each that the detail names, then run {check}"),
        ),
    };
    Fault::new(texts.join("; "), cause, fix)
}

/// Part of an error, as a sentence that may end in a command.
fn sentence(advice: &str) -> String {
    let mut chars = advice.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}

/// The same with its full stop.
fn stopped(text: &str) -> String {
    let sentence = sentence(text);
    match sentence.ends_with(['.', '?']) {
        true => sentence,
        false => sentence + ".",
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::summary;
    use crate::config::effective::{EffectiveConfig, Row};

    #[test]
    fn settings_are_counted_with_their_origins() {
        let row = |key: &str, value: &str, origin: &str| Row {
            key: key.to_owned(),
            value: value.to_owned(),
            origin: origin.to_owned(),
        };
        let effective = EffectiveConfig {
            file: PathBuf::from("/etc/infisical/gateway.conf"),
            rows: vec![
                row("name", "edge", "NAME"),
                row("token", "<secret>", "file, line 1"),
                row("level", "info", "default"),
            ],
            ..EffectiveConfig::default()
        };
        let text = summary(&effective);
        let expected = "2 values, from /etc/infisical/gateway.conf, flags\n name=edge (NAME)\n \
                        token=<secret> (file, line 1)\n level=info (default)";
        assert_eq!(text, expected);
    }
}

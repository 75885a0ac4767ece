//! The configuration as a start would read it, with the files that it names.

use std::path::PathBuf;

use super::super::check::{self, Checked};
use super::super::global::Global;
use super::super::start::{Daemon, Start};
use super::layer::{CONFIGURATION, Check, Fault};
use crate::config::warning::Problem;

/// Reads it; gives the settings, and the file that they are from.
pub(super) async fn examine<R: Daemon>(
    start: &Start<R>,
    global: &Global,
) -> (Check, Option<(R::Settings, PathBuf)>) {
    let role = R::ROLE;
    match check::read(start, global, "doctor").await {
        Err(problems) => (Check::failed(&CONFIGURATION, fault::<R>(&problems)), None),
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
            (check, Some((settings, effective.file)))
        }
    }
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

//! The configuration as a start would read it, with the files that it names.

use super::super::check::{self, Checked};
use super::super::global::Global;
use super::super::start::{Daemon, Start};
use super::layer::{CONFIGURATION, Check, Fault};
use crate::config::warning::Problem;

/// Reads it.
pub(super) async fn examine<R: Daemon>(
    start: &Start<R>,
    global: &Global,
) -> (Check, Option<R::Settings>) {
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
                let (file, credential) = (effective.file.display(), effective.credential);
                Check::good(
                    &CONFIGURATION,
                    format!("{file} ({form}); credential: {credential}"),
                )
            } else {
                let cause = format!("The {role} needs something that this machine lacks.");
                let fix = "Provide what is missing; infisical gateway check names the settings.";
                let fix = fix.replace("gateway", role.word());
                Check::failed(&CONFIGURATION, Fault::new(missing.join("; "), cause, fix))
            };
            (check, Some(settings))
        }
    }
}

fn fault<R: Daemon>(problems: &[Problem]) -> Fault {
    let role = R::ROLE;
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let is_denied = !problems.is_empty() && problems.iter().all(Problem::is_denied);
    let cause = if is_denied {
        "This user may not read the configuration.".to_owned()
    } else {
        format!("The {role} cannot start with this configuration.")
    };
    let advice = texts.first().and_then(|text| text.rsplit_once("; "));
    let fix = match (is_denied, advice) {
        (true, _) => format!("Run it as root: sudo infisical {role} doctor"),
        (false, Some((_, advice))) if texts.len() == 1 => sentence(advice),
        (false, Some(_) | None) => {
            format!("Correct what is named; infisical {role} check tells what else there is.")
        }
    };
    Fault::new(texts.join("; "), cause, fix)
}

/// Advice of an error, as a sentence that may end in a command.
fn sentence(advice: &str) -> String {
    let mut chars = advice.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}

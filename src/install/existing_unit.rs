//! What a unit that is to be replaced says itself, beside the file that it reads: settings in
//! `Environment=` lines, and by the flags of its command. None of it may be lost in silence; a lost
//! domain would send a token elsewhere. Pure.

use std::iter::Peekable;
use std::str::Chars;

use super::place::Role;
use crate::config::env::{GATEWAY_NAME, TABLE, Variable};
use crate::config::raw::{Raw, Source};
use crate::config::role::is_access_token;
use crate::secret::Secret;

/// One setting of a unit's own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    key: &'static Variable,
    value: Secret,
    /// A flag wins over the file, a variable of the unit does not.
    is_flag: bool,
}

/// The keys that `unit` sets itself and that `new` does not have, or has otherwise, each once.
pub(crate) fn lost(unit: &str, role: Role, new: &Raw<'_>) -> Vec<&'static str> {
    let mut names = Vec::new();
    for own in settings(unit, role) {
        if !own.value.is_empty() && !is_kept(&own, new) && !names.contains(&own.key.name) {
            names.push(own.key.name);
        }
    }
    names
}

/// Variables of `unit` that are no settings of ours, such as a proxy's.
pub(crate) fn others(unit: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in environment(unit) {
        if Variable::named(&name).is_none() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Secrets in the lines and the command of `unit`.
pub(crate) fn secrets(unit: &str, role: Role) -> Vec<Secret> {
    let own = settings(unit, role).into_iter();
    let own = own.filter(|own| own.key.secret).map(|own| own.value);
    own.collect()
}

/// The file to which the shell of `unit` copies the log, if its command does that.
pub(crate) fn log_file(unit: &str) -> Option<String> {
    let mut words = command(unit).into_iter().skip_while(|word| word != "tee");
    words.next()?;
    words.find(|word| !word.starts_with('-'))
}

fn is_kept(own: &Own, new: &Raw<'_>) -> bool {
    let is_given = |key: &'static Variable| new.source(key) > Some(Source::File);
    let in_file = |key| new.value_from(Source::File, key);
    if is_given(own.key) {
        return true;
    }
    // A new credential replaces the old one whole.
    if own.key.group.is_credential() {
        let mut credentials = TABLE.iter().filter(|key| key.group.is_credential());
        let given = credentials.any(|key| is_given(key));
        // What a one-time token obtained is worth more than the token.
        let mut issued = TABLE.iter().filter(|key| is_access_token(key));
        if given || issued.any(|key| in_file(key).is_some()) {
            return true;
        }
    }
    in_file(own.key).is_some_and(|value| !own.is_flag || *value.text == own.value)
}

fn settings(unit: &str, role: Role) -> Vec<Own> {
    let mut all = Vec::new();
    for (name, value) in environment(unit) {
        if let Some(key) = Variable::named(&name) {
            all.push(Own {
                key,
                value: Secret::new(&value),
                is_flag: false,
            });
        }
    }
    let mut words = command(unit).into_iter().skip_while(|word| word != "start");
    words.next();
    let mut words = words
        .take_while(|word| word != "2>&1" && word != "|")
        .peekable();
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        if !flag.starts_with('-') {
            if role == Role::Gateway {
                all.push(of_flag(&GATEWAY_NAME, &flag));
            }
            continue;
        }
        let value = value.or_else(|| words.next_if(|next| !next.starts_with('-')));
        if let Some(key) = Variable::of_flag(&flag, role.into()) {
            all.push(of_flag(key, &value.unwrap_or_default()));
        }
    }
    all
}

fn of_flag(key: &'static Variable, value: &str) -> Own {
    Own {
        key,
        value: Secret::new(value),
        is_flag: true,
    }
}

/// The assignments of the `Environment=` lines; an empty line restarts.
fn environment(unit: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for value in lines_of(unit, "Environment") {
        if value.is_empty() {
            all.clear();
        }
        let split = |word: &String| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        all.extend(words(&value).iter().filter_map(split));
    }
    all
}

/// The words of the command, those within a shell's `-c` too.
fn command(unit: &str) -> Vec<String> {
    let line = lines_of(unit, "ExecStart").pop().unwrap_or_default();
    let outer = words(&line);
    match outer.as_slice() {
        [_, dash_c, script, ..] if dash_c == "-c" => words(script),
        _ => outer,
    }
}

/// What the lines of `unit` say that set `key`.
pub(crate) fn lines_of(unit: &str, key: &str) -> Vec<String> {
    let joined = unit.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    let values = lines.filter_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
    values.map(|value| value.trim().to_owned()).collect()
}

/// Words as the service manager splits them: quotes keep spaces, a backslash keeps the next
/// character.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(word) = word(&mut rest) {
        words.push(word);
    }
    words
}

fn word(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
    rest.peek()?;
    let mut word = String::new();
    let mut quote = None;
    while let Some(c) = rest.next() {
        match c {
            '\\' => word.extend(rest.next()),
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c if quote.is_none() && c.is_whitespace() => break,
            c => word.push(c),
        }
    }
    Some(word)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{log_file, lost, others, words};
    use crate::config::env::{API_URL, Environment, TOKEN, Variable};
    use crate::config::file::parse;
    use crate::config::raw::{Flags, Loaded, Raw};
    use crate::install::place::Role;

    fn lost_with(
        unit: &str,
        role: Role,
        file: &str,
        given: &[(&'static Variable, &str)],
    ) -> Vec<&'static str> {
        let mut flags = Flags::default();
        for (key, value) in given {
            flags.add(key, "--flag", Some(value));
        }
        let loaded = Loaded {
            path: PathBuf::from("/etc/infisical/gateway.conf"),
            entries: parse(file).expect("a file"),
        };
        let environment = Environment::default();
        let raw = Raw {
            flags: &flags,
            environment: &environment,
            file: Some(&loaded),
        };
        lost(unit, role, &raw)
    }

    const UNIT: &str = "[Service]\nEnvironment=\"INFISICAL_API_URL=https://a b\" INFISICAL_TOKEN=hunter2\n\
        Environment=HTTPS_PROXY=http://proxy\nExecStart=/usr/bin/infisical gateway start edge --relay \\\n eu-1\n";

    #[test]
    fn settings_only_in_old_unit_are_named() {
        let all = [
            "INFISICAL_API_URL",
            "INFISICAL_TOKEN",
            "INFISICAL_GATEWAY_NAME",
            "INFISICAL_RELAY_NAME",
        ];
        assert_eq!(lost_with(UNIT, Role::Gateway, "", &[]), all);
        assert_eq!(others(UNIT), ["HTTPS_PROXY"]);
        let file =
            "INFISICAL_API_URL=https://b\nINFISICAL_GATEWAY_NAME=edge\nINFISICAL_RELAY_NAME=eu-2\n";
        // A file wins over the unit's variables, but not over its flags.
        assert_eq!(
            lost_with(UNIT, Role::Gateway, file, &[(&TOKEN, "t")]),
            ["INFISICAL_RELAY_NAME"]
        );
        let issued = "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_RELAY_NAME=eu-1\nINFISICAL_GATEWAY_ACCESS_TOKEN=a\n";
        assert_eq!(
            lost_with(UNIT, Role::Gateway, issued, &[(&API_URL, "https://c")]),
            [""; 0]
        );
    }

    #[test]
    fn shell_flags_count_and_empty_lines_reset() {
        let piped = "[Service]\nEnvironment=INFISICAL_TOKEN=x\nEnvironment=\n\
            ExecStart=/bin/bash -c 'infisical relay start --name=eu --host \"h\" 2>&1 | tee x'\n";
        assert_eq!(
            lost_with(piped, Role::Relay, "", &[]),
            ["INFISICAL_RELAY_NAME", "INFISICAL_RELAY_HOST"]
        );
        assert_eq!(log_file(piped).as_deref(), Some("x"));
        assert_eq!(
            log_file(&piped.replace("tee x", "tee -a \"/var/log/a b\"")).as_deref(),
            Some("/var/log/a b")
        );
        assert_eq!(log_file(UNIT), None);
        let file = "INFISICAL_RELAY_NAME=eu\nINFISICAL_RELAY_HOST=h\n";
        assert_eq!(lost_with(piped, Role::Relay, file, &[]), [""; 0]);
    }

    #[test]
    fn words_split_as_in_systemd() {
        assert_eq!(
            words(r#" a "b c"  d='e f' g\ h "#),
            ["a", "b c", "d=e f", "g h"]
        );
        assert_eq!(words(""), [""; 0]);
    }
}

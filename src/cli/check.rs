//! `infisical gateway check` and `infisical relay check`: what a start would use, without a start.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::exit::Failure;
use super::global::Global;
use super::print::{json_object, print, table};
use super::start::{Daemon, Start, with_inputs};
use crate::api::login;
use crate::config::credential::LoginFileKind;
use crate::config::effective::EffectiveConfig;
use crate::config::raw::{Loaded, Raw};
use crate::config::role::RoleKeys;
use crate::config::warning::Problem;
use crate::config::{Assembled, Inputs, default_directory, file};
use crate::error::chain;
use crate::install::place::CONFIGURATION;
use crate::secret::Secret;
use crate::trust;

/// What a start would use.
pub(super) struct Checked<S> {
    pub(super) settings: S,
    pub(super) effective: EffectiveConfig,
    /// What this machine lacks for a start.
    pub(super) missing: Vec<String>,
}

/// The arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs<R: Daemon> {
    #[command(flatten)]
    start: Start<R>,
    /// Print JSON (version 1, docs/json.md)
    #[arg(long)]
    json: bool,
}

/// Prints what a start with these arguments would use.
pub(super) async fn run<R: Daemon>(args: &CheckArgs<R>, global: &Global) -> anyhow::Result<()> {
    let checked = read(&args.start, global, "check").await;
    if args.json {
        let checked = checked
            .as_ref()
            .map(|checked| (&checked.effective, &*checked.missing));
        print(&as_json(R::ROLE.word(), checked.map_err(Vec::as_slice)))?;
    }
    let checked = checked.map_err(Failure::problems)?;
    if args.json {
        return Ok(());
    }
    print(&render(&checked.effective, checked.missing))
}

/// What was found, or what is wrong, as JSON of one shape.
fn as_json(role: &str, checked: Result<(&EffectiveConfig, &[String]), &[Problem]>) -> String {
    let (account, missing) = checked.ok().unzip();
    let settings = account.into_iter().flat_map(|account| &account.rows);
    let settings =
        settings.map(|row| json!({"setting": row.key, "value": row.value, "from": row.origin}));
    let texts = |texts: Option<&[String]>| json!(texts.unwrap_or_default());
    let warnings = account.into_iter().flat_map(|account| &account.warnings);
    let problems = checked.err().unwrap_or_default().iter();
    let form = account.and_then(|account| account.form);
    json_object([
        ("role", json!(role)),
        ("ok", json!(checked.is_ok())),
        (
            "file",
            json!(account.map(|account| account.file.display().to_string())),
        ),
        ("form", json!(form.map(|form| form.to_string()))),
        (
            "credential",
            json!(account.map(|account| account.credential)),
        ),
        ("proxy", json!(account.map(|account| &account.proxy))),
        ("settings", settings.collect::<Vec<_>>().into()),
        ("unused", texts(account.map(|account| &*account.overridden))),
        (
            "warnings",
            warnings.map(ToString::to_string).collect::<Vec<_>>().into(),
        ),
        ("missing", texts(missing)),
        (
            "problems",
            problems.map(ToString::to_string).collect::<Vec<_>>().into(),
        ),
    ])
}

/// Reads what a start with these arguments would use; everything that is wrong with it otherwise.
/// `command` is the one that is running, for advice.
pub(super) async fn read<R: Daemon>(
    start: &Start<R>,
    global: &Global,
    command: &str,
) -> Result<Checked<R::Settings>, Vec<Problem>> {
    read_part(start, global, command, R::ASSEMBLE).await
}

/// The same of the part of the settings that `assemble` reads.
pub(super) async fn read_part<R: Daemon, S>(
    start: &Start<R>,
    global: &Global,
    command: &str,
    assemble: fn(&Inputs<'_>) -> Assembled<S>,
) -> Result<Checked<S>, Vec<Problem>> {
    let (flags, keys) = (start.flags(global, io::stdin()), R::ROLE.keys());
    let raw = Raw {
        flags: &flags,
        environment: &global.environment,
        file: None,
    };
    // The file of the only one of its role on this machine.
    let only = Path::new(CONFIGURATION).join(format!("{}.conf", R::ROLE));
    let is_nameless = raw.value(keys.name).is_none();
    let only = is_nameless.then_some(only.as_path());
    let config = start.config.as_deref();
    if let (None, Some(only)) = (config, only)
        && let Err(error) = file::load(only)
        && (error.is_absent() || error.is_denied())
    {
        return Err(vec![nameless(keys, global, &error, command)]);
    }
    let config = config.or(only);
    let assembled = with_inputs(&global.environment, &flags, config, keys, assemble);
    let (settings, effective) = assembled?;
    let mut missing = Vec::new();
    let mut problems = Vec::new();
    roots(&effective, &mut missing, &mut problems);
    login_file(&effective, &mut missing, &mut problems).await;
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Checked {
        settings,
        effective,
        missing,
    })
}

/// Every secret among what a start with these arguments and the files `files` would read. What
/// cannot be read is left out.
pub(super) fn secrets<R: Daemon>(
    start: &Start<R>,
    global: &Global,
    files: &[PathBuf],
) -> Vec<Secret> {
    let flags = start.flags(global, io::empty());
    let none = PathBuf::new();
    let mut secrets = Vec::new();
    for path in files.iter().chain([&none]) {
        let loaded = Loaded {
            path: path.clone(),
            // A copy for a service is readable for its user's group.
            entries: file::load_credential(path).unwrap_or_default(),
        };
        let raw = Raw {
            flags: &flags,
            environment: &global.environment,
            file: Some(&loaded),
        };
        secrets.extend(raw.secrets());
    }
    secrets
}

/// Nothing says which role is meant, and the file of the only one gives `error`.
fn nameless(keys: &RoleKeys, global: &Global, error: &file::Error, command: &str) -> Problem {
    let role = keys.word;
    let is_root = nix::unistd::geteuid().is_root();
    let directory = default_directory(&global.environment, is_root, keys.folder);
    let names = names(&directory);
    let known = match names.is_empty() {
        true => String::new(),
        false => format!(
            "; {} has files for {}",
            directory.display(),
            names.join(", ")
        ),
    };
    let text = format!(
        "{}; give the name of the {role}: infisical {role} {command} NAME{known}",
        chain(error)
    );
    Problem::new(text)
}

/// The names of roles that have a file in `directory`.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let is_file = path
            .extension()
            .is_some_and(|extension| extension == "conf");
        let stem = path.file_stem().filter(|_| is_file)?;
        Some(stem.to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    names
}

/// Reads the root certificates.
fn roots(account: &EffectiveConfig, missing: &mut Vec<String>, problems: &mut Vec<Problem>) {
    let Err(error) = trust::roots().check(&account.roots) else {
        return;
    };
    let text = chain(&error).to_string();
    if error.is_configuration() {
        problems.push(Problem::new(text));
    } else if account.uses_https {
        missing.push(text);
    }
}

/// Reads the file that a login would read.
async fn login_file(
    account: &EffectiveConfig,
    missing: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) {
    let Some(file) = &account.login_file else {
        return;
    };
    let Err(error) = login::check_file(file).await else {
        return;
    };
    let text = match &file.setting {
        Some(setting) => format!("{setting}: {}", chain(&error)),
        None => chain(&error).to_string(),
    };
    // Kubernetes makes it with the pod, so it may be there where the gateway is to run.
    if file.kind == LoginFileKind::PodToken && error.is_absent_file() {
        missing.push(text);
    } else {
        problems.push(Problem::new(text));
    }
}

/// The account as text; `missing` is what this machine lacks for a start.
pub(super) fn render(account: &EffectiveConfig, missing: Vec<String>) -> String {
    let cells = |row: &crate::config::effective::Row| {
        [row.key.clone(), row.value.clone(), row.origin.clone()]
    };
    let mut text = table(["SETTING", "VALUE", "FROM"], account.rows.iter().map(cells));
    let file = account.file.display();
    let form = match account.form {
        Some(form) => form.to_string(),
        None => "not there".to_owned(),
    };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\nCredential: {}\nFile: {file} ({form})\nProxy: {}\n",
        account.credential, account.proxy
    );
    let warnings = account.warnings.iter().map(ToString::to_string);
    list(
        &mut text,
        "Given, but not used",
        account.overridden.iter().cloned(),
    );
    let is_ready = missing.is_empty();
    list(&mut text, "Remarks", warnings);
    list(
        &mut text,
        "Missing, without which a start fails",
        missing.into_iter(),
    );
    text.push_str(if is_ready {
        "\nNothing is wrong. No connection was made.\n"
    } else {
        "\nNo setting is wrong. No connection was made.\n"
    });
    text
}

fn list(text: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_some() {
        let _ = writeln!(text, "\n{title}:");
    }
    for item in items {
        let _ = writeln!(text, "  - {item}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::render;
    use crate::config::effective::{EffectiveConfig, Row};
    use crate::config::file::Form;
    use crate::config::warning::Warning;
    use crate::trust;

    #[test]
    fn effective_configuration_is_a_table() {
        let row = |key: &str, value: &str, origin: &str| Row {
            key: key.to_owned(),
            value: value.to_owned(),
            origin: origin.to_owned(),
        };
        let mut account = EffectiveConfig {
            file: PathBuf::from("/etc/infisical/gateway.conf"),
            form: Some(Form::Toml),
            rows: vec![
                row("gateway_name", "edge-1", "NAME"),
                row("token", "<secret>", "environment"),
            ],
            credential: "access token of a machine identity",
            login_file: None,
            proxy: "none".to_owned(),
            roots: trust::Source::default(),
            uses_https: true,
            overridden: Vec::new(),
            warnings: Vec::new(),
        };
        let plain = "\
SETTING       VALUE     FROM
gateway_name  edge-1    NAME
token         <secret>  environment

Credential: access token of a machine identity
File: /etc/infisical/gateway.conf (TOML)
Proxy: none
";
        let end = "\nNothing is wrong. No connection was made.\n";
        assert_eq!(render(&account, Vec::new()), format!("{plain}{end}"));
        account
            .overridden
            .push("token: environment wins".to_owned());
        account.warnings.push(Warning::AlreadyEnrolled);
        let missing = render(&account, vec!["no roots".to_owned()]);
        let last = "\nMissing, without which a start fails:\n  - no roots\n\nNo setting is wrong.";
        assert!(missing.contains(last), "{missing}");
        let text = render(&account, Vec::new());
        let lists = "\nGiven, but not used:\n  - token: environment wins\n\nRemarks:\n  - the enrollment token";
        assert!(text.starts_with(&format!("{plain}{lists}")), "{text}");
        assert!(text.ends_with(end), "{text}");
    }
}

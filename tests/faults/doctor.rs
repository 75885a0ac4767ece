//! `infisical gateway doctor` and `infisical relay doctor` under a fault: which layer it names, and
//! with which words. The words are kept in docs/troubleshooting.md, in one marked table for each
//! case; `UPDATE_GENERATED=1` writes them there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;

use crate::lab::{Lab, PATIENCE};
use crate::net::Machine;
use crate::runner::Outcome;
use crate::support::process::{Process, as_user, infisical};
use crate::support::stack::{GATEWAY, RELAY};
use crate::wait;

/// Where the tables are.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md");
const HEAD: &str = "| fault | layer | cause | what to change |\n| --- | --- | --- | --- |\n";
/// The password of a proxy.
pub(crate) const PASSWORD: &str = "hunter2-of-the-proxy";
/// Layers that are not checked where nothing is wrong: there is no service manager, and a group for
/// memory only on some machines.
const OPTIONAL: &[&str] = &["unit", "hardened", "memory"];
/// Layers that need the platform's address.
pub(crate) const ABOVE_DNS: &[&str] = &[
    "platform-tcp",
    "platform-tls",
    "platform-answer",
    "clock",
    "token",
];
/// Layers that need a connection to the platform, TLS with it, and an answer.
pub(crate) const ABOVE_TCP: &[&str] = &["platform-tls", "platform-answer", "clock", "token"];
pub(crate) const ABOVE_TLS: &[&str] = &["platform-answer", "clock", "token"];
pub(crate) const ABOVE_ANSWER: &[&str] = &["clock", "token"];
/// Layers that need the relay's port 2222.
pub(crate) const ABOVE_SSH: &[&str] = &["host-certificate", "tunnel", "heartbeat"];
/// Layers that need a tunnel.
pub(crate) const ABOVE_CERTIFICATE: &[&str] = &["tunnel", "heartbeat"];

/// One run of the command.
#[derive(Clone)]
pub(crate) struct Doctor {
    machine: Machine,
    /// The command, with the name of the role.
    words: Vec<String>,
    domain: String,
    config: PathBuf,
    root: PathBuf,
    more: Vec<String>,
    environment: Vec<(&'static str, String)>,
    is_stranger: bool,
}

impl Doctor {
    /// With the settings of the lab's gateway.
    pub(crate) fn new(lab: &Lab) -> Self {
        let words = ["gateway", "doctor", GATEWAY, "--target-relay-name", RELAY];
        Self::of(lab, Machine::Gateway, &words, "gateway.conf")
    }

    /// With the settings of the lab's relay.
    pub(crate) fn relay(lab: &Lab) -> Self {
        let host = Machine::Relay.address().to_string();
        let words = ["relay", "doctor", RELAY, "--type", "org", "--host", &host];
        Self::of(lab, Machine::Relay, &words, &format!("relay-{RELAY}.conf"))
    }

    fn of(lab: &Lab, machine: Machine, words: &[&str], config: &str) -> Self {
        Self {
            machine,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            domain: format!("https://{}", Machine::Platform.address()),
            config: lab.home(machine).join(config),
            root: lab.root_file(),
            more: Vec::new(),
            environment: Vec::new(),
            is_stranger: false,
        }
    }

    pub(crate) fn domain(mut self, domain: &str) -> Self {
        domain.clone_into(&mut self.domain);
        self
    }

    pub(crate) fn config(mut self, config: &Path) -> Self {
        config.clone_into(&mut self.config);
        self
    }

    /// The roots of the machine.
    pub(crate) fn root(mut self, root: &Path) -> Self {
        root.clone_into(&mut self.root);
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.more.push(argument.to_owned());
        self
    }

    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Run by another user than the gateway's.
    pub(crate) fn by_stranger(mut self) -> Self {
        self.is_stranger = true;
        self
    }

    /// `None`, visibly, where there is no such user.
    fn run(&self, lab: &Lab) -> Option<Findings> {
        let mut command = infisical(&lab.home(self.machine));
        command.args(&self.words);
        command.args(["--json", "--domain", &self.domain]);
        command.arg("--config").arg(&self.config).args(&self.more);
        command.env("SSL_CERT_FILE", &self.root);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.is_stranger {
            command = as_user(&command)?;
        }
        let process = Process::spawn("doctor", lab.net.on(self.machine, &command));
        let code = lab.ask(process.exit_code());
        let output = process.output();
        let keys = lab.gateway_keys();
        let (_, token) = keys.trim().split_once('=').expect("a token");
        for secret in [token, PASSWORD] {
            assert!(!output.contains(secret), "a secret is shown: {output}");
        }
        let json = serde_json::from_str(&process.stdout());
        let json = json.unwrap_or_else(|error| panic!("{error}: {output}"));
        Some(Findings { code, json })
    }
}

/// What a doctor found.
struct Findings {
    code: i32,
    json: Value,
}

impl Findings {
    fn checks(&self) -> impl Iterator<Item = &Value> {
        self.json["checks"].as_array().expect("checks").iter()
    }

    fn check(&self, id: &str) -> Result<&Value, String> {
        let found = self.checks().find(|check| check["id"] == id);
        found.ok_or_else(|| format!("there is no layer {id}"))
    }

    /// The layers with `status`, in their order.
    fn with(&self, status: &str) -> Vec<&str> {
        let found = self.checks().filter(|check| check["status"] == status);
        found.filter_map(|check| check["id"].as_str()).collect()
    }

    /// Nothing is wrong, and nothing else is left out.
    fn is_healthy(&self) -> Result<(), String> {
        let (failed, mut skipped) = (self.with("failed"), self.with("skipped"));
        skipped.retain(|id| !OPTIONAL.contains(id));
        let json = &self.json;
        let is_silent = json["cause"].is_null() && json["fix"].is_null();
        match failed.is_empty() && skipped.is_empty() && self.code == 0 && is_silent {
            true => Ok(()),
            false => Err(format!("exit code {}: {json:#}", self.code)),
        }
    }

    /// `expected`, and nothing else, is wrong; gives cause and fix.
    fn confirm(&self, expected: &Expected) -> Result<(String, String), String> {
        let failed = self.with("failed");
        if failed != [expected.layer] || self.code != 1 {
            return Err(format!("{failed:?} failed, exit code {}", self.code));
        }
        let found = self.check(expected.layer)?;
        let text = |part: &str| match found[part].as_str() {
            Some("") | None => Err(format!("there is no {part}")),
            Some(text) => Ok(text.to_owned()),
        };
        let (cause, fix) = (text("cause")?, text("fix")?);
        text("detail")?;
        if self.json["cause"] != *cause || self.json["fix"] != *fix {
            return Err("another cause is shown at the end".to_owned());
        }
        if [&cause, &fix]
            .iter()
            .any(|text| text.contains("[redacted]"))
        {
            return Err("a part of the advice was taken for a secret".to_owned());
        }
        if !cause.contains(expected.cause) {
            return Err(format!("the cause has not {:?}", expected.cause));
        }
        let mut reasons: Vec<&str> = self
            .checks()
            .filter_map(|check| check["because"].as_str())
            .filter(|because| because.ends_with(" failed"))
            .collect();
        reasons.dedup();
        if reasons.len() > 1 {
            return Err(format!(
                "several layers are said to have failed: {reasons:?}"
            ));
        }
        for dependent in expected.dependents {
            let check = self.check(dependent)?;
            let because = check["because"].as_str().unwrap_or_default();
            if check["status"] != "skipped" || Some(&because) != reasons.first() {
                return Err(format!("{dependent} does not name the layer: {because:?}"));
            }
        }
        Ok((cause, fix))
    }
}

/// A fault, and what is to be said of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// As a person would call it.
    pub(crate) fault: &'static str,
    /// The layer that is named.
    pub(crate) layer: &'static str,
    /// The layers that are not checked because of it.
    pub(crate) dependents: &'static [&'static str],
    /// What the cause has in it.
    pub(crate) cause: &'static str,
}

/// The faults of one case, in the order of its table.
pub(crate) struct Matrix {
    /// The name of the table.
    section: &'static str,
    /// What differs from run to run, and what the table has in its place.
    places: Vec<(String, &'static str)>,
    table: String,
    faults: usize,
    wrong: Vec<String>,
}

impl Matrix {
    pub(crate) fn new(lab: &Lab, section: &'static str) -> Self {
        let address = |machine: Machine| machine.address().to_string();
        let places = vec![
            (lab.dir().display().to_string(), "DIR"),
            (address(Machine::Platform), "PLATFORM"),
            (address(Machine::Relay), "RELAY"),
            (address(Machine::Client), "HOST"),
            (Machine::Gateway.router().to_string(), "RESOLVER"),
        ];
        Self {
            section,
            places,
            table: HEAD.to_owned(),
            faults: 0,
            wrong: Vec::new(),
        }
    }

    /// `text` differs from run to run, and the table has `place` for it.
    pub(crate) fn place(&mut self, text: String, place: &'static str) {
        self.places.push((text, place));
    }

    /// Waits until `doctor` finds nothing wrong.
    #[track_caller]
    pub(crate) fn wait_healthy(lab: &Lab, doctor: &Doctor) {
        wait::until("a healthy system", PATIENCE, || {
            let findings = doctor.run(lab).ok_or("it is not run")?;
            findings.is_healthy()
        });
    }

    /// The fault that is there now must be found by `doctor` as `expected`.
    pub(crate) fn check(&mut self, lab: &Lab, doctor: &Doctor, expected: Expected) {
        let Some(findings) = doctor.run(lab) else {
            return self.skip(expected.fault, "doctor cannot be run so");
        };
        self.faults += 1;
        match findings.confirm(&expected) {
            Ok((cause, fix)) => {
                let (fault, layer) = (expected.fault, expected.layer);
                let row = format!("| {fault} | `{layer}` | {cause} | {fix} |\n");
                let row = self
                    .places
                    .iter()
                    .fold(row, |row, (text, place)| row.replace(text.as_str(), place));
                self.table.push_str(&row);
            }
            Err(why) => {
                let notable = findings.checks().filter(|check| check["status"] != "ok");
                let notable: Vec<String> = notable.map(Value::to_string).collect();
                let (fault, notable) = (expected.fault, notable.join("\n"));
                self.wrong.push(format!("{fault}: {why}\n{notable}"));
            }
        }
    }

    /// The fault cannot be made here: what the document has is kept.
    pub(crate) fn skip(&mut self, fault: &str, why: &str) {
        println!("SKIPPED: {fault}: {why}");
        let page = std::fs::read_to_string(PAGE).expect("the page");
        let begin = format!("| {fault} | ");
        let row = page.lines().find(|line| line.starts_with(&begin));
        self.table.extend(row.map(|row| format!("{row}\n")));
    }

    /// Fails if anything was not as expected, or the document says otherwise.
    #[track_caller]
    pub(crate) fn finish(self) -> Outcome {
        let wrong = self.wrong.join("\n");
        assert!(
            self.wrong.is_empty(),
            "{} faults:\n{wrong}",
            self.wrong.len()
        );
        if let Err(why) = keep(self.section, &self.table) {
            panic!("{why}");
        }
        Outcome::happened().with_figures(format!("{} faults", self.faults))
    }
}

/// Compares `table` with the one of the document, or writes it.
fn keep(section: &str, table: &str) -> Result<(), String> {
    /// Cases run beside each other.
    static PAGE_LOCK: Mutex<()> = Mutex::new(());
    let _lock = PAGE_LOCK.lock();
    let page = std::fs::read_to_string(PAGE).map_err(|error| error.to_string())?;
    let begin = format!("<!-- doctor {section}: begin -->\n");
    let end = format!("<!-- doctor {section}: end -->");
    let parts = page.split_once(&begin).and_then(|(head, rest)| {
        let (old, tail) = rest.split_once(&end)?;
        Some((head, old, tail))
    });
    let Some((head, old, tail)) = parts else {
        return Err(format!("{PAGE} has no {begin}"));
    };
    if old == table {
        return Ok(());
    }
    if std::env::var_os("UPDATE_GENERATED").is_none() {
        return Err(format!(
            "docs/troubleshooting.md: run `UPDATE_GENERATED=1 cargo test --test faults -- doctor`; it is to have\n{table}"
        ));
    }
    let page = format!("{head}{begin}{table}{end}{tail}");
    std::fs::write(PAGE, page).map_err(|error| error.to_string())
}

/// `command` with the library that shifts its clock by `offset`.
pub(crate) fn shifted(doctor: &Doctor, library: &OsStr, offset: &str) -> Doctor {
    let library = library.to_str().expect("UTF-8");
    doctor
        .clone()
        .variable("LD_PRELOAD", library)
        .variable("FAKETIME", offset)
        .variable("DONT_FAKE_MONOTONIC", "1")
}

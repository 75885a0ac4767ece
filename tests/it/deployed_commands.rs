//! Every command line of the deployed program's documentation, with what becomes of it here.

use std::process::Command;

use crate::support::fake_platform::Answer;
use crate::support::lab::{Lab, RELAY};
use crate::support::process::{Process, infisical};

/// A command line and what is expected of it.
struct Line {
    words: &'static str,
    variables: &'static [(&'static str, &'static str)],
    /// Exit code of `check` in place of `start`, or of the line itself.
    code: i32,
    /// Parts of the output.
    parts: &'static [&'static str],
}

const fn line(words: &'static str, code: i32, parts: &'static [&'static str]) -> Line {
    Line {
        words,
        variables: &[],
        code,
        parts,
    }
}

const fn with(
    variables: &'static [(&'static str, &'static str)],
    words: &'static str,
    parts: &'static [&'static str],
) -> Line {
    Line {
        words,
        variables,
        code: 0,
        parts,
    }
}

const UNIVERSAL: &[(&str, &str)] = &[
    ("INFISICAL_AUTH_METHOD", "universal-auth"),
    ("INFISICAL_UNIVERSAL_AUTH_CLIENT_ID", "i"),
    ("INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET", "s"),
];
const MACHINE: &str = "machine identity";
const NOT_OFFERED: &str = "is not offered by this version";
const OTHER_PROGRAM: &str = "is a command of the Infisical CLI";

/// Lines that start a role. `_` within a word stands for a space.
const STARTS: &[Line] = &[
    line(
        "gateway start g --enroll-method=token --token=t --domain=https://a.example",
        0,
        &["one-time enrollment token", "https://a.example"],
    ),
    line(
        "gateway start g --enroll-method=aws --gateway-id=i",
        0,
        &["AWS role"],
    ),
    line(
        "gateway start g --enroll-method=kubernetes --gateway-id=i",
        0,
        &["service account of its pod"],
    ),
    line(
        "gateway start g --enroll-method=gcp --gateway-id=i",
        0,
        &["GCP service account"],
    ),
    line(
        "gateway start g --enroll-method=gcp --gcp-auth-type=iam --gateway-id=i \
         --service-account-key-file-path=/k",
        78,
        &["--service-account-key-file-path: cannot read", " /k "],
    ),
    line(
        "gateway start --name=g --token=t",
        0,
        &["access token of a machine identity"],
    ),
    line(
        "gateway start --token t --name g --relay=r",
        0,
        &["--relay"],
    ),
    line(
        "gateway start --token t g --target-relay-name r",
        0,
        &["--target-relay-name"],
    ),
    line("gateway start My_Gateway --token=t", 0, &["My Gateway"]),
    line(
        "gateway start g --auth-method=universal-auth --client-id=i --client-secret=s",
        0,
        &["universal auth"],
    ),
    line(
        "gateway start g --auth-method=kubernetes --machine-identity-id=i",
        0,
        &[MACHINE],
    ),
    line(
        "gateway start g --auth-method=kubernetes --machine-identity-id=i \
         --service-account-token-path=/t",
        0,
        &["/t"],
    ),
    line(
        "gateway start g --auth-method=azure --machine-identity-id=i",
        0,
        &["Azure"],
    ),
    line(
        "gateway start g --auth-method=gcp-id-token --machine-identity-id=i",
        0,
        &["GCP"],
    ),
    line(
        "gateway start g --auth-method=gcp-iam --machine-identity-id=i \
         --service-account-key-file-path=/k",
        78,
        &["--service-account-key-file-path: cannot read", " /k "],
    ),
    line(
        "gateway start g --auth-method=aws-iam --machine-identity-id=i",
        0,
        &["AWS role"],
    ),
    line(
        "gateway start g --auth-method=oidc-auth --machine-identity-id=i --jwt=a.b.c",
        0,
        &[MACHINE],
    ),
    line(
        "gateway start g --auth-method=jwt-auth --machine-identity-id=i --jwt=a.b.c",
        0,
        &[MACHINE],
    ),
    with(
        &[("INFISICAL_OIDC_AUTH_JWT", "a.b.c")],
        "gateway start g --auth-method=oidc-auth --machine-identity-id=i",
        &["INFISICAL_OIDC_AUTH_JWT"],
    ),
    with(
        UNIVERSAL,
        "gateway start g --organization-slug=o",
        &["universal auth", "--organization-slug"],
    ),
    with(
        &[("INFISICAL_TOKEN", "t")],
        "gateway start g",
        &["INFISICAL_TOKEN"],
    ),
    with(
        &[
            ("INFISICAL_TOKEN", "t"),
            ("INFISICAL_UNIVERSAL_AUTH_ACCESS_TOKEN", "u"),
        ],
        "gateway start g",
        &["environment, INFISICAL_UNIVERSAL_AUTH_ACCESS_TOKEN"],
    ),
    with(
        &[("TOKEN", "t")],
        "gateway start g",
        &["environment, TOKEN"],
    ),
    with(
        &[
            ("INFISICAL_DOMAIN", "https://b.example"),
            ("INFISICAL_API_URL", "https://c.example"),
        ],
        "gateway start g --token=t",
        &["https://b.example", "environment, INFISICAL_DOMAIN"],
    ),
    with(
        &[
            ("LOG_LEVEL", "verbose"),
            ("LOG_FORMAT", "pretty"),
            ("LOG_DESTINATION", "syslog"),
        ],
        "gateway start g --token=t",
        &[
            "environment variable LOG_LEVEL: must be ",
            "environment variable LOG_FORMAT: must be console, plain or json; the default is used",
            "environment variable LOG_DESTINATION: must be stderr or stdout; the default is used",
        ],
    ),
    with(
        &[("LOG_LEVEL", "debug")],
        "gateway start g --token=t",
        &["environment, LOG_LEVEL"],
    ),
    line(
        "gateway start g --token=t -l debug",
        0,
        &["debug", "--log-level"],
    ),
    line("-l trace gateway start g --token=t", 0, &["trace"]),
    line("gateway start g --token=t --log-level=fatal", 0, &["error"]),
    line("gateway start g --token=t --log-level=err", 0, &["error"]),
    line("gateway start g --token=t --log-format=console", 0, &[]),
    line(
        "gateway start g --token=t --log-format=plain --log-destination=stdout",
        0,
        &[],
    ),
    line(
        "gateway start g --token=t --log-format=text --log-destination=stderr",
        0,
        &[],
    ),
    line("gateway start g --token=t --silent --telemetry", 0, &[]),
    line(
        "gateway start g --token=t --silent=true --telemetry=false",
        0,
        &[],
    ),
    line(
        "gateway start g --token=t --domain=https://first.example --domain=https://last.example",
        0,
        &["https://last.example"],
    ),
    line(
        "gateway start g -token=t -domain https://a.example",
        64,
        &["use --token (two dashes)"],
    ),
    line(
        "gateway start g --token=t --pam-session-recording-path=/var/lib/infisical/recordings",
        0,
        &["--pam-session-recording-path", NOT_OFFERED],
    ),
    line(
        "gateway start g --token=t --pkcs11-module=/lib/m.so",
        0,
        &["--pkcs11-module", NOT_OFFERED],
    ),
    line(
        "gateway start g --token=t --listen-address=gw.example:9000 --bind=0.0.0.0:9000",
        0,
        &["--listen-address", "--bind", NOT_OFFERED],
    ),
    line(
        "gateway start g --enroll-method=magic",
        64,
        &["token, aws, kubernetes, gcp"],
    ),
    line(
        "relay start --name=r --host=h.example --type=org --token=t",
        0,
        &["h.example"],
    ),
    line(
        "relay start --name=r --host=h.example --token=t",
        0,
        &["org"],
    ),
    line("relay start --name=r --token=t", 78, &["--host HOST"]),
    line(
        "relay start --name=r --enroll-method=token --token=t",
        0,
        &["as the platform knows it"],
    ),
    line(
        "relay start --name=r --enroll-method=aws --relay-id=i",
        0,
        &["AWS role"],
    ),
    line(
        "relay start --name=r --enroll-method=aws",
        78,
        &["--relay-id"],
    ),
    with(
        &[("INFISICAL_RELAY_AUTH_SECRET", "s")],
        "relay start --name=r --host=10.0.0.1 --type=instance",
        &["instance"],
    ),
    with(
        &[("INFISICAL_RELAY_ENROLLMENT_TOKEN", "t")],
        "relay start --name=r --enroll-method=token",
        &[
            "INFISICAL_RELAY_ENROLLMENT_TOKEN",
            "one-time enrollment token",
        ],
    ),
    with(
        &[
            ("INFISICAL_RELAY_NAME", "r"),
            ("INFISICAL_RELAY_ENROLL_METHOD", "token"),
            ("INFISICAL_TOKEN", "t"),
        ],
        "relay start",
        &["one-time enrollment token"],
    ),
];

/// Lines that are run as they are.
const OTHERS: &[Line] = &[
    line(
        "gateway systemd install g --enroll-method=token --token=t --domain=https://a.example --dry-run",
        0,
        &[
            "INFISICAL_GATEWAY_NAME=g",
            "INFISICAL_API_URL=https://a.example",
        ],
    ),
    line(
        "gateway systemd install --token=t --name=g --relay=r --dry-run",
        0,
        &["INFISICAL_TOKEN=<secret>", "INFISICAL_RELAY_NAME=r"],
    ),
    line(
        "gateway systemd install g --enroll-method=aws --gateway-id=i --dry-run",
        0,
        &[
            "INFISICAL_GATEWAY_ENROLL_METHOD=aws",
            "INFISICAL_GATEWAY_ID=i",
        ],
    ),
    line(
        "relay systemd install r --enroll-method=token --token=t --dry-run",
        0,
        &["INFISICAL_RELAY_NAME=r"],
    ),
    line(
        "relay systemd install --name=r --host=h.example --token=t --max-gateways=7 --dry-run",
        0,
        &[
            "INFISICAL_RELAY_HOST=h.example",
            "INFISICAL_RELAY_MAX_GATEWAYS=7",
        ],
    ),
    line("version", 0, &["infisical "]),
    line("--version", 0, &["infisical "]),
    line("--help", 0, &["gateway", "relay"]),
    line(
        "gateway",
        64,
        &["start", "systemd", "first version of the gateway"],
    ),
    line("gateway --token=t", 64, &["first version of the gateway"]),
    line("gateway install --token=t", 64, &["systemd install"]),
    line("gateway --help", 0, &["start"]),
    line("relay", 64, &["start", "systemd"]),
    line("run --env=prod -- npm start", 64, &[OTHER_PROGRAM]),
    line("secrets get NAME --plain", 64, &[OTHER_PROGRAM]),
    line("export --format=dotenv", 64, &[OTHER_PROGRAM]),
    line("--silent ssh connect", 64, &[OTHER_PROGRAM]),
    line(
        "network relay --config=x.yaml",
        64,
        &["infisical relay start"],
    ),
    line(
        "proxy start --type=instance",
        64,
        &["infisical relay start"],
    ),
    line("gatway start", 64, &["gateway"]),
];

fn command(lab: &Lab, line: &Line, start: &str) -> Command {
    let mut command = infisical(lab.dir());
    let words = line.words.split_whitespace();
    let words = words.map(|word| if word == "start" { start } else { word });
    command.args(words.map(|word| word.replace('_', " ")));
    command.envs(line.variables.iter().copied());
    command
}

async fn expect(lab: &Lab, line: &Line, start: &str) {
    let process = Process::spawn(line.words, command(lab, line, start));
    let code = process.exit_code().await;
    let output = process.output();
    assert_eq!(code, line.code, "{}: {output}", line.words);
    for part in line.parts {
        assert!(output.contains(part), "{}: {part}: {output}", line.words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_starts_are_understood() {
    let lab = Lab::new().await;
    for line in STARTS {
        expect(&lab, line, "check").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_documented_commands_work_or_explain() {
    let lab = Lab::new().await;
    for line in OTHERS {
        expect(&lab, line, "start").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_relay_starts_without_a_host() {
    let lab = Lab::new().await;
    let login = serde_json::json!({"accessToken": "relay-token", "relayId": "r-1"});
    lab.platform
        .always("POST /api/v2/relays/login", Answer::ok(&login));
    let credentials = Answer::ok(&lab.relay_credentials());
    lab.platform
        .always("POST /api/v2/relays/connect", credentials);
    let mut command = infisical(lab.dir());
    command.args([
        "relay",
        "start",
        "--enroll-method=token",
        "--token=once",
        "--name",
        RELAY,
    ]);
    command.args(["--domain", &lab.platform.url()]);
    let config = lab.dir().join("enrolled.conf");
    command.arg("--config").arg(&config);
    for (flag, port) in [("--ssh-listen", 2222), ("--tls-listen", 8443)] {
        command.arg(format!("{flag}={}:{port}", lab.host));
    }
    let relay = Process::spawn("relay", command);
    for line in [
        "Successfully connected relay and received certificates via v2 API",
        "SSH server listening on :2222 for gateways",
        "TLS server listening on :8443 for clients",
        "Relay server started successfully",
    ] {
        relay.wait_for_line(line).await;
    }
    assert!(relay.output().contains(&lab.host.to_string()));
    let stored = std::fs::read_to_string(config).expect("the file");
    let domain = format!("INFISICAL_RELAY_DOMAIN={}/api", lab.platform.url());
    assert!(stored.contains(&domain), "{stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_logs_what_scripts_wait_for() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let gateway = lab.gateway_command().spawn(lab.dir());
    gateway.wait_for_line("Gateway started successfully").await;
    let connecting = format!(
        "Connecting to relay server lab-relay on {}:2222... (attempt 1/6)",
        lab.host
    );
    for line in [
        "Starting gateway",
        "Successfully registered gateway and received certificates",
        &connecting,
        "Relay connection established for gateway",
    ] {
        assert!(
            gateway.output().contains(line),
            "{line}: {}",
            gateway.output()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_go_to_stdout_if_asked() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let mut command = lab.gateway_command();
    command.more.push("--log-destination=stdout".to_owned());
    let gateway = command.spawn(lab.dir());
    gateway.wait_for_line("Gateway started successfully").await;
    assert!(gateway.stdout().contains("Gateway started successfully"));
}

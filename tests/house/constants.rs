//! Numbers that stand in more than one place: units, documents and constants of different modules.
//! Each pair is listed here once, and must agree.

use infisical::cli::exit::Code;
use infisical_runtime::threads;

use crate::source::Source;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Plain,
    /// With groups of three digits, as prose has it.
    Grouped,
    Seconds,
    KiB,
    MiB,
}

/// A sentence of a document, with `{}` for the number that a constant says.
#[derive(Debug)]
struct Statement {
    document: &'static str,
    text: &'static str,
    source: &'static str,
    constant: &'static str,
    unit: Unit,
}

const fn says(
    document: &'static str,
    text: &'static str,
    source: &'static str,
    constant: &'static str,
    unit: Unit,
) -> Statement {
    Statement {
        document,
        text,
        source,
        constant,
        unit,
    }
}

const OPERATIONS: &str = "docs/operations.md";
const ARCHITECTURE: &str = "ARCHITECTURE.md";
const ENGINE: &str = "crates/ssh/README.md";
const DESIGN: &str = "docs/decisions/0003-design-decisions.md";

const STATEMENTS: &[Statement] = &[
    says(
        "docs/reliability.md",
        "5 s with TLS and {} s with SSH",
        "crates/relay/src/identity.rs",
        "SSH_HANDSHAKE",
        Unit::Seconds,
    ),
    says(
        OPERATIONS,
        "of which one name has {} at most",
        "crates/runtime/src/net/resolve.rs",
        "MAX_PER_NAME",
        Unit::Plain,
    ),
    says(
        OPERATIONS,
        "sessions have {} s of these",
        "crates/gateway/src/connection/policy.rs",
        "DRAIN",
        Unit::Seconds,
    ),
    says(
        OPERATIONS,
        "{} lines are kept",
        "src/cli/logging/queue.rs",
        "ENTRIES",
        Unit::Plain,
    ),
    says(
        ARCHITECTURE,
        "sessions end for at most {} s",
        "crates/gateway/src/connection/policy.rs",
        "DRAIN",
        Unit::Seconds,
    ),
    says(
        ARCHITECTURE,
        "bridges end for at most {} s",
        "crates/relay/src/hub.rs",
        "GRACE",
        Unit::Seconds,
    ),
    says(
        ARCHITECTURE,
        "or after {} s: a network",
        "crates/host/src/notify.rs",
        "READY_AT_LATEST",
        Unit::Seconds,
    ),
    says(
        DESIGN,
        "({} of them, ",
        "src/cli/logging/queue.rs",
        "ENTRIES",
        Unit::Plain,
    ),
    says(
        DESIGN,
        "of them, {} MiB; errors",
        "src/cli/logging/queue.rs",
        "BYTES",
        Unit::MiB,
    ),
    says(
        ENGINE,
        "Windows begin at {} KiB",
        "crates/ssh/src/connection/window.rs",
        "BASE",
        Unit::KiB,
    ),
    says(
        ENGINE,
        "out of {} MiB, by a dynamic threshold",
        "crates/ssh/src/connection/window.rs",
        "BUDGET",
        Unit::MiB,
    ),
    says(
        ENGINE,
        "a channel queues {} KiB",
        "crates/ssh/src/connection/channels/send.rs",
        "CHANNEL_QUEUE",
        Unit::KiB,
    ),
    says(
        ENGINE,
        "and a session {} MiB;",
        "crates/ssh/src/connection/channels/send.rs",
        "SESSION_QUEUE",
        Unit::MiB,
    ),
    says(
        ENGINE,
        "each channel may still queue {} KiB",
        "crates/ssh/src/connection/channels/send.rs",
        "LITTLE",
        Unit::KiB,
    ),
    says(
        ENGINE,
        "A batch of at most {} KiB",
        "crates/ssh/src/connection/mod.rs",
        "BATCH_BYTES",
        Unit::KiB,
    ),
    says(
        ENGINE,
        "one packet ({} KiB) of each",
        "crates/ssh/src/connection/channels/mod.rs",
        "MAX_DATA",
        Unit::KiB,
    ),
    says(
        ENGINE,
        "unacknowledged data after {} s",
        "crates/ssh/src/socket.rs",
        "USER_TIMEOUT",
        Unit::Seconds,
    ),
    says(
        ENGINE,
        "holds less than {} KiB",
        "crates/ssh/src/connection/invariants.rs",
        "MAX_EARLY",
        Unit::KiB,
    ),
    says(
        ENGINE,
        "afterwards {} channels",
        "crates/ssh/src/connection/channels/mod.rs",
        "MAX_CHANNELS",
        Unit::Grouped,
    ),
    says(
        ENGINE,
        "{} of them not yet accepted",
        "crates/ssh/src/connection/channels/receive.rs",
        "MAX_INCOMING",
        Unit::Plain,
    ),
    says(
        ENGINE,
        "and {} replies that",
        "crates/ssh/src/connection/mod.rs",
        "MAX_CONTROL",
        Unit::Plain,
    ),
    says(
        ENGINE,
        "the first {} stop us",
        "crates/ssh/src/connection/mod.rs",
        "MANY_CONTROL",
        Unit::Plain,
    ),
    says(
        ENGINE,
        "No packet is longer than {} bytes",
        "crates/ssh/src/packet/mod.rs",
        "MAX_PACKET_LENGTH",
        Unit::Grouped,
    ),
];

/// Constants of different modules that must be equal.
const EQUAL: &[[(&str, &str); 2]] = &[
    // The hosts that the embedded platform signs are those that a gateway reads.
    [
        ("crates/pki/src/extensions.rs", "MAX_HOST"),
        ("crates/platform/src/routes/sessions.rs", "MAX_HOST"),
    ],
    // Gateway and platform count the same relays as healthy.
    [
        ("crates/gateway/src/connection/policy.rs", "HEALTHY_FOR"),
        ("crates/platform/src/store/relays.rs", "HEALTHY"),
    ],
    // What the embedded platform takes for a gateway's interval is the interval.
    [
        ("crates/gateway/src/heartbeat.rs", "INTERVAL"),
        ("crates/platform/src/probe.rs", "USUAL_TTL"),
    ],
];

/// Constants of which the first must be smaller than the second; times as milliseconds.
const SMALLER: &[[(&str, &str); 2]] = &[
    // Stopping waits for a call to the platform that has begun.
    [
        ("crates/api/src/client.rs", "CALL_DEADLINE"),
        ("crates/gateway/src/lib.rs", "LAST_CALL"),
    ],
    [
        ("crates/api/src/client.rs", "CALL_DEADLINE"),
        ("crates/relay/src/lib.rs", "LAST_CALL"),
    ],
    [
        ("crates/api/src/client.rs", "CONNECT_DEADLINE"),
        ("crates/api/src/client.rs", "CALL_DEADLINE"),
    ],
    // A client waits for longer than the gateway for its target.
    [
        ("crates/gateway/src/service/tcp.rs", "CONNECT"),
        ("crates/connect/src/route.rs", "GATEWAY_DEADLINE"),
    ],
    // A relay reports before it counts as unhealthy.
    [
        ("crates/relay/src/heartbeat.rs", "INTERVAL"),
        ("crates/platform/src/store/relays.rs", "HEALTHY"),
    ],
    // The kernel reports a dead connection before our limit for the other end's answer is far
    // behind.
    [
        ("crates/api/src/client.rs", "CALL_DEADLINE"),
        ("crates/gateway/src/credential_client.rs", "ATTEMPT"),
    ],
];

/// Where statements and constants do not agree. `read` gives a document of the repository.
pub(crate) fn disagreements(sources: &[Source], read: &dyn Fn(&str) -> String) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut value = |path: &str, name: &str| {
        let found = constant(sources, path, name);
        if found.is_none() {
            wrong.push(format!(
                "{path}: no constant {name} whose value can be read"
            ));
        }
        found
    };
    let mut found = Vec::new();
    for statement in STATEMENTS {
        let Some(value) = value(statement.source, statement.constant) else {
            continue;
        };
        let text = statement.text.replace("{}", &shown(value, statement.unit));
        if !joined(&read(statement.document)).contains(&text) {
            let Statement {
                document,
                source,
                constant,
                ..
            } = statement;
            found.push(format!(
                "{document} does not say {text:?} ({constant} of {source})"
            ));
        }
    }
    for [one, other] in EQUAL {
        // A length of time may be a number of seconds elsewhere.
        if let (Some(a), Some(b)) = (value(one.0, one.1), value(other.0, other.1))
            && a != b
            && a != b * 1000
        {
            found.push(format!("{one:?} is {a}, {other:?} is {b}"));
        }
    }
    for [one, other] in SMALLER {
        if let (Some(a), Some(b)) = (value(one.0, one.1), value(other.0, other.1))
            && a >= b
        {
            found.push(format!("{one:?} is {a}, not smaller than {other:?}, {b}"));
        }
    }
    wrong.extend(found);
    wrong
}

/// Where the page of operations says something else of threads than [`threads`].
pub(crate) fn thread_budget(page: &str) -> Vec<String> {
    let page = joined(page);
    let targets = threads::MAX_TARGET_LOOKUPS;
    let sentences = [
        format!("`TasksMax={}` counts threads", threads::TASKS_MAX),
        format!(
            "one for each CPU, {} at most, to run tasks; {} for calls that wait for the disk; {} for name resolution; and two more",
            threads::MAX_WORKERS,
            threads::MAX_BLOCKING,
            threads::MAX_LOOKUPS
        ),
        format!(
            "{} for the platform and the relays",
            threads::MAX_OWN_LOOKUPS
        ),
        format!("and {targets} for the names of targets"),
        format!("While {} or more names", targets - targets / 3),
    ];
    let missing = sentences
        .into_iter()
        .filter(|sentence| !page.contains(sentence));
    missing
        .map(|sentence| format!("docs/operations.md does not say {sentence:?}"))
        .collect()
}

/// Where names are resolved other than by `net/resolve.rs`, which alone keeps to its budget of
/// threads.
pub(crate) fn other_resolvers(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        let path = &source.path;
        // The sample's checks ask addresses of loopback only.
        if path == "crates/runtime/src/net/resolve.rs"
            || path == "src/dev/check.rs"
            || path.ends_with("tests.rs")
            || path.contains("/tests/")
        {
            continue;
        }
        let count = |part: &str| source.code.matches(part).count();
        if count("to_socket_addrs") + count("lookup_host") > 0 {
            wrong.push(format!(
                "{path}: resolves names itself, not by net::resolve"
            ));
        }
        if count("reqwest::Client::builder()") > count(".dns_resolver(") {
            wrong.push(format!("{path}: an HTTP client without our resolver"));
        }
    }
    wrong
}

/// Where the page of operations says something else than the gateway's unit.
pub(crate) fn unit_on_page(unit: &str, page: &str) -> Vec<String> {
    let page = joined(page);
    let value = |key: &str| {
        let mut lines = unit.lines();
        lines
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or("(not there)")
    };
    let (restart, most) = (value("RestartSec="), value("RestartMaxDelaySec="));
    let codes = value("RestartPreventExitStatus=");
    let codes = match codes.rsplit_once(' ') {
        Some((first, last)) => format!("{} and {last}", first.replace(' ', ", ")),
        None => codes.to_owned(),
    };
    let sentences = [
        format!("restarted after {restart} s, later after up to {most} s"),
        format!("after exit codes {codes}:"),
        format!("A stop waits for {} s", value("TimeoutStopSec=")),
        format!("`LimitNOFILE={}`", value("LimitNOFILE=")),
        format!("`TasksMax={}`", value("TasksMax=")),
    ];
    let missing = sentences
        .into_iter()
        .filter(|sentence| !page.contains(sentence));
    missing
        .map(|sentence| format!("docs/operations.md does not say {sentence:?}, as the unit does"))
        .collect()
}

/// Where the unit that waits for the tunnel is given less time than the command in it.
pub(crate) fn impatient_unit(unit: &str) -> Vec<String> {
    let number = |before: &str| {
        let (_, rest) = unit.split_once(before)?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    match (number("--timeout "), number("TimeoutStartSec=")) {
        (Some(command), Some(unit)) if command < unit => Vec::new(),
        times => vec![format!("wait-online waits for {times:?}")],
    }
}

/// Where a unit says something else than the program. `stop` is what a stop takes at most in
/// seconds.
pub(crate) fn unit_disagreements(unit: &str, text: &str, stop: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |key: &str, expected: &dyn Fn(&str) -> bool| {
        let values: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix(key))
            .collect();
        if values.is_empty() || !values.iter().all(|value| expected(value)) {
            wrong.push(format!(
                "{unit}: {key}{} does not fit the program",
                values.join(", ")
            ));
        }
    };
    must("TasksMax=", &|value| {
        value == threads::TASKS_MAX.to_string()
    });
    // Not repeated: what a person must change.
    let codes = [Code::Usage, Code::Permission, Code::Configuration].map(|code| code as u8);
    let codes = codes.map(|code| code.to_string()).join(" ");
    must("RestartPreventExitStatus=", &|value| value == codes);
    must("TimeoutStopSec=", &|value| {
        value.parse().is_ok_and(|limit: u64| stop < limit)
    });
    wrong
}

/// What stopping takes at most, in seconds, beyond what the program asks the service manager for.
pub(crate) fn longest_stop(sources: &[Source], role: &str) -> Option<u64> {
    let value = |path, name| constant(sources, path, name);
    let sessions = match role {
        "gateway" => {
            value("crates/gateway/src/connection/policy.rs", "DRAIN")? * 2
                + value("crates/gateway/src/lib.rs", "STOP")?
        }
        _ => {
            value("crates/relay/src/hub.rs", "GRACE")?
                + value("crates/relay/src/lib.rs", "CLOSE_WAIT")? * 3
        }
    };
    let log = value("src/cli/logging/sink.rs", "LAST_LINES")?;
    Some((sessions + log) / 1000)
}

/// The value of a constant: a product or a shift of numbers, or a time in milliseconds.
pub(crate) fn constant(sources: &[Source], path: &str, name: &str) -> Option<u64> {
    let source = sources.iter().find(|source| source.path == path)?;
    let start = format!("const {name}: ");
    let (_, rest) = source.code.split_once(&start)?;
    let (_, value) = rest.split_once('=')?;
    let (value, _) = value.split_once(';')?;
    let value = value.trim();
    let inner = |start: &str| value.strip_prefix(start)?.strip_suffix(')');
    if let Some(seconds) = inner("Duration::from_secs(") {
        return Some(number(seconds)? * 1000);
    }
    if let Some(hours) = inner("time::Duration::hours(") {
        return Some(number(hours)? * 3_600_000);
    }
    if let Some(millis) = inner("Duration::from_millis(") {
        return number(millis);
    }
    number(value)
}

fn number(expression: &str) -> Option<u64> {
    if let Some((one, other)) = expression.split_once(" << ") {
        return Some(number(one)? << number(other)?);
    }
    if let Some((one, other)) = expression.split_once(" + ") {
        return Some(number(one)? + number(other)?);
    }
    if let Some((one, other)) = expression.split_once(" * ") {
        return Some(number(one)? * number(other)?);
    }
    expression.trim().replace('_', "").parse().ok()
}

fn shown(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Plain => value.to_string(),
        Unit::Grouped => format!("{} {:03}", value / 1000, value % 1000),
        Unit::Seconds => (value / 1000).to_string(),
        Unit::KiB => (value >> 10).to_string(),
        Unit::MiB => (value >> 20).to_string(),
    }
}

/// The text without its line breaks.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{Unit, constant, joined, shown, unit_disagreements};
    use crate::source::Source;

    #[test]
    fn constants_are_read() {
        let text = "const A: Duration = Duration::from_secs(10);\nconst B: usize = 4 << 20;\n\
                    pub(crate) const C: u32 = 253 + 8;\nconst D: u64 = 2 * 1_000;\nconst E: u8 = f();\n";
        let sources = [Source::new("src/a.rs", text)];
        let value = |name| constant(&sources, "src/a.rs", name);
        assert_eq!(
            ["A", "B", "C", "D", "E", "F"].map(value),
            [
                Some(10_000),
                Some(4 << 20),
                Some(261),
                Some(2000),
                None,
                None
            ]
        );
        assert_eq!(shown(16_384, Unit::Grouped), "16 384");
        assert_eq!(joined("a\n b"), "a b");
    }

    #[test]
    fn unit_must_fit_the_program() {
        let good = "TasksMax=128\nRestartPreventExitStatus=64 77 78\nTimeoutStopSec=40\n";
        assert!(unit_disagreements("u", good, 28).is_empty());
        assert_eq!(unit_disagreements("u", good, 40).len(), 1);
        assert_eq!(
            unit_disagreements("u", &good.replace("128", "64"), 28).len(),
            1
        );
        assert_eq!(unit_disagreements("u", "", 28).len(), 3);
    }
}

//! `infisical platform audit`: sessions, logins, enrollments and administration are on record, with
//! who asked and what became of it; a record that was changed is found out.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::admin::Platform;
use crate::support::loopback;
use crate::support::process::{Process, infisical};
use crate::support::stack::{GATEWAY, Stack};
use infisical_runtime::events;

/// The exit code of the command with `words`, and what it prints.
async fn run(platform: &Platform, words: &[&str]) -> (i32, String) {
    let mut command = infisical(platform.state());
    command.args(["platform", "audit"]).args(words);
    command.args(["--domain", &platform.url]);
    command.arg("--token-file").arg(platform.token_file());
    let process = Process::spawn("audit", command);
    (process.exit_code().await, process.stdout())
}

async fn audit(platform: &Platform, words: &[&str]) -> String {
    let (code, text) = run(platform, words).await;
    assert_eq!(code, 0, "{text}");
    text
}

async fn entries(platform: &Platform, kind: &str) -> Vec<Value> {
    let words = ["--since", "1h", "--json", "--kind", kind];
    let text = audit(platform, &words).await;
    let list: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(list["version"], 1, "{list}");
    list["audit"].as_array().expect("entries").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_grant_and_refusal_is_on_record() {
    let stack = Stack::start().await;
    let platform = &stack.platform;
    assert!(entries(platform, "session").await.is_empty());
    let client = platform.token_with("ci job", &["client"]).await;
    let outsider = platform.token_with("outsider", &["gateway"]).await;
    let ask = |token: String, gateway: &str| {
        let path = format!("v1/embedded/gateways/{gateway}/sessions");
        let body = json!({"targetHost": "db.internal", "targetPort": 5432});
        async move {
            let post = reqwest::Method::POST;
            platform.api(post, &path, &token, Some(&body)).await.0
        }
    };
    assert_eq!(ask(client.clone(), GATEWAY).await, 200);
    assert_eq!(ask(client.clone(), "nowhere").await, 404);
    assert_eq!(ask(outsider.clone(), GATEWAY).await, 403);
    assert_eq!(platform.session(GATEWAY, "127.0.0.1", 22).await.0, 200);
    // Without a valid token nothing is known of who asks.
    assert_eq!(ask("made-up-token".to_owned(), GATEWAY).await, 401);

    let found = entries(platform, "session").await;
    let brief: Vec<Value> = found
        .iter()
        .map(|entry| {
            assert!(entry["time"].is_string(), "{entry}");
            assert_eq!(entry["subject"]["name"], entry["gateway"]["name"]);
            json!([
                entry["actor"]["type"],
                entry["actor"]["name"],
                entry["gateway"]["name"],
                entry["target"],
                entry["outcome"],
                entry["class"],
            ])
        })
        .collect();
    let db = "db.internal:5432";
    let expected = json!([
        ["identity", "ci job", GATEWAY, db, "issued", null],
        ["identity", "ci job", "nowhere", db, "refused", "NotFound"],
        [
            "identity",
            "outsider",
            GATEWAY,
            db,
            "refused",
            "PermissionDenied"
        ],
        [
            "administrator",
            null,
            GATEWAY,
            "127.0.0.1:22",
            "issued",
            null
        ],
    ]);
    assert_eq!(Value::Array(brief), expected);
    assert!(found[0]["actor"]["id"].is_string(), "{}", found[0]);
    assert!(found[0]["gateway"]["id"].is_string(), "{}", found[0]);
    assert_eq!(found[1]["gateway"]["id"], Value::Null);
    let reason = found[1]["reason"].as_str().expect("a reason");
    assert!(reason.contains("nowhere"), "{reason}");

    let table = audit(platform, &[]).await;
    for part in [
        "identity ci job",
        db,
        "issued",
        "refused (NotFound): ",
        "create-identity: identity ci job: roles client",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let issued = |lines: &[String]| {
        let count = |text| lines.iter().filter(|line| line.contains(text)).count();
        let counts = [events::SESSION_ISSUED, events::SESSION_REFUSED].map(|e| count(e.text));
        (counts == [2, 2]).then_some(())
    };
    platform.process.wait_for("four events", issued).await;
    // The log has the hash of each entry, to compare it with.
    let hash = found[0]["hash"].as_str().expect("a hash");
    platform.process.wait_for_line(hash).await;
    for secret in [&client, &outsider] {
        assert!(!format!("{found:?}{table}").contains(secret.as_str()));
    }
}

/// What one caller does does not push out what others did.
#[tokio::test(flavor = "multi_thread")]
async fn flood_of_refusals_is_counted() {
    let stack = Stack::start().await;
    let platform = &stack.platform;
    let outsider = platform.token_with("outsider", &["gateway"]).await;
    let body = json!({"targetHost": "db", "targetPort": 5432});
    let path = format!("v1/embedded/gateways/{GATEWAY}/sessions");
    let (post, times) = (reqwest::Method::POST, 120);
    for _ in 0..times {
        let answer = platform.api(post.clone(), &path, &outsider, Some(&body));
        assert_eq!(answer.await.0, 403);
    }
    assert_eq!(platform.session(GATEWAY, "db", 1).await.0, 200);
    let found = entries(platform, "session").await;
    assert!(found.len() < times, "{} entries", found.len());
    let left_out: u64 = found
        .iter()
        .filter_map(|entry| entry["left_out"].as_u64())
        .sum();
    let refused = found.len() as u64 - 1;
    assert_eq!(refused + left_out, times as u64);
    assert_eq!(found.last().expect("an entry")["outcome"], "issued");
}

/// A platform with three entries.
async fn recorded(dir: &std::path::Path) -> Platform {
    let platform = Platform::start(dir, loopback::address(), 0, &[]).await;
    for name in ["first", "second", "third"] {
        platform.token_with(name, &["gateway"]).await;
    }
    platform
}

/// Changes the database of a platform while it does not run, and starts it again.
async fn tamper(platform: Platform, dir: &std::path::Path, sql: &str) -> Platform {
    platform.process.signal(Signal::SIGTERM);
    assert_eq!(platform.process.exit_code().await, 0);
    let database = rusqlite::Connection::open(platform.state().join("platform.db"));
    let database = database.expect("opened");
    database.execute_batch(sql).expect("changed");
    drop(database);
    Platform::start(dir, loopback::address(), 0, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_record_is_found_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = recorded(dir.path()).await;
    let text = audit(&platform, &["verify"]).await;
    assert!(
        text.contains("Entries that hold: 3, from number 1 to 3"),
        "{text}"
    );
    let (_, kept) = text.trim_end().rsplit_once(' ').expect("the newest entry");
    let kept = kept.to_owned();
    let text = audit(&platform, &["verify", "--expect", &kept]).await;
    assert!(text.contains("Entry 3 is the one that was kept"), "{text}");

    let change = "UPDATE audit SET subject_name = 'other' WHERE number = 2";
    let platform = tamper(platform, dir.path(), change).await;
    let (code, text) = run(&platform, &["verify"]).await;
    assert_eq!(code, 1, "{text}");
    for part in [
        "Entries that hold: 1,",
        "breaks at number 2",
        "Last entry that holds: 1:",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = run(&platform, &["verify", "--json", "--expect", &kept]).await;
    let found: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (code, &found["broken"]["number"]),
        (1, &json!(2)),
        "{found}"
    );
    assert_eq!(found["expected"]["outcome"], "missing", "{found}");
    assert_eq!(entries(&platform, "administration").await.len(), 3);
}

/// A chain that was made again from the start holds; it only differs from the hash that was kept.
#[tokio::test(flavor = "multi_thread")]
async fn rewritten_record_differs_from_kept_hash() {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = recorded(dir.path()).await;
    let text = audit(&platform, &["verify"]).await;
    let (_, kept) = text.trim_end().rsplit_once(' ').expect("the newest entry");
    let kept = kept.to_owned();
    let change = "DELETE FROM audit;
        UPDATE audit_chain SET newest_number = 0, newest_hash = zeroblob(32)";
    let platform = tamper(platform, dir.path(), change).await;
    for name in ["innocent", "second", "third"] {
        platform.token_with(name, &["gateway"]).await;
    }
    audit(&platform, &["verify"]).await;
    let (code, text) = run(&platform, &["verify", "--expect", &kept]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("the record was rewritten"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_old_entries_and_chain_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = recorded(dir.path()).await;
    platform.process.signal(Signal::SIGTERM);
    assert_eq!(platform.process.exit_code().await, 0);
    let database = rusqlite::Connection::open(platform.state().join("platform.db"));
    let day = 24 * 3600 * 1000;
    // Their hashes are wrong then; they are removed before anyone verifies them.
    let change = format!("UPDATE audit SET at = at - 3 * {day} WHERE number <= 2");
    let changed = database.expect("opened").execute_batch(&change);
    changed.expect("changed");
    let words = ["--audit-retention", "2"];
    let platform = Platform::start(dir.path(), loopback::address(), 0, &words).await;
    let found = entries(&platform, "administration").await;
    assert_eq!(found.len(), 1);
    let text = audit(&platform, &["verify"]).await;
    for part in [
        "Entries that hold: 1, from number 3 to 3",
        "up to number 2, are gone",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_has_bounds() {
    let dir = tempfile::tempdir().expect("a directory");
    for days in ["0", "3651", "x"] {
        for words in [&["start"][..], &["systemd", "install", "--dry-run"]] {
            let mut command = infisical(dir.path());
            command.arg("platform").args(words);
            command.args(["--audit-retention", days]);
            let process = Process::spawn("platform", command);
            assert_eq!(process.exit_code().await, 64, "{}", process.output());
        }
    }
    let mut command = infisical(dir.path());
    command.args([
        "platform",
        "systemd",
        "install",
        "--dry-run",
        "--audit-retention=400",
    ]);
    let process = Process::spawn("platform", command);
    assert_eq!(process.exit_code().await, 0, "{}", process.output());
    let text = process.output();
    assert!(text.contains("--audit-retention=400"), "{text}");
}

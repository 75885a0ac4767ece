//! `infisical platform audit`: each session that was asked for is on record, with who asked and
//! what became of it.

use serde_json::{Value, json};

use crate::support::process::{Process, infisical};
use crate::support::stack::{GATEWAY, Stack};
use infisical_runtime::events;

/// What the command prints with `words`.
async fn audit(stack: &Stack, words: &[&str]) -> String {
    let mut command = infisical(stack.dir());
    command.args(["platform", "audit"]).args(words);
    command.args(["--domain", &stack.platform.url]);
    command.arg("--token-file").arg(stack.platform.token_file());
    let process = Process::spawn("audit", command);
    assert_eq!(process.exit_code().await, 0, "{}", process.output());
    process.stdout()
}

async fn entries(stack: &Stack) -> Vec<Value> {
    let text = audit(stack, &["--since", "1h", "--json"]).await;
    let list: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(list["version"], 1, "{list}");
    list["audit"].as_array().expect("entries").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_grant_and_refusal_is_on_record() {
    let stack = Stack::start().await;
    let platform = &stack.platform;
    assert!(entries(&stack).await.is_empty());
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

    let found = entries(&stack).await;
    let brief: Vec<Value> = found
        .iter()
        .map(|entry| {
            assert!(entry["time"].is_string(), "{entry}");
            json!([
                entry["number"],
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
        [1, "identity", "ci job", GATEWAY, db, "issued", null],
        [
            2, "identity", "ci job", "nowhere", db, "refused", "NotFound"
        ],
        [
            3,
            "identity",
            "outsider",
            GATEWAY,
            db,
            "refused",
            "PermissionDenied"
        ],
        [
            4,
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

    let table = audit(&stack, &[]).await;
    for part in ["identity ci job", db, "issued", "refused (NotFound): "] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let issued = |lines: &[String]| {
        let lines = lines.iter();
        let count = lines
            .filter(|line| line.contains(events::SESSION_ISSUED.text))
            .count();
        (count == 2).then_some(())
    };
    platform.process.wait_for("two events", issued).await;
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
    let found = entries(&stack).await;
    assert!(found.len() < times, "{} entries", found.len());
    let left_out: u64 = found
        .iter()
        .filter_map(|entry| entry["left_out"].as_u64())
        .sum();
    let refused = found.len() as u64 - 1;
    assert_eq!(refused + left_out, times as u64);
    assert_eq!(found.last().expect("an entry")["outcome"], "issued");
}

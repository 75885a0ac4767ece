//! Configuration files in a form that cannot be right: the message names the file, the line and the
//! fix.

use std::os::unix::fs::PermissionsExt as _;

use super::{MARK, check, run};
use crate::support::write_private;

#[tokio::test(flavor = "multi_thread")]
async fn mistake_of_form_names_line_and_fix() {
    let dir = tempfile::tempdir().expect("a directory");
    let utf16: Vec<u8> = "\u{feff}INFISICAL_TOKEN=hunter2\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (bytes, parts) in [
        (
            b"[gateway]\nINFISICAL_TOKEN=hunter2\n".to_vec(),
            &["line 1", "remove this [section] line"][..],
        ),
        (
            b"infisical_token=hunter2\n".to_vec(),
            &["line 1", "INFISICAL_TOKEN", "capital letters"],
        ),
        (
            b"INFISICAL_TOKEN=t\nINFISICAL_API_URL=https://hunter2 # ours\n".to_vec(),
            &["line 2", "INFISICAL_API_URL", "comment", "line of its own"],
        ),
        (
            b"INFISICAL_TOKEN=hunter2\n# B\xfcro\n".to_vec(),
            &["line 2", "ISO-8859-1", "save the file as UTF-8"],
        ),
        (utf16, &["line 1", "UTF-16", "save the file as UTF-8"]),
        (
            b"INFISICAL_TOKEN=\"hunter2\n".to_vec(),
            &["line 1", "INFISICAL_TOKEN", "quote"],
        ),
        (
            b"INFISICAL_TOKEN: hunter2\n".to_vec(),
            &["line 1", "KEY=value"],
        ),
        (
            b"token = hunter2\n".to_vec(),
            &["line 1", "token", "must be quoted"],
        ),
    ] {
        let path = dir.path().join("gateway.conf");
        std::fs::write(&path, &bytes).expect("written");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("mode");
        let mut command = check(dir.path());
        command.arg("--config").arg(&path);
        let (code, output) = run(command, b"").await;
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(code, 78, "{text}: {output}");
        assert!(output.contains(&path.display().to_string()), "{output}");
        for part in parts {
            assert!(output.contains(part), "{text}: {part} is missing: {output}");
        }
        assert!(!output.contains(MARK), "{text}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_editors_and_shells_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    for text in [
        "export\tINFISICAL_TOKEN=hunter2\n",
        "export   INFISICAL_TOKEN=\"hunter2\"\r\n",
        "\u{feff}INFISICAL_TOKEN=hunter2",
        "  INFISICAL_TOKEN = ' hunter2 '\n",
        "\u{feff}token = \"hunter2\" # mine\r\n",
        "token = \"\"\"\nhunter2\n\"\"\"\n",
    ] {
        let path = dir.path().join("gateway.conf");
        write_private(&path, text);
        let mut command = check(dir.path());
        command.arg("--config").arg(&path);
        let (code, output) = run(command, b"").await;
        assert_eq!(code, 0, "{text:?}: {output}");
        assert!(output.contains("<secret>"), "{text:?}: {output}");
    }
}

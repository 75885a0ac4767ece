//! What a `KEY=value` file may hold, who may read it, and what a change leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::mistake::nearest;
use super::{Error, load, load_credential, load_own, parse, update, write_whole};
use crate::env::{API_URL, GATEWAY_ACCESS_TOKEN, GATEWAY_NAME, TOKEN, Variable};
use crate::secret::Secret;

fn changed(old: &str, changes: &[(&'static Variable, &Secret)]) -> Result<String, Error> {
    super::updated(Path::new("/gateway.conf"), old, changes).map(|new| new.to_string())
}

fn pairs(text: &str) -> Vec<(usize, &'static str, String)> {
    let entries = parse(text).unwrap_or_else(|errors| panic!("{text:?}: {errors:?}"));
    entries
        .iter()
        .map(|e| (e.line, e.key.name, e.value.expose().to_owned()))
        .collect()
}

#[test]
fn file_has_assignments_comments_and_blanks() {
    let text = "\u{feff}# comment\n\n; another\r\nINFISICAL_TOKEN=abc\r\n  export INFISICAL_API_URL = \"http://a b\" \n";
    assert_eq!(
        pairs(text),
        [
            (4, "INFISICAL_TOKEN", "abc".to_owned()),
            (5, "INFISICAL_API_URL", "http://a b".to_owned()),
        ]
    );
}

#[test]
fn values_follow_the_service_managers_rules() {
    for (written, value) in [
        ("", ""),
        ("abc#no-comment", "abc#no-comment"),
        ("'abc # no comment'", "abc # no comment"),
        ("' abc '", "abc"),
        ("\" \u{feff}abc\"", "abc"),
        ("a=b==", "a=b=="),
        ("a\"b", "a\"b"),
        ("'a \\ \" $'", "a \\ \" $"),
        ("\"a 'b' \\\" \\\\ \\$ \\`\"", "a 'b' \" \\ $ `"),
    ] {
        let text = format!("INFISICAL_TOKEN={written}");
        assert_eq!(pairs(&text)[0].2, value, "{written}");
    }
}

#[test]
fn wrong_lines_are_named_without_values() {
    let text = "INFISICAL_TOKEN=\"hunter2\nhunter2\nINFISICAL_TOKN=hunter2\nXYZ=hunter2\n\
                INFISICAL_API_URL=a\nINFISICAL_API_URL=hunter2\nINFISICAL_JWT='hunter2'x\n\
                INFISICAL_RELAY_NAME=hunter2\\n\nINFISICAL_RELAY_HOST=\u{7}hunter2\na b=hunter2\n\
                INFISICAL_GATEWAY_ID=\"\\x\"\n";
    let errors = parse(text).expect_err("mistakes");
    let expected = [
        "line 1: INFISICAL_TOKEN has an opening quote without a closing one",
        "line 2: expected KEY=value",
        "line 3: unknown key INFISICAL_TOKN, did you mean INFISICAL_TOKEN?",
        "line 6: INFISICAL_API_URL is already set on line 5",
        "line 7: INFISICAL_JWT has text behind its closing quote",
        "line 8: INFISICAL_RELAY_NAME has a backslash that escapes nothing; put the value in single quotes",
        "line 9: INFISICAL_RELAY_HOST holds a control character",
        "line 10: expected KEY=value",
        "line 11: INFISICAL_GATEWAY_ID has a backslash that escapes nothing; put the value in single quotes",
    ];
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected);
    assert!(!format!("{errors:?}").contains("hunter2"));
}

#[test]
fn mistakes_of_form_name_the_fix() {
    for (text, expected) in [
        (
            "[gateway]\nINFISICAL_TOKEN=hunter2\n",
            "line 1: remove this [section] line: a KEY=value file has no sections",
        ),
        (
            "# mine\ninfisical_token=hunter2\n",
            "line 2: write infisical_token in capital letters: INFISICAL_TOKEN",
        ),
        (
            "Infisical_Api_Url=hunter2\n",
            "line 1: write Infisical_Api_Url in capital letters: INFISICAL_API_URL",
        ),
        (
            "INFISICAL_API_URL=https://hunter2 # ours\n",
            "line 1: INFISICAL_API_URL has a comment behind its value; put the comment on a line of its own, or the \
             whole value in single quotes",
        ),
    ] {
        let errors = parse(text).expect_err(text);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [expected]);
    }
    let exported = "export\tINFISICAL_TOKEN=a\nexport  INFISICAL_API_URL=b\n";
    assert_eq!(pairs(exported).len(), 2);
}

#[test]
fn non_utf8_file_names_line_and_encoding() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.conf");
    let utf16 = |mark: &[u8]| {
        let text = "INFISICAL_TOKEN=hunter2\n".encode_utf16();
        let bytes = text.flat_map(u16::to_le_bytes);
        mark.iter().copied().chain(bytes).collect::<Vec<u8>>()
    };
    for (bytes, expected) in [
        (
            b"INFISICAL_TOKEN=hunter2\n# B\xfcro\n".to_vec(),
            "line 2: this is not UTF-8 text but ISO-8859-1",
        ),
        (
            utf16(&[0xff, 0xfe]),
            "line 1: this is not UTF-8 text but UTF-16",
        ),
        (utf16(&[]), "line 1: this is not UTF-8 text but UTF-16"),
    ] {
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        let error = load(&path).expect_err("not UTF-8").to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("save the file as UTF-8"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn only_close_suggestions_are_made() {
    for (given, suggested) in [
        ("INFISICAL_GATEWAY_NMAE", Some("INFISICAL_GATEWAY_NAME")),
        ("infisical_token", Some("INFISICAL_TOKEN")),
        ("INFISICAL_GATEWAYNAM", Some("INFISICAL_GATEWAY_NAME")),
        ("INFISICAL_URL", None),
        ("INFISICAL_TOEKN", Some("INFISICAL_TOKEN")),
        ("INFISICAL_JW", Some("INFISICAL_JWT")),
        ("INFISICAL_JOT", Some("INFISICAL_JWT")),
        ("INFISICAL_TWO", None),
        ("gateway_nmae", Some("INFISICAL_GATEWAY_NAME")),
        ("PATH", None),
        ("", None),
    ] {
        assert_eq!(nearest(given).map(|known| known.name), suggested, "{given}");
    }
}

#[test]
fn only_the_owner_may_read_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.conf");
    fs::write(&path, "INFISICAL_TOKEN=abc\n").expect("written");
    for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        assert_eq!(load(&path).is_ok(), accepted, "{mode:o}");
        assert!(load_credential(&path).is_ok(), "{mode:o}");
    }
    let error = load(&path).expect_err("exposed").to_string();
    assert!(
        error.contains(&format!("mode 0604); run: chmod 600 {}", path.display())),
        "{error}"
    );
}

#[test]
fn another_users_file_is_no_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.conf");
    fs::write(&path, "INFISICAL_TOKEN=abc\n").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    assert!(load_own(&path).is_ok());
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can give files away");
        return;
    }
    std::os::unix::fs::chown(&path, Some(65534), None).expect("given away");
    let error = load_own(&path).expect_err("foreign").to_string();
    let cure = format!(
        "belongs to user id 65534, who could change it; run: chown root {}",
        path.display()
    );
    assert!(error.ends_with(&cure), "{error}");
    assert!(load(&path).is_ok());
}

#[test]
fn non_file_is_an_error_absence_known() {
    let directory = tempfile::tempdir().expect("a directory");
    let absent = load(&directory.path().join("none")).expect_err("absent");
    assert!(absent.is_absent());
    let error = load(directory.path()).expect_err("a directory");
    assert!(matches!(error, Error::NotAFile { .. }) && !error.is_absent());
    let binary = directory.path().join("binary");
    fs::write(&binary, [0xff, 0xfe]).expect("written");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o600)).expect("mode");
    assert!(matches!(load(&binary), Err(Error::Lines { .. })));
}

#[test]
fn a_change_keeps_the_other_lines() {
    let token = Secret::new("new token");
    let name = Secret::new("edge-1");
    let old =
        "# mine\nexport INFISICAL_TOKEN='old'\nINFISICAL_API_URL=http://a\n\nINFISICAL_TOKEN=again";
    let new = changed(old, &[(&TOKEN, &token), (&GATEWAY_NAME, &name)]).expect("changed");
    assert_eq!(
        new,
        "# mine\nINFISICAL_TOKEN=\"new token\"\nINFISICAL_API_URL=http://a\n\nINFISICAL_GATEWAY_NAME=edge-1\n"
    );
}

#[test]
fn any_written_value_is_read_back() {
    for value in [
        "",
        "a",
        "two words",
        "q\"'\\$`#",
        "=",
        "a # b",
        "é",
        "a.b-c_d/e+f=",
    ] {
        let value = Secret::new(value);
        let text = changed("", &[(&TOKEN, &value)]).expect("rendered");
        assert_eq!(parse(&text).expect("parsed")[0].value, value, "{text}");
    }
    let line = Secret::new("a\nINFISICAL_API_URL=http://evil");
    assert!(matches!(
        changed("", &[(&TOKEN, &line)]),
        Err(Error::Unwritable {
            key: "INFISICAL_TOKEN"
        })
    ));
}

#[test]
fn update_makes_a_private_file_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("made/gateway.conf");
    let (one, two) = (Secret::new("one"), Secret::new("two"));
    update(&path, &[(&GATEWAY_ACCESS_TOKEN, &one)]).expect("created");
    update(&path, &[(&GATEWAY_ACCESS_TOKEN, &two), (&API_URL, &one)]).expect("changed");
    let entries = load(&path).expect("private and readable");
    assert_eq!(
        (entries[0].value.clone(), entries[1].value.clone()),
        (two, one)
    );
    let mode = |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(path), 0o600);
    assert_eq!(mode(directory.path().join("made")), 0o700);
    let files = fs::read_dir(directory.path().join("made"))
        .expect("listed")
        .count();
    assert_eq!(files, 1, "a temporary file was left");
}

#[test]
fn directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let home = directory.path().join("home");
    std::os::unix::fs::symlink("absent", &home).expect("linked");
    let path = home.join(".infisical/gateways/edge.conf");
    let error = update(&path, &[(&TOKEN, &Secret::new("t"))]).expect_err("no directory");
    let expected = format!(
        "cannot make the directory {}",
        home.join(".infisical/gateways").display()
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[test]
fn update_follows_a_link() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::write(&file, "").expect("written");
    std::os::unix::fs::symlink(&file, &link).expect("linked");
    update(&link, &[(&TOKEN, &Secret::new("t"))]).expect("updated");
    assert_eq!(load(&file).expect("read").len(), 1);
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
}

#[test]
fn a_failed_update_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("taken");
    fs::create_dir(&path).expect("made");
    assert!(update(&path, &[(&TOKEN, &Secret::new("t"))]).is_err());
    assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
}

#[test]
fn whole_write_has_exact_permissions() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mark");
    for (content, mode) in [("longer", 0o666), ("", 0o600)] {
        write_whole(&path, content.as_bytes(), mode).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), content);
        let found = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(found & 0o777, mode);
    }
    write_whole(&directory.path().join("absent/mark"), b"", 0o600).expect_err("no directory");
    assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
}

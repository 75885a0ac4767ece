//! What is restored is what was there; what is no backup, or is damaged, changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use tar::{Builder, EntryType, Header};

use super::{Error, Manifest, Restore, Restored, Snapshot, write};
use crate::build;
use crate::metrics::Metrics;
use crate::tests::plain_settings;

/// A state that no platform uses.
async fn state(state_dir: &Path) {
    let built = build(plain_settings(state_dir), Metrics::default()).await;
    drop(built.expect("built"));
}

fn backup(state_dir: &Path) -> (Vec<u8>, Manifest) {
    let snapshot = Snapshot::of_stopped(state_dir).expect("a snapshot");
    let mut archive = Vec::new();
    let manifest = write(state_dir, snapshot, &mut archive, SystemTime::now());
    (archive, manifest.expect("written"))
}

fn restore(archive: &[u8], state_dir: &Path, replace: bool) -> Result<Restored, Error> {
    let restore = Restore {
        state_dir,
        owner: None,
        replace,
    };
    restore.run(&mut &archive[..], SystemTime::now())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn restored_state_is_the_one_backed_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let [from, to] = ["from", "new/to"].map(|name| directory.path().join(name));
    state(&from).await;
    let before = names(&from);
    let (archive, manifest) = backup(&from);
    assert_eq!(names(&from), before, "no snapshot is left");
    assert_eq!(manifest.program_version, env!("CARGO_PKG_VERSION"));
    let restored = restore(&archive, &to, false).expect("restored");
    assert_eq!((restored.manifest, restored.kept), (manifest, None));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&to), 0o700);
    for name in ["platform.db", "admin-token", "relay-auth-secret"] {
        assert_eq!(mode(&to.join(name)), 0o600, "{name}");
    }
    let token = |state: &Path| fs::read(state.join("admin-token")).expect("a token");
    assert_eq!(token(&from), token(&to));
    let other = token(&to);
    state(&to).await;
    assert_eq!(token(&to), other);

    // The same again: it refuses, and on request keeps what was there.
    let refused = restore(&archive, &to, false).expect_err("a state is there");
    assert!(matches!(refused, Error::Exists(_)), "{refused:?}");
    let kept = restore(&archive, &to, true).expect("restored").kept;
    let kept = kept.expect("the old one");
    assert_eq!(names(&directory.path().join("new")).len(), 2);
    assert_eq!(token(&kept), other);
}

#[tokio::test]
async fn state_in_use_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let [used, free] = ["used", "free"].map(|name| directory.path().join(name));
    state(&free).await;
    let (archive, _) = backup(&free);
    let platform = build(plain_settings(&used), Metrics::default()).await;
    let platform = platform.expect("built");
    let error = Snapshot::of_stopped(&used).expect_err("in use");
    assert!(matches!(error, Error::Running(_)), "{error:?}");
    let error = restore(&archive, &used, true).expect_err("in use");
    assert!(matches!(error, Error::Running(_)), "{error:?}");
    assert_eq!(names(directory.path()), ["free", "used"]);
    drop(platform);
    // A damaged database is no reason to refuse.
    fs::write(used.join("platform.db"), "damaged").expect("written");
    restore(&archive, &used, true).expect("restored");
    let elsewhere = Snapshot::of_running(&used, "../free/platform.db");
    assert!(matches!(elsewhere, Err(Error::Elsewhere(_))));
    let nothing = Snapshot::of_stopped(&directory.path().join("nothing"));
    assert!(matches!(nothing, Err(Error::NoState(_))));
}

/// Name, type and content of each.
type Entries<'a> = Vec<(&'a str, EntryType, Vec<u8>)>;

/// An archive of entries.
fn archive(entries: &[(&str, EntryType, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        // By hand: the library refuses names that lead elsewhere.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        if *kind == EntryType::Symlink {
            header.set_link_name("/etc/passwd").expect("a link");
        }
        header.set_cksum();
        archive
            .append(&header, content.as_slice())
            .expect("appended");
    }
    archive.into_inner().expect("an archive")
}

#[tokio::test]
async fn bad_archives_change_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let from = directory.path().join("from");
    state(&from).await;
    let (good, manifest) = backup(&from);
    let mut entries = Vec::new();
    let mut read = tar::Archive::new(good.as_slice());
    for entry in read.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("read");
        entries.push((name, content));
    }
    let with = |change: &dyn Fn(&mut Entries<'_>)| {
        let files = entries.iter();
        let mut files: Vec<_> = files
            .map(|(name, content)| (name.as_str(), EntryType::Regular, content.clone()))
            .collect();
        change(&mut files);
        archive(&files)
    };
    let manifest_with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = serde_json::to_value(&manifest).expect("JSON");
        change(&mut json);
        let json = serde_json::to_vec(&json).expect("JSON");
        with(&|files| files[0].2.clone_from(&json))
    };
    let extra =
        |name: &'static str, kind| with(&move |files| files.push((name, kind, b"x".to_vec())));
    assert_eq!(entries.len(), 4);
    restore(&with(&|_| ()), &directory.path().join("whole"), false).expect("it is whole");
    for (what, bad) in [
        ("nothing", Vec::new()),
        ("no archive", vec![7; 4096]),
        ("cut off", good[..good.len() / 2].to_vec()),
        ("another order", with(&|files| files.rotate_left(1))),
        ("a file less", with(&|files| files.truncate(3))),
        ("a file twice", with(&|files| files.push(files[2].clone()))),
        ("another byte", with(&|files| files[2].2[0] ^= 1)),
        ("above", extra("../escaped", EntryType::Regular)),
        ("absolute", extra("/tmp/escaped", EntryType::Regular)),
        ("a link", with(&|files| files[2].1 = EntryType::Symlink)),
        ("a directory", extra("sub/", EntryType::Directory)),
        ("no manifest", with(&|files| files[0].2 = b"{".to_vec())),
        (
            "a later format",
            manifest_with(&|json| json["format"] = 2.into()),
        ),
        (
            "another organization",
            manifest_with(&|json| json["organization_id"] = "x".into()),
        ),
        (
            "other tables",
            manifest_with(&|json| json["schema_version"] = 1.into()),
        ),
    ] {
        let to = directory.path().join("to");
        let error = restore(&bad, &to, false).expect_err(what);
        if what == "a later format" {
            assert!(matches!(error, Error::Newer { .. }), "{error:?}");
        }
        assert_eq!(names(directory.path()), ["from", "whole"], "{what}");
    }
}

/// A person who restores has to know which of the two is broken, and what to do.
#[tokio::test]
async fn damage_names_backup_or_state() {
    let directory = tempfile::tempdir().expect("a directory");
    let from = directory.path().join("from");
    state(&from).await;
    let (mut archive, _) = backup(&from);
    let header = b"SQLite format 3";
    let database = archive
        .windows(header.len())
        .position(|part| part == header);
    archive[database.expect("a database")] ^= 1;
    let error = restore(&archive, &directory.path().join("to"), false).expect_err("damaged");
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("backup is damaged, use another"), "{text}");

    let database = from.join("platform.db");
    let mut content = fs::read(&database).expect("read");
    let middle = content.len() / 2;
    content[middle..].fill(0x55);
    fs::write(&database, content).expect("written");
    let error = Snapshot::of_stopped(&from).expect_err("damaged");
    let is_state = matches!(error, Error::DamagedState | Error::Store(_));
    assert!(is_state, "{error:?}");
    assert!(!error.to_string().contains("use another"), "{error}");
}

#[tokio::test]
async fn abandoned_snapshots_go_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    state(directory.path()).await;
    let before = names(directory.path());
    let abandoned = super::new_name();
    for name in [
        &abandoned,
        &format!("{abandoned}-journal"),
        "backup-mine.db",
    ] {
        fs::write(directory.path().join(name), "x").expect("written");
    }
    state(directory.path()).await;
    let mut after = names(directory.path());
    after.retain(|name| name != "backup-mine.db");
    assert_eq!(after, before);
}

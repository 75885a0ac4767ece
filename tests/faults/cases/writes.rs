//! Files whose writing ends at the worst moment.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use infisical_agent::last_known_good::{Fingerprint, LastKnownGood};
use infisical_config::env::{GATEWAY_ACCESS_TOKEN, GATEWAY_DOMAIN};
use infisical_config::file;
use infisical_runtime::secret::Secret;

use crate::lab::{Lab, PATIENCE};
use crate::runner::{Case, Outcome};
use crate::small_disk::SmallDisk;
use crate::support::noise::Noise;
use crate::support::process::{Process, clean};
use crate::wait;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "file_is_whole_when_its_writer_dies",
        row: "killed while it writes configuration and token, 100 times: the file is the old one or the new one",
        bound: None,
        labs: 1,
        run: killed_while_writing,
    },
    Case {
        name: "file_is_whole_when_the_disk_fills",
        row: "disk fills while configuration, token and mark are written: each file is the old one or the new one",
        bound: None,
        labs: 1,
        run: filled_while_writing,
    },
];

/// Long enough for a write to be cut in the middle of it, if that were possible.
const LONG: usize = 40_000;
/// What an administrator wrote, and no one may change.
const REMARK: &str = "# do not touch\n";

fn token(number: u64) -> Secret {
    // Every character of it is the same, so that a mixture shows.
    let digit =
        char::from(b"abcdefghijklmnopqrstuvwxyz"[usize::try_from(number % 26).expect("few")]);
    Secret::new(digit.to_string().repeat(LONG))
}

fn write(path: &Path, number: u64) -> Result<(), file::Error> {
    let (token, domain) = (
        token(number),
        Secret::new(format!("https://{number}.example.org")),
    );
    file::update(
        path,
        &[(&GATEWAY_ACCESS_TOKEN, &token), (&GATEWAY_DOMAIN, &domain)],
    )
}

/// Fails unless the file is one that `write` has written; gives which.
fn whole(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).expect("there");
    assert!(
        text.starts_with(REMARK),
        "the beginning is lost: {} bytes",
        text.len()
    );
    let entries = file::load(path).expect("a whole file");
    let value = |key| {
        let entry = entries.iter().find(|entry| entry.key == key);
        entry
            .unwrap_or_else(|| panic!("only a part of {} bytes", text.len()))
            .value
            .clone()
    };
    let domain = value(&GATEWAY_DOMAIN);
    let domain = domain.expose().trim_start_matches("https://");
    let number = domain
        .split('.')
        .next()
        .and_then(|number| number.parse().ok());
    let number = number.expect("a number");
    assert!(
        value(&GATEWAY_ACCESS_TOKEN) == token(number),
        "two writes are mixed"
    );
    number
}

/// What this binary does as the child that is killed.
pub(crate) fn write_forever(path: &str) -> ExitCode {
    for number in whole(Path::new(path)).. {
        if let Err(error) = write(Path::new(path), number) {
            eprintln!("{error}");
            break;
        }
    }
    ExitCode::FAILURE
}

fn killed_while_writing(lab: &mut Lab) -> Outcome {
    const KILLS: u32 = 100;
    let path = lab.dir().join("gateway.conf");
    crate::support::write_private(&path, REMARK);
    write(&path, 0).expect("written");
    let mut noise = Noise::new(u64::from(std::process::id()));
    let mut last = 0;
    for _ in 0..KILLS {
        let this = std::env::current_exe().expect("this binary's path");
        let mut command: Command = clean(this, lab.dir());
        command.arg("write-forever").arg(&path);
        let child = Process::spawn("writer", command);
        wait::until("the first write", PATIENCE, || {
            if whole(&path) > last {
                Ok(())
            } else {
                Err("it has not changed")
            }
        });
        let mut random = [0];
        noise.fill(&mut random);
        wait::pause(Duration::from_micros(u64::from(random[0]) * 20));
        lab.kill(&child);
        last = whole(&path);
    }
    // What a killed writer leaves beside it is private.
    for entry in std::fs::read_dir(lab.dir()).expect("the directory") {
        let path = entry.expect("an entry").path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(".gateway.conf."))
        {
            assert_eq!(crate::support::mode(&path), 0o600);
        }
    }
    assert!(last > u64::from(KILLS), "nothing was written");
    Outcome::happened()
}

fn filled_while_writing(lab: &mut Lab) -> Outcome {
    const TIMES: u64 = 200;
    let disk = SmallDisk::mount(&lab.dir().join("disk"));
    let path = disk.path().join("gateway.conf");
    crate::support::write_private(&path, REMARK);
    write(&path, 0).expect("written");
    let last_known_good = LastKnownGood::new(Some(disk.path().to_owned()));
    let mark = |number: u64| Fingerprint::of(&[&number.to_string()]);
    last_known_good.note(&mark(0));
    let (mut failed, mut last, mut last_mark) = (0, 0, 0);
    for number in 1..=TIMES {
        // Full at every other time, and with less and less room in between.
        if number % 2 == 0 {
            disk.fill();
        }
        match write(&path, number) {
            Ok(()) => last = number,
            Err(error) => {
                let full = matches!(&error, file::Error::Write { source, .. }
                    if source.kind() == std::io::ErrorKind::StorageFull);
                assert!(full, "{error}");
                failed += 1;
            }
        }
        assert_eq!(whole(&path), last);
        last_known_good.note(&mark(number));
        if last_known_good.has(&mark(number)) {
            last_mark = number;
        }
        assert!(
            last_known_good.has(&mark(last_mark)),
            "a mark was lost, and none came instead"
        );
        let beside = disk
            .files()
            .into_iter()
            .filter(|name| name.starts_with('.'))
            .count();
        assert_eq!(beside, 0, "something is left: {:?}", disk.files());
        if number % 2 == 0 {
            disk.free();
        }
    }
    assert!(
        failed > 0 && last > 0 && last_mark > 0,
        "{failed} failed, {last} {last_mark} at last"
    );
    Outcome::happened()
}

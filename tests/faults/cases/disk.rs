//! A disk that is full or read-only, at the first start and later.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use infisical_config::env::{GATEWAY_ACCESS_TOKEN, RELAY_ACCESS_TOKEN};
use infisical_config::file;

use crate::lab::{Lab, PATIENCE};
use crate::net::Machine;
use crate::runner::{Case, Outcome};
use crate::small_disk::SmallDisk;
use crate::support::daemon::{GatewayCommand, RelayCommand};
use crate::support::process::Process;
use crate::support::stack::{GATEWAY, RELAY};
use crate::wait;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "full_disk_at_start_spends_no_token",
        row: "disk full at the first start: says so, spends no token; once there is room, started again",
        bound: Some(Duration::from_secs(1)),
        labs: 1,
        run: |lab| {
            first_start(
                lab,
                SmallDisk::fill,
                SmallDisk::free,
                "no space left on device",
            )
        },
    },
    Case {
        name: "read_only_disk_spends_no_token",
        row: "configuration read-only at the first start: says so, spends no token; once writable, started again",
        bound: Some(Duration::from_secs(1)),
        labs: 1,
        run: |lab| {
            let close = |disk: &SmallDisk| disk.read_only(true);
            let open = |disk: &SmallDisk| disk.read_only(false);
            first_start(lab, close, open, "read-only file system")
        },
    },
    Case {
        name: "relays_full_disk_spends_no_token",
        row: "the same with a relay",
        bound: Some(Duration::from_secs(1)),
        labs: 1,
        run: first_start_of_a_relay,
    },
    Case {
        name: "gateway_serves_with_a_full_disk",
        row: "disk full while the gateway runs: serves on; relay killed meanwhile, from its listening again",
        bound: Some(Duration::from_secs(2)),
        labs: 1,
        run: |lab| running(lab, SmallDisk::fill, SmallDisk::free),
    },
    Case {
        name: "gateway_serves_with_a_read_only_disk",
        row: "state directory read-only while the gateway runs: serves on; relay killed meanwhile, from its listening again",
        bound: Some(Duration::from_secs(2)),
        labs: 1,
        run: |lab| {
            let close = |disk: &SmallDisk| disk.read_only(true);
            let open = |disk: &SmallDisk| disk.read_only(false);
            running(lab, close, open)
        },
    },
];

/// A gateway whose files are all on one disk.
struct Gateway {
    command: GatewayCommand,
    home: PathBuf,
}

impl Gateway {
    /// Writes the configuration with `keys`.
    fn new(lab: &Lab, disk: &SmallDisk, keys: &str) -> Self {
        let home = disk.path().to_owned();
        let url = &lab.platform().url;
        let mut command = GatewayCommand::new(&home, GATEWAY, url, RELAY, keys);
        command.more.push("--log-level=debug".to_owned());
        Self { command, home }
    }

    fn start(&self, lab: &Lab) -> Rc<Process> {
        let mut command = self.command.command(&self.home);
        command.env("SSL_CERT_FILE", lab.dir().join("root.pem"));
        command.env("STATE_DIRECTORY", &self.home);
        lab.spawn("gateway", &lab.net.on(Machine::Gateway, &command))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.command.config).expect("the configuration")
    }
}

type Change = fn(&SmallDisk);

/// With a one-time token and a disk that cannot be written; then with one that can.
fn first_start(lab: &mut Lab, spoil: Change, cure: Change, why: &str) -> Outcome {
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    let _relay = lab.start_relay(Machine::Relay);
    let disk = SmallDisk::mount(&lab.dir().join("disk"));
    let token = lab.ask(lab.platform().enrollment_token("gateway", GATEWAY, None));
    let mut gateway = Gateway::new(lab, &disk, &format!("INFISICAL_TOKEN={token}\n"));
    gateway
        .command
        .more
        .push("--enroll-method=token".to_owned());
    let (before, files) = (gateway.text(), disk.files());

    spoil(&disk);
    let first = gateway.start(lab);
    refuses(lab, &first, &gateway.command.config, why);
    assert_eq!(
        (gateway.text(), disk.files()),
        (before, files),
        "changed all the same"
    );

    cure(&disk);
    let begin = Instant::now();
    let second = gateway.start(lab);
    lab.wait_up(&second);
    lab.assert_works(&lab.way());
    let took = begin.elapsed();
    let entries = file::load(&gateway.command.config).expect("a whole file");
    assert!(
        entries
            .iter()
            .any(|entry| entry.key == &GATEWAY_ACCESS_TOKEN)
    );
    Outcome::recovered(took)
}

/// It ends so that the service manager tries again, and says which file it cannot write, and why.
fn refuses(lab: &Lab, process: &Process, file: &Path, why: &str) {
    let code = lab.ask(process.exit_code());
    let said = process.output();
    assert_eq!(code, 69, "{said}");
    let path = file.display().to_string();
    let tells = |line: &str| line.contains(why) && line.contains(&path);
    assert!(said.lines().any(tells), "not said what is wrong: {said}");
}

fn first_start_of_a_relay(lab: &mut Lab) -> Outcome {
    lab.start_platform();
    let disk = SmallDisk::mount(&lab.dir().join("disk"));
    let host = Machine::Relay.address();
    let token = lab.ask(lab.platform().enrollment_token("relay", RELAY, Some(host)));
    let keys = format!("INFISICAL_TOKEN={token}\n");
    let url = lab.platform().url.clone();
    let mut relay = RelayCommand::new(disk.path(), RELAY, host, &url, &keys);
    relay.more.push("--enroll-method=token".to_owned());
    let start = || {
        let mut command = relay.command(disk.path());
        command.env("SSL_CERT_FILE", lab.dir().join("root.pem"));
        lab.spawn("relay", &lab.net.on(Machine::Relay, &command))
    };

    disk.fill();
    refuses(lab, &start(), &relay.config, "no space left on device");
    let text = std::fs::read_to_string(&relay.config).expect("there");
    assert_eq!(text, keys, "changed all the same");

    disk.free();
    let begin = Instant::now();
    let second = start();
    lab.wait_line(&second, 0, "Relay server started successfully", PATIENCE);
    let took = begin.elapsed();
    let entries = file::load(&relay.config).expect("a whole file");
    let is_kept = entries.iter().any(|entry| entry.key == &RELAY_ACCESS_TOKEN);
    assert!(is_kept, "the access token is not kept");
    Outcome::recovered(took)
}

/// The disk is spoilt before the gateway has noted that it works, and cured at the end.
fn running(lab: &mut Lab, spoil: Change, cure: Change) -> Outcome {
    const MARK: &str = "worked-with";
    lab.start_platform();
    lab.start_echo(Machine::Gateway);
    let disk = SmallDisk::mount(&lab.dir().join("disk"));
    let gateway = Gateway::new(lab, &disk, &lab.gateway_keys());
    // Known to the platform, and away.
    let relay = lab.start_relay(Machine::Relay);
    lab.kill(&relay);
    let process = gateway.start(lab);
    // It has its view of the disk, which a change of ours does not reach before that.
    lab.wait_line(&process, 0, "Successfully registered gateway", PATIENCE);
    spoil(&disk);
    let mut relay = lab.start_relay(Machine::Relay);
    lab.wait_up(&process);
    let way = lab.way();
    lab.assert_works(&way);
    lab.wait_line(
        &process,
        0,
        "the mark that this configuration works cannot be kept",
        PATIENCE,
    );

    let mark = process.mark();
    process.signal(nix::sys::signal::Signal::SIGHUP);
    lab.wait_line(&process, mark, "configuration reloaded", PATIENCE);
    lab.assert_works(&way);

    let mut measured = Vec::new();
    for _ in 0..2 {
        lab.kill(&relay);
        let probe = Lab::probe(&lab.way());
        relay = lab.start_relay(Machine::Relay);
        measured.push(probe.success_since(Instant::now(), PATIENCE));
    }
    assert!(
        !disk.files().contains(&MARK.to_owned()),
        "the disk was not spoilt"
    );

    cure(&disk);
    lab.kill(&relay);
    let _relay = lab.start_relay(Machine::Relay);
    wait::until("the mark", PATIENCE, || {
        let files = disk.files();
        if files.contains(&MARK.to_owned()) {
            Ok(())
        } else {
            Err(files.join(" "))
        }
    });
    assert!(process.is_running());
    Outcome::worst_of(measured)
}

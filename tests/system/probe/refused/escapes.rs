//! Asking others to do what one may not: the service manager, by the messages and the tool that
//! start a unit. Anyone who can is out of every sandbox.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::{Named, add, directory, execute, execute_in};
use crate::probe::{Attempt, refusal};

/// Where the service manager hears, and whether a bus lies between.
const MANAGERS: &[(&str, bool)] = &[
    ("/run/dbus/system_bus_socket", true),
    ("/run/systemd/private", false),
];
/// The manager's tool, and how to start something harmless with it.
const TOOL: (&str, &[&str]) = ("/usr/bin/systemd-run", &["--quiet", "--collect", "true"]);

pub(super) fn escapes(all: &mut Vec<Named>) {
    for (socket, has_bus) in MANAGERS {
        add(all, format!("start a unit by {socket}"), move || {
            start_unit(socket, *has_bus)
        });
    }
    let (tool, arguments) = TOOL;
    add(all, "start a unit by systemd-run", move || {
        execute(tool, arguments)
    });
    for variable in ["RUNTIME_DIRECTORY", "STATE_DIRECTORY"] {
        add(
            all,
            format!("start a unit by a systemd-run in its {variable}"),
            move || execute_in(directory(variable), tool, arguments),
        );
    }
}

/// A call of StartTransientUnit, as plain as it comes (the D-Bus specification, "Message
/// Protocol").
fn start_unit(socket: &str, has_bus: bool) -> Attempt {
    let mut stream = UnixStream::connect(socket)?;
    let user = nix::unistd::geteuid().to_string();
    let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    if !answer.starts_with(b"OK ") {
        return Err(refusal());
    }
    stream.write_all(b"BEGIN\r\n")?;
    if has_bus {
        let bus = [
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "Hello",
            "org.freedesktop.DBus",
        ];
        call(&mut stream, 1, bus, "", &[])?;
    }
    let manager = [
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "org.freedesktop.systemd1",
    ];
    call(&mut stream, 2, manager, "ssa(sv)a(sa(sv))", &unit())
}

/// The arguments: a name, a mode, one property, no other units.
fn unit() -> Vec<u8> {
    let mut body = Message::default();
    body.text(&format!("infisical-escape-{}.service", std::process::id()));
    body.text("replace");
    body.array(8, |body| {
        body.align(8);
        body.text("ExecStart");
        body.signature("a(sasb)");
        body.array(8, |body| {
            body.align(8);
            body.text("/bin/true");
            body.array(4, |body| body.text("true"));
            body.number(0);
        });
    });
    body.array(8, |_| ());
    body.0
}

/// Calls, and waits for the answer: an error is a refusal.
fn call(
    stream: &mut UnixStream,
    serial: u32,
    [path, interface, member, destination]: [&str; 4],
    signature: &str,
    body: &[u8],
) -> Attempt {
    const CALL: u8 = 1;
    const ANSWERS: [u8; 2] = [2, 3];
    let mut message = Message(vec![b'l', CALL, 0, 1]);
    message.number(u32::try_from(body.len()).map_err(|_| refusal())?);
    message.number(serial);
    let fields = [
        (1, "o", path),
        (2, "s", interface),
        (3, "s", member),
        (6, "s", destination),
    ];
    message.array(8, |message| {
        for (code, kind, value) in fields {
            message.align(8);
            message.0.push(code);
            message.signature(kind);
            message.text(value);
        }
        message.align(8);
        message.0.push(8);
        message.signature("g");
        message.signature(signature);
    });
    message.align(8);
    message.0.extend(body);
    stream.write_all(&message.0)?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let number = |at: usize| {
            let bytes: [u8; 4] = head[at..at + 4].try_into().expect("four bytes");
            usize::try_from(u32::from_le_bytes(bytes)).expect("a length")
        };
        let mut rest = vec![0; number(12).next_multiple_of(8) + number(4)];
        stream.read_exact(&mut rest)?;
        // Signals of the bus come between.
        if let Some(kind) = ANSWERS.iter().position(|kind| *kind == head[1]) {
            return if kind == 0 { Ok(()) } else { Err(refusal()) };
        }
    }
}

/// Values one after the other, each aligned as its type wants it.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).expect("a short text"));
        self.0.extend(text.bytes().chain([0]));
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).expect("a short text"));
        self.0.extend(text.bytes().chain([0]));
    }

    /// Its length does not count the padding before its first element.
    fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let length = self.0.len() - 4;
        self.align(alignment);
        let begin = self.0.len();
        fill(self);
        let bytes = u32::try_from(self.0.len() - begin).expect("a short array");
        self.0[length..length + 4].copy_from_slice(&bytes.to_le_bytes());
    }
}

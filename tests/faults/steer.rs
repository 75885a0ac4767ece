//! The proxy between gateway and relay, as the test steers it: [`crate::peer`] is the other side of
//! this.

use std::io::Write as _;
use std::process::ChildStdin;
use std::rc::Rc;
use std::time::Duration;

use crate::lab::lines_after;
use crate::support::process::Process;
use crate::wait;

/// How long the proxy may take to obey.
const OBEDIENCE: Duration = Duration::from_secs(10);

/// What becomes of connections that come from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fresh {
    /// They reach the relay.
    Forward,
    /// They are accepted, and that is all.
    Silent,
    /// Both sides exchange keys, and hear nothing any more after that.
    Keys,
}

/// From the gateway to the relay, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The running proxy.
pub(crate) struct Proxy {
    pub(crate) process: Rc<Process>,
    stdin: ChildStdin,
}

impl Proxy {
    pub(crate) fn new(process: Rc<Process>, stdin: ChildStdin) -> Self {
        Self { process, stdin }
    }

    /// For connections that come from now on.
    pub(crate) fn fresh(&mut self, fresh: Fresh) {
        let word = match fresh {
            Fresh::Forward => "forward",
            Fresh::Silent => "silent",
            Fresh::Keys => "keys",
        };
        self.say(&format!("fresh {word}"));
    }

    /// Present connections carry nothing in this direction any more, forever, and no one is
    /// notified.
    pub(crate) fn stick(&mut self, direction: Direction) {
        self.say(&format!("stick {}", direction.word()));
    }

    /// Present connections are reset.
    pub(crate) fn cut(&mut self) {
        self.say("cut");
    }

    /// Whatever passes from now on is held back for so long.
    pub(crate) fn delay(&mut self, time: Duration) {
        self.say(&format!("delay {}", time.as_millis()));
    }

    /// One bit is flipped in the byte at this offset of the next connection.
    pub(crate) fn flip_next(&mut self, direction: Direction, offset: u64) {
        self.say(&format!("flip-next {} {offset}", direction.word()));
    }

    /// One bit is flipped in present connections, in the byte that comes after so many more.
    pub(crate) fn flip_soon(&mut self, direction: Direction, after: u64) {
        self.say(&format!("flip-soon {} {after}", direction.word()));
    }

    /// How many bits were flipped so far, and how many of the connections have ended.
    pub(crate) fn flipped_and_ended(&self) -> (usize, usize) {
        let output = self.process.output();
        let count = |what| output.matches(what).count();
        (count("flipped "), count("spoiled connection ended"))
    }

    /// Tells the proxy, and waits until it has obeyed.
    fn say(&mut self, command: &str) {
        let mark = self.process.mark();
        writeln!(self.stdin, "{command}").expect("the proxy reads");
        wait::until(command, OBEDIENCE, || {
            let lines = lines_after(&self.process, mark);
            match lines.iter().any(|line| line == "done") {
                true => Ok(()),
                false => Err(lines.join("\n")),
            }
        });
    }
}

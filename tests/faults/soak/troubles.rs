//! The random faults.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::random::Random;
use crate::lab::Lab;
use crate::net::Machine;
use crate::steer::{Direction, Proxy};
use crate::support::process::Process;
use crate::wait;

/// What has happened.
pub(super) struct Trouble {
    pub(super) name: &'static str,
    /// When it was over. What nothing but the gateway or the relay can end is over at once.
    pub(super) over: Instant,
    /// Within which time a session should work again.
    pub(super) bound: Duration,
}

/// As in the table of faults.
const RECOVERY: Duration = Duration::from_secs(3);
/// How long it may take to find out that no one answers any more.
const SUSPICION: Duration = Duration::from_secs(30);

/// Something happens, and is over.
pub(super) fn strike(
    lab: &mut Lab,
    proxy: &mut Proxy,
    gateway: &Process,
    random: &mut Random,
) -> Trouble {
    // Long enough for the crowd to be there.
    wait::pause(random.millis(100..400));
    match random.within(0..12) {
        0..3 => {
            lab.net.isolate(Machine::Gateway);
            wait::pause(random.millis(1000..3000));
            lab.net.heal();
            over("nothing passes for 1 to 3 s")
        }
        3..5 => {
            proxy.cut();
            over("the tunnel is reset")
        }
        5 => {
            let direction = direction(random);
            proxy.stick(direction);
            Trouble {
                bound: SUSPICION + RECOVERY,
                ..over("the tunnel is half open")
            }
        }
        6..8 => {
            proxy.delay(random.millis(100..1000));
            wait::pause(random.millis(1000..3000));
            proxy.delay(Duration::ZERO);
            over("everything takes up to 1 s")
        }
        8 => {
            proxy.flip_soon(direction(random), random.within(0..50_000));
            over("a bit is flipped")
        }
        9 => {
            lab.kill_platform();
            wait::pause(random.millis(0..2000));
            lab.start_platform();
            over("the platform is restarted")
        }
        10 if super::handles(gateway.pid(), Signal::SIGUSR2) => {
            gateway.signal(Signal::SIGUSR2);
            over("told to connect again")
        }
        _ => {
            gateway.signal(Signal::SIGHUP);
            over("told to read its configuration")
        }
    }
}

fn over(name: &'static str) -> Trouble {
    Trouble {
        name,
        over: Instant::now(),
        bound: RECOVERY,
    }
}

fn direction(random: &mut Random) -> Direction {
    if random.within(0..2) == 0 {
        Direction::Up
    } else {
        Direction::Down
    }
}

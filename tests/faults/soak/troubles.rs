//! The random faults.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::random::Random;
use crate::lab::Lab;
use crate::net::Machine;
use crate::steer::{Direction, Proxy};
use crate::support::process::Process;
use crate::wait;

/// Something happens, and is over; gives what it was, and since when it is over. What nothing but the gateway or the relay can
/// end is over at once.
pub(super) fn strike(
    lab: &mut Lab,
    proxy: &mut Proxy,
    gateway: &Process,
    random: &mut Random,
) -> (&'static str, Instant) {
    // Long enough for the crowd to be there.
    wait::pause(random.millis(100..400));
    match random.within(0..12) {
        0..3 => {
            lab.net.isolate(Machine::Gateway);
            wait::pause(random.millis(1000..3000));
            lab.net.heal();
            ("nothing passes for 1 to 3 s", Instant::now())
        }
        3..5 => {
            proxy.cut();
            ("the tunnel is reset", Instant::now())
        }
        5 => {
            let direction = direction(random);
            proxy.stick(direction);
            ("the tunnel is half open", Instant::now())
        }
        6..8 => {
            proxy.delay(random.millis(100..1000));
            wait::pause(random.millis(1000..3000));
            proxy.delay(std::time::Duration::ZERO);
            ("everything takes up to 1 s", Instant::now())
        }
        8 => {
            proxy.flip_soon(direction(random), random.within(0..50_000));
            ("a bit is flipped", Instant::now())
        }
        9 => {
            lab.kill_platform();
            wait::pause(random.millis(0..2000));
            lab.start_platform();
            ("the platform is restarted", Instant::now())
        }
        10 if super::handles(gateway.pid(), Signal::SIGUSR2) => {
            gateway.signal(Signal::SIGUSR2);
            ("told to connect anew", Instant::now())
        }
        _ => {
            gateway.signal(Signal::SIGHUP);
            ("told to read its configuration", Instant::now())
        }
    }
}

fn direction(random: &mut Random) -> Direction {
    if random.within(0..2) == 0 {
        Direction::Up
    } else {
        Direction::Down
    }
}

//! A command that another one starts.

use std::process::Command;

/// `command`, started by `launcher`, which takes it as its last arguments; with its own environment
/// and folder.
pub(crate) fn by(mut launcher: Command, command: &Command) -> Command {
    launcher.env_clear();
    launcher.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            launcher.env(name, value);
        }
    }
    if let Some(folder) = command.get_current_dir() {
        launcher.current_dir(folder);
    }
    launcher
}

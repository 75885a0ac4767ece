//! The `infisical` program: words in, an exit code out.

use std::io::{self, Write as _};
use std::process::ExitCode;

use infisical::cli::Cli;
use infisical::cli::exit::{Code, Failure};
use infisical::cli::logging::{Handle, describe};
use infisical::cli::print::print_help;
use infisical_config::env::Environment;
use infisical_config::warning::Warning;
use infisical_host::handover;
use infisical_runtime::threads;

fn main() -> ExitCode {
    let environment = Environment::from_vars(std::env::vars_os());
    if environment.successor.as_deref() == Some(handover::LAUNCHER) {
        return match handover::launch() {
            Ok(()) => Code::Success.into(),
            Err(error) => ended(&error.into()),
        };
    }
    match Cli::complete(std::env::args_os(), &environment) {
        Ok(false) => {}
        Ok(true) => return Code::Success.into(),
        // The shell shows no message.
        Err(_) => return Code::Unavailable.into(),
    }
    let cli = match Cli::parse_words(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // Without standard error there is no way to tell.
            let _ = match Cli::hint(&error) {
                Some(hint) => writeln!(io::stderr(), "infisical: {hint}"),
                None => {
                    let text = error.render().to_string();
                    match text.strip_prefix("error: ") {
                        Some(text) => write!(io::stderr(), "infisical: {text}"),
                        None => error.print(),
                    }
                }
            };
            return Code::Usage.into();
        }
        // Help and version are no mistakes.
        Err(help) => {
            return match print_help(&help) {
                Ok(()) => Code::Success.into(),
                Err(error) => ended(&error),
            };
        }
    };
    let (logging, warnings) = match cli.logging(&environment) {
        Ok(logging) => logging,
        Err(error) => return ended(&error),
    };
    let logs = logging.start();
    // The last line says why it ended, so it ends after them.
    let _written = logs.written_at_the_end();
    warnings.iter().for_each(Warning::log);
    match run(cli, environment, &logs) {
        Ok(()) => Code::Success.into(),
        Err(error) => {
            let code = Code::of(&error);
            if code.is_reported() {
                logs.report(&error);
            }
            code.into()
        }
    }
}

/// Ends before there are logs.
fn ended(error: &anyhow::Error) -> ExitCode {
    let code = Code::of(error);
    if code.is_reported() {
        let _ = writeln!(io::stderr(), "{}", describe(error));
    }
    code.into()
}

fn run(cli: Cli, environment: Environment, logs: &Handle) -> anyhow::Result<()> {
    cli.give_up_privileges(&environment);
    // With what is left, as every time that it is opened again.
    logs.open()?;
    let runtime = threads::runtime().map_err(Failure::unavailable)?;
    let result = runtime.block_on(cli.run(environment, logs.clone()));
    // A read of a terminal that never ends must not hold up the exit; everything else has ended.
    runtime.shutdown_background();
    result
}

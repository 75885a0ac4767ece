//! The platform's web page in a real browser: headless Chromium, as Debian packages it, driven by
//! WebDriver. Run by `make test-web`; what cannot run here is skipped visibly.
//!
//! - `browser` is the browser, `axe` the checker of accessibility, which npm brings.
//! - `lab` has this build's platform, relay and gateway as processes, and who looks at them.
//! - `cases` is what is asserted, each a function with a lab of its own. `cargo test --locked --test
//!   web -- PART` runs those with PART in their name.
//! - `pictures` are those of the documents, written with `UPDATE_GENERATED=1`.
//!
//! What HTTP alone shows is in `tests/it/web.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a case fails by panicking, and this is a program that prints its results"
)]
#![allow(missing_docs, reason = "a test has no readers but those of its source")]

mod axe;
mod browser;
mod cases;
mod lab;
mod pictures;

use std::process::ExitCode;
use std::time::Instant;

use infisical_test_support as support;

use browser::Driver;
use support::choice::Choice;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let choice = Choice::of(&words);
    for (program, package) in [
        ("chromium", "chromium"),
        ("chromedriver", "chromium-driver"),
    ] {
        if std::process::Command::new(program)
            .arg("--version")
            .output()
            .is_err()
        {
            println!("SKIPPED: no page is shown to a browser, which needs the package {package}");
            return ExitCode::SUCCESS;
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (mut ran, mut failed) = (0, Vec::new());
    for (name, case) in cases::TABLE
        .into_iter()
        .filter(|(name, _)| choice.has(name))
    {
        let start = Instant::now();
        // A panic is a failure of this case alone.
        let run = || {
            runtime.block_on(async {
                let driver = Driver::start().await;
                case(driver).await;
            });
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        let seconds = start.elapsed().as_secs_f32();
        ran += 1;
        match result {
            Ok(()) => println!("ok {name} ({seconds:.1} s)"),
            Err(_) => {
                println!("FAILED {name} ({seconds:.1} s)");
                failed.push(name);
            }
        }
    }
    if ran == 0 {
        choice.report_nothing();
        return ExitCode::FAILURE;
    }
    println!("{} of {ran} cases passed", ran - failed.len());
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

//! `infisical man DIRECTORY`: manual pages, one for each command, from the definition of the command
//! line. Packages are made with it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_mangen::Man;

use super::exit::Failure;

/// What clap calls the texts at the end of a page; most are examples.
const EXTRA: &str = ".SH EXTRA\n";
const EXAMPLES: &str = ".SH \"NOTES AND EXAMPLES\"\n";

/// Write the manual pages
///
/// Packages are made with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  infisical man /usr/local/share/man/man1")]
pub(crate) struct Args {
    /// Directory to write them to; it must exist
    directory: PathBuf,
}

pub(crate) fn run(args: &Args, command: Command) -> anyhow::Result<()> {
    for (name, page) in pages(command)? {
        let path = args.directory.join(name);
        std::fs::write(&path, page)
            .with_context(|| format!("cannot write {}", path.display()))
            .map_err(Failure::unavailable)?;
    }
    Ok(())
}

/// File names and texts of the pages of `command` and of all shown commands below it.
fn pages(command: Command) -> anyhow::Result<Vec<(String, String)>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let mut left = vec![command];
    while let Some(command) = left.pop() {
        let below = command.get_subcommands().filter(|c| !c.is_hide_set());
        left.extend(below.cloned());
        let source = concat!("infisical ", env!("CARGO_PKG_VERSION"));
        let page = Man::new(command).manual("Infisical").source(source);
        let mut text = Vec::new();
        page.render(&mut text)?;
        let text = unfilled(&String::from_utf8_lossy(&text));
        pages.push((page.get_filename(), text));
    }
    Ok(pages)
}

/// `page` with the examples at its end as they are: filled and hyphenated, no one could copy them.
fn unfilled(page: &str) -> String {
    let Some((before, notes)) = page.split_once(EXTRA) else {
        return page.to_owned();
    };
    let mut text = format!("{before}{EXAMPLES}");
    let mut is_filled = true;
    for line in notes.lines() {
        if line.starts_with("  ") == is_filled {
            text.push_str(if is_filled { ".nf\n" } else { ".fi\n" });
            is_filled = !is_filled;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::pages;
    use crate::cli::Cli;

    #[test]
    fn every_command_and_flag_has_its_page() {
        let pages: HashMap<_, _> = pages(Cli::full_command())
            .expect("pages")
            .into_iter()
            .collect();
        let mut root = Cli::full_command().disable_help_subcommand(true);
        root.build();
        let mut left = vec![root];
        let mut checked = 0;
        while let Some(command) = left.pop() {
            let name = command.get_display_name().unwrap_or("infisical").to_owned();
            let page = pages.get(&format!("{name}.1"));
            let page = page.unwrap_or_else(|| panic!("{name} has no page"));
            for flag in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let Some(flag) = flag.get_long() else {
                    continue;
                };
                let written = format!("\\-\\-{}", flag.replace('-', "\\-"));
                assert!(page.contains(&written), "{name}: {flag}");
            }
            let below = command.get_subcommands().filter(|c| !c.is_hide_set());
            left.extend(below.cloned());
            checked += 1;
        }
        let page = &pages["infisical-gateway-reconnect.1"];
        assert!(page.contains("\n.nf\n  sudo infisical gateway"), "{page}");
        assert!(checked > 20 && checked == pages.len(), "{checked}");
    }
}

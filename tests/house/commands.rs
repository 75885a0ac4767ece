//! docs/commands.md: the help of every command, as the program prints it.

use std::fmt::Write as _;

use clap::Command;
use infisical::cli::Cli;

const HEAD: &str = "\
# Commands

The help of every command, as `--help` prints it; this page is generated from the program. What its
first chapter shows under *Global options* holds for every command.
";

/// The width for which the program makes its help where there is no terminal.
const WIDTH: usize = 100;

/// The whole page.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut root = Cli::full_command().disable_help_subcommand(true);
    root.build();
    add(&mut page, &root, &["infisical"]);
    page
}

fn add(page: &mut String, command: &Command, words: &[&str]) {
    let help = help(words);
    let help = match words {
        [_] => help,
        _ => without_global(&help),
    };
    let _ = write!(
        page,
        "\n## {}\n\n```text\n{}\n```\n",
        words.join(" "),
        help.trim_end()
    );
    let mut commands: Vec<&Command> = command.get_subcommands().collect();
    commands.retain(|below| !below.is_hide_set());
    commands.sort_by_key(|below| below.get_name());
    for below in commands {
        add(page, below, &[words, &[below.get_name()]].concat());
    }
}

fn help(words: &[&str]) -> String {
    let command = Cli::full_command().term_width(WIDTH);
    let words = words.iter().chain(&["--help"]);
    let help = command
        .try_get_matches_from(words)
        .map_err(|help| help.to_string());
    let help = help.err().unwrap_or_default();
    let lines = help.lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n")
}

/// `help` without the chapter about what holds for every command.
fn without_global(help: &str) -> String {
    let chapters = help.split("\n\n");
    let chapters: Vec<&str> = chapters
        .scan(false, |in_global, chapter| {
            // Options with a description of several paragraphs continue indented.
            *in_global = match chapter.starts_with("Global options:") {
                true => true,
                false => *in_global && chapter.starts_with(' '),
            };
            Some((!*in_global).then_some(chapter))
        })
        .flatten()
        .collect();
    chapters.join("\n\n")
}

//! Command reference: writes docs/commands.md from the commands' definitions, and checks that it is current.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, Command};

use crate::cli::command_line::Cli;

/// The page's first lines.
const HEAD: &str = "\
# Commands

Made from the commands' definitions: `MARQUEUE_WRITE_DOCS=1 cargo test --lib cli::reference` rewrites this page.
Options that every command takes are listed once, under [marqueue](#marqueue).
";

/// Writes the section of `command`, and those of the commands below it.
fn write_section(page: &mut String, command: &Command, words: &str) {
    let is_top = !words.contains(' ');
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" ");
    writeln!(page, "\n## {words}\n\n{about}\n\n```\n{usage}\n```").expect("a String takes text");
    let shown = |arg: &&Arg| !arg.is_hide_set() && (is_top || !arg.is_global_set());
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(shown)
        .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        .collect();
    if !arguments.is_empty() {
        page.push_str("\n| argument | means |\n|---|---|\n");
        for arg in arguments {
            writeln!(page, "| `{}` | {} |", cell(&arg.to_string()), cell(&meaning(arg))).expect("a String takes text");
        }
    }
    if let Some(help) = command.get_after_help() {
        let help = help.to_string();
        for section in help.trim().split("\n\n") {
            let (title, lines) = section.split_once('\n').unwrap_or((section, ""));
            writeln!(page, "\n{title}\n\n```\n{}\n```", lines.trim_end()).expect("a String takes text");
        }
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        write_section(page, below, &format!("{words} {}", below.get_name()));
    }
}

/// Returns what an argument means, with its default.
fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let defaults = arg.get_default_values();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let values: Vec<_> = defaults.iter().map(|value| value.to_string_lossy()).collect();
        write!(text, " [default: {}]", values.join(" ")).expect("a String takes text");
    }
    text
}

/// Returns the text as one cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[test]
fn the_command_page_is_current() {
    let mut all = Cli::definition();
    all.build();
    let mut page = HEAD.to_owned();
    write_section(&mut page, &all, "marqueue");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    if std::env::var_os("MARQUEUE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let stored = std::fs::read_to_string(&path).expect("the page");
    assert!(stored == page, "docs/commands.md is stale: MARQUEUE_WRITE_DOCS=1 cargo test --lib cli::reference");
}

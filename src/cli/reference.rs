//! Command reference: writes docs/commands.md from the commands' definitions, and checks that it is current.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, Command, Id};

use crate::cli::command_line::Cli;
use crate::cli::global::HEADING;

/// The page's first lines.
const HEAD: &str = "\
# Commands

Made from the commands' definitions: `MARQUEUE_WRITE_DOCS=1 cargo test --lib cli::reference` rewrites this page.
Options that every command takes are listed once, under [marqueue](#marqueue).
";

/// Writes the section of `command`, and those of the commands below it. `above` are the options of the commands above
/// it.
fn write_section(page: &mut String, command: &Command, words: &str, above: &[&Id]) {
    let is_top = !words.contains(' ');
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    writeln!(page, "\n## {words}\n\n{about}\n\n```\n{usage}\n```").expect("a String takes text");
    let is_of_all = |arg: &Arg| arg.get_help_heading() == Some(HEADING);
    // An option of all commands below one, as those of `add`, stands at that one only.
    let is_above = |arg: &Arg| arg.is_global_set() && above.contains(&arg.get_id());
    let shown = |arg: &&Arg| !arg.is_hide_set() && (is_top || !is_of_all(arg)) && !is_above(arg);
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(shown)
        .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        .collect();
    if !arguments.is_empty() {
        page.push_str("\n| argument | means |\n|---|---|\n");
        for arg in arguments {
            let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
            writeln!(page, "| `{short}{}` | {} |", cell(&arg.to_string()), cell(&meaning(arg)))
                .expect("a String takes text");
        }
    }
    if let Some(help) = command.get_after_long_help().or(command.get_after_help()) {
        let help = help.to_string();
        for section in help.trim().split("\n\n") {
            let (title, lines) = section.split_once('\n').unwrap_or((section, ""));
            writeln!(page, "\n{title}\n\n```\n{}\n```", lines.trim_end()).expect("a String takes text");
        }
    }
    let global = command.get_arguments().filter(|arg| arg.is_global_set()).map(Arg::get_id);
    let above: Vec<&Id> = above.iter().copied().chain(global).collect();
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        write_section(page, below, &format!("{words} {}", below.get_name()), &above);
    }
}

/// Returns what an argument means, with its values, its default and its environment variable.
fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
        write!(text, " [possible values: {}]", names.join(", ")).expect("a String takes text");
    }
    let defaults = arg.get_default_values();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let values: Vec<_> = defaults.iter().map(|value| value.to_string_lossy()).collect();
        write!(text, " [default: {}]", values.join(" ")).expect("a String takes text");
    }
    if let Some(variable) = arg.get_env() {
        write!(text, " [env: {}]", variable.to_string_lossy()).expect("a String takes text");
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
    write_section(&mut page, &all, "marqueue", &[]);
    let section =
        |words: &str| page.split(&format!("\n## {words}\n")).nth(1).and_then(|rest| rest.split("\n## ").next());
    for (words, option) in [("marqueue add", "--priority"), ("marqueue check", "--format"), ("marqueue", "--json")] {
        assert!(section(words).is_some_and(|text| text.contains(option)), "{option} of {words}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    if std::env::var_os("MARQUEUE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let stored = std::fs::read_to_string(&path).expect("the page");
    assert!(stored == page, "docs/commands.md is stale: MARQUEUE_WRITE_DOCS=1 cargo test --lib cli::reference");
}

//! Pages of the commands, made from their definitions and from the sections of their help.

use std::io;

use clap::Command;
use clap_mangen::Man;

use crate::cli::manual::roff_text::{Page, terms_section, title, verbatim_section};
use crate::client::DEFAULT_SOCKET;

/// The heading of the exit statuses in the help of `marqueue`, which every page gets.
const EXIT_STATUS: &str = "Exit status";

const FILES: [(&str, &str); 4] = [
    (DEFAULT_SOCKET, "The daemon's socket, where neither --socket nor MARQUEUE_SOCKET names another."),
    ("/etc/marqueue/marqueue.toml", "The configuration of the packaged service: marqueue.toml(5)."),
    ("/var/lib/marqueue/marqueue.db", "The database of the packaged service, with the jobs and their files."),
    ("/usr/share/doc/marqueue/README.md", "The documentation, with pages for users and operators."),
];

/// Returns the pages of `all` and of the commands below it.
pub fn command_pages(all: Command) -> Vec<Page> {
    let mut all = without_help(all);
    all.build();
    let exit_status = help_sections(&all).into_iter().find(|section| section.heading == EXIT_STATUS);
    let mut pages = Vec::new();
    add_pages(&all, None, exit_status.as_ref(), &mut pages);
    pages
}

/// Removes the `help` commands, which only repeat the pages.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

fn add_pages(command: &Command, parent: Option<&Command>, exit_status: Option<&HelpSection>, pages: &mut Vec<Page>) {
    pages.push(page(command, parent, exit_status));
    for below in command.get_subcommands() {
        add_pages(below, Some(command), exit_status, pages);
    }
}

fn page(command: &Command, parent: Option<&Command>, exit_status: Option<&HelpSection>) -> Page {
    let name = page_name(command);
    let mut text = title(name, 1, &about(command, parent));
    text += &definition(command).expect("a Vec takes all bytes");
    text += &terms_section("ENVIRONMENT", &environment(command));
    text += &terms_section("FILES", &FILES.map(|(file, about)| (file.to_owned(), about.to_owned())));
    let own = help_sections(command);
    for section in exit_status.into_iter().chain(own.iter().filter(|section| section.heading != EXIT_STATUS)) {
        text += &verbatim_section(&section.heading.to_uppercase(), &section.lines);
    }
    text += &see_also(command, parent);
    Page { file_name: format!("{name}.1"), text }
}

/// Returns synopsis, description, options and subcommands.
fn definition(command: &Command) -> io::Result<String> {
    let mut text = Vec::new();
    let man = Man::new(command.clone());
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    String::from_utf8(text).map_err(io::Error::other)
}

fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

/// Returns what the command does. "People" alone, of `marqueue add leads`, would say nothing in a list of pages.
fn about(command: &Command, parent: Option<&Command>) -> String {
    let about = command.get_about().or(command.get_long_about()).map(ToString::to_string).unwrap_or_default();
    match parent.filter(|parent| parent.get_name() != "marqueue") {
        Some(parent) => format!("{} {}: {about}", parent.get_name(), command.get_name()),
        None => about,
    }
}

fn environment(command: &Command) -> Vec<(String, String)> {
    let mut found = vec![("MARQUEUE_SOCKET".to_owned(), "The default of --socket.".to_owned())];
    for arg in command.get_arguments() {
        if let (Some(variable), Some(option)) = (arg.get_env(), arg.get_long()) {
            found.push((variable.to_string_lossy().into_owned(), format!("The default of --{option}.")));
        }
    }
    if command.get_name() == "serve" || command.get_name() == "doctor" {
        found.push((
            "MARQUEUE_*".to_owned(),
            "A key of the configuration, with __ between its levels: marqueue.toml(5).".to_owned(),
        ));
        found.push(("RUST_LOG".to_owned(), "The log's level, over the key log.level.".to_owned()));
    }
    found
}

fn see_also(command: &Command, parent: Option<&Command>) -> String {
    let above = parent.map(page_name).filter(|&name| name != "marqueue");
    let below = command.get_subcommands().map(page_name);
    let mut names: Vec<String> = above.into_iter().chain(below).map(|name| format!("{name}(1)")).collect();
    if parent.is_some() {
        names.insert(0, "marqueue(1)".to_owned());
    }
    names.push("marqueue.toml(5)".to_owned());
    let names: Vec<String> = names.iter().map(|name| format!(".BR {}", name.replace('(', " ("))).collect();
    format!(".SH \"SEE ALSO\"\n{}\n", names.join(",\n"))
}

/// A part of the help behind the options: a heading and its lines.
#[derive(Debug, PartialEq, Eq)]
struct HelpSection {
    heading: String,
    lines: Vec<String>,
}

/// Returns the sections of the help behind the options.
fn help_sections(command: &Command) -> Vec<HelpSection> {
    command.get_after_help().map(|help| parse_sections(&help.to_string())).unwrap_or_default()
}

/// Splits the last part of the help, which is any number of "Heading:" with indented lines.
fn parse_sections(help: &str) -> Vec<HelpSection> {
    let mut found: Vec<HelpSection> = Vec::new();
    for line in help.lines().filter(|line| !line.is_empty()) {
        match (line.strip_suffix(':').filter(|_| !line.starts_with(' ')), found.last_mut()) {
            (Some(heading), _) => found.push(HelpSection { heading: heading.to_owned(), lines: Vec::new() }),
            (None, Some(section)) => section.lines.push(line.trim_start().to_owned()),
            (None, None) => found.push(HelpSection { heading: "Notes".to_owned(), lines: vec![line.to_owned()] }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command_line::Cli;

    #[test]
    fn what_follows_the_options_keeps_its_lines() {
        let help = "Exit status:\n  0  done\n  1  failed\n\nExamples:\n  marqueue list";
        let section = |heading: &str, lines: &[&str]| HelpSection {
            heading: heading.to_owned(),
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
        };
        let expected = [section("Exit status", &["0  done", "1  failed"]), section("Examples", &["marqueue list"])];
        assert_eq!(parse_sections(help), expected);
    }

    #[test]
    fn every_page_has_all_sections() {
        let pages = command_pages(Cli::definition());
        assert!(pages.len() > 20, "{}", pages.len());
        for Page { file_name, text } in pages {
            let name = file_name.strip_suffix(".1").unwrap();
            let described = format!("\n.SH NAME\n{name} \\- ");
            assert!(text.contains(&described), "{file_name}: {text}");
            for heading in [
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "ENVIRONMENT",
                "FILES",
                "\"EXIT STATUS\"",
                "EXAMPLES",
                "\"SEE ALSO\"",
            ] {
                let found = text.matches(&format!("\n.SH {heading}\n")).count();
                assert_eq!(found, 1, "{file_name} has {heading} {found} times");
            }
            assert!(text.contains(DEFAULT_SOCKET) && !text.contains("None"), "{file_name}: {text}");
        }
    }

    #[test]
    fn text_is_not_read_as_a_roff_request() {
        let known =
            [".TH ", ".SH ", ".SS ", ".TP", ".PP", ".nf", ".fi", ".BR ", ".RS", ".RE", ".IP ", ".br", ".ie ", ".el "];
        for Page { file_name, text } in command_pages(Cli::definition()) {
            for line in text.lines().filter(|line| line.starts_with(['.', '\''])) {
                assert!(known.iter().any(|request| line.starts_with(request)), "{file_name}: {line}");
            }
        }
    }
}

//! The `man` command: writes the manual pages.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::{Cli, output};

/// Write the manual pages, one for each command, into a folder
///
/// With --json: an object, the folder and how many pages it has.
#[derive(Args, Debug)]
#[command(
    name = "man",
    after_help = "\
Examples:
  marqueue man /usr/local/share/man/man1"
)]
pub struct Manual {
    /// The folder, which must exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Manual {
    /// Writes the pages.
    ///
    /// # Errors
    /// A page is not writable.
    pub fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let mut all = without_help(Cli::command());
        all.build();
        let pages = write_pages(&all, &self.folder)?;
        let folder = self.folder.display();
        if global.json {
            output::print_json(&serde_json::json!({"folder": folder.to_string(), "pages": pages}))?;
        } else {
            output::print(&format!("{folder}: {pages} pages; \"man -l {folder}/marqueue.1\" shows the first\n"))?;
        }
        Ok(ExitStatus::Done)
    }
}

/// Removes the `help` commands, which only repeat the pages.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// Writes the page of a command and those of its subcommands. Returns their number.
fn write_pages(command: &Command, folder: &Path) -> Result<usize, CliError> {
    let mut pages = 1;
    for below in command.get_subcommands() {
        pages += write_pages(below, folder)?;
    }
    let file = folder.join(format!("{}.1", command.get_display_name().unwrap_or(command.get_name())));
    write_page(command, &file)
        .map_err(|error| CliError::Input(format!("{}: the page can't be written: {error}", file.display())))?;
    Ok(pages)
}

fn write_page(command: &Command, file: &Path) -> io::Result<()> {
    let mut page = BufWriter::new(File::create(file)?);
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    // The crate would join these lines into one paragraph.
    let mut tables = Roff::new();
    for (heading, lines) in command.get_after_help().map(|help| sections(&help.to_string())).unwrap_or_default() {
        tables.control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
        for line in lines {
            tables.text([roman(line)]);
        }
        tables.control("fi", []);
    }
    tables.to_writer(&mut page)?;
    page.flush()
}

/// Splits the last part of the help, which is any number of "Heading:" with indented lines.
fn sections(help: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in help.lines().filter(|line| !line.is_empty()) {
        match (line.strip_suffix(':').filter(|_| !line.starts_with(' ')), found.last_mut()) {
            (Some(heading), _) => found.push((heading.to_owned(), Vec::new())),
            (None, Some((_, lines))) => lines.push(line.trim_start().to_owned()),
            (None, None) => found.push(("Notes".to_owned(), vec![line.to_owned()])),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_options_keeps_its_lines() {
        let help = "Exit status:\n  0  done\n  1  failed\n\nExamples:\n  marqueue list";
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let expected = vec![
            ("Exit status".to_owned(), lines(&["0  done", "1  failed"])),
            ("Examples".to_owned(), lines(&["marqueue list"])),
        ];
        assert_eq!(sections(help), expected);
    }
}

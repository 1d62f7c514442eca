//! The `check` command: validates a file as the daemon would, and shows its batches, without a daemon.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tokio::io::AsyncReadExt;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::{count, sanitize};
use crate::cli::global::GlobalArgs;
use crate::cli::input;
use crate::cli::input::{Input, InputOptions};
use crate::cli::output;
use crate::cli::target_args::TargetArgs;
use crate::delimited::{FileLayout, ScanRules, Scanner, ValidationError, Warning, lookup_column, required_columns};
use crate::domain::{SubmissionChannel, Target};
use crate::marketo::max_content_bytes;

const READ_BYTES: usize = 128 * 1024;

/// Maximum of column names in a line; of more columns only the number is shown.
const NAMED_COLUMNS: usize = 8;

/// Check files as "add" would, and show how they would be split; nothing is sent, and no daemon is needed
///
/// Without a target, only the rules of every target are checked. The exit status is 1 if a file would be refused or
/// can't be read. A warning does not refuse a file. Of a folder, the same files are taken as by "add".
/// With --json: an array with an object a file, which has "file", "format",
/// "ok", "warnings", and either "layout" or "fault" (a code) and "detail".
#[derive(Args, Debug)]
#[command(
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  marqueue check people.csv
  marqueue check leads people.csv --lookup-field email
  marqueue check program-members 1044 members.csv --status Registered --json"
)]
pub struct Check {
    #[command(subcommand)]
    target: Option<TargetArgs>,
    /// Files to check, and folders with files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    input: InputOptions,
    /// The most bytes of one upload to Marketo, as in the instance's limits
    #[arg(long, global = true, value_name = "N", default_value_t = 10_000_000)]
    upload_bytes: u64,
}

/// Result for one file.
#[derive(Serialize)]
struct Finding {
    file: String,
    format: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<FileLayout>,
    warnings: Vec<Warning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Check {
    /// Checks the files.
    ///
    /// # Errors
    /// A file's format is unknown, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let (target, files) = match self.target {
            Some(target) => {
                let (target, files) = target.into_parts();
                (Some(target), [self.files, files].concat())
            }
            None => (None, self.files),
        };
        let inputs = input::inputs(&files, &self.input)?;
        let exit = inputs.report(global);
        let mut findings = Vec::new();
        for source in inputs.files {
            let finding = check_file(&source, self.upload_bytes, target.as_ref()).await;
            if global.json {
                findings.push(finding);
                continue;
            }
            match render(&finding) {
                Ok(text) => output::print(&text)?,
                Err(text) => output::note(&text),
            }
            findings.push(finding);
        }
        if global.json {
            output::print_json(&findings)?;
        }
        Ok(exit.and(if findings.iter().all(|finding| finding.ok) { ExitStatus::Done } else { ExitStatus::Failed }))
    }
}

async fn check_file(source: &Input, upload_bytes: u64, target: Option<&Target>) -> Finding {
    let mut finding = Finding {
        file: source.shown(),
        format: source.format.as_str(),
        ok: false,
        layout: None,
        warnings: Vec::new(),
        fault: None,
        detail: None,
    };
    let rules = ScanRules {
        format: source.format,
        max_part_bytes: max_content_bytes(&source.filename, upload_bytes),
        first_part_rows: None,
        check: true,
        required: target.map(required_columns).unwrap_or_default(),
        lookup: lookup_column(target),
    };
    match scan(source, rules).await {
        Ok(Ok(mut layout)) => {
            finding.warnings = std::mem::take(&mut layout.warnings);
            (finding.ok, finding.layout) = (true, Some(layout));
        }
        Ok(Err(fault)) => {
            (finding.fault, finding.detail) = (Some(fault.code()), Some(fault.message(SubmissionChannel::CommandLine)))
        }
        Err(failure) => (finding.fault, finding.detail) = (Some("unreadable"), Some(failure.to_string())),
    }
    finding
}

async fn scan(source: &Input, rules: ScanRules) -> Result<Result<FileLayout, ValidationError>, CliError> {
    let mut content = source.open().await?.content;
    let mut scanner = Scanner::new(rules);
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match content.read(&mut bytes).await.map_err(|error| input::unreadable(&error))? {
            0 => return Ok(scanner.finish()),
            read => {
                if let Err(fault) = scanner.push(&bytes[..read]) {
                    return Ok(Err(fault));
                }
            }
        }
    }
}

/// Returns the text for a valid file, or the error for an invalid one.
fn render(finding: &Finding) -> Result<String, String> {
    let file = sanitize(&finding.file);
    let Some(layout) = &finding.layout else {
        return Err(format!("error: {file}: {}", sanitize(finding.detail.as_deref().unwrap_or_default())));
    };
    let header = layout.header.end - layout.header.start;
    let mut names: Vec<String> = layout.columns.iter().take(NAMED_COLUMNS).map(|name| sanitize(name)).collect();
    if layout.columns.len() > NAMED_COLUMNS {
        names.push("…".to_owned());
    }
    let mut text = format!(
        "{file}: {}, {} ({}), {}",
        count(layout.rows, "row"),
        count(layout.columns.len() as u64, "column"),
        names.join(", "),
        count(layout.parts.len() as u64, "upload"),
    );
    if layout.bom {
        text += "; the byte-order mark before the header is left out";
    }
    text.push('\n');
    for (number, part) in (1..).zip(&layout.parts) {
        let (first, last) = (part.first_row, part.first_row + part.rows - 1);
        text += &format!("  part {number}: rows {first} to {last}, {} bytes\n", header + part.to - part.from);
    }
    for warning in &finding.warnings {
        text += &format!("  warning: {}\n", sanitize(&warning.detail));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::Format;

    async fn check(name: &str, content: &str, upload_bytes: u64, target: Option<Target>) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let source = input::inputs(&[path], &InputOptions::default()).unwrap().files.remove(0);
        let mut finding = check_file(&source, upload_bytes, target.as_ref()).await;
        assert_eq!(finding.format, Format::from_filename(name).unwrap().as_str());
        finding.file = name.to_owned();
        render(&finding)
    }

    #[tokio::test]
    async fn a_valid_file_shows_its_rows_and_columns() {
        assert_eq!(
            check("a.tsv", "\u{feff}email\tx\na@b.c\t1\nd@b.c\t2\n", 10_000_000, None).await.unwrap(),
            "a.tsv: 2 rows, 2 columns (email, x), 1 upload; the byte-order mark before the header is left out\n\
             \x20 part 1: rows 1 to 2, 24 bytes\n"
        );
    }

    #[tokio::test]
    async fn a_large_file_shows_its_parts() {
        let rows: String = (0..5).map(|row| format!("{row}@example.com\n")).collect();
        let room = 10_000 - max_content_bytes("a.csv", 10_000);
        assert_eq!(
            check("a.csv", &format!("email\n{rows}"), room + 6 + 2 * 14, None).await.unwrap(),
            "a.csv: 5 rows, 1 column (email), 3 uploads\n\
             \x20 part 1: rows 1 to 2, 34 bytes\n\
             \x20 part 2: rows 3 to 4, 34 bytes\n\
             \x20 part 3: rows 5 to 5, 20 bytes\n"
        );
    }

    #[tokio::test]
    async fn only_the_first_of_many_columns_are_named() {
        let header: Vec<String> = (1..=10).map(|column| format!("c{column}")).collect();
        let file = format!("{}\n{}\n", header.join(","), "1,".repeat(9) + "1");
        let text = check("a.csv", &file, 10_000_000, None).await.unwrap();
        assert_eq!(text.lines().next(), Some("a.csv: 1 row, 10 columns (c1, c2, c3, c4, c5, c6, c7, c8, …), 1 upload"));
    }

    #[tokio::test]
    async fn an_invalid_file_shows_its_fault() {
        let members = Target::ProgramMembers { program_id: 1, status: "Member".into() };
        for (content, target, expected) in [
            ("", None, "error: a.csv: the file is empty"),
            ("email\n", None, "error: a.csv: the file has a header and no rows"),
            ("x\n1\n", Some(members), "error: a.csv: the header has no column \"email\", which program members need"),
        ] {
            assert_eq!(check("a.csv", content, 10_000_000, target).await.unwrap_err(), expected);
        }
    }
}

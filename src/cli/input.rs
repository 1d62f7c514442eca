//! Input file of a command: its path or standard input, its format, and its bytes.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tokio::io::AsyncRead;

use crate::cli::exit_status::CliError;
use crate::domain::Format;

/// The file argument for standard input.
const STDIN: &str = "-";

/// The format option.
#[derive(Args, Clone, Copy, Debug)]
pub struct FormatOption {
    /// How fields are separated: by comma, tab or semicolon [default: by the file's ending; csv for standard input]
    #[arg(long, global = true, value_parser = parse_format())]
    pub format: Option<Format>,
}

/// Returns the parser of a format option.
pub fn parse_format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::as_str)).try_map(|text| text.parse::<Format>())
}

/// One file to send or to check.
#[derive(Clone, Debug)]
pub struct Input {
    path: PathBuf,
    /// The name that is sent with the content.
    pub filename: String,
    pub format: Format,
}

/// The content of an input.
pub struct OpenInput {
    pub content: Box<dyn AsyncRead + Send + Unpin>,
    /// Size in bytes; none for standard input and for a pipe.
    pub bytes: Option<u64>,
}

impl Input {
    /// Returns the path as it was typed.
    pub fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens the file or standard input.
    ///
    /// # Errors
    /// [`CliError::Input`] if it can't be read.
    pub async fn open(&self) -> Result<OpenInput, CliError> {
        open(&self.path).await
    }
}

/// Opens a file, or standard input for `-`.
///
/// # Errors
/// [`CliError::Input`] if it can't be read.
pub async fn open(path: &Path) -> Result<OpenInput, CliError> {
    if path == Path::new(STDIN) {
        return Ok(OpenInput { content: Box::new(tokio::io::stdin()), bytes: None });
    }
    let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(&error))?;
    let metadata = file.metadata().await.map_err(|error| unreadable(&error))?;
    if metadata.is_dir() {
        return Err(CliError::Input("it is a folder, and a file is needed".to_owned()));
    }
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok(OpenInput { content: Box::new(file), bytes })
}

/// Makes an error of a failed read.
pub fn unreadable(error: &io::Error) -> CliError {
    CliError::Input(format!("the file can't be read: {error}"))
}

/// Returns the inputs in the order of the files. Nothing is opened.
///
/// # Errors
/// [`CliError::Usage`] if a format is unknown, or standard input is named twice.
pub fn inputs(files: &[PathBuf], option: FormatOption) -> Result<Vec<Input>, CliError> {
    if files.iter().filter(|path| *path == Path::new(STDIN)).count() > 1 {
        return Err(CliError::Usage("standard input can be read only once, but - is given twice".to_owned()));
    }
    files.iter().map(|path| input(path, option.format)).collect()
}

fn input(path: &Path, format: Option<Format>) -> Result<Input, CliError> {
    if path == Path::new(STDIN) {
        let format = format.unwrap_or(Format::Csv);
        return Ok(Input { path: path.to_owned(), filename: format!("stdin.{format}"), format });
    }
    let filename = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let format = format.or_else(|| Format::from_filename(&filename)).ok_or_else(|| {
        CliError::Usage(format!(
            "the name {} does not end in .csv, .tsv or .ssv: give its format with --format csv, tsv or ssv",
            path.display()
        ))
    })?;
    Ok(Input { path: path.to_owned(), filename, format })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[&str], format: Option<Format>) -> Result<Vec<(String, Format)>, String> {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let found = inputs(&files, FormatOption { format }).map_err(|failure| {
            assert!(matches!(failure, CliError::Usage(_)));
            failure.to_string()
        })?;
        Ok(found.into_iter().map(|source| (source.filename, source.format)).collect())
    }

    #[test]
    fn a_file_goes_by_its_own_name_and_ending() {
        assert_eq!(
            read(&["in/people.csv", "b.TSV", "-"], None).unwrap(),
            [("people.csv".into(), Format::Csv), ("b.TSV".into(), Format::Tsv), ("stdin.csv".into(), Format::Csv)]
        );
    }

    #[test]
    fn a_format_that_is_named_goes_for_every_file() {
        assert_eq!(
            read(&["people.txt", "-"], Some(Format::Ssv)).unwrap(),
            [("people.txt".into(), Format::Ssv), ("stdin.ssv".into(), Format::Ssv)]
        );
    }

    #[test]
    fn an_unknown_ending_is_a_usage_error() {
        assert_eq!(
            read(&["a.csv", "in/people.xlsx"], None).unwrap_err(),
            "the name in/people.xlsx does not end in .csv, .tsv or .ssv: give its format with --format csv, tsv or ssv"
        );
    }

    #[test]
    fn standard_input_is_read_once() {
        assert_eq!(read(&["-", "-"], None).unwrap_err(), "standard input can be read only once, but - is given twice");
    }

    #[tokio::test]
    async fn an_unreadable_file_is_reported_before_sending() {
        let folder = tempfile::tempdir().unwrap();
        for (path, expected) in [
            (folder.path().join("none"), "the file can't be read: No such file or directory (os error 2)"),
            (folder.path().to_owned(), "it is a folder, and a file is needed"),
        ] {
            let Err(failure) = input(&path, Some(Format::Csv)).unwrap().open().await else { panic!("it was opened") };
            assert_eq!((failure.to_string().as_str(), u8::from(failure.exit())), (expected, 1));
        }
    }
}

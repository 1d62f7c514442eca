//! Input file of a command: its path or standard input, its format, and its bytes.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use tokio::io::AsyncRead;

use crate::cli::error_report::report_file;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::folder_files::{FolderFiles, SkippedFile};
use crate::cli::format::sanitize;
use crate::cli::global::GlobalArgs;
use crate::cli::hashed_content::HashedContent;
use crate::cli::output;
use crate::domain::Format;

/// The file argument for standard input.
const STDIN: &str = "-";

/// The options that say what the files are.
#[derive(Args, Clone, Debug, Default)]
pub struct InputOptions {
    /// How fields are separated: by comma, tab or semicolon [default: by the file's ending; csv for standard input]
    #[arg(long, global = true, value_parser = parse_format())]
    pub format: Option<Format>,
    /// The file name of what - reads; its ending gives the format [default: stdin.csv]
    #[arg(long, global = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub filename: Option<String>,
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

/// The inputs that a list of arguments names.
#[derive(Debug, Default)]
pub struct Inputs {
    /// In the order of the arguments; those of a folder in the order of their names.
    pub files: Vec<Input>,
    /// Files of folders that are left alone.
    pub skipped: Vec<SkippedFile>,
    /// Folders that can't be read, or have no file.
    pub faults: Vec<FolderFault>,
}

/// A folder that gives no files.
#[derive(Debug)]
pub struct FolderFault {
    /// The folder, as it was typed.
    pub folder: String,
    /// Why.
    pub error: CliError,
}

impl Inputs {
    /// Writes a line for each file that is left alone, and for each folder that gives none. Returns the exit status for
    /// them.
    pub fn report(&self, global: &GlobalArgs) -> ExitStatus {
        for skipped in &self.skipped {
            output::note(&format!("skipped: {}: {}", sanitize(&skipped.path.display().to_string()), skipped.reason));
        }
        let mut exit = ExitStatus::Done;
        for fault in &self.faults {
            report_file(&fault.folder, &fault.error, global);
            exit = exit.and(fault.error.exit());
        }
        exit
    }
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

    /// Opens the file or standard input, and hashes it before it is sent. What can't be read twice is copied to a
    /// temporary file first.
    ///
    /// # Errors
    /// [`CliError::Input`] if it can't be read or copied.
    pub async fn open_hashed(&self) -> Result<HashedContent, CliError> {
        let hashed = match self.open().await? {
            OpenInput { bytes: Some(_), .. } => {
                let file = tokio::fs::File::open(&self.path).await.map_err(|error| unreadable(&error))?;
                HashedContent::of_file(file).await
            }
            OpenInput { content, .. } => HashedContent::of_stream(content).await,
        };
        hashed.map_err(|error| unreadable(&error))
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

/// Returns the inputs in the order of the files, with those of folders. No file is opened.
///
/// # Errors
/// [`CliError::Usage`] if a format is unknown, standard input is named twice, or a name is given to a file.
pub fn inputs(files: &[PathBuf], options: &InputOptions) -> Result<Inputs, CliError> {
    let is_stdin = |path: &PathBuf| path == Path::new(STDIN);
    if files.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(CliError::Usage("standard input can be read only once, but - is given twice".to_owned()));
    }
    if options.filename.is_some() && !files.iter().all(is_stdin) {
        let text = "--filename names what is read from standard input (-), and a file has its own name";
        return Err(CliError::Usage(text.to_owned()));
    }
    let mut inputs = Inputs::default();
    for path in files {
        if is_stdin(path) || !path.is_dir() {
            inputs.files.push(input(path, options)?);
            continue;
        }
        match FolderFiles::list(path) {
            Ok(FolderFiles { taken, skipped }) => {
                inputs.skipped.extend(skipped);
                for path in &taken {
                    inputs.files.push(input(path, options)?);
                }
            }
            Err(error) => inputs.faults.push(FolderFault { folder: path.display().to_string(), error }),
        }
    }
    Ok(inputs)
}

fn input(path: &Path, options: &InputOptions) -> Result<Input, CliError> {
    let path = path.to_owned();
    let filename = match &options.filename {
        _ if path != Path::new(STDIN) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        Some(name) => name.clone(),
        None => {
            let format = options.format.unwrap_or(Format::Csv);
            return Ok(Input { path, filename: format!("stdin.{format}"), format });
        }
    };
    let format = options.format.or_else(|| Format::from_filename(&filename)).ok_or_else(|| {
        if path != Path::new(STDIN) && !path.exists() {
            return CliError::Input(format!("there is no file or folder {}", path.display()));
        }
        let name = if path == Path::new(STDIN) { filename.clone() } else { path.display().to_string() };
        CliError::Usage(format!(
            "the name {name} does not end in .csv, .tsv or .ssv: give its format with --format csv, tsv or ssv"
        ))
    })?;
    Ok(Input { path, filename, format })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[&str], format: Option<Format>) -> Result<Vec<(String, Format)>, String> {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        named(&files, &InputOptions { format, filename: None })
    }

    fn named(files: &[PathBuf], options: &InputOptions) -> Result<Vec<(String, Format)>, String> {
        let found = inputs(files, options).map_err(|failure| {
            assert!(matches!(failure, CliError::Usage(_)));
            failure.to_string()
        })?;
        Ok(found.files.into_iter().map(|source| (source.filename, source.format)).collect())
    }

    #[test]
    fn name_and_format_come_from_the_path() {
        assert_eq!(
            read(&["in/people.csv", "b.TSV", "-"], None).unwrap(),
            [("people.csv".into(), Format::Csv), ("b.TSV".into(), Format::Tsv), ("stdin.csv".into(), Format::Csv)]
        );
    }

    #[test]
    fn a_format_option_applies_to_every_file() {
        assert_eq!(
            read(&["people.txt", "-"], Some(Format::Ssv)).unwrap(),
            [("people.txt".into(), Format::Ssv), ("stdin.ssv".into(), Format::Ssv)]
        );
    }

    #[test]
    fn an_unknown_ending_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.xlsx");
        std::fs::write(&path, "").unwrap();
        assert_eq!(
            read(&["a.csv", path.to_str().unwrap()], None).unwrap_err(),
            format!(
                "the name {} does not end in .csv, .tsv or .ssv: give its format with --format csv, tsv or ssv",
                path.display()
            )
        );
    }

    #[test]
    fn extension_of_the_name_gives_the_format_of_stdin() {
        let named = |files: &[&str], format: Option<Format>, name: &str| {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            named(&files, &InputOptions { format, filename: Some(name.to_owned()) })
        };
        assert_eq!(named(&["-"], None, "people.ssv").unwrap(), [("people.ssv".into(), Format::Ssv)]);
        assert_eq!(named(&["-"], Some(Format::Tsv), "people.txt").unwrap(), [("people.txt".into(), Format::Tsv)]);
        let error = named(&["-"], None, "people.txt").unwrap_err();
        assert!(error.contains("the name people.txt does not end in .csv"), "{error}");
        for files in [&["a.csv"][..], &["-", "a.csv"]] {
            let error = named(files, None, "people.csv").unwrap_err();
            assert!(error.contains("a file has its own name"), "{error}");
        }
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
            let Err(failure) =
                input(&path, &InputOptions { format: Some(Format::Csv), filename: None }).unwrap().open().await
            else {
                panic!("it was opened")
            };
            assert_eq!((failure.to_string().as_str(), u8::from(failure.exit())), (expected, 1));
        }
    }
}

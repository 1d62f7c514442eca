//! Logging: format, filter and target of log lines.
//!
//! Lines go to standard error, because standard output belongs to the output of commands. systemd's journal keeps both.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal};

use anyhow::Context;
use rustix::fs::fstat;
use tracing::field::Field;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Format, Full, Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Log, LogFormat, LogLevel};
use crate::untrusted_text::{escape, escape_json, mask_addresses, mask_addresses_in_json};

/// Starts logging for the whole process. `RUST_LOG`, where it is set, overrides the configured level.
///
/// # Errors
/// `RUST_LOG` is no valid filter, or logging has been started before.
pub fn init(log: &Log) -> anyhow::Result<LevelHandle> {
    let rust_log = env::var("RUST_LOG").ok();
    let filter = filter(log.level, rust_log.as_deref()).context("RUST_LOG can't be read")?;
    let output = Output::of_stderr();
    let format = log.format.unwrap_or(output.default_format());
    let (subscriber, change) = subscriber(format, output, filter, io::stderr);
    subscriber.try_init().context("logging was started twice")?;
    Ok(LevelHandle { rust_log, change })
}

/// Handle that changes the log level while the process runs.
pub struct LevelHandle {
    rust_log: Option<String>,
    change: FilterHandle,
}

type FilterHandle = reload::Handle<EnvFilter, Registry>;

impl LevelHandle {
    /// Sets the level of the lines to write. `RUST_LOG`, where it was set at the start, still overrides it.
    ///
    /// # Errors
    /// The subscriber no longer exists.
    pub fn set(&self, level: LogLevel) -> anyhow::Result<()> {
        let filter = filter(level, self.rust_log.as_deref()).context("RUST_LOG can't be read")?;
        self.change.reload(filter).context("the log level can't be changed")
    }
}

/// Lines of other crates below `info` are left out unless `RUST_LOG` enables them: an HTTP library logs headers, and
/// ours hold tokens.
fn filter(level: LogLevel, rust_log: Option<&str>) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let own = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "info,marqueue=debug",
        LogLevel::Trace => "info,marqueue=trace",
    };
    EnvFilter::builder().parse(rust_log.filter(|text| !text.trim().is_empty()).unwrap_or(own))
}

/// Where the lines go. It decides on the form of text lines; JSON lines have one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Text lines have colours.
    Terminal,
    /// Text lines have a priority in front, and no time, since the journal has its own.
    Journal,
    /// A file or a pipe.
    Other,
}

impl Output {
    fn of_stderr() -> Self {
        if io::stderr().is_terminal() {
            return Output::Terminal;
        }
        let journal = env::var("JOURNAL_STREAM").ok();
        match fstat(io::stderr()) {
            Ok(stat) if journal.is_some_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino)) => {
                Output::Journal
            }
            _ => Output::Other,
        }
    }

    fn default_format(self) -> LogFormat {
        match self {
            Output::Terminal | Output::Journal => LogFormat::Text,
            Output::Other => LogFormat::Json,
        }
    }
}

/// Text line for systemd's journal: `<4>` and the like in front, which the journal stores as the field PRIORITY
/// (sd-daemon(3)), and no time.
struct JournalLine(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for JournalLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(line, "<{}>", syslog_priority(*event.metadata().level()))?;
        self.0.format_event(context, line, event)
    }
}

/// Returns the priority of syslog(3).
fn syslog_priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn subscriber<W>(
    format: LogFormat,
    output: Output,
    filter: EnvFilter,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, FilterHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let filtered = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer();
    let subscriber: Box<dyn Subscriber + Send + Sync> = match format {
        LogFormat::Text => {
            let lines = lines.fmt_fields(debug_fn(write_field).delimited(" ")).with_writer(writer);
            match output {
                Output::Terminal => Box::new(filtered.with(lines.with_ansi(true))),
                Output::Other => Box::new(filtered.with(lines.with_ansi(false))),
                Output::Journal => {
                    let format = JournalLine(Format::default().without_time());
                    Box::new(filtered.with(lines.with_ansi(false).event_format(format)))
                }
            }
        }
        // The fields are on the same level as the message, so a search for a job needs no knowledge of the nesting.
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_span_list(false);
            Box::new(filtered.with(lines.with_writer(SafeJson(writer))))
        }
    };
    (subscriber, handle)
}

/// Writes a field of a text line: `name=value`, the message without its name. Values may be untrusted, so none can
/// end the line, control a terminal or show an e-mail address.
fn write_field(line: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = mask_addresses(&value);
    let value = escape(&value);
    match (field.name(), line.has_ansi_escapes()) {
        ("message", _) => write!(line, "{value}"),
        (name, false) => write!(line, "{name}={value}"),
        // The name in italics, as tracing has it on a terminal.
        (name, true) => write!(line, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}"),
    }
}

/// Makes writers of JSON lines in which no text controls a terminal or shows an e-mail address.
struct SafeJson<M>(M);

/// Writer of JSON lines with escaped text.
struct SafeJsonLine<W>(W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for SafeJson<M> {
    type Writer = SafeJsonLine<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        SafeJsonLine(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for SafeJsonLine<W> {
    /// Writes a whole line, which is what tracing passes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(escape_json(&mask_addresses_in_json(&text)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::untrusted_text;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, output: Output, level: LogLevel, rust_log: Option<&str>) -> String {
        let written = Written::default();
        let writer = written.clone();
        let (subscriber, _) = subscriber(format, output, filter(level, rust_log).unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "marqueue::intake", job = 7, "job stored");
            tracing::debug!(target: "marqueue::intake", "ours, fine");
            tracing::debug!(target: "hyper", "theirs, fine");
        });
        String::from_utf8(written.0.lock().clone()).unwrap()
    }

    #[test]
    fn json_lines_have_their_fields_beside_the_message() {
        let line = written(LogFormat::Json, Output::Terminal, LogLevel::Info, None);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&json["message"], &json["job"], &json["level"]), (&"job stored".into(), &7.into(), &"INFO".into()));
    }

    #[test]
    fn text_has_no_colours_where_there_is_no_terminal() {
        let line = written(LogFormat::Text, Output::Other, LogLevel::Info, None);
        assert!(line.ends_with(" INFO marqueue::intake: job stored job=7\n"), "{line:?}");
        assert!(!line.contains('\u{1b}'));
    }

    #[test]
    fn journal_lines_have_a_priority_and_no_timestamp() {
        let line = written(LogFormat::Text, Output::Journal, LogLevel::Info, None);
        assert_eq!(line, "<6> INFO marqueue::intake: job stored job=7\n");
    }

    #[test]
    fn untrusted_text_cannot_forge_lines_or_show_addresses() {
        const NAME: &str = "a.csv\n2026-01-01T00:00:00Z ERROR forged\x1b[2J\u{9b}1m\u{202e}\u{2028} bob@example.com";
        for (format, output) in [
            (LogFormat::Text, Output::Other),
            (LogFormat::Text, Output::Terminal),
            (LogFormat::Text, Output::Journal),
            (LogFormat::Json, Output::Other),
        ] {
            let written = Written::default();
            let writer = written.clone();
            let (subscriber, _) =
                subscriber(format, output, filter(LogLevel::Info, None).unwrap(), move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                let span = tracing::error_span!("call", given = NAME, shown = %NAME);
                let _inside = span.enter();
                let error: &dyn std::error::Error = &io::Error::other(NAME);
                tracing::warn!(file = %NAME, plain = NAME, debug = ?NAME, error, "{NAME}");
            });
            let text = String::from_utf8(written.0.lock().clone()).unwrap();
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.contains("bob") && !text.contains("example"), "{text}");
            // Of the colours the escape sequences are ours.
            let is_unsafe = |letter| {
                letter != '\n' && !(output == Output::Terminal && letter == '\x1b') && untrusted_text::is_unsafe(letter)
            };
            assert!(!text.contains(is_unsafe) && !text.contains("\x1b[2J"), "{text:?}");
            if format == LogFormat::Json {
                let json: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(json["file"], NAME.replace("bob@example.com", "***@***"), "it says what it is");
            }
        }
    }

    #[test]
    fn text_log_lines_keep_their_format() {
        let written = Written::default();
        let writer = written.clone();
        let (subscriber, _) =
            subscriber(LogFormat::Text, Output::Other, filter(LogLevel::Info, None).unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "t", job = 7, part = Some(1), none = None::<u8>, name = "a b", shown = %"a b", "an event");
        });
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        assert!(text.ends_with(" INFO t: an event job=7 part=1 name=\"a b\" shown=a b\n"), "{text}");
    }

    #[test]
    fn debug_lines_of_libraries_need_rust_log() {
        let lines = |level, rust_log| written(LogFormat::Text, Output::Other, level, rust_log).lines().count();
        assert_eq!(lines(LogLevel::Error, None), 0);
        assert_eq!(lines(LogLevel::Info, None), 1);
        assert_eq!(lines(LogLevel::Debug, None), 2);
        assert_eq!(lines(LogLevel::Debug, Some("")), 2);
        assert_eq!(lines(LogLevel::Error, Some("debug")), 3);
        assert_eq!(lines(LogLevel::Trace, Some("warn")), 0);
    }

    #[test]
    fn the_level_changes_while_lines_are_written() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let written = Written::default();
            let writer = written.clone();
            let (subscriber, change) =
                subscriber(format, Output::Other, filter(LogLevel::Warn, None).unwrap(), move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!("before");
                change.reload(filter(LogLevel::Info, None).unwrap()).unwrap();
                tracing::info!("after");
            });
            let text = String::from_utf8(written.0.lock().clone()).unwrap();
            assert!(!text.contains("before") && text.contains("after"), "{text}");
        }
    }

    #[test]
    fn an_invalid_filter_is_refused() {
        assert!(filter(LogLevel::Info, Some("marqueue=loud")).is_err());
    }
}

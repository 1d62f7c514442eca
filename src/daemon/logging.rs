//! Where do log lines go, in what form, and which of them?
//!
//! Standard error: standard output belongs to what a verb prints. systemd's journal keeps both.

use std::env;
use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// Starts logging for the whole process. `RUST_LOG`, where it is set, goes over `level`.
///
/// # Errors
/// `RUST_LOG` is no filter, or logging has been started before.
pub fn init(log: &Log) -> anyhow::Result<Level> {
    let rust_log = env::var("RUST_LOG").ok();
    let filter = filter(log.level, rust_log.as_deref()).context("RUST_LOG can't be read")?;
    let terminal = io::stderr().is_terminal();
    let format = log.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let (subscriber, change) = subscriber(format, terminal, filter, io::stderr);
    subscriber.try_init().context("logging was started twice")?;
    Ok(Level { rust_log, change })
}

/// Which lines are written, to be changed while the process runs.
pub struct Level {
    rust_log: Option<String>,
    change: Change,
}

type Change = reload::Handle<EnvFilter, Registry>;

impl Level {
    /// Writes what `level` says from now on. `RUST_LOG`, where it was set at the start, goes over it still.
    ///
    /// # Errors
    /// What `tracing` reports of a subscriber that is gone.
    pub fn set(&self, level: LogLevel) -> anyhow::Result<()> {
        let filter = filter(level, self.rust_log.as_deref()).context("RUST_LOG can't be read")?;
        self.change.reload(filter).context("the log level can't be changed")
    }
}

/// What other crates say below `info` is left out unless `RUST_LOG` asks for it: an HTTP library's finer lines hold
/// headers, and ours hold tokens.
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

fn subscriber<W>(
    format: LogFormat,
    colours: bool,
    filter: EnvFilter,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, Change)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let filtered = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match format {
        LogFormat::Text => Box::new(filtered.with(lines.with_ansi(colours))),
        // The fields stand beside the message: whoever searches for a job then needs no knowledge of how we nest.
        LogFormat::Json => Box::new(filtered.with(lines.json().flatten_event(true).with_span_list(false))),
    };
    (subscriber, handle)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, colours: bool, level: LogLevel, rust_log: Option<&str>) -> String {
        let written = Written::default();
        let writer = written.clone();
        let (subscriber, _) = subscriber(format, colours, filter(level, rust_log).unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "marqueue::intake", job = 7, "job stored");
            tracing::debug!(target: "marqueue::intake", "ours, fine");
            tracing::debug!(target: "hyper", "theirs, fine");
        });
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_have_their_fields_beside_the_message() {
        let line = written(LogFormat::Json, true, LogLevel::Info, None);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&json["message"], &json["job"], &json["level"]), (&"job stored".into(), &7.into(), &"INFO".into()));
    }

    #[test]
    fn text_has_no_colours_where_there_is_no_terminal() {
        let line = written(LogFormat::Text, false, LogLevel::Info, None);
        assert!(line.ends_with(" INFO marqueue::intake: job stored job=7\n"), "{line:?}");
        assert!(!line.contains('\u{1b}'));
    }

    #[test]
    fn finer_lines_are_ours_alone_unless_they_are_asked_for() {
        let lines = |level, rust_log| written(LogFormat::Text, false, level, rust_log).lines().count();
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
                subscriber(format, false, filter(LogLevel::Warn, None).unwrap(), move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!("before");
                change.reload(filter(LogLevel::Info, None).unwrap()).unwrap();
                tracing::info!("after");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("before") && text.contains("after"), "{text}");
        }
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        assert!(filter(LogLevel::Info, Some("marqueue=loud")).is_err());
    }
}

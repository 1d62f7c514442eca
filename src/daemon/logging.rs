//! Where do log lines go, in what form, and which of them?
//!
//! Standard error: standard output belongs to what a verb prints. systemd's journal keeps both.

use std::env;
use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

/// Starts logging for the whole process. `RUST_LOG`, where it is set, goes over `level`.
///
/// # Errors
/// `RUST_LOG` is no filter, or logging has been started before.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let rust_log = env::var("RUST_LOG").ok();
    let filter = filter(log.level, rust_log.as_deref()).context("RUST_LOG can't be read")?;
    let terminal = io::stderr().is_terminal();
    let format = log.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    subscriber(format, terminal, filter, io::stderr).try_init().context("logging was started twice")
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
) -> Box<dyn Subscriber + Send + Sync + 'static>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(lines.with_ansi(colours).finish()),
        // The fields stand beside the message: whoever searches for a job then needs no knowledge of how we nest.
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_span_list(false).finish()),
    }
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
        let subscriber = subscriber(format, colours, filter(level, rust_log).unwrap(), move || writer.clone());
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
    fn a_filter_that_is_none_is_refused() {
        assert!(filter(LogLevel::Info, Some("marqueue=loud")).is_err());
    }
}

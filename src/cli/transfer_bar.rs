//! Transfer bar: the progress of one upload or download, in a line of the terminal that is redrawn.

use std::sync::Arc;
use std::time::Duration;

use console::Term;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cli::format::{byte_count, sanitize};
use crate::cli::render::{LiveArea, Screen, Tone, bar, time, width};

/// How long a transfer takes before its bar is shown. Short ones would only flicker.
const DELAY: Duration = Duration::from_millis(300);

/// The shortest time between two frames.
const INTERVAL: Duration = Duration::from_millis(100);

/// Columns of the bar itself.
const BAR: usize = 20;

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the daemon.
    Upload,
    /// From the daemon.
    Download,
}

/// A line with the progress of a transfer, if standard error is a terminal that can be redrawn. It is removed when the
/// bar is dropped.
pub struct TransferBar(Option<Arc<Mutex<Option<Drawing>>>>);

/// The transfer as it is shown.
struct Drawing {
    transfer: Transfer,
    began: Instant,
    /// When the next frame may be drawn.
    next: Instant,
    area: LiveArea,
}

struct Transfer {
    name: String,
    direction: Direction,
    /// Size in bytes; none if it is unknown.
    total: Option<u64>,
    done: u64,
}

impl TransferBar {
    /// Makes a bar for a transfer of `total` bytes.
    pub fn new(name: &str, direction: Direction, total: Option<u64>) -> TransferBar {
        let began = Instant::now();
        let transfer = Transfer { name: sanitize(name), direction, total, done: 0 };
        let drawing = || {
            let area = LiveArea::new(Term::buffered_stderr());
            Arc::new(Mutex::new(Some(Drawing { transfer, began, next: began + DELAY, area })))
        };
        TransferBar(Screen::stderr().can_redraw.then(drawing))
    }

    /// Returns a function that takes the number of bytes that have been transferred so far.
    pub fn updater(&self) -> impl FnMut(u64) + Send + 'static + use<> {
        let shared = self.0.clone();
        move |done| {
            if let Some(shared) = &shared
                && let Some(drawing) = &mut *shared.lock()
            {
                drawing.update(done);
            }
        }
    }
}

impl Drop for TransferBar {
    fn drop(&mut self) {
        // The updater may outlive the bar, in a request that has not ended.
        if let Some(shared) = &self.0 {
            shared.lock().take();
        }
    }
}

impl Drawing {
    fn update(&mut self, done: u64) {
        self.transfer.done = done;
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let line = self.transfer.line(now.duration_since(self.began), &Screen::stderr());
        // A progress that can't be shown does not end the transfer.
        let _ = self.area.draw(&[line]);
    }
}

impl Transfer {
    /// Returns the line after `passed` time.
    fn line(&self, passed: Duration, screen: &Screen) -> String {
        let participle = match self.direction {
            Direction::Upload => "sent",
            Direction::Download => "received",
        };
        let rate = self.done.checked_div(passed.as_secs()).unwrap_or(self.done);
        let figures = match self.total {
            Some(total) => {
                let left = total.saturating_sub(self.done).checked_div(rate);
                let left = left.and_then(|seconds| i64::try_from(seconds).ok()).map(jiff::SignedDuration::from_secs);
                let left = left.map(|left| format!(", {} to go", time::span(left))).unwrap_or_default();
                let filled = screen.paint(Tone::Active, &bar(self.done, total, BAR));
                format!("{filled}  {} of {} {participle}{left}", byte_count(self.done), byte_count(total))
            }
            None => format!("{} {participle}, {}/s", byte_count(self.done), byte_count(rate)),
        };
        let columns = screen.width.unwrap_or(usize::MAX);
        let room = columns.saturating_sub(width::width(&figures) + 2).max(8);
        width::shorten_end(&format!("{}  {figures}", width::shorten_middle(&self.name, room)), columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_one_line_that_fits() {
        let mut transfer = Transfer {
            name: "a-long-name-of-a-file-2026-08-01.csv".into(),
            direction: Direction::Upload,
            total: Some(20_000_000),
            done: 5_000_000,
        };
        let screen = Screen { width: Some(80), ..Screen::PLAIN };
        assert_eq!(
            transfer.line(Duration::from_secs(10), &screen),
            "a-long-name…-08-01.csv  █████░░░░░░░░░░░░░░░  5.0 MB of 20.0 MB sent, 30 s to go"
        );
        transfer.total = None;
        assert_eq!(
            transfer.line(Duration::from_secs(10), &screen),
            "a-long-name-of-a-file-2026-08-01.csv  5.0 MB sent, 500 kB/s"
        );
        for columns in 0..80 {
            let line = transfer.line(Duration::ZERO, &Screen { width: Some(columns), ..Screen::PLAIN });
            assert!(width::width(&line) <= columns, "{line}");
        }
    }
}

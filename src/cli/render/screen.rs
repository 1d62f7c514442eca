//! Screen: what an output stream can show, as the terminal and the environment say.

use std::env;

use console::Term;
use jiff::Timestamp;

use crate::cli::render::time;
use crate::cli::render::tone::Tone;
use crate::clock::Clock;

/// Size that is assumed where a terminal does not report its own.
const DEFAULT_SIZE: (u16, u16) = (24, 80);

/// What an output stream can show.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Columns of the terminal; none for a file or a pipe, whose lines have any length.
    pub width: Option<usize>,
    /// Lines of the terminal; none for a file or a pipe.
    pub height: Option<usize>,
    /// Whether text may be coloured.
    pub has_colours: bool,
    /// Whether lines can be overwritten by moving the cursor.
    pub can_redraw: bool,
    /// The time from which relative times are counted. Without it, times are exact.
    pub now: Option<Timestamp>,
}

impl Screen {
    /// A file or a pipe.
    pub const PLAIN: Screen = Screen { width: None, height: None, has_colours: false, can_redraw: false, now: None };

    /// Returns what standard output can show.
    pub fn stdout() -> Screen {
        Screen::of(&Term::stdout())
    }

    /// Returns what standard error can show.
    pub fn stderr() -> Screen {
        Screen::of(&Term::stderr())
    }

    /// Returns what `term` can show. `NO_COLOR` switches colours off (<https://no-color.org>). A terminal of type
    /// `dumb`, or of none, understands no escape sequences.
    fn of(term: &Term) -> Screen {
        if !term.is_term() {
            return Screen::PLAIN;
        }
        let understands_sequences = env::var_os("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb");
        let wants_colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (height, width) = term.size_checked().unwrap_or(DEFAULT_SIZE);
        Screen {
            width: Some(width.into()),
            height: Some(height.into()),
            has_colours: understands_sequences && wants_colours,
            can_redraw: understands_sequences,
            now: Some(Clock::System.now()),
        }
    }

    /// Returns the text in the colour of its meaning.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.has_colours || tone == Tone::Plain || text.is_empty() {
            return text.to_owned();
        }
        tone.style().force_styling(true).apply_to(text).to_string()
    }

    /// Returns a time: relative ("3 min ago") on a terminal, else exact.
    pub fn time(&self, at: Timestamp) -> String {
        match self.now {
            Some(now) => time::relative(at, now),
            None => time::exact(at),
        }
    }

    /// Returns a time as [`Screen::time`] does, for a sentence: "at" stands before an exact one.
    pub fn at(&self, at: Timestamp) -> String {
        match self.now {
            Some(_) => self.time(at),
            None => format!("at {}", self.time(at)),
        }
    }

    /// Returns until when something is, behind a comma: "until" before an exact time, "for another" before a span.
    pub fn until(&self, at: Timestamp) -> String {
        match self.now {
            Some(now) => format!("for another {}", time::span(at.duration_since(now))),
            None => format!("until {}", time::exact(at)),
        }
    }

    /// Returns since when something is: "since" before an exact time, "for" before a span.
    pub fn since(&self, at: Timestamp) -> String {
        match self.now {
            Some(now) => format!("for {}", time::span(now.duration_since(at))),
            None => format!("since {}", time::exact(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples::at;

    #[test]
    fn only_a_screen_with_colours_paints() {
        let screen = Screen { has_colours: true, ..Screen::PLAIN };
        assert_eq!(screen.paint(Tone::Good, "complete"), "\x1b[32mcomplete\x1b[0m");
        assert_eq!(screen.paint(Tone::Plain, "complete"), "complete");
        assert_eq!(Screen::PLAIN.paint(Tone::Fault, "failed"), "failed");
    }

    #[test]
    fn times_are_relative_on_a_terminal_only() {
        let terminal = Screen { now: Some(at(200)), ..Screen::PLAIN };
        assert_eq!(terminal.time(at(20)), "3 min ago");
        assert_eq!(terminal.at(at(205)), "in 5 s");
        assert_eq!(terminal.since(at(20)), "for 3 min");
        assert_eq!(Screen::PLAIN.at(at(20)), "at 2026-08-01T10:00:20.000Z");
        assert_eq!(Screen::PLAIN.since(at(20)), "since 2026-08-01T10:00:20.000Z");
    }
}

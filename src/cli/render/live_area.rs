//! Live area: the lower part of a terminal, redrawn in place.

use std::io;

use console::Term;

/// Lines at the end of a terminal that the next frame overwrites. Everything printed above them stays.
pub struct LiveArea {
    term: Term,
    /// Lines of the last frame.
    drawn: usize,
    /// Rows and columns at the last frame.
    size: (u16, u16),
}

impl LiveArea {
    /// Makes an empty area. The terminal should be a buffered one, so that a frame is one write.
    pub fn new(term: Term) -> LiveArea {
        LiveArea { term, drawn: 0, size: (0, 0) }
    }

    /// Replaces the last frame. No line may be wider than the terminal.
    ///
    /// # Errors
    /// The terminal is not writable.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let size = self.term.size();
        if self.drawn > 0 && size != self.size {
            // The terminal has rewrapped the old lines into an unknown number of lines.
            self.term.clear_screen()?;
            self.drawn = 0;
        }
        self.size = size;
        self.write_over(lines.iter().map(String::as_str))?;
        self.drawn = lines.len();
        self.term.flush()
    }

    /// Replaces the last frame by text that stays. The next frame begins below it.
    ///
    /// # Errors
    /// The terminal is not writable.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        self.write_over(text.lines())?;
        self.drawn = 0;
        self.term.flush()
    }

    /// Removes the last frame.
    ///
    /// # Errors
    /// The terminal is not writable.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            self.print("")?;
        }
        Ok(())
    }

    /// Overwrites the old lines. Each line is written before the rest of the old one is erased, to avoid flicker.
    fn write_over<'a>(&self, lines: impl Iterator<Item = &'a str>) -> io::Result<()> {
        self.term.move_cursor_up(self.drawn)?;
        for line in lines {
            self.term.write_str(line)?;
            self.term.write_str("\x1b[K\n")?;
        }
        self.term.clear_to_end_of_screen()
    }
}

impl Drop for LiveArea {
    fn drop(&mut self) {
        // If the terminal is not writable, what it shows does not matter.
        let _ = self.clear();
    }
}

//! Where does the demonstration show itself? A table that is drawn over and over on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io;

use console::Term;

use super::board::Board;
use crate::cli::output;
use crate::cli::text::{count, ending, plain, standing};
use crate::job::JobId;
use crate::store::Job;

pub enum Face {
    Screen(Screen),
    /// What was last said of each job.
    Lines(BTreeMap<JobId, String>),
    /// For JSON, which comes at the end.
    Silent,
}

impl Face {
    pub fn new(json: bool) -> Face {
        let term = Term::buffered_stdout();
        if json {
            Face::Silent
        } else if term.is_term() && !console::is_dumb() {
            Face::Screen(Screen { term, drawn: 0, size: (0, 0) })
        } else {
            Face::Lines(BTreeMap::new())
        }
    }

    /// Says something that stays: above the table, where there is one.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        match self {
            Face::Screen(screen) => screen.say(text),
            Face::Lines(_) => output::print(&format!("{text}\n")),
            Face::Silent => Ok(()),
        }
    }

    /// Things are like this now.
    pub fn show(&mut self, board: &Board) -> io::Result<()> {
        match self {
            Face::Screen(screen) => screen.show(board),
            Face::Lines(said) => board.jobs.iter().try_for_each(|job| say_change(said, job)),
            Face::Silent => Ok(()),
        }
    }

    /// All has ended: the whole table stays, however low the terminal is.
    pub fn end(&mut self, board: &Board) -> io::Result<()> {
        match self {
            Face::Screen(screen) => screen.end(board),
            _ => self.show(board),
        }
    }
}

fn say_change(said: &mut BTreeMap<JobId, String>, job: &Job) -> io::Result<()> {
    let standing = standing(job);
    let line = match said.get(&job.id) {
        Some(last) if *last == standing => return Ok(()),
        None => {
            let (rows, batches) = (count(job.rows.total, "row"), count(job.batches.len() as u64, "batch"));
            format!(
                "job {}: {} for {}: {rows} in {batches}",
                job.id,
                plain(&job.filename),
                plain(&job.target.to_string())
            )
        }
        Some(_) if job.state.has_ended() => ending(job),
        Some(_) => format!("job {}: {}: {standing}", job.id, plain(&job.filename)),
    };
    said.insert(job.id, standing);
    output::print(&format!("{line}\n"))
}

/// The lower part of a terminal, drawn in place.
pub struct Screen {
    term: Term,
    /// Lines that the next frame goes over.
    drawn: usize,
    /// Rows and columns at the last frame.
    size: (u16, u16),
}

impl Screen {
    fn show(&mut self, board: &Board) -> io::Result<()> {
        let size = self.term.size();
        if self.drawn > 0 && size != self.size {
            // The terminal has broken the old lines anew, and nobody knows into how many.
            self.term.clear_screen()?;
            self.drawn = 0;
        }
        self.size = size;
        self.draw(&board.frame(size.1.into(), size.0.into()))
    }

    /// Each line is written over the old one before what is left of that is erased, so that nothing flickers.
    fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        self.term.hide_cursor()?;
        self.term.move_cursor_up(self.drawn)?;
        for line in lines {
            self.term.write_str(line)?;
            self.term.write_str("\x1b[K\n")?;
        }
        self.term.clear_to_end_of_screen()?;
        self.drawn = lines.len();
        self.term.flush()
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.term.move_cursor_up(self.drawn)?;
        self.term.clear_to_end_of_screen()?;
        self.drawn = 0;
        self.term.write_line(text)?;
        self.term.write_line("")?;
        self.term.flush()
    }

    fn end(&mut self, board: &Board) -> io::Result<()> {
        self.draw(&board.table(self.term.size().1.into()))?;
        self.drawn = 0;
        self.term.show_cursor()?;
        self.term.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where it can't be written there is nobody to see a cursor.
        let _ = self.term.show_cursor().and_then(|()| self.term.flush());
    }
}

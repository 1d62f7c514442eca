//! Table: columns that fit the terminal. Narrow terminals first shorten columns, then leave out the less important
//! ones.

use crate::cli::render::screen::Screen;
use crate::cli::render::tone::Tone;
use crate::cli::render::width::{padding, shorten_end, shorten_middle, width, wrap};
use crate::untrusted_text::escape;

/// Blanks between two columns.
const GAP: usize = 2;

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    head: &'static str,
    align: Align,
    fit: Fit,
    /// The column with the lowest rank is left out first; one without a rank always stays.
    rank: Option<u8>,
    min_width: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// What happens to a text that is wider than its column.
#[derive(Clone, Copy, Debug)]
enum Fit {
    /// The column is as wide as its widest cell.
    Whole,
    /// It is shortened in its middle, down to this width.
    Shortened(usize),
    /// It goes on in the next line; the column is at least this wide.
    Wrapped(usize),
}

impl Column {
    /// A column of text.
    pub fn left(head: &'static str) -> Column {
        Column { head, align: Align::Left, fit: Fit::Whole, rank: None, min_width: 0 }
    }

    /// A column of numbers.
    pub fn right(head: &'static str) -> Column {
        Column { align: Align::Right, ..Column::left(head) }
    }

    /// Lets long cells be shortened in their middle, down to `columns`.
    pub fn shortened(self, columns: usize) -> Column {
        Column { fit: Fit::Shortened(columns), ..self }
    }

    /// Lets long cells go on in the next line, if the column has at least `columns`.
    pub fn wrapped(self, columns: usize) -> Column {
        Column { fit: Fit::Wrapped(columns), ..self }
    }

    /// Lets the column be left out; that with the lowest `rank` goes first.
    pub fn optional(self, rank: u8) -> Column {
        Column { rank: Some(rank), ..self }
    }

    /// Keeps the column at least this wide, so that a table that is redrawn does not jump.
    pub fn at_least(self, min_width: usize) -> Column {
        Column { min_width, ..self }
    }
}

/// One field of a table, with its control characters escaped.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Makes a field that has a meaning.
    pub fn toned(text: impl AsRef<str>, tone: Tone) -> Cell {
        Cell { text: escape(text.as_ref()).into_owned(), tone }
    }

    /// Makes a bar of `columns` that shows how much of `all` is done. Where there is nothing to do, it is full.
    pub fn bar(done: u64, all: u64, columns: usize, tone: Tone) -> Cell {
        Cell::toned(bar(done, all, columns), tone)
    }
}

/// Returns a bar of `columns` that shows how much of `all` is done.
pub fn bar(done: u64, all: u64, columns: usize) -> String {
    let cells = columns as u64;
    let full = done.saturating_mul(cells).checked_div(all).unwrap_or(cells).min(cells) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(columns - full))
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::toned(text, Tone::Plain)
    }
}

/// Rows of cells.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    heading: Heading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heading {
    Shown,
    Hidden,
}

/// A column that is shown, with its width.
#[derive(Clone, Copy)]
struct Placed {
    column: usize,
    width: usize,
}

impl Table {
    /// Makes a table with a head.
    pub fn new(columns: Vec<Column>) -> Table {
        Table { columns, rows: Vec::new(), heading: Heading::Shown }
    }

    /// Makes a table of names and values, which has no head.
    pub fn of_values() -> Table {
        Table::new(vec![Column::left(""), Column::left("").wrapped(20)]).without_head()
    }

    /// Leaves the head out.
    pub fn without_head(self) -> Table {
        Table { heading: Heading::Hidden, ..self }
    }

    /// Adds a row, with a cell for each column.
    pub fn push(&mut self, row: impl IntoIterator<Item = Cell>) {
        self.rows.push(row.into_iter().collect());
    }

    /// Adds a name with its value to a table of values.
    pub fn push_value(&mut self, name: &str, value: impl Into<Cell>) {
        self.push([Cell::toned(name, Tone::Faint), value.into()]);
    }

    /// Returns whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Removes the column `head` if each of its cells has this text.
    pub fn remove_idle(&mut self, head: &str, idle: &str) {
        let column = self.columns.iter().position(|column| column.head == head);
        if let Some(column) = column.filter(|&column| self.rows.iter().all(|row| row[column].text == idle)) {
            self.columns.remove(column);
            for row in &mut self.rows {
                row.remove(column);
            }
        }
    }

    /// Returns the table as text.
    pub fn render(&self, screen: &Screen) -> String {
        self.lines(screen).into_iter().map(|line| line + "\n").collect()
    }

    /// Returns the lines of the table, the head first. No line is wider than the screen.
    pub fn lines(&self, screen: &Screen) -> Vec<String> {
        let placed = self.place(screen.width);
        let head: Vec<Cell> =
            self.columns.iter().map(|column| Cell { text: column.head.to_owned(), tone: Tone::Head }).collect();
        let heads = (self.heading == Heading::Shown).then_some(&head);
        let rows = heads.into_iter().chain(&self.rows);
        let lines = rows.flat_map(|row| self.row_lines(row, &placed, screen));
        match screen.width {
            Some(columns) => lines.map(|line| shorten_end(&line, columns)).collect(),
            None => lines.collect(),
        }
    }

    /// Chooses the columns that are shown, and their widths.
    fn place(&self, columns: Option<usize>) -> Vec<Placed> {
        let mut placed: Vec<Placed> =
            (0..self.columns.len()).map(|column| Placed { column, width: self.natural_width(column) }).collect();
        let Some(room) = columns else { return placed };
        let total = |widths: &mut dyn Iterator<Item = usize>, number: usize| {
            widths.sum::<usize>() + GAP * number.saturating_sub(1)
        };
        while total(&mut placed.iter().map(|placed| self.least_width(*placed)), placed.len()) > room {
            let ranked = placed
                .iter()
                .enumerate()
                .filter_map(|(at, placed)| self.columns[placed.column].rank.map(|rank| (rank, at)));
            let Some((_, at)) = ranked.min() else { break };
            placed.remove(at);
        }
        while total(&mut placed.iter().map(|placed| placed.width), placed.len()) > room {
            let shrinking = (0..placed.len()).filter(|&at| placed[at].width > self.least_width(placed[at]));
            let Some(at) = shrinking.max_by_key(|&at| placed[at].width) else { break };
            placed[at].width -= 1;
        }
        placed
    }

    fn natural_width(&self, column: usize) -> usize {
        let head = if self.heading == Heading::Shown { width(self.columns[column].head) } else { 0 };
        let widest = self.rows.iter().map(|row| width(&row[column].text)).max().unwrap_or(0);
        widest.max(head).max(self.columns[column].min_width)
    }

    fn least_width(&self, placed: Placed) -> usize {
        match self.columns[placed.column].fit {
            Fit::Whole => placed.width,
            Fit::Shortened(least) | Fit::Wrapped(least) => placed.width.min(least),
        }
    }

    /// Returns a row: one line, or several where a cell is wrapped.
    fn row_lines(&self, row: &[Cell], placed: &[Placed], screen: &Screen) -> Vec<String> {
        let cells: Vec<Vec<String>> = placed
            .iter()
            .map(|placed| {
                let text = &row[placed.column].text;
                match self.columns[placed.column].fit {
                    Fit::Wrapped(_) if width(text) > placed.width => wrap(text, placed.width),
                    _ => vec![shorten_middle(text, placed.width)],
                }
            })
            .collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        (0..height).map(|number| self.line(row, placed, screen, &|at| cells[at].get(number))).collect()
    }

    /// Returns one line. Blanks at its end are left out.
    fn line<'a>(
        &self,
        row: &[Cell],
        placed: &[Placed],
        screen: &Screen,
        part: &dyn Fn(usize) -> Option<&'a String>,
    ) -> String {
        let last = (0..placed.len()).rev().find(|&at| part(at).is_some_and(|text| !text.is_empty()));
        let mut line = String::new();
        for (at, &Placed { column, width }) in placed.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
            let text = part(at).map(String::as_str).unwrap_or_default();
            if at > 0 {
                line += &" ".repeat(GAP);
            }
            let (blanks, painted) = (padding(text, width), screen.paint(row[column].tone, text));
            match self.columns[column].align {
                Align::Right => line += &(blanks + &painted),
                Align::Left if Some(at) == last => line += &painted,
                Align::Left => line += &(painted + &blanks),
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let columns = vec![
            Column::right("ID"),
            Column::left("STATE"),
            Column::left("INSTANCE").optional(1),
            Column::left("TARGET").shortened(6).optional(2),
            Column::left("FILE").shortened(10),
        ];
        let mut table = Table::new(columns);
        table.push(["12", "complete", "default", "program-members 1044", "größe.csv"].map(Cell::from));
        table.push(["7", "", "default", "leads", "a-very-long-name-of-a-file.csv"].map(Cell::from));
        table
    }

    fn at(width: usize) -> Screen {
        Screen { width: Some(width), ..Screen::PLAIN }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(
            sample().render(&Screen::PLAIN),
            "ID  STATE     INSTANCE  TARGET                FILE\n\
             12  complete  default   program-members 1044  größe.csv\n\
             \x207            default   leads                 a-very-long-name-of-a-file.csv\n"
        );
    }

    #[test]
    fn a_narrow_screen_shortens_columns_then_drops_them() {
        assert_eq!(
            sample().lines(&at(60)),
            [
                "ID  STATE     INSTANCE  TARGET             FILE",
                "12  complete  default   program-…ers 1044  größe.csv",
                " 7            default   leads              a-very-l…file.csv",
            ]
        );
        assert_eq!(
            sample().lines(&at(34)),
            ["ID  STATE     TARGET    FILE", "12  complete  prog…044  größe.csv", " 7            leads     a-ver….csv"]
        );
        for width in 0..80 {
            assert!(sample().lines(&at(width)).iter().all(|line| super::width(line) <= width), "{width}");
        }
    }

    #[test]
    fn a_wrapped_value_continues_in_its_own_column() {
        let mut table = Table::of_values();
        table.push_value("state", Cell::toned("failed", Tone::Fault));
        table.push_value("error", "1006: the field 'x' was not found in it");
        let screen = Screen { has_colours: true, ..at(30) };
        assert_eq!(
            table.render(&screen),
            "\x1b[2mstate\x1b[0m  \x1b[31m\x1b[1mfailed\x1b[0m\n\
             \x1b[2merror\x1b[0m  1006: the field 'x' was\n\
             \x20      not found in it\n"
        );
    }

    #[test]
    fn a_bar_shows_the_part_that_is_done() {
        for (done, all, text) in [(0, 10, "░░░░"), (5, 10, "██░░"), (12, 10, "████"), (0, 0, "████")]
        {
            assert_eq!(bar(done, all, 4), text, "{done} of {all}");
        }
    }

    #[test]
    fn cells_cannot_control_the_terminal() {
        let mut table = Table::new(vec![Column::left("FILE")]);
        table.push(["a\x1b[2J\nb.csv".into()]);
        assert_eq!(table.render(&Screen::PLAIN), "FILE\na\\u{1b}[2J\\nb.csv\n");
    }

    #[test]
    fn a_column_is_removed_if_all_its_cells_are_idle() {
        let mut table = sample();
        table.remove_idle("INSTANCE", "default");
        table.remove_idle("STATE", "");
        assert_eq!(table.lines(&Screen::PLAIN)[0], "ID  STATE     TARGET                FILE");
    }
}

//! The tables of `docs/performance.md`: what was measured, between the marks of its part.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// One line of a table. The target is empty for a figure that explains others.
struct Line {
    what: String,
    value: String,
    target: String,
    verdict: &'static str,
}

struct Table {
    part: &'static str,
    title: String,
    lines: Vec<Line>,
}

/// What was measured so far, in order.
#[derive(Default)]
pub struct Page {
    part: &'static str,
    tables: Vec<Table>,
}

impl Page {
    /// The tables from now on belong to this part.
    pub fn begin(&mut self, part: &'static str) {
        self.part = part;
    }

    pub fn table(&mut self, title: &str) {
        self.tables.push(Table { part: self.part, title: title.into(), lines: Vec::new() });
    }

    pub fn line(&mut self, what: &str, value: &str, target: &str, verdict: &'static str) {
        let line = Line { what: what.into(), value: value.into(), target: target.into(), verdict };
        self.tables.last_mut().expect("a part has a title").lines.push(line);
    }

    /// Writes the tables of each measured part to the page, and returns the parts that have no marks there.
    pub fn write(&self) -> Vec<&'static str> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
        let mut page = fs::read_to_string(&path).expect("the page");
        let mut parts: Vec<&str> = self.tables.iter().map(|table| table.part).collect();
        parts.dedup();
        parts.retain(|part| match replaced(&page, part, &self.tables_of(part)) {
            Some(new) => {
                page = new;
                false
            }
            None => true,
        });
        fs::write(&path, page).expect("the page is written");
        parts
    }

    fn tables_of(&self, part: &str) -> String {
        let mut text = String::new();
        for table in self.tables.iter().filter(|table| table.part == part) {
            write!(text, "\n{}:\n\n| what | measured | target | |\n|---|---:|---|---|\n", capitalised(&table.title))
                .expect("writing to text");
            for Line { what, value, target, verdict } in &table.lines {
                writeln!(text, "| {} | {} | {} | {verdict} |", escaped(what), escaped(value), escaped(target))
                    .expect("writing to text");
            }
        }
        text
    }
}

/// Returns the page with the text between the part's marks replaced; none where it has no such marks.
fn replaced(page: &str, part: &str, text: &str) -> Option<String> {
    let mark = format!("<!-- measured: {part} -->\n");
    let from = page.find(&mark)? + mark.len();
    let to = from + page[from..].find("<!-- end -->")?;
    Some(format!("{}{text}\n{}", &page[..from], &page[to..]))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('>', "&gt;")
}

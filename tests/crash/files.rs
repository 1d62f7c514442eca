//! Files to submit: every row is unique, and the result that Marketo will give for each is known beforehand.

use std::fmt::Write as _;
use std::ops::Range;

use marqueue::domain::{Format, JobState, Target};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use sha2::{Digest, Sha256};

use super::rng;

/// Files of more bytes stream into the store in several transactions.
const PIECE_BYTES: usize = 256 * 1024;

/// The client that submits such files, and no others.
pub const LARGE: &str = "max";

/// The clients that submit only files that may share an import.
pub const PACKED: [&str; 3] = ["pam", "pat", "peg"];

/// How many of the small files have an import that does not end by itself.
const STUCK: f64 = 0.06;

/// One file and its parameters.
#[derive(Clone, Debug)]
pub struct File {
    /// Unique in the scenario, so that an upload can be assigned to its file.
    pub name: String,
    pub target: Target,
    pub format: Format,
    pub group: Option<String>,
    pub priority: i64,
    /// Whether its client asked that it may share an import; none where the client left that to the instance.
    pub pack: Option<bool>,
    pub content: Vec<u8>,
    header: usize,
    /// Where each row stands.
    rows: Vec<Range<usize>>,
    failing: Vec<(usize, String)>,
    warned: Vec<(usize, String)>,
    batch_fails: bool,
    /// Marketo does not end its import until the test does.
    is_stuck: bool,
}

/// How a job has to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub state: JobState,
    pub total: u64,
    pub processed: Option<u64>,
    pub failed: Option<u64>,
    pub warned: Option<u64>,
    pub failures: Option<String>,
    pub warnings: Option<String>,
}

impl End {
    /// In what the two differ, with what each has; rows without their padding.
    pub fn differences(&self, other: &End) -> Vec<String> {
        let facts = |end: &End| {
            let End { state, total, processed, failed, warned, failures, warnings } = end;
            let text = |text: &Option<String>| format!("{text:?}").replace("xx", "");
            let numbers = [("total", &Some(*total)), ("processed", processed), ("failed", failed), ("warned", warned)];
            let numbers = numbers.map(|(name, number)| format!("{name} {number:?}"));
            [vec![state.to_string()], numbers.into(), vec![text(failures), text(warnings)]].concat()
        };
        let both = facts(self).into_iter().zip(facts(other));
        both.filter(|(own, other)| own != other).map(|(own, other)| format!("{own} instead of {other}")).collect()
    }
}

impl File {
    /// The `n`th file of a client; the same for the same seed, whatever happens around it.
    pub fn of(seed: u64, client: &str, n: usize, groups: bool) -> File {
        if PACKED.contains(&client) {
            return File::packed(seed, client, n);
        }
        let rng = &mut rng(seed, &format!("file {client} {n}"));
        let format = Format::ALL[rng.random_range(0..3)];
        let target = match rng.random_range(0..8) {
            0..2 => Target::CustomObject { name: "car_c".into() },
            2..4 => Target::ProgramMembers { program_id: 1044, status: "Member".into() },
            4 if groups => Target::Leads { lookup_field: None, list_id: Some(7), partition: None },
            _ => Target::Leads { lookup_field: None, list_id: None, partition: None },
        };
        let name = format!("{client}-{n}.{format}");
        // Rows and the most bytes of the padding of each.
        let (rows, padding) = match rng.random_range(0..4) {
            _ if client == LARGE => (rng.random_range(180..220), 4_000),
            0 => (rng.random_range(30..90), 2_500),
            _ => (rng.random_range(1..12), 200),
        };
        let mut file = File {
            group: (groups && rng.random_bool(0.4)).then(|| format!("group-{client}")),
            priority: if groups { rng.random_range(-1..=1) } else { 0 },
            pack: None,
            batch_fails: rows < 12 && rng.random_bool(0.05),
            is_stuck: rows < 12 && super::rng(seed, &format!("stuck {client} {n}")).random_bool(STUCK),
            name,
            target,
            format,
            content: Vec::new(),
            header: 0,
            rows: Vec::new(),
            failing: Vec::new(),
            warned: Vec::new(),
        };
        file.write(rows, padding, rng);
        file
    }

    /// A small file of one of a few shapes, so that several share an import.
    fn packed(seed: u64, client: &str, n: usize) -> File {
        let rng = &mut rng(seed, &format!("packed file {client} {n}"));
        let format = if rng.random_bool(0.8) { Format::Csv } else { Format::Tsv };
        let target = match rng.random_range(0..8) {
            0 => Target::CustomObject { name: "car_c".into() },
            1 => Target::Leads { lookup_field: None, list_id: Some(7), partition: None },
            _ => Target::Leads { lookup_field: None, list_id: None, partition: None },
        };
        let mut file = File {
            name: format!("{client}-{n}.{format}"),
            target,
            format,
            group: None,
            priority: rng.random_range(-1..=1),
            pack: Some(true),
            content: Vec::new(),
            header: 0,
            rows: Vec::new(),
            failing: Vec::new(),
            warned: Vec::new(),
            batch_fails: rng.random_bool(0.03),
            is_stuck: rng.random_bool(0.02),
        };
        // Several of those with a large padding are together too large for one upload.
        let padding = if rng.random_bool(0.3) { 6_000 } else { 200 };
        file.write(rng.random_range(1..12), padding, rng);
        if rng.random_bool(0.2) {
            file.remove_last_line_end();
        }
        file
    }

    fn remove_last_line_end(&mut self) {
        self.content.pop();
        if let Some(last) = self.rows.last_mut() {
            last.end -= 1;
        }
    }

    fn write(&mut self, rows: usize, padding: usize, rng: &mut Xoshiro256PlusPlus) {
        let between = char::from(self.format.delimiter());
        let mut text = format!("email{between}note{between}padding\n");
        self.header = text.len();
        for row in 0..rows {
            let from = text.len();
            let note = match rng.random_range(0..12) {
                _ if row == 0 && self.batch_fails => "!batch-failed:the whole import broke".to_owned(),
                _ if row == 0 && self.is_stuck => "!stuck".to_owned(),
                0 => {
                    let reason = format!("no such thing as {row}");
                    self.failing.push((row, reason.clone()));
                    format!("!fail:{reason}")
                }
                1 => {
                    let reason = format!("odd but fine {row}");
                    self.warned.push((row, reason.clone()));
                    format!("!warn:{reason}")
                }
                2 => format!("!lasts:{}ms", rng.random_range(20..350)),
                3 => "\"two\nlines\"".to_owned(),
                _ => "fine".to_owned(),
            };
            let padding = rng.random_range(1..padding);
            writeln!(text, "{}-{row}@example.com{between}{note}{between}{:x>padding$}", self.name, "")
                .expect("writing to text");
            self.rows.push(from..text.len());
        }
        self.content = text.into_bytes();
    }

    /// Whether it streams into the store in several transactions.
    pub fn is_large(&self) -> bool {
        self.content.len() > PIECE_BYTES
    }

    pub fn rows(&self) -> Range<usize> {
        0..self.rows.len()
    }

    /// Which rows an upload of so many bytes and this hash holds: the header and some rows one after the other, byte
    /// for byte, or none at all.
    pub fn rows_of(&self, bytes: u64, sha256: &str) -> Option<Range<usize>> {
        let rows_bytes = usize::try_from(bytes).ok()?.checked_sub(self.header)?;
        let ends = |from: usize, end: usize| self.rows[from..].iter().position(|row| row.end == end);
        self.rows().find_map(|from| {
            let start = self.rows[from].start;
            let to = from + ends(from, start + rows_bytes)? + 1;
            (self.sha256(start, start + rows_bytes) == sha256).then_some(from..to)
        })
    }

    /// Whether a file of its shape may be in one import with it.
    pub fn has_shape_of(&self, other: &File) -> bool {
        self.target == other.target && self.format == other.format && self.header() == other.header()
    }

    /// Whether Marketo ends its import as failed.
    pub fn fails_whole(&self) -> bool {
        self.batch_fails
    }

    /// Line 1, with its line end.
    pub fn header(&self) -> &[u8] {
        &self.content[..self.header]
    }

    /// All rows, with a line end behind the last one.
    pub fn rows_with_line_end(&self) -> Vec<u8> {
        let mut rows = self.content[self.header..].to_vec();
        if rows.last() != Some(&b'\n') {
            rows.push(b'\n');
        }
        rows
    }

    /// The rows that are these bytes of it.
    pub fn rows_between(&self, from: usize, to: usize) -> Range<usize> {
        let before = |end: usize| self.rows.iter().filter(|row| row.end <= end).count();
        before(from)..before(to)
    }

    /// How many bytes an upload of these rows has, and its hash.
    pub fn upload_of(&self, rows: Range<usize>) -> (u64, String) {
        let (from, to) = (self.rows[rows.start].start, self.rows[rows.end - 1].end);
        ((self.header + to - from) as u64, self.sha256(from, to))
    }

    /// Of the header and the bytes `from..to`, as the simulator writes it.
    pub fn sha256(&self, from: usize, to: usize) -> String {
        let hash = Sha256::new().chain_update(&self.content[..self.header]).chain_update(&self.content[from..to]);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What Marketo makes of it, by the cells that say so.
    pub fn end(&self) -> End {
        let total = self.rows.len() as u64;
        if self.batch_fails {
            let (state, none) = (JobState::Failed, None);
            return End {
                state,
                total,
                processed: Some(0),
                failed: Some(0),
                warned: Some(0),
                failures: none.clone(),
                warnings: none,
            };
        }
        let (failed, warned) = (self.failing.len() as u64, self.warned.len() as u64);
        End {
            state: JobState::Complete,
            total,
            processed: Some(total - failed),
            failed: Some(failed),
            warned: Some(warned),
            failures: self.report("Import Failure Reason", &self.failing),
            warnings: self.report("Import Warning Reason", &self.warned),
        }
    }

    fn report(&self, reason: &str, rows: &[(usize, String)]) -> Option<String> {
        let line = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let between = char::from(self.format.delimiter());
        let mut text = format!("{}{between}{reason}\n", line(&self.content[..self.header]));
        for (row, reason) in rows {
            writeln!(text, "{}{between}{reason}", line(&self.content[self.rows[*row].clone()]))
                .expect("writing to text");
        }
        (!rows.is_empty()).then_some(text)
    }
}

#[test]
fn rows_of_an_upload_are_found_by_its_hash() {
    let file = (0..).map(|n| File::of(1, "a", n, true)).find(|file| file.rows.len() > 20).expect("a longer file");
    for rows in [0..1, 3..9, 0..file.rows.len(), 20..file.rows.len()] {
        let (from, to) = (file.rows[rows.start].start, file.rows[rows.end - 1].end);
        let (bytes, sha256) = file.upload_of(rows.clone());
        assert_eq!(file.rows_of(bytes, &sha256), Some(rows));
        let mut changed = file.clone();
        changed.content[to - 2] ^= 1;
        assert_eq!(changed.rows_of(bytes, &sha256), None);
        assert_eq!(file.rows_of(bytes - 1, &file.sha256(from, to - 1)), None, "half a row is none");
    }
}

//! Result of row matching.

/// A row of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SentRow {
    /// Its number among the upload's rows, counted from 0. Blank lines count.
    pub row: u32,
    /// Its first line, counted from 0 at the upload's first row. Beyond `row` where quotes before it hold line ends.
    pub line: u32,
}

/// The match of the rows of one report with those of the upload that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowMatch {
    /// For each row of the report, in its order, the row that was sent; none where it is unknown.
    pub rows: Vec<Option<SentRow>>,
    /// The numbers of the sent rows of which some are in the report, but which of them is unknown: they differ in
    /// columns that the report lacks, or are equal rows of several jobs. In rising order.
    pub ambiguous: Vec<u32>,
    /// Rows of the report that fit no row that was sent, so that each row may be the one meant.
    pub unplaced: u64,
}

impl RowMatch {
    /// Returns the number of rows of the report without a match.
    pub fn unmatched(&self) -> u64 {
        self.rows.iter().filter(|row| row.is_none()).count() as u64
    }

    /// Returns the numbers of the sent rows that are in the report, in rising order.
    pub fn sent_rows(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = self.rows.iter().flatten().map(|sent| sent.row).collect();
        rows.sort_unstable();
        rows
    }
}

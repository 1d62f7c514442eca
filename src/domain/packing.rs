//! Packing: what decides whether the rows of several jobs may go to Marketo in one import.

/// What the jobs of one import have in common: the hash of the target with all its options, the format, the header and
/// the client that submitted the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImportShape(pub [u8; 32]);

/// How a job shares an import with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Jobs of one instance with equal shapes may share an import.
    pub shape: ImportShape,
    /// How many bytes of the header's line end, counted from its end, are added behind the last row where other rows
    /// follow; 0 where that row has its own line end.
    pub added_line_end: u8,
}

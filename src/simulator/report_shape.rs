//! Shape of failure and warning files: what Marketo does not document about them, so that each case can be tried.

/// How reports are written. The default is what Marketo was seen to do.
#[derive(Clone, Debug, Default)]
pub struct ReportShape {
    /// The order of rows and columns; the reason is always the last column.
    pub order: ReportOrder,
    /// Columns that reports lack, whatever their values are.
    pub left_out: Vec<String>,
    /// Which fields are in quotes.
    pub quotes: ReportQuotes,
    /// The end of each line.
    pub line_end: ReportLineEnd,
    /// Bytes behind the last row of each report that is not empty.
    pub appended: Vec<u8>,
}

/// The order of rows and columns of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportOrder {
    /// As they were sent.
    #[default]
    AsSent,
    /// The last one first.
    Reversed,
}

/// The quotes of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportQuotes {
    /// Around fields that need them; a quote within is doubled.
    #[default]
    WhereNeeded,
    /// Around every field; a quote within is doubled.
    Everywhere,
    /// Around fields that need them; a quote within has a backslash before it, which RFC 4180 does not know.
    Backslashes,
}

/// The line end of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportLineEnd {
    /// LF
    #[default]
    Lf,
    /// CRLF
    CrLf,
    /// CR alone
    Cr,
}

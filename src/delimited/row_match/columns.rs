//! Columns: which column of a report is which of those that were sent.

use std::collections::HashMap;

/// A column that was sent and that the report has. Both are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedColumn {
    pub sent: usize,
    pub report: usize,
}

/// Returns the columns that both have, in the order in which they were sent.
///
/// A name that occurs twice does not say which column it is, so such columns are left out. That never causes a wrong
/// match, because it only lets more rows fit.
pub(super) fn shared_columns(sent: &[String], report: &[String]) -> Vec<SharedColumn> {
    let (in_sent, in_report) = (unique_names(sent), unique_names(report));
    let mut shared: Vec<SharedColumn> = in_sent
        .into_iter()
        .filter_map(|(name, sent)| Some(SharedColumn { sent: sent?, report: (*in_report.get(name)?)? }))
        .collect();
    shared.sort_unstable_by_key(|column| column.sent);
    shared
}

/// Returns the position of each name; none for a name that occurs more than once.
fn unique_names(names: &[String]) -> HashMap<&str, Option<usize>> {
    let mut positions = HashMap::new();
    for (position, name) in names.iter().enumerate() {
        positions.entry(name.as_str()).and_modify(|known| *known = None).or_insert(Some(position));
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(sent: &str, report: &str) -> Vec<(usize, usize)> {
        let names = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        shared_columns(&names(sent), &names(report)).iter().map(|column| (column.sent, column.report)).collect()
    }

    #[test]
    fn columns_are_found_by_their_names() {
        assert_eq!(shared("a b c", "a b c"), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(shared("a b c", "c x a"), [(0, 2), (2, 0)]);
        assert_eq!(shared("a b c", ""), []);
    }

    #[test]
    fn a_name_that_occurs_twice_is_not_used() {
        assert_eq!(shared("a b a", "a b a"), [(1, 1)]);
        assert_eq!(shared("a b a", "b a a"), [(1, 0)]);
        assert_eq!(shared("a b a", "a b"), [(1, 1)]);
        assert_eq!(shared("a b", "a b a"), [(1, 1)]);
    }
}

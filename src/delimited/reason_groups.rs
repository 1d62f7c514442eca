//! Reason groups: the reasons of a report's rows, with the number of rows of each.

use std::cmp::Reverse;
use std::collections::HashMap;

/// The reasons of rows. Reasons that differ only in quoted values, such as `'a@b.c'`, are one group.
///
/// The texts of at most [`MAX_GROUPS`] groups are held, each of at most [`MAX_REASON_BYTES`] bytes. Rows with further
/// reasons are counted together.
#[derive(Clone, Debug, Default)]
pub struct ReasonGroups {
    groups: HashMap<String, Group>,
    malformed: Count,
    others: Count,
}

/// One reason and its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonGroup {
    /// The reason.
    pub reason: GroupedReason,
    /// The number of rows.
    pub rows: u64,
    /// The smallest line of its rows in the submitted file; none where no row's line is known.
    pub first_line: Option<u64>,
}

/// The reason of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupedReason {
    /// Marketo's words. Where they differ within the group, `…` is in place of the quoted values.
    Text(String),
    /// The rows are malformed: which field is the reason is unknown.
    Malformed,
    /// The report has too many different reasons for all of them to be counted.
    Others,
}

/// The most different reasons that are counted.
pub const MAX_GROUPS: usize = 10_000;

/// The most bytes of a reason that are compared and shown.
pub const MAX_REASON_BYTES: usize = 1_000;

#[derive(Clone, Debug)]
struct Group {
    /// The first reason, as it is.
    text: String,
    differs: bool,
    count: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    rows: u64,
    first_line: Option<u64>,
}

impl Count {
    fn add(&mut self, line: Option<u64>) {
        self.rows += 1;
        self.first_line = match (self.first_line, line) {
            (Some(first), Some(line)) => Some(first.min(line)),
            (first, line) => first.or(line),
        };
    }
}

impl ReasonGroups {
    /// Adds a row; `reason` is none for a malformed one.
    pub fn add(&mut self, reason: Option<&[u8]>, line: Option<u64>) {
        let Some(reason) = reason else { return self.malformed.add(line) };
        let text = clipped(reason);
        let key = without_quoted_values(&text);
        if let Some(group) = self.groups.get_mut(&key) {
            group.differs |= group.text != text;
            group.count.add(line);
        } else if self.groups.len() < MAX_GROUPS {
            let mut count = Count::default();
            count.add(line);
            self.groups.insert(key, Group { text, differs: false, count });
        } else {
            self.others.add(line);
        }
    }

    /// Returns the groups, those with the most rows first; of as many rows, the one that comes first in the file.
    pub fn into_sorted(self) -> Vec<ReasonGroup> {
        let of = |reason, Count { rows, first_line }: Count| ReasonGroup { reason, rows, first_line };
        let text = |(key, group): (String, Group)| {
            of(GroupedReason::Text(if group.differs { key } else { group.text }), group.count)
        };
        let mut groups: Vec<ReasonGroup> = self.groups.into_iter().map(text).collect();
        groups.push(of(GroupedReason::Malformed, self.malformed));
        groups.push(of(GroupedReason::Others, self.others));
        groups.retain(|group| group.rows > 0);
        // The text makes the order of the others the same each time.
        groups.sort_by_cached_key(|group| {
            let text = if let GroupedReason::Text(text) = &group.reason { text.clone() } else { String::new() };
            (Reverse(group.rows), group.first_line.unwrap_or(u64::MAX), text)
        });
        groups
    }
}

/// Returns the reason as text, cut after [`MAX_REASON_BYTES`].
fn clipped(reason: &[u8]) -> String {
    match reason.get(..MAX_REASON_BYTES) {
        Some(kept) => String::from_utf8_lossy(kept).trim_end_matches('\u{fffd}').to_owned() + "…",
        None => String::from_utf8_lossy(reason).into_owned(),
    }
}

/// Replaces values in single or double quotes by `…`. A quote opens where no letter or digit is before it, and closes
/// where none is behind it, so that the apostrophe of "can't" is no quote.
fn without_quoted_values(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(letter) = rest.chars().next() {
        let behind = &rest[letter.len_utf8()..];
        let opens = matches!(letter, '\'' | '"') && !before.is_some_and(char::is_alphanumeric);
        out.push(letter);
        (rest, before) = (behind, Some(letter));
        if opens && let Some(end) = closing_quote(behind, letter) {
            out.push('…');
            out.push(letter);
            rest = &behind[end + 1..];
        }
    }
    out
}

/// Returns where the quote closes that opened before `text`.
fn closing_quote(text: &str, quote: char) -> Option<usize> {
    text.match_indices(quote).map(|(at, _)| at).find(|at| !text[at + 1..].starts_with(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reasons: &[(&str, Option<u64>)]) -> Vec<(String, u64, Option<u64>)> {
        let mut groups = ReasonGroups::default();
        reasons.iter().for_each(|(reason, line)| groups.add(Some(reason.as_bytes()), *line));
        let text = |group: ReasonGroup| match group.reason {
            GroupedReason::Text(text) => (text, group.rows, group.first_line),
            other => (format!("{other:?}"), group.rows, group.first_line),
        };
        groups.into_sorted().into_iter().map(text).collect()
    }

    #[test]
    fn reasons_are_counted_and_the_most_frequent_is_first() {
        assert_eq!(
            shown(&[("b", Some(5)), ("a", Some(9)), ("a", None), ("a", Some(7)), ("c", Some(3))]),
            [("a".into(), 3, Some(7)), ("c".into(), 1, Some(3)), ("b".into(), 1, Some(5))]
        );
        assert_eq!(shown(&[("a", None)]), [("a".into(), 1, None)]);
        assert_eq!(shown(&[]), []);
    }

    #[test]
    fn reasons_that_differ_in_quoted_values_are_one() {
        assert_eq!(
            shown(&[
                ("Value 'x' for 'phone' can't be read", Some(2)),
                ("Value 'y' for 'phone' can't be read", Some(3))
            ]),
            [("Value '…' for '…' can't be read".into(), 2, Some(2))]
        );
        assert_eq!(
            shown(&[("Value 'x' not found", Some(2)), ("Value 'x' not found", Some(3))]),
            [("Value 'x' not found".into(), 2, Some(2))],
            "nothing differs"
        );
        assert_eq!(without_quoted_values("isn't \"a\", 'b"), "isn't \"…\", 'b");
        assert_eq!(without_quoted_values("the lead's and the list's"), "the lead's and the list's");
    }

    #[test]
    fn any_number_of_reasons_takes_bounded_memory() {
        let mut groups = ReasonGroups::default();
        for n in 0..MAX_GROUPS as u64 + 3 {
            groups.add(Some(format!("{n} is wrong").as_bytes()), Some(n));
        }
        groups.add(None, None);
        groups.add(Some("é".repeat(MAX_REASON_BYTES).as_bytes()), None);
        let sorted = groups.into_sorted();
        assert_eq!(sorted.len(), MAX_GROUPS + 2);
        let others = ReasonGroup { reason: GroupedReason::Others, rows: 4, first_line: Some(MAX_GROUPS as u64) };
        assert_eq!(sorted[0], others);
        assert_eq!(sorted.last().map(|group| &group.reason), Some(&GroupedReason::Malformed));
        assert_eq!(clipped("é".repeat(600).as_bytes()), "é".repeat(500) + "…");
    }
}

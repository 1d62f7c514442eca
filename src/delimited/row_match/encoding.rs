//! Encoding: a row match as few bytes, which compress well.
//!
//! Numbers are LEB128: seven bits a byte, the lowest first. Positions are written as the difference from what is
//! expected, so that a report in the order of the upload is a row of small numbers.

use crate::delimited::row_match::types::{RowMatch, SentRow};

/// Bytes that are no row match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored row match is damaged")]
pub struct DamagedMatchError;

impl RowMatch {
    /// Returns the match as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 * self.rows.len() + 16);
        push_number(&mut out, self.rows.len() as u64);
        let mut before = Place::default();
        for row in &self.rows {
            // 0 is a row without match.
            match row {
                None => out.push(0),
                Some(sent) => {
                    let place = Place::of(*sent);
                    push_number(&mut out, zigzag(place.row - before.row - 1) + 1);
                    push_number(&mut out, zigzag(place.extra_lines - before.extra_lines));
                    before = place;
                }
            }
        }
        push_number(&mut out, self.unplaced);
        push_rows(&mut out, &self.ambiguous);
        out
    }

    /// Reads the bytes of [`RowMatch::encode`].
    ///
    /// # Errors
    /// [`DamagedMatchError`] for other bytes.
    pub fn decode(mut bytes: &[u8]) -> Result<RowMatch, DamagedMatchError> {
        let length = bytes.len() as u64;
        let rest = &mut bytes;
        let mut found = RowMatch::default();
        let mut before = Place::default();
        // Each row has at least one byte, so a damaged number of rows takes no memory.
        for _ in 0..count(rest, length)? {
            found.rows.push(match take_number(rest)? {
                0 => None,
                row => {
                    let row = unzigzag(row - 1).checked_add(before.row + 1).ok_or(DamagedMatchError)?;
                    let extra = unzigzag(take_number(rest)?).checked_add(before.extra_lines);
                    before = Place { row, extra_lines: extra.ok_or(DamagedMatchError)? };
                    Some(before.sent()?)
                }
            });
        }
        found.unplaced = take_number(rest)?;
        found.ambiguous = take_rows(rest)?;
        if rest.is_empty() { Ok(found) } else { Err(DamagedMatchError) }
    }
}

/// Returns row numbers, which are in rising order, as bytes: their number, then each as the difference from the one
/// before.
pub fn encode_rows(rows: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() + 5);
    push_rows(&mut out, rows);
    out
}

/// Reads the bytes of [`encode_rows`].
///
/// # Errors
/// [`DamagedMatchError`] for other bytes.
pub fn decode_rows(mut bytes: &[u8]) -> Result<Vec<u32>, DamagedMatchError> {
    let rows = take_rows(&mut bytes)?;
    if bytes.is_empty() { Ok(rows) } else { Err(DamagedMatchError) }
}

fn push_rows(out: &mut Vec<u8>, rows: &[u32]) {
    push_number(out, rows.len() as u64);
    let mut last = 0;
    for &row in rows {
        push_number(out, u64::from(row.saturating_sub(last)));
        last = row;
    }
}

fn take_rows(bytes: &mut &[u8]) -> Result<Vec<u32>, DamagedMatchError> {
    let mut rows = Vec::new();
    let mut last = 0_u32;
    for _ in 0..count(bytes, bytes.len() as u64)? {
        let step = u32::try_from(take_number(bytes)?).map_err(|_| DamagedMatchError)?;
        last = last.checked_add(step).ok_or(DamagedMatchError)?;
        rows.push(last);
    }
    Ok(rows)
}

/// A sent row as it is encoded.
#[derive(Clone, Copy)]
struct Place {
    row: i64,
    /// Lines before it that begin no row.
    extra_lines: i64,
}

impl Default for Place {
    /// The place before the first row.
    fn default() -> Place {
        Place { row: -1, extra_lines: 0 }
    }
}

impl Place {
    fn of(sent: SentRow) -> Place {
        Place { row: i64::from(sent.row), extra_lines: i64::from(sent.line) - i64::from(sent.row) }
    }

    fn sent(self) -> Result<SentRow, DamagedMatchError> {
        let line = self.row.checked_add(self.extra_lines).and_then(|line| u32::try_from(line).ok());
        match (u32::try_from(self.row), line) {
            (Ok(row), Some(line)) => Ok(SentRow { row, line }),
            _ => Err(DamagedMatchError),
        }
    }
}

fn count(bytes: &mut &[u8], most: u64) -> Result<u64, DamagedMatchError> {
    take_number(bytes).and_then(|count| if count <= most { Ok(count) } else { Err(DamagedMatchError) })
}

/// Makes small numbers of small differences of either sign.
fn zigzag(difference: i64) -> u64 {
    (difference << 1 ^ difference >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, DamagedMatchError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(DamagedMatchError)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(DamagedMatchError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_match_in_order_has_two_bytes_a_row() {
        let rows = (0..1000).map(|row| Some(SentRow { row, line: row })).collect();
        let found = RowMatch { rows, ..RowMatch::default() };
        assert_eq!(found.encode().len(), 2 + 2 * 1000 + 2);
    }

    #[test]
    fn row_numbers_are_encoded_as_differences() {
        assert_eq!(encode_rows(&[]), [0]);
        assert_eq!(encode_rows(&[0, 3, 200]), [3, 0, 3, 0xc5, 1]);
        assert_eq!(decode_rows(&[]), Err(DamagedMatchError));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_match_round_trips(
            rows in prop::collection::vec(prop::option::of((any::<u32>(), any::<u32>())), 0..40),
            ambiguous in prop::collection::btree_set(any::<u32>(), 0..20),
            unplaced in any::<u64>(),
        ) {
            let rows = rows.into_iter().map(|row| row.map(|(row, line)| SentRow { row, line })).collect();
            let found = RowMatch { rows, ambiguous: ambiguous.into_iter().collect(), unplaced };
            let bytes = found.encode();
            prop_assert_eq!(RowMatch::decode(&bytes), Ok(found));
            prop_assert_eq!(RowMatch::decode(&bytes[..bytes.len() - 1]), Err(DamagedMatchError));
        }

        #[test]
        fn row_numbers_round_trip(rows in prop::collection::btree_set(any::<u32>(), 0..40)) {
            let rows: Vec<u32> = rows.into_iter().collect();
            let bytes = encode_rows(&rows);
            prop_assert_eq!(decode_rows(&bytes), Ok(rows));
            prop_assert_eq!(decode_rows(&bytes[..bytes.len() - 1]), Err(DamagedMatchError));
            prop_assert_eq!(decode_rows(&[&bytes[..], &[0]].concat()), Err(DamagedMatchError));
        }

        #[test]
        fn any_other_bytes_are_an_error_or_rows(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(rows) = decode_rows(&bytes) {
                prop_assert!(rows.is_sorted());
                prop_assert_eq!(decode_rows(&encode_rows(&rows)), Ok(rows));
            }
        }

        #[test]
        fn any_other_bytes_are_an_error_or_a_match(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(found) = RowMatch::decode(&bytes) {
                prop_assert_eq!(RowMatch::decode(&found.encode()), Ok(found));
            }
        }
    }
}

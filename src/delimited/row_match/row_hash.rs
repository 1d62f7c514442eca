//! Row hash: hashes the values of a row with random keys.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes rows with 128 bits. The keys are random, so that no file can be made whose rows collide; of the ten million
/// rows that an upload can have at most, two collide by chance once in 10^24 uploads.
#[derive(Clone, Debug, Default)]
pub(super) struct RowHash {
    high: RandomState,
    low: RandomState,
}

impl RowHash {
    /// Hashes values in order. Each is hashed with its length, so that no two lists of values are hashed alike.
    pub fn hash<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> u128 {
        let (mut high, mut low) = (self.high.build_hasher(), self.low.build_hasher());
        for value in values {
            for hasher in [&mut high, &mut low] {
                hasher.write_usize(value.len());
                hasher.write(value);
            }
        }
        u128::from(high.finish()) << 64 | u128::from(low.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_of_values_and_no_others_hash_alike() {
        let hash = RowHash::default();
        let of = |values: &[&'static str]| hash.hash(values.iter().map(|value| value.as_bytes()));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        for other in [&["ab"][..], &["a", "b", ""], &["", "ab"], &["b", "a"], &[]] {
            assert_ne!(of(&["a", "b"]), of(other), "{other:?}");
        }
        assert_ne!(of(&["a"]), RowHash::default().hash([&b"a"[..]].into_iter()));
    }
}

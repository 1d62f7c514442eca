//! Whose is a user id that the kernel gives?
//!
//! In a user namespace (`PrivateUsers=yes`, a container without rights) only some ids are mapped. Everyone else's comes as
//! one and the same that is nobody's, and is better not written down.

use std::fs;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// The ids that this process can see. They can't change while it runs.
static MAPPED: LazyLock<Option<Vec<RangeInclusive<u32>>>> =
    LazyLock::new(|| fs::read_to_string("/proc/self/uid_map").ok().map(|map| ranges(&map)));

/// The id, if it is that user's; none if it stands for whoever is not mapped.
pub fn map_uid(uid: u32) -> Option<u32> {
    // Without /proc nothing is known of namespaces, and most processes are in none.
    MAPPED.as_ref().is_none_or(|mapped| is_in(mapped, uid)).then_some(uid)
}

fn is_in(mapped: &[RangeInclusive<u32>], uid: u32) -> bool {
    mapped.iter().any(|ids| ids.contains(&uid))
}

/// A line for each range: the first id inside, the first outside, how many.
fn ranges(map: &str) -> Vec<RangeInclusive<u32>> {
    let range = |line: &str| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [inside, _, count] if count > 0 => Some(inside..=inside.saturating_add(count - 1)),
            _ => None,
        }
    };
    map.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_not_mapped_is_nobodys() {
        // user_namespaces(7): the ids that are not mapped are seen as 65534.
        const SANDBOX: &str = "         0          0          1\n       998        998          1\n";
        for (map, uid, mapped) in [
            ("         0          0 4294967295\n", 1000, true),
            ("         0          0 4294967295\n", 65_534, true),
            (SANDBOX, 0, true),
            (SANDBOX, 998, true),
            (SANDBOX, 999, false),
            (SANDBOX, 65_534, false),
            ("         0     100000      65536\n", 65_534, true),
            ("", 0, false),
        ] {
            assert_eq!(is_in(&ranges(map), uid), mapped, "{uid} in {map:?}");
        }
    }

    #[test]
    fn ones_own_id_is_seen() {
        let own = rustix::process::getuid().as_raw();
        assert_eq!(map_uid(own), Some(own));
    }
}

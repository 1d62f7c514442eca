//! User ids of peers: decides whether an id from the kernel identifies a user.
//!
//! In a user namespace (`PrivateUsers=yes`, an unprivileged container) only some ids are mapped. The kernel reports all
//! others as the same overflow id, which identifies no user and is not stored.

use std::fs;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// The mapped ids of this process's namespace. They can't change while it runs.
static MAPPED: LazyLock<Option<Vec<RangeInclusive<u32>>>> =
    LazyLock::new(|| fs::read_to_string("/proc/self/uid_map").ok().map(|map| ranges(&map)));

/// Returns the id if it is mapped; none if it is the overflow id.
pub fn map_uid(uid: u32) -> Option<u32> {
    // Without /proc the map is unknown, and most processes run in the initial namespace.
    MAPPED.as_ref().is_none_or(|mapped| is_in(mapped, uid)).then_some(uid)
}

fn is_in(mapped: &[RangeInclusive<u32>], uid: u32) -> bool {
    mapped.iter().any(|ids| ids.contains(&uid))
}

/// Parses the map. Each line is a range: first id inside, first id outside, count.
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
    fn an_unmapped_id_is_ignored() {
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
    fn the_own_id_is_mapped() {
        let own = rustix::process::getuid().as_raw();
        assert_eq!(map_uid(own), Some(own));
    }
}

//! File descriptor limit: computes how many connections it allows beside the daemon's other open files, and raises it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit does not allow even one connection.
#[derive(Debug, thiserror::Error)]
#[error("this process may open {limit} files, and needs at least {needed}: raise its limit (ulimit -n, LimitNOFILE)")]
pub struct FdLimitError {
    limit: u64,
    needed: u64,
}

/// Returns how many of the `wanted` connections are possible beside `others` open files. Raises the process's soft
/// limit as far as needed and allowed: the default is low for programs that use `select`, which this one does not.
///
/// # Errors
/// [`FdLimitError`] where not even one connection is possible.
pub fn max_connections(wanted: u32, others: u32) -> Result<u32, FdLimitError> {
    let needed = u64::from(wanted) + u64::from(others);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut limit = current.unwrap_or(u64::MAX);
    if limit < needed {
        let raised = maximum.unwrap_or(u64::MAX).min(needed);
        if raised > limit && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok() {
            limit = raised;
        }
    }
    connections_within(wanted, others, limit)
}

fn connections_within(wanted: u32, others: u32, limit: u64) -> Result<u32, FdLimitError> {
    match limit.saturating_sub(others.into()).min(wanted.into()) {
        0 => Err(FdLimitError { limit, needed: u64::from(others) + 1 }),
        connections => Ok(u32::try_from(connections).unwrap_or(wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_the_remaining_descriptors() {
        for (wanted, others, limit, connections) in
            [(500, 70, 1024, Some(500)), (500, 70, 570, Some(500)), (500, 70, 256, Some(186)), (1, 70, 71, Some(1))]
        {
            assert_eq!(connections_within(wanted, others, limit).ok(), connections);
        }
        let error = connections_within(500, 70, 64).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this process may open 64 files, and needs at least 71: raise its limit (ulimit -n, LimitNOFILE)"
        );
        assert!(connections_within(500, 70, 70).is_err());
    }
}

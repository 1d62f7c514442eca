//! How many connections does the system allow? Each takes a file descriptor, and the database needs some too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Not even one connection is possible.
#[derive(Debug, thiserror::Error)]
#[error("this process may open {may} files, and needs at least {needs}: raise its limit (ulimit -n, LimitNOFILE)")]
pub struct FdLimitError {
    may: u64,
    needs: u64,
}

/// How many of the `wanted` connections are possible beside `others` open files. The process's own limit is raised as far
/// as that takes, and as far as it may: it is low for the sake of programs that `select`, which this one does not.
///
/// # Errors
/// [`TooFew`].
pub fn max_connections(wanted: u32, others: u32) -> Result<u32, FdLimitError> {
    let needs = u64::from(wanted) + u64::from(others);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut may = current.unwrap_or(u64::MAX);
    if may < needs {
        let raised = maximum.unwrap_or(u64::MAX).min(needs);
        if raised > may && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok() {
            may = raised;
        }
    }
    possible(wanted, others, may)
}

fn possible(wanted: u32, others: u32, may: u64) -> Result<u32, FdLimitError> {
    match may.saturating_sub(others.into()).min(wanted.into()) {
        0 => Err(FdLimitError { may, needs: u64::from(others) + 1 }),
        connections => Ok(u32::try_from(connections).unwrap_or(wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_the_others_leave() {
        for (wanted, others, may, connections) in
            [(500, 70, 1024, Some(500)), (500, 70, 570, Some(500)), (500, 70, 256, Some(186)), (1, 70, 71, Some(1))]
        {
            assert_eq!(possible(wanted, others, may).ok(), connections);
        }
        let error = possible(500, 70, 64).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this process may open 64 files, and needs at least 71: raise its limit (ulimit -n, LimitNOFILE)"
        );
        assert!(possible(500, 70, 70).is_err());
    }
}

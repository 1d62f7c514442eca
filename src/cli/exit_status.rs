//! Exit statuses of the commands, and the errors that lead to them.

use std::io;
use std::process::ExitCode;

use crate::api::dto::JobDto;
use crate::client::ClientError;
use crate::domain::JobState;

/// Exit status of a command. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// The command did its work.
    Done = 0,
    /// A job failed or was cancelled, a file can't be read, or the request was refused.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// No daemon answers at the socket.
    NoDaemon = 3,
    /// All jobs are complete, and some of their rows failed, or Marketo's counts do not add up to the rows sent.
    SomeRowsFailed = 4,
    /// Ctrl-C while waiting: the status that a shell reports for a program ended by SIGINT.
    Interrupted = 130,
}

impl ExitStatus {
    /// Returns the exit status for jobs that have ended.
    pub(super) fn of<'a>(jobs: impl IntoIterator<Item = &'a JobDto>) -> ExitStatus {
        let of_one = |job: &JobDto| match job.state {
            JobState::Complete if job.has_failed_rows() || !job.rows.is_accounted_for() => ExitStatus::SomeRowsFailed,
            JobState::Complete => ExitStatus::Done,
            _ => ExitStatus::Failed,
        };
        jobs.into_iter().map(of_one).fold(ExitStatus::Done, ExitStatus::and)
    }

    /// Returns the more severe of two statuses.
    pub(super) fn and(self, other: ExitStatus) -> ExitStatus {
        [ExitStatus::NoDaemon, ExitStatus::Usage, ExitStatus::Failed, ExitStatus::SomeRowsFailed]
            .into_iter()
            .find(|&severe| self == severe || other == severe)
            .unwrap_or(ExitStatus::Done)
    }
}

impl From<ExitStatus> for u8 {
    fn from(exit: ExitStatus) -> u8 {
        exit as u8
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(exit: ExitStatus) -> ExitCode {
        ExitCode::from(u8::from(exit))
    }
}

/// Error of a command. Its text is one sentence for the user of the command line.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon refused the request, or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Arguments that do not go together.
    #[error("{0}")]
    Usage(String),
    /// The command can't do its work, for example because a file can't be read or written.
    #[error("{0}")]
    Input(String),
    /// Standard output is not writable.
    #[error("standard output can't be written: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// Returns the exit status for this error.
    pub fn exit(&self) -> ExitStatus {
        match self {
            CliError::Usage(_) | CliError::Client(ClientError::SocketPathTooLong(_)) => ExitStatus::Usage,
            CliError::Client(ClientError::NoDaemon { .. } | ClientError::Broken(_) | ClientError::Silent { .. }) => {
                ExitStatus::NoDaemon
            }
            // A user without permission on the socket gets 1: starting a daemon, or waiting for one, would not help.
            CliError::Client(ClientError::Refused(_) | ClientError::NotAllowed { .. } | ClientError::Content(_)) => {
                ExitStatus::Failed
            }
            CliError::Input(_) | CliError::Output(_) => ExitStatus::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::Problem;
    use crate::cli::format::samples;

    #[test]
    fn each_failure_has_the_exit_status_of_the_contract() {
        let problem = Problem {
            kind: "about:blank".into(),
            title: String::new(),
            status: 404,
            detail: "there is no job 7".into(),
        };
        let gone = || io::Error::other("gone");
        for (failure, status) in [
            (CliError::Usage(String::new()), 2),
            (ClientError::SocketPathTooLong("/x".into()).into(), 2),
            (ClientError::NoDaemon { socket: "/x".into(), reason: String::new() }.into(), 3),
            (ClientError::Broken(String::new()).into(), 3),
            (ClientError::Silent { socket: "/x".into(), reason: String::new() }.into(), 3),
            (ClientError::NotAllowed { socket: "/x".into(), reason: String::new() }.into(), 1),
            (ClientError::Refused(problem).into(), 1),
            (ClientError::Content(gone()).into(), 1),
            (CliError::Input(String::new()), 1),
            (gone().into(), 1),
        ] {
            assert_eq!(u8::from(failure.exit()), status, "{failure:?}");
        }
    }

    #[test]
    fn a_failed_job_outranks_failed_rows() {
        let job = |state, failed| {
            let mut job = samples::job(1, state);
            job.rows = samples::rows(10, (Some(10 - failed), Some(failed), Some(0)));
            job
        };
        let doubtful = |processed, failed| {
            let mut job = samples::job(1, JobState::Complete);
            job.rows = samples::rows(10, (processed, failed, None));
            job
        };
        for (jobs, status) in [
            (vec![], 0),
            (vec![job(JobState::Complete, 0), job(JobState::Complete, 0)], 0),
            (vec![job(JobState::Complete, 0), job(JobState::Complete, 2)], 4),
            (vec![job(JobState::Complete, 2), job(JobState::Failed, 0)], 1),
            (vec![job(JobState::Cancelled, 0), job(JobState::Complete, 2)], 1),
            (vec![job(JobState::Complete, 0), doubtful(Some(9), Some(0))], 4),
            (vec![doubtful(Some(11), Some(0))], 4),
            (vec![doubtful(Some(10), None)], 4),
            (vec![doubtful(None, Some(0))], 4),
            (vec![doubtful(None, None), job(JobState::Failed, 0)], 1),
        ] {
            assert_eq!(u8::from(ExitStatus::of(&jobs)), status, "{jobs:?}");
        }
    }

    #[test]
    fn a_missing_daemon_outranks_all() {
        assert_eq!(ExitStatus::Failed.and(ExitStatus::NoDaemon), ExitStatus::NoDaemon);
        assert_eq!(ExitStatus::SomeRowsFailed.and(ExitStatus::Failed), ExitStatus::Failed);
        assert_eq!(ExitStatus::Done.and(ExitStatus::Done), ExitStatus::Done);
    }
}

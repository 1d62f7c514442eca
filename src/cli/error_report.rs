//! Error report: writes a command's error to standard error, as text or with `--json` as a problem document.

use serde_json::{Map, Value, json};

use crate::cli::exit_status::CliError;
use crate::cli::format::sanitize;
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::client::ClientError;
use crate::domain::JobId;
use crate::untrusted_text::escape_json;

/// Writes an error as one line.
pub fn report(error: &CliError, global: &GlobalArgs) {
    if global.json {
        write_problem(problem(error));
    } else {
        output::note(&format!("error: {}", sanitize(&error.to_string())));
    }
}

/// Writes an error about one of several files as one line. The problem document names it as `file`.
pub fn report_file(file: &str, error: &CliError, global: &GlobalArgs) {
    if global.json {
        let mut problem = problem(error);
        problem.insert("file".to_owned(), file.into());
        write_problem(problem);
    } else {
        output::note(&format!("error: {}", sanitize(&format!("{file}: {error}"))));
    }
}

/// Writes an error about one of several jobs as one line. The problem document names it as `job`. The text of the
/// daemon's refusals names the job itself.
pub fn report_job(id: JobId, error: &CliError, global: &GlobalArgs) {
    let text = error.to_string();
    if global.json {
        let mut problem = problem(error);
        problem.insert("job".to_owned(), id.0.into());
        write_problem(problem);
    } else if names_job(&text, id) {
        report(error, global);
    } else {
        output::note(&format!("error: job {id}: {}", sanitize(&text)));
    }
}

/// Returns whether a text has the job's number behind the word "job".
fn names_job(text: &str, id: JobId) -> bool {
    let name = format!("job {id}");
    text.match_indices(&name).any(|(at, _)| !text[at + name.len()..].starts_with(|next: char| next.is_ascii_digit()))
}

/// Writes a wrong use of the command line, which is found before the options are known.
pub fn report_usage(text: &str) {
    let error = CliError::Usage(text.to_owned());
    write_problem(problem(&error));
}

fn write_problem(problem: Map<String, Value>) {
    output::note(&escape_json(&Value::Object(problem).to_string()));
}

/// Returns the problem document of an error (RFC 9457): that of the daemon where it refused a request, else one of our
/// own, which has no HTTP status. `exit_status` is that of the command.
fn problem(error: &CliError) -> Map<String, Value> {
    let (kind, title) = match error {
        CliError::Client(ClientError::Refused(problem)) => {
            let document = json!({
                "type": problem.kind,
                "title": problem.title,
                "status": problem.status,
                "detail": problem.detail,
            });
            return with_exit_status(document, error);
        }
        CliError::Client(ClientError::NoDaemon { .. }) => ("no-daemon", "No daemon answers"),
        CliError::Client(ClientError::NotAllowed { .. }) => ("socket-not-allowed", "The socket may not be opened"),
        CliError::Client(ClientError::Silent { .. }) => ("daemon-silent", "The daemon does not answer"),
        CliError::Client(ClientError::Broken(_)) => ("response-broken", "The daemon's response can't be read"),
        CliError::Client(ClientError::SocketPathTooLong(_)) | CliError::Usage(_) => ("usage", "Wrong usage"),
        CliError::Client(ClientError::Content(_)) | CliError::Input(_) => ("failed", "The command failed"),
        CliError::Output(_) => ("output", "Standard output can't be written"),
    };
    let kind = format!("urn:marqueue:problem:{kind}");
    with_exit_status(json!({"type": kind, "title": title, "detail": error.to_string()}), error)
}

fn with_exit_status(document: Value, error: &CliError) -> Map<String, Value> {
    let Value::Object(mut members) = document else { return Map::new() };
    members.insert("exit_status".to_owned(), u8::from(error.exit()).into());
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::Problem;

    #[test]
    fn a_refusal_keeps_the_problem_of_the_daemon() {
        let refused = Problem {
            kind: "urn:marqueue:problem:no-report".into(),
            title: "No report".into(),
            status: 404,
            detail: "there is none".into(),
        };
        assert_eq!(
            Value::Object(problem(&ClientError::Refused(refused).into())),
            json!({
                "type": "urn:marqueue:problem:no-report",
                "title": "No report",
                "status": 404,
                "detail": "there is none",
                "exit_status": 1,
            })
        );
    }

    #[test]
    fn an_error_of_the_command_is_a_problem_without_a_status() {
        let missing = ClientError::NoDaemon { socket: "/x".into(), reason: "gone".into() };
        let found = problem(&missing.into());
        assert_eq!((&found["type"], &found["exit_status"]), (&json!("urn:marqueue:problem:no-daemon"), &json!(3)));
        assert!(!found.contains_key("status"), "{found:?}");
    }
}

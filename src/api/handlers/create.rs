//! `POST /v1/jobs`: parses the parameters strictly and passes the body on to [`crate::intake`].

use std::collections::BTreeMap;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use schemars::JsonSchema;

use crate::api::auth::identity::{DEFAULT_INSTANCE, Identity};
use crate::api::dto::{COMMAND_LINE_AGENT, Problem, SubmittedJob};
use crate::api::problem::Query;
use crate::api::state::SharedState;
use crate::clock::{TimestampSchema, from_ms};
use crate::domain::{Format, Source, SubmissionChannel, Target};
use crate::intake::{Checks, Received};
use crate::store::{Inserted, NewJob};

/// Handles `POST /v1/jobs`.
pub(in crate::api) async fn create(
    State(daemon): State<SharedState>,
    caller: Identity,
    Query(mut parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<SubmittedJob>), Problem> {
    reject_content_encoding(&headers)?;
    let key = idempotency_key(&headers)?;
    if parameters.iter().all(|(name, _)| name != "instance") {
        parameters.push(("instance".to_owned(), caller.default_instance().to_owned()));
    }
    let (new, checks) = read(parameters, key, caller.source())?;
    caller.check_instance(&new.instance)?;
    if let Some(announced) = body.size_hint().exact() {
        daemon.intake.check_announced_size(announced)?;
    }
    let received = daemon.intake.receive_with_warnings(new, checks, body.into_data_stream()).await;
    let Received { added, warnings } =
        received.map_err(|error| Problem::of_intake(error, submission_channel(&headers)))?;
    let (status, job) = match added {
        Inserted::Created(job) => (StatusCode::CREATED, job),
        Inserted::Existing(job) => (StatusCode::OK, job),
    };
    Ok((status, Json(SubmittedJob { job: job.into(), warnings })))
}

/// Returns the interface that the file's sender uses: the command line sends a `User-Agent` of its own.
pub(super) fn submission_channel(headers: &HeaderMap) -> SubmissionChannel {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if agent.starts_with(COMMAND_LINE_AGENT) { SubmissionChannel::CommandLine } else { SubmissionChannel::HttpApi }
}

/// Returns the header `Idempotency-Key`.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().map_err(|_| Problem::bad_request("the header Idempotency-Key must be ASCII text"))?;
    Ok(Some(key.to_owned()))
}

/// Refuses a multipart form and a compressed body: either would be read as a file of invalid rows.
pub(super) fn reject_content_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let header_is = |name, matches: fn(&str) -> bool| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| matches(&value.to_ascii_lowercase()))
    };
    let wrong = if header_is(CONTENT_TYPE, |kind| kind.starts_with("multipart/")) {
        "the body must be the file itself, not a multipart form (curl: -T FILE, or --data-binary @FILE)"
    } else if header_is(CONTENT_ENCODING, |encoding| encoding != "identity") {
        "the body must be the file itself, not compressed"
    } else {
        return Ok(());
    };
    Err(Problem::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, wrong))
}

/// Parameters of the query, for the OpenAPI description only. [`read`] parses them without it, because which are
/// allowed depends on `target`.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
pub(crate) struct CreateJobQuery {
    #[schemars(extend("enum" = ["leads", "custom-object", "program-members"]))]
    target: String,
    /// The file's name; its extension gives the format where `format` is missing.
    filename: Option<String>,
    format: Option<Format>,
    /// Default: the client's own (`instance` of its entry in `api.clients`), or `default`.
    instance: Option<String>,
    /// Higher first; default 0.
    priority: Option<i64>,
    /// Jobs of one group are imported one after the other, in order.
    group: Option<String>,
    /// The earliest time of its uploads, at most a year ahead. Later jobs of its group wait too.
    #[schemars(with = "Option<TimestampSchema>")]
    not_before: Option<Timestamp>,
    /// Whether each batch waits until the one before it is complete; default false.
    in_order: Option<bool>,
    /// The rows of a first batch for which the others wait; 0 for none. Default: `canary` of the instance.
    canary: Option<u64>,
    /// The percentage of failed rows above which no further batch is uploaded, from 0 to 100. Default:
    /// `max_failed_percent` of the instance.
    max_failed_percent: Option<u8>,
    /// Whether it may share an import with other jobs of the same target, options, format and header; not together with
    /// `group`, `canary` and `check=false`. Default: `pack` of the instance.
    pack: Option<bool>,
    /// Whether to check for what Marketo would refuse; default true.
    check: Option<bool>,
    /// Leads: the field that finds an existing person.
    lookup_field: Option<String>,
    /// Leads: a static list that they join.
    list_id: Option<i64>,
    /// Leads.
    partition: Option<String>,
    /// Custom objects: the object's API name.
    name: Option<String>,
    /// Program members.
    program_id: Option<i64>,
    /// Program members: their new status in the program.
    status: Option<String>,
}

/// Parameters that are still to be read. One that is left over at the end is refused.
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn new(pairs: Vec<(String, String)>) -> Result<Parameters, Problem> {
        let mut parameters = BTreeMap::new();
        for (name, value) in pairs {
            if parameters.contains_key(&name) {
                return Err(Problem::bad_request(format!("the parameter {name} is given twice")));
            }
            parameters.insert(name, value);
        }
        Ok(Parameters(parameters))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn require(&mut self, name: &str, target: &str) -> Result<String, Problem> {
        self.take(name).ok_or_else(|| Problem::bad_request(format!("target={target} needs the parameter {name}")))
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(Problem::bad_request(format!("{name} must be true or false, not \"{other}\""))),
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<i64>, Problem> {
        self.take(name).map(|text| parse_integer(name, &text)).transpose()
    }
}

fn parse_integer(name: &str, text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::bad_request(format!("{name} must be a whole number, not \"{text}\"")))
}

fn parse_count(name: &str, text: &str) -> Result<u64, Problem> {
    let wanted = || Problem::bad_request(format!("{name} must be a number of rows, not \"{text}\""));
    text.parse::<u64>().ok().filter(|&rows| i64::try_from(rows).is_ok()).ok_or_else(wanted)
}

fn parse_percent(name: &str, text: &str) -> Result<u8, Problem> {
    let wanted = || Problem::bad_request(format!("{name} must be a whole number from 0 to 100, not \"{text}\""));
    text.parse::<u8>().ok().filter(|&percent| percent <= 100).ok_or_else(wanted)
}

/// Parses a time, to whole milliseconds as they are stored.
fn parse_time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let parsed = text.parse::<Timestamp>().map(|at| from_ms(at.as_millisecond()));
    parsed.map_err(|_| {
        Problem::bad_request(format!("{name} must be a time such as 2026-01-31T12:00:00Z, not \"{text}\""))
    })
}

/// Parses the parameters of a new job; with the checks that its file must pass. Public for the fuzzers.
///
/// # Errors
/// 400, with a sentence on what is wrong.
pub fn read(
    parameters: Vec<(String, String)>,
    idempotency_key: Option<String>,
    source: Source,
) -> Result<(NewJob, Checks), Problem> {
    let mut parameters = Parameters::new(parameters)?;
    let target = target(&mut parameters)?;
    let filename = parameters.take("filename");
    let format = match (parameters.take("format"), &filename) {
        (Some(format), _) => format.parse::<Format>()?,
        (None, Some(name)) => Format::from_filename(name).ok_or_else(|| {
            Problem::bad_request(format!("\"{name}\" does not end in .csv, .tsv or .ssv: add format="))
        })?,
        (None, None) => {
            return Err(Problem::bad_request("format= (csv, tsv or ssv) is missing, or filename= with that extension"));
        }
    };
    let checks = if parameters.flag("check")?.unwrap_or(true) { Checks::All } else { Checks::None };
    let canary = parameters.take("canary").map(|text| parse_count("canary", &text)).transpose()?;
    let max_failed_percent =
        parameters.take("max_failed_percent").map(|text| parse_percent("max_failed_percent", &text)).transpose()?;
    let new = NewJob {
        instance: parameters.take("instance").unwrap_or_else(|| DEFAULT_INSTANCE.into()),
        // Only the file's name is kept. The client's folders mean nothing here and may be private.
        filename: match filename {
            Some(name) => name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned(),
            None => format!("{}.{format}", target.kind()),
        },
        target,
        format,
        priority: parameters.number("priority")?.unwrap_or(0),
        group: parameters.take("group"),
        not_before: parameters.take("not_before").map(|text| parse_time("not_before", &text)).transpose()?,
        in_order: parameters.flag("in_order")?.unwrap_or(false),
        canary,
        max_failed_percent,
        pack: parameters.flag("pack")?,
        idempotency_key,
        retry_of: None,
        source,
    };
    match parameters.0.into_keys().next() {
        None => Ok((new, checks)),
        Some(name) => {
            let kind = new.target.kind();
            Err(Problem::bad_request(format!("there is no parameter {name} for target={kind}")))
        }
    }
}

fn target(parameters: &mut Parameters) -> Result<Target, Problem> {
    let kind = parameters.take("target").ok_or_else(|| {
        Problem::bad_request("target= is missing: it is one of leads, custom-object, program-members")
    })?;
    match kind.as_str() {
        "leads" => Ok(Target::Leads {
            lookup_field: parameters.take("lookup_field"),
            list_id: parameters.number("list_id")?,
            partition: parameters.take("partition"),
        }),
        "custom-object" => Ok(Target::CustomObject { name: parameters.require("name", &kind)? }),
        "program-members" => Ok(Target::ProgramMembers {
            program_id: parse_integer("program_id", &parameters.require("program_id", &kind)?)?,
            status: parameters.require("status", &kind)?,
        }),
        _ => Err(Problem::bad_request(format!(
            "unknown target \"{kind}\": it is one of leads, custom-object, program-members"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_query(query: &str) -> Result<(NewJob, Checks), String> {
        let parameters = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        read(parameters, None, Source::Socket { uid: Some(0) }).map_err(|problem| problem.detail)
    }

    #[test]
    fn each_target_is_read_with_its_parameters() {
        let (leads, checks) = read_query(
            "target=leads&filename=dir/leads.TSV&lookup_field=id&list_id=7&partition=EU&priority=-2&group=g&instance=eu",
        )
        .unwrap();
        assert_eq!(checks, Checks::All);
        let target = Target::Leads { lookup_field: Some("id".into()), list_id: Some(7), partition: Some("EU".into()) };
        assert_eq!((leads.target, leads.format, leads.filename.as_str()), (target, Format::Tsv, "leads.TSV"));
        assert_eq!((leads.priority, leads.group.as_deref(), leads.instance.as_str()), (-2, Some("g"), "eu"));
        let (object, checks) = read_query("target=custom-object&name=car_c&format=ssv&check=false").unwrap();
        assert_eq!(
            (object.filename.as_str(), object.instance.as_str(), checks),
            ("custom-object.ssv", "default", Checks::None)
        );
        let (members, _) = read_query("target=program-members&program_id=1044&status=On+List&format=csv").unwrap();
        assert_eq!(members.target, Target::ProgramMembers { program_id: 1044, status: "On List".into() });
    }

    #[test]
    fn each_wrong_query_has_its_own_error() {
        for (query, detail) in [
            ("", "target= is missing: it is one of leads, custom-object, program-members"),
            ("target=people", "unknown target \"people\": it is one of leads, custom-object, program-members"),
            ("target=leads", "format= (csv, tsv or ssv) is missing, or filename= with that extension"),
            ("target=leads&format=CSV", "unknown format \"CSV\": it is one of csv, tsv, ssv"),
            ("target=leads&filename=a.xlsx", "\"a.xlsx\" does not end in .csv, .tsv or .ssv: add format="),
            ("target=leads&format=csv&list_id=x", "list_id must be a whole number, not \"x\""),
            ("target=leads&format=csv&name=x", "there is no parameter name for target=leads"),
            ("target=leads&format=csv&priority=1&priority=2", "the parameter priority is given twice"),
            ("target=leads&format=csv&check=no", "check must be true or false, not \"no\""),
            ("target=leads&format=csv&pack=yes", "pack must be true or false, not \"yes\""),
            ("target=custom-object&format=csv", "target=custom-object needs the parameter name"),
            ("target=program-members&format=csv&program_id=1", "target=program-members needs the parameter status"),
            (
                "target=program-members&format=csv&program_id=1.5&status=x",
                "program_id must be a whole number, not \"1.5\"",
            ),
        ] {
            assert_eq!(read_query(query).unwrap_err(), detail, "{query}");
        }
    }

    #[test]
    fn the_description_lists_the_parameters_that_are_read() {
        let described = schemars::schema_for!(CreateJobQuery);
        let described = described.get("properties").and_then(|fields| fields.as_object()).unwrap();
        let source = include_str!("create.rs").split("#[cfg(test)]").next().unwrap();
        let read = ["take(\"", "require(\"", "number(\"", "flag(\"", "parse_integer(\""]
            .iter()
            .flat_map(|call| source.split(call).skip(1));
        let read: std::collections::BTreeSet<&str> = read.map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(described.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), read);
    }
}

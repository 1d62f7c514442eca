//! `POST /v1/jobs`: what does a client say of its file? The parameters, read strictly; the body goes on to intake.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use schemars::JsonSchema;

use crate::api::SharedState;
use crate::api::auth::identity::{DEFAULT_INSTANCE, Identity};
use crate::api::dto::{Problem, SubmittedJob};
use crate::api::problem::Query;
use crate::domain::{Format, Source, Target};
use crate::intake::Received;
use crate::store::{Inserted, NewJob};

pub(in crate::api) async fn create(
    State(daemon): State<SharedState>,
    caller: Identity,
    Query(mut parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<SubmittedJob>), Problem> {
    reject_content_encoding(&headers)?;
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(key) => {
            let key = key.to_str().map_err(|_| Problem::bad_request("the Idempotency-Key is not plain ASCII text"))?;
            Some(key.to_owned())
        }
    };
    if parameters.iter().all(|(name, _)| name != "instance") {
        parameters.push(("instance".to_owned(), caller.default_instance().to_owned()));
    }
    let (new, check) = read(parameters, key, caller.source())?;
    caller.check_instance(&new.instance)?;
    if let Some(announced) = body.size_hint().exact() {
        daemon.intake.check_announced_size(announced)?;
    }
    let Received { added, warnings } = daemon.intake.receive_with_warnings(new, check, body.into_data_stream()).await?;
    let (status, job) = match added {
        Inserted::Created(job) => (StatusCode::CREATED, job),
        Inserted::Existing(job) => (StatusCode::OK, job),
    };
    Ok((status, Json(SubmittedJob { job, warnings })))
}

/// The body is the file itself: one in a frame, or packed, would be taken for a file of strange rows.
fn reject_content_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let is = |name, fits: fn(&str) -> bool| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| fits(&value.to_ascii_lowercase()))
    };
    let wrong = if is(CONTENT_TYPE, |kind| kind.starts_with("multipart/")) {
        "the body must be the file itself, not a multipart form (curl: -T FILE, or --data-binary @FILE)"
    } else if is(CONTENT_ENCODING, |encoding| encoding != "identity") {
        "the body must be the file as it is, not compressed"
    } else {
        return Ok(());
    };
    Err(Problem::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, wrong))
}

/// What may stand in the query. [`read`] reads it by hand, because which are allowed depends on `target`; this describes it.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
pub(crate) struct CreateJobQuery {
    #[schemars(extend("enum" = ["leads", "custom-object", "program-members"]))]
    target: String,
    /// The file's name; its ending is the format where none is said.
    filename: Option<String>,
    format: Option<Format>,
    /// Unless it is said, the client's own (`instance` of its entry in `api.clients`), or `default`.
    instance: Option<String>,
    /// Higher first; 0 unless it is said.
    priority: Option<i64>,
    /// Jobs of one group are imported one after the other, in order.
    group: Option<String>,
    /// Whether to look for what Marketo would refuse; true unless it is said.
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
    /// Program members: the status in the program that they get.
    status: Option<String>,
}

/// The parameters that are still to be read; one that nothing asked for is a mistake and said to be one.
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

    fn need(&mut self, name: &str, target: &str) -> Result<String, Problem> {
        self.take(name).ok_or_else(|| Problem::bad_request(format!("target={target} needs the parameter {name}")))
    }

    fn number(&mut self, name: &str) -> Result<Option<i64>, Problem> {
        self.take(name).map(|text| whole(name, &text)).transpose()
    }
}

fn whole(name: &str, text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::bad_request(format!("{name} must be a whole number, not \"{text}\"")))
}

/// What is said of a file, and whether to check it. Public to the fuzzers: what is accepted is what was meant.
///
/// # Errors
/// 400, with a sentence on what is wrong.
pub fn read(
    parameters: Vec<(String, String)>,
    idempotency_key: Option<String>,
    source: Source,
) -> Result<(NewJob, bool), Problem> {
    let mut parameters = Parameters::new(parameters)?;
    let target = target(&mut parameters)?;
    let filename = parameters.take("filename");
    let format = match (parameters.take("format"), &filename) {
        (Some(word), _) => word.parse::<Format>()?,
        (None, Some(name)) => Format::from_filename(name).ok_or_else(|| {
            Problem::bad_request(format!("\"{name}\" does not end in .csv, .tsv or .ssv: say format="))
        })?,
        (None, None) => {
            return Err(Problem::bad_request("say format= (csv, tsv or ssv), or filename= with that ending"));
        }
    };
    let check = match parameters.take("check").as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => return Err(Problem::bad_request(format!("check must be true or false, not \"{other}\""))),
    };
    let new = NewJob {
        instance: parameters.take("instance").unwrap_or_else(|| DEFAULT_INSTANCE.into()),
        // Only the name: the folders it lay in are the client's own affair.
        filename: match filename {
            Some(name) => name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned(),
            None => format!("{}.{format}", target.kind()),
        },
        target,
        format,
        priority: parameters.number("priority")?.unwrap_or(0),
        group: parameters.take("group"),
        idempotency_key,
        retry_of: None,
        source,
    };
    match parameters.0.into_keys().next() {
        None => Ok((new, check)),
        Some(name) => {
            let kind = new.target.kind();
            Err(Problem::bad_request(format!("there is no parameter {name} for target={kind}")))
        }
    }
}

fn target(parameters: &mut Parameters) -> Result<Target, Problem> {
    let word = parameters
        .take("target")
        .ok_or_else(|| Problem::bad_request("say target=: it is one of leads, custom-object, program-members"))?;
    match word.as_str() {
        "leads" => Ok(Target::Leads {
            lookup_field: parameters.take("lookup_field"),
            list_id: parameters.number("list_id")?,
            partition: parameters.take("partition"),
        }),
        "custom-object" => Ok(Target::CustomObject { name: parameters.need("name", &word)? }),
        "program-members" => Ok(Target::ProgramMembers {
            program_id: whole("program_id", &parameters.need("program_id", &word)?)?,
            status: parameters.need("status", &word)?,
        }),
        _ => Err(Problem::bad_request(format!(
            "unknown target \"{word}\": it is one of leads, custom-object, program-members"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_query(query: &str) -> Result<(NewJob, bool), String> {
        let parameters = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        read(parameters, None, Source::Socket { uid: Some(0) }).map_err(|problem| problem.detail)
    }

    #[test]
    fn each_target_is_read_with_its_parameters() {
        let (leads, check) = read_query(
            "target=leads&filename=dir/leads.TSV&lookup_field=id&list_id=7&partition=EU&priority=-2&group=g&instance=eu",
        )
        .unwrap();
        assert!(check);
        let target = Target::Leads { lookup_field: Some("id".into()), list_id: Some(7), partition: Some("EU".into()) };
        assert_eq!((leads.target, leads.format, leads.filename.as_str()), (target, Format::Tsv, "leads.TSV"));
        assert_eq!((leads.priority, leads.group.as_deref(), leads.instance.as_str()), (-2, Some("g"), "eu"));
        let (object, check) = read_query("target=custom-object&name=car_c&format=ssv&check=false").unwrap();
        assert_eq!(
            (object.filename.as_str(), object.instance.as_str(), check),
            ("custom-object.ssv", "default", false)
        );
        let (members, _) = read_query("target=program-members&program_id=1044&status=On+List&format=csv").unwrap();
        assert_eq!(members.target, Target::ProgramMembers { program_id: 1044, status: "On List".into() });
    }

    #[test]
    fn each_mistake_has_its_own_sentence() {
        for (query, detail) in [
            ("", "say target=: it is one of leads, custom-object, program-members"),
            ("target=people", "unknown target \"people\": it is one of leads, custom-object, program-members"),
            ("target=leads", "say format= (csv, tsv or ssv), or filename= with that ending"),
            ("target=leads&format=CSV", "unknown format \"CSV\": it is one of csv, tsv, ssv"),
            ("target=leads&filename=a.xlsx", "\"a.xlsx\" does not end in .csv, .tsv or .ssv: say format="),
            ("target=leads&format=csv&list_id=x", "list_id must be a whole number, not \"x\""),
            ("target=leads&format=csv&name=x", "there is no parameter name for target=leads"),
            ("target=leads&format=csv&priority=1&priority=2", "the parameter priority is given twice"),
            ("target=leads&format=csv&check=no", "check must be true or false, not \"no\""),
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
    fn what_is_described_is_what_is_read() {
        let described = schemars::schema_for!(CreateJobQuery);
        let described = described.get("properties").and_then(|fields| fields.as_object()).unwrap();
        let source = include_str!("create.rs").split("#[cfg(test)]").next().unwrap();
        let read = ["take(\"", "need(\"", "number(\"", "whole(\""].iter().flat_map(|call| source.split(call).skip(1));
        let read: std::collections::BTreeSet<&str> = read.map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(described.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), read);
    }
}

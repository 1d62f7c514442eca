//! Uploads as the simulator received them, with the rows that each of them held.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::Duration;

use marqueue::domain::Target;
use marqueue::simulator::call_log::{Create, File as SentFile, Outcome};
use sha2::{Digest, Sha256};

use super::files::File;
use super::trace::Trace;

/// Rows of one file that were sent, whatever became of them. An upload that several files share is one of each.
#[derive(Clone)]
pub struct Upload {
    pub rows: Range<usize>,
    pub at: Duration,
    pub run: usize,
    /// The import that they became.
    pub import: Option<u64>,
    pub answer_lost: bool,
    /// How many other files were in it.
    pub shared_with: usize,
    /// Bytes of all files in it.
    pub bytes: u64,
}

impl Upload {
    pub fn overlaps(&self, other: &Upload) -> bool {
        self.rows.start < other.rows.end && other.rows.start < self.rows.end
    }
}

/// Returns the uploads of each file, in order, and those that belong to no submitted file or went to a wrong target.
pub fn read(trace: &Trace) -> (BTreeMap<&str, Vec<Upload>>, Vec<String>) {
    let (mut all, mut violations, mut known) = (BTreeMap::<_, Vec<_>>::new(), Vec::new(), HashMap::new());
    let files: BTreeMap<&str, &File> =
        trace.files.iter().map(|submission| (submission.file.name.as_str(), &submission.file)).collect();
    for (index, create) in trace.call_log.creates.iter().enumerate() {
        // The rules saw no file where its body could not be read; then there is no import either.
        let Some(sent) = &create.file else { continue };
        let Some(&file) = files.get(sent.name.as_str()) else {
            violations.push(format!("{} was sent, and no client submitted it", sent.name));
            continue;
        };
        let held =
            known.entry((&sent.sha256, &sent.name)).or_insert_with(|| match file.rows_of(sent.bytes, &sent.sha256) {
                Some(rows) => Ok(vec![(file, rows)]),
                None => shared_rows(&files, file, sent),
            });
        let held = match held {
            Ok(held) => held,
            Err(reason) => {
                violations.push(format!("{}: it is not what was submitted: {reason}", describe(sent, create)));
                continue;
            }
        };
        let import = match create.outcome {
            Outcome::Accepted(id) => Some(id),
            Outcome::Refused { .. } => None,
        };
        let run = trace.runs.iter().take_while(|run| run.creates <= index).count();
        let shared_with = held.len() - 1;
        for (file, rows) in held {
            if place(file) != placed(create) {
                violations.push(format!("{} was sent elsewhere: {}", file.name, describe(sent, create)));
                continue;
            }
            all.entry(file.name.as_str()).or_default().push(Upload {
                rows: rows.clone(),
                at: create.at,
                run,
                import,
                answer_lost: create.answer_lost,
                shared_with,
                bytes: sent.bytes,
            });
        }
    }
    (all, violations)
}

/// Returns whose rows an upload of several files held: the header of `first`, and then all rows of each file once.
fn shared_rows<'a>(
    files: &BTreeMap<&str, &'a File>,
    first: &'a File,
    sent: &SentFile,
) -> Result<Vec<(&'a File, Range<usize>)>, String> {
    let content =
        sent.content.as_deref().filter(|content| hex(content) == sent.sha256).ok_or("its hash is another one")?;
    let mut left = content.strip_prefix(first.header()).ok_or("it has another header")?;
    let (mut held, mut names) = (Vec::new(), BTreeSet::new());
    while !left.is_empty() {
        // Every row begins with its file's name, the number of the row, and `@`.
        let from = content.len() - left.len();
        let address = left.split(|&byte| byte == b'@').next().unwrap_or_default();
        let name = std::str::from_utf8(address).ok().and_then(|address| Some(address.rsplit_once('-')?.0));
        let file = *name.and_then(|name| files.get(name)).ok_or(format!("byte {from} begins the row of no file"))?;
        left =
            left.strip_prefix(&*file.rows_with_line_end()).ok_or(format!("byte {from}: not all of {}", file.name))?;
        if !names.insert(&file.name) {
            return Err(format!("the rows of {} are in it twice", file.name));
        }
        held.push((file, file.rows()));
    }
    if held.len() < 2 || held[0].0.name != first.name {
        return Err(format!("it has the rows of {names:?}"));
    }
    Ok(held)
}

/// The upload without its content.
fn describe(sent: &SentFile, create: &Create) -> String {
    let Create { at, path, query, outcome, .. } = create;
    format!("{} ({} bytes at {at:?} to {path} {query:?}, {outcome:?})", sent.name, sent.bytes)
}

/// SHA-256 as the simulator writes it.
pub fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the file's client wants it to go: path, format, static list, status.
fn place(file: &File) -> [String; 4] {
    let (path, list, status) = match &file.target {
        Target::Leads { list_id, .. } => ("/bulk/v1/leads.json".to_owned(), *list_id, ""),
        Target::CustomObject { name } => (format!("/bulk/v1/customobjects/{name}/import.json"), None, ""),
        Target::ProgramMembers { program_id, status } => {
            (format!("/bulk/v1/program/{program_id}/members/import.json"), None, status.as_str())
        }
    };
    let list = list.map(|list| list.to_string()).unwrap_or_default();
    [path, file.format.to_string(), list, status.to_owned()]
}

fn placed(create: &Create) -> [String; 4] {
    let given = |name: &str| create.query.get(name).cloned().unwrap_or_default();
    [create.path.clone(), given("format"), given("listId"), given("programMemberStatus")]
}

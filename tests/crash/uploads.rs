//! Uploads as the simulator received them, with the rows that each of them held.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use marqueue::domain::Target;
use marqueue::simulator::call_log::{Create, Outcome};

use super::files::File;
use super::trace::Trace;

/// Rows that were sent, whatever became of them.
pub struct Upload {
    pub rows: Range<usize>,
    pub at: Duration,
    pub run: usize,
    /// The import that they became.
    pub import: Option<u64>,
    pub answer_lost: bool,
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
        let rows = known.entry(&sent.sha256).or_insert_with(|| file.rows_of(sent.bytes, &sent.sha256)).clone();
        let in_place = place(file) == placed(create);
        let Some(rows) = rows.filter(|_| in_place) else {
            let what = if in_place { "what was sent is not what it holds" } else { "it was sent elsewhere" };
            violations.push(format!("{}: {what}: {create:?}", file.name));
            continue;
        };
        let import = match create.outcome {
            Outcome::Accepted(id) => Some(id),
            Outcome::Refused { .. } => None,
        };
        let run = trace.runs.iter().take_while(|run| run.creates <= index).count();
        let sent = Upload { rows, at: create.at, run, import, answer_lost: create.answer_lost };
        all.entry(file.name.as_str()).or_default().push(sent);
    }
    (all, violations)
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

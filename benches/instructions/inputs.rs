//! What the benchmarks work on: the same in each run.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use marqueue::config::Polling;
use marqueue::delimited::ScanRules;
use marqueue::domain::{BatchKey, BatchState, Format, JobId};
use marqueue::scheduler::SchedulingRules;
use marqueue::store::{EndedImport, InFlightBatch, PendingBatch, Snapshot};

pub const HEADER: &str = "email,firstName,lastName,company,city,phone,leadScore\n";
/// About what one read of a socket gives.
pub const PIECE_BYTES: usize = 64 * 1024;

/// A file of leads of at most so many bytes, with quotes in every third row.
pub fn leads(bytes: usize) -> String {
    let mut file = String::from(HEADER);
    let mut number = 0;
    while file.len() + 120 < bytes {
        file += &row(number);
        file.push('\n');
        number += 1;
    }
    file
}

fn row(number: usize) -> String {
    let city = if number.is_multiple_of(3) { "\"Paris, Texas\"" } else { "Berlin" };
    let (company, phone, score) = (number % 1000, number * 7 % 10_000_000, number % 101);
    format!("user.{number}@example.com,Ann,Adams,Company {company},{city},+1 555 {phone:07},{score}")
}

pub fn scan_rules() -> ScanRules {
    ScanRules {
        format: Format::Csv,
        max_part_bytes: 100_000,
        first_part_rows: None,
        check: true,
        required: Vec::new(),
        lookup: Some("email".into()),
    }
}

/// The rows of an upload, and a report about every second of them.
pub struct Reported {
    pub upload: String,
    pub report: String,
}

pub fn reported(bytes: usize) -> Reported {
    let mut report = HEADER.replace('\n', ",Import Failure Reason\n");
    let upload = leads(bytes).split_off(HEADER.len());
    for (number, row) in upload.lines().enumerate().skip(1).step_by(2) {
        writeln!(report, "{row},\"Invalid value '{number}' for field 'phone'\"").expect("writing to text");
    }
    Reported { upload, report }
}

pub struct PlanInput {
    pub snapshot: Snapshot,
    pub rules: SchedulingRules,
    pub now: Timestamp,
}

/// An instance with ten batches in flight and so many pending ones, of which every second is in one of ten groups.
pub fn plan_input(pending: i64) -> PlanInput {
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let group = |number: i64| (number % 2 == 0).then(|| format!("group {}", number % 20));
    let key = |number| BatchKey { job: JobId(number), part: 1 };
    let in_flight = (1..=10).map(|number| InFlightBatch {
        key: key(number),
        state: if number <= 2 { BatchState::Importing } else { BatchState::Queued },
        group: group(number),
        list_id: None,
        rows: 10_000,
        rows_done: if number <= 2 { 4_000 } else { 0 },
        not_before: None,
        accepted_at: Some(now - Duration::from_secs(60)),
        importing_at: (number <= 2).then(|| now - Duration::from_secs(30)),
        polled_at: Some(now - Duration::from_secs(10)),
        is_overdue: false,
    });
    let candidates = (11..11 + pending).map(|number| PendingBatch {
        key: key(number),
        priority: number % 3,
        group: group(number),
        list_id: None,
        last_upload: None,
        pack_shape: None,
    });
    let ended_imports = (0..20_u64).map(|number| EndedImport {
        rows: 10_000 + number,
        accepted_at: now - Duration::from_secs(900 - 30 * number),
        ended_at: now - Duration::from_secs(870 - 29 * number),
    });
    let snapshot = Snapshot {
        in_flight: in_flight.collect(),
        candidates: candidates.collect(),
        has_untried_batch: true,
        ended_imports: ended_imports.collect(),
        ..Snapshot::default()
    };
    // More slots than are taken, so that uploads are planned too.
    let rules = SchedulingRules {
        max_in_flight: 20,
        upload_bytes: 10_000_000,
        polling: Polling::default(),
        backoff_max: Duration::from_secs(300),
    };
    PlanInput { snapshot, rules, now }
}

/// The parameters of a request, with all that has to be decoded.
pub fn query() -> &'static str {
    "target=leads&filename=new%20leads%20%C3%A9.csv&instance=default&lookup_field=email&list_id=1001&priority=5&\
     group=crm%2Fnightly&not_before=2027-01-15T08%3A00%3A00Z&in_order=true&canary=100&max_failed_percent=5&pack=false"
}

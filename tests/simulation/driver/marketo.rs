//! Marketo's side of a call. Its rules are the simulator's; the files are made here.

use std::collections::BTreeMap;

use bytes::Bytes;
use marqueue::domain::{JobId, RemoteStatus};
use marqueue::marketo::types::ApiError;
use marqueue::marketo::{ErrorAction, UploadError, classify};
use marqueue::simulator::model;
use marqueue::simulator::model::{FormPart, ImportKind};
use marqueue::simulator::{Admission, ApiRefusal, Call};
use rand::RngExt;

use super::{OrphanedUpload, Simulation};
use crate::model_store::PackedRows;
use crate::worker::{Answer, ServerOutcome, Task, Worker};

impl Simulation {
    /// Marketo's answer to the call.
    pub(super) fn serve(&mut self, worker: &Worker, outcome: ServerOutcome) -> Answer {
        let Some(key) = worker.key else { return Answer::Report { there: false } };
        let lost = matches!(outcome, ServerOutcome::AnswerLost);
        self.stats.lost_answers += u64::from(lost);
        if let ServerOutcome::Refused(ask, reason) = outcome {
            // For an upload, these codes may mean either.
            let unknown = ask == ErrorAction::OutcomeUnknown;
            if worker.task == Task::Upload && unknown && self.rng.random_bool(0.5) {
                let _ = self.create(&worker.packed);
            }
            return match worker.task {
                Task::Upload if unknown => Answer::NotCreated(UploadError::AnswerLost { reason, request_id: None }),
                Task::Upload => Answer::NotCreated(UploadError::Refused { action: ask, reason, request_id: None }),
                _ => Answer::Unanswered { ask, reason },
            };
        }
        let id = self.store.batch(key).progress.marketo_batch_id.clone().unwrap_or_default();
        let answer = match worker.task {
            Task::Upload => match self.create(&worker.packed) {
                Ok((id, status)) => Answer::Created { id, status },
                Err((ask, reason)) => {
                    Answer::NotCreated(UploadError::Refused { action: ask, reason: reason.into(), request_id: None })
                }
            },
            Task::Poll => match self.marketo.status(self.at, &ImportKind::Leads, &id) {
                Ok(import) => {
                    let (mut status, mut counts) = (import.remote_status(), import.counts());
                    // Any count may be missing, and a status may be one that is not documented.
                    let ended = matches!(status, Some(RemoteStatus::Complete | RemoteStatus::Failed));
                    if self.rng.random_bool(self.faults.fault / 2.0) {
                        counts.failed = None;
                    }
                    if !ended && self.rng.random_bool(self.faults.fault / 2.0) {
                        self.stats.odd_words += 1;
                        status = None;
                    }
                    Answer::Status { status, counts, message: import.message }
                }
                Err(refusal) => no_answer(&refusal),
            },
            Task::Collect(report) => match self.marketo.report(self.at, &ImportKind::Leads, &id, report) {
                Ok(bytes) => Answer::Report { there: !bytes.is_empty() && !matches!(outcome, ServerOutcome::Late) },
                Err(ApiRefusal::Http(404)) => Answer::Report { there: false },
                Err(refusal) => no_answer(&refusal),
            },
            Task::Recover | Task::Resume => Answer::Report { there: false },
        };
        match (lost, worker.task) {
            (false, _) => answer,
            (true, Task::Upload) => {
                Answer::NotCreated(UploadError::AnswerLost { reason: "the answer was lost".into(), request_id: None })
            }
            (true, _) => Answer::Unanswered { ask: ErrorAction::OutcomeUnknown, reason: "the answer was lost".into() },
        }
    }

    /// Marketo is given the rows of an upload.
    pub(super) fn create(&mut self, packed: &[PackedRows]) -> Result<(u64, RemoteStatus), (ErrorAction, String)> {
        let key = packed[0].key;
        let (list, lasts) = (self.store.jobs[&key.job].list, 1 + (key.job.0 * 7 + i64::from(key.part) * 13) % 20);
        let mut file = String::from(if self.wrong.contains(&key.job) { "name,x\n" } else { "email,x\n" });
        let stuck = self.stuck > 0 && !self.faults_ceased && (key.job.0 + i64::from(key.part)) % self.stuck == 0;
        let rows = || packed.iter().flat_map(|packed| packed.rows.clone().map(|row| (packed.key.job, row)));
        let makes_fail = |(job, row): (JobId, u32)| row == 0 && self.failing.contains(&job);
        for (job, row) in rows() {
            let cell = match (job.0 + i64::from(row)) % 23 {
                _ if makes_fail((job, row)) => "!batch-failed:Out of order".into(),
                0 => "!fail:No".into(),
                1 => "!warn:Hm".into(),
                _ if stuck => "!stuck".into(),
                _ => format!("!lasts:{lasts}s"),
            };
            file += &format!("{job}.{row}@a.b,{cell}\n");
        }
        let (number, fails) = (rows().count() as u64, rows().any(makes_fail));
        let mut query = BTreeMap::from([("format".to_owned(), "csv".to_owned())]);
        list.map(|list| query.insert("listId".into(), list.to_string()));
        let upload = model::CreateRequest {
            kind: ImportKind::Leads,
            path: String::new(),
            query,
            body_bytes: 1_000 * number,
            form: Ok(vec![FormPart {
                name: "file".into(),
                filename: Some(key.to_string()),
                content_type: Some("text/csv".into()),
                bytes: Bytes::from(file),
            }]),
            refusal: None,
            answer_lost: false,
        };
        match self.marketo.create(self.at, upload) {
            Ok(import) => {
                let id: u64 = import.id().and_then(|id| id.parse().ok()).unwrap_or_default();
                self.note(|| format!("Marketo makes {id} of {packed:?}"));
                self.stats.imports += 1;
                if packed.len() > 1 {
                    (self.stats.packed_imports, self.stats.packed_jobs) =
                        (self.stats.packed_imports + 1, self.stats.packed_jobs + packed.len() as u64);
                }
                self.checker.made(id, packed, fails, self.at);
                Ok((id, import.remote_status().unwrap_or(RemoteStatus::Queued)))
            }
            Err(refusal) => Err(reading(&refusal)),
        }
    }

    pub(super) fn orphaned_upload_arrives(&mut self) {
        if self.orphaned.is_empty() {
            return;
        }
        let number = self.rng.random_range(0..self.orphaned.len());
        let OrphanedUpload { packed, token } = self.orphaned.swap_remove(number);
        self.note(|| format!("a killed daemon's upload of {packed:?} arrives"));
        let entered = self.marketo.begin_call(self.at, Call::Create, Some(&token));
        if entered.is_ok() {
            let _ = self.create(&packed);
        }
        self.marketo.end_call(Call::Create, Admission::of(&entered));
    }
}

/// How the client reads a refusal.
pub(super) fn reading(refusal: &ApiRefusal) -> (ErrorAction, String) {
    let ask = match refusal {
        ApiRefusal::Http(status) => classify(*status, None),
        ApiRefusal::Error { message, .. } => {
            let error = ApiError { code: Some(refusal.name()), message: message.clone() };
            classify(200, Some(&[error]))
        }
    };
    (ask, format!("{}: {}", refusal.name(), refusal.message()))
}

fn no_answer(refusal: &ApiRefusal) -> Answer {
    let (ask, reason) = reading(refusal);
    Answer::Unanswered { ask, reason: reason.into() }
}

//! Model of Marketo: its rules as a plain value, with no clock and no socket.
//!
//! Every `now` is the time since the simulator's start, and never less than the one before.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::domain::{Format, ReportKind};
use crate::marketo::types;
use crate::simulator::admission::{Admission, AdmissionControl};
use crate::simulator::call_log;
use crate::simulator::call_log::{Call, CallLog, Outcome};
use crate::simulator::create_request::{file_part, text};
use crate::simulator::error::ApiRefusal;
use crate::simulator::queue::{Import, NewImport, Queue};
use crate::simulator::row_outcomes;
use crate::simulator::settings::Settings;

pub use crate::simulator::create_request::{CreateRequest, FormPart};
pub use crate::simulator::queue::ImportKind;

/// A Marketo instance.
#[derive(Debug)]
pub struct MarketoModel {
    settings: Settings,
    admission: AdmissionControl,
    queue: Queue,
    /// Counts made as calls happen; [`MarketoModel::call_log`] adds the rest.
    log: CallLog,
}

/// An import that was queued, with the body of the response.
struct AcceptedImport {
    id: u64,
    receipt: types::Import,
}

impl MarketoModel {
    /// Creates an instance. `first_reset` is the time from the start to the first reset of the daily quota; later ones
    /// follow daily.
    pub fn new(settings: Settings, first_reset: Duration) -> MarketoModel {
        MarketoModel {
            admission: AdmissionControl::new(first_reset),
            queue: Queue::new(settings.importing),
            log: CallLog::default(),
            settings,
        }
    }

    /// Returns the settings of the instance.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Issues a token for these credentials.
    ///
    /// # Errors
    /// The body of an HTTP 401 if the credentials are wrong.
    pub fn issue_token(
        &mut self,
        now: Duration,
        id: &str,
        secret: &str,
    ) -> Result<types::TokenBody, types::TokenErrorBody> {
        self.admission.issue(now, &self.settings, id, secret)
    }

    /// Revokes every token issued so far: calls with one get error 601.
    pub fn revoke_tokens(&mut self) {
        self.admission.revoke();
    }

    /// Records the begin of a call with this token. Whatever the result, [`end_call`](MarketoModel::end_call) must
    /// follow.
    ///
    /// # Errors
    /// 601 and 602 for the token; 606, 607 and 615 for too many calls. Token calls are only counted.
    pub fn begin_call(&mut self, now: Duration, call: Call, token: Option<&str>) -> Result<(), ApiRefusal> {
        *self.log.calls.entry(call).or_default() += 1;
        match call {
            Call::Token => Ok(()),
            _ => self.admission.begin_call(now, &self.settings, token),
        }
    }

    /// Records the end of a call, with the result of its [`begin_call`](MarketoModel::begin_call).
    pub fn end_call(&mut self, call: Call, admission: Admission) {
        if call != Call::Token {
            self.admission.end_call(admission);
        }
    }

    /// Queues an import for an upload. Without success nothing changes but the call log.
    ///
    /// # Errors
    /// HTTP 413; 1003, 1006, 1013 for an invalid request; 1016 if the queue is full; 1019 if the static list
    /// has a running import.
    pub fn create(&mut self, now: Duration, upload: CreateRequest) -> Result<types::Import, ApiRefusal> {
        let part = match &upload.form {
            Ok(parts) => file_part(parts, &self.settings),
            Err(reason) => Err(ApiRefusal::new(1003, format!("The form can't be read: {reason}"))),
        };
        let answer = match &upload.refusal {
            Some(refusal) => Err(refusal.clone()),
            None if upload.body_bytes > self.settings.max_body => Err(ApiRefusal::Http(413)),
            None => part.clone().and_then(|file| self.accept(now, &upload, file.bytes)),
        };
        let outcome = match &answer {
            Ok(accepted) => Outcome::Accepted(accepted.id),
            Err(refusal) => Outcome::Refused { code: refusal.name(), message: refusal.message() },
        };
        let file = part.ok().map(|file| call_log::File {
            name: file.name.to_owned(),
            bytes: file.bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(file.bytes)),
            content: self.settings.keep_uploads.then(|| file.bytes.clone()),
        });
        self.log.creates.push(call_log::Create {
            at: now,
            file,
            outcome,
            path: upload.path,
            query: upload.query,
            body_bytes: upload.body_bytes,
            answer_lost: upload.answer_lost,
        });
        answer.map(|accepted| accepted.receipt)
    }

    /// Checks the request first and the queue last. Which of two errors Marketo reports is not documented.
    fn accept(&mut self, now: Duration, upload: &CreateRequest, file: &Bytes) -> Result<AcceptedImport, ApiRefusal> {
        let given = |name: &str| {
            let in_query = upload.query.get(name).map(String::as_str);
            let in_form =
                || upload.form.as_ref().ok().filter(|_| self.settings.lenient).and_then(|form| text(form, name));
            in_query.or_else(in_form).filter(|value| !value.is_empty())
        };
        let format: Format = given("format")
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| ApiRefusal::new(1003, "Value for 'format' is required: csv, tsv or ssv"))?;
        let (mut lookup, mut list) = (None, None);
        match upload.kind {
            ImportKind::CustomObject(_) => {}
            ImportKind::Leads => {
                lookup = Some(given("lookupField").unwrap_or("email"));
                list = match given("listId").map(str::parse) {
                    Some(Err(_)) => return Err(ApiRefusal::new(1013, "Static list not found")),
                    number => number.and_then(Result::ok),
                };
            }
            ImportKind::ProgramMembers => {
                given("programMemberStatus")
                    .ok_or_else(|| ApiRefusal::new(1003, "Value for 'programMemberStatus' is required"))?;
                lookup = Some("email");
            }
        }
        let rows = row_outcomes::read(file, format, lookup, &self.settings)?;
        if self.queue.len(now) >= self.settings.queued {
            return Err(ApiRefusal::new(1016, "Too many imports queued"));
        }
        if list.is_some_and(|list| self.queue.holds_list(now, list)) {
            return Err(ApiRefusal::new(1019, "Import in progress"));
        }
        let duration = rows.duration.unwrap_or_else(|| self.settings.import_time(rows.total));
        let import = self.queue.push(now, NewImport { kind: upload.kind.clone(), list, rows, duration });
        Ok(AcceptedImport { id: import.id, receipt: import.receipt() })
    }

    /// Returns the status of an import.
    ///
    /// # Errors
    /// 1013 for an id of no such import, or of one that has expired. Adobe does not document this case.
    pub fn status(&self, now: Duration, kind: &ImportKind, id: &str) -> Result<types::Import, ApiRefusal> {
        Ok(self.import(now, kind, id)?.status_response(now, &self.settings))
    }

    /// Returns the report of failed rows or of rows with a warning; empty if there is none.
    ///
    /// # Errors
    /// HTTP 404 where there is none, of custom objects always; 1013 as for a status.
    pub fn report(&self, now: Duration, kind: &ImportKind, id: &str, report: ReportKind) -> Result<Bytes, ApiRefusal> {
        let import = self.import(now, kind, id)?;
        let file = match report {
            _ if now < import.ends || import.rows.batch_failed.is_some() => &[],
            ReportKind::Failures => import.rows.failures.as_slice(),
            ReportKind::Warnings => import.rows.warnings.as_slice(),
        };
        match kind {
            ImportKind::CustomObject(_) if file.is_empty() => Err(ApiRefusal::Http(404)),
            _ if file.is_empty() && self.settings.no_file_is_404 => Err(ApiRefusal::Http(404)),
            _ => Ok(Bytes::copy_from_slice(file)),
        }
    }

    fn import(&self, now: Duration, kind: &ImportKind, id: &str) -> Result<&Import, ApiRefusal> {
        id.parse()
            .ok()
            .and_then(|number| self.queue.find(number))
            .filter(|import| import.kind == *kind && now < import.accepted.saturating_add(self.settings.batch_life))
            .ok_or_else(|| ApiRefusal::new(1013, format!("Import '{id}' not found")))
    }

    /// Sets the number of other integrations' imports in the queue, until the next call. They take no processing slot.
    pub fn set_other_imports(&mut self, now: Duration, number: usize) {
        self.queue.set_other_imports(now, number);
    }

    /// Ends now the imports that a cell `!stuck` keeps from ending.
    pub fn end_stuck(&mut self, now: Duration) {
        self.queue.end_stuck(now);
    }

    /// Returns the batch ids of this client's imports that have not ended.
    pub fn unended(&self, now: Duration) -> impl Iterator<Item = u64> {
        self.queue.unended(now)
    }

    /// Counts an error response.
    pub fn record_error(&mut self, refusal: &ApiRefusal) {
        *self.log.errors.entry(refusal.name()).or_default() += 1;
    }

    /// Records a status or report call for an import, whatever its result.
    pub fn record_query(&mut self, now: Duration, id: &str) {
        if let Ok(number) = id.parse() {
            self.queue.record_query(now, number);
        }
    }

    /// Counts a call that a fault dropped before it was executed.
    pub fn record_lost_request(&mut self) {
        self.log.lost_requests += 1;
    }

    /// Returns the log of all calls up to now.
    pub fn call_log(&self, now: Duration) -> CallLog {
        let mut call_log = CallLog {
            max_calls_in_window: self.admission.max_in_window,
            max_concurrent_calls: self.admission.max_at_once,
            ..self.log.clone()
        };
        self.queue.report(now, &mut call_log);
        call_log
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Counts, RemoteStatus};

    const SECOND: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_nanos(1);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn marketo() -> MarketoModel {
        MarketoModel::new(Settings::default(), DAY)
    }

    fn upload(kind: ImportKind, query: &[(&str, &str)], file: &str) -> CreateRequest {
        CreateRequest {
            kind,
            path: "/somewhere".into(),
            query: query.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            body_bytes: 100 + file.len() as u64,
            form: Ok(vec![FormPart {
                name: "file".into(),
                filename: Some("some.csv".into()),
                content_type: Some("text/csv".into()),
                bytes: Bytes::copy_from_slice(file.as_bytes()),
            }]),
            refusal: None,
            answer_lost: false,
        }
    }

    /// Leads whose import lasts so many seconds.
    fn lasting(seconds: u32) -> CreateRequest {
        upload(ImportKind::Leads, &[("format", "csv")], &format!("email,x\na@b.c,!lasts:{seconds}s\n"))
    }

    fn accepted(marketo: &mut MarketoModel, now: Duration, upload: CreateRequest) -> String {
        marketo.create(now, upload).unwrap().batch_id.unwrap()
    }

    fn refused(answer: Result<types::Import, ApiRefusal>) -> String {
        answer.map_or_else(|refusal| refusal.name(), |import| format!("accepted {import:?}"))
    }

    fn status(marketo: &MarketoModel, now: Duration, id: &str) -> RemoteStatus {
        marketo.status(now, &ImportKind::Leads, id).unwrap().remote_status().unwrap()
    }

    #[test]
    fn the_eleventh_import_is_1016_until_one_has_ended() {
        let mut marketo = marketo();
        for _ in 0..10 {
            accepted(&mut marketo, SECOND, lasting(10));
        }
        assert_eq!(refused(marketo.create(SECOND, lasting(10))), "1016");
        assert_eq!(refused(marketo.create(SECOND * 11 - TICK, lasting(10))), "1016");
        accepted(&mut marketo, SECOND * 11, lasting(10));
        accepted(&mut marketo, SECOND * 11, lasting(10));
        assert_eq!(refused(marketo.create(SECOND * 11, lasting(10))), "1016");
        let call_log = marketo.call_log(SECOND * 11);
        assert_eq!((call_log.max_queued, call_log.creates.len(), call_log.accepted().count()), (10, 15, 12));
    }

    #[test]
    fn imports_run_two_at_once_in_order_for_their_duration() {
        use RemoteStatus::{Complete, Importing, Queued};
        let mut marketo = marketo();
        let ids = [4, 10, 3, 5].map(|seconds| accepted(&mut marketo, Duration::ZERO, lasting(seconds)));
        for (now, expected) in [
            (Duration::ZERO, [Importing, Importing, Queued, Queued]),
            (SECOND * 4 - TICK, [Importing, Importing, Queued, Queued]),
            (SECOND * 4, [Complete, Importing, Importing, Queued]),
            (SECOND * 7 - TICK, [Complete, Importing, Importing, Queued]),
            (SECOND * 7, [Complete, Importing, Complete, Importing]),
            (SECOND * 10, [Complete, Complete, Complete, Importing]),
            (SECOND * 12, [Complete, Complete, Complete, Complete]),
        ] {
            assert_eq!(ids.each_ref().map(|id| status(&marketo, now, id)), expected, "{now:?}");
        }
        let call_log = marketo.call_log(SECOND * 60);
        assert_eq!((call_log.max_importing, call_log.busy), (2, SECOND * 22));
        assert_eq!((call_log.imports[3].started, call_log.imports[3].ended), (Some(SECOND * 7), Some(SECOND * 12)));
        assert_eq!(marketo.call_log(SECOND * 5).busy, SECOND * 10);
    }

    #[test]
    fn a_stuck_import_keeps_its_slot_until_it_is_ended() {
        use RemoteStatus::{Complete, Importing, Queued};
        let mut marketo = marketo();
        let stuck = || upload(ImportKind::Leads, &[("format", "csv")], "email,x\na@b.c,!stuck\n");
        let files = [stuck(), lasting(2), stuck(), lasting(4), lasting(3)];
        let ids = files.map(|file| accepted(&mut marketo, Duration::ZERO, file));
        let now = SECOND * 1_000_000;
        let at = |marketo: &mut MarketoModel, now| ids.each_ref().map(|id| status(marketo, now, id));
        assert_eq!(at(&mut marketo, SECOND), [Importing, Importing, Queued, Queued, Queued]);
        assert_eq!(at(&mut marketo, SECOND * 3), [Importing, Complete, Importing, Queued, Queued]);
        let mut marketo = MarketoModel::new(Settings { batch_life: SECOND * 2_000_000, ..Settings::default() }, DAY);
        let files = [stuck(), lasting(2), stuck(), lasting(4), lasting(3)];
        assert_eq!(files.map(|file| accepted(&mut marketo, Duration::ZERO, file)), ids);
        assert_eq!(at(&mut marketo, now), [Importing, Complete, Importing, Queued, Queued]);
        assert_eq!(marketo.unended(now).count(), 4);
        marketo.end_stuck(now);
        assert_eq!(at(&mut marketo, now), [Complete, Complete, Complete, Importing, Importing]);
        assert_eq!(at(&mut marketo, now + SECOND * 3), [Complete, Complete, Complete, Importing, Complete]);
        assert_eq!(at(&mut marketo, now + SECOND * 4), [Complete; 5]);
        assert!(marketo.call_log(now + SECOND * 4).max_importing <= 2);
    }

    #[test]
    fn an_idle_slot_starts_an_import_at_once() {
        let mut marketo = marketo();
        let import =
            marketo.create(SECOND * 9, upload(ImportKind::Leads, &[("format", "csv")], "email\na@b.c\n")).unwrap();
        assert_eq!(import.remote_status(), Some(RemoteStatus::Importing));
        let ends = SECOND * 10 + Duration::from_millis(120);
        assert_eq!(status(&marketo, ends - TICK, import.id().unwrap()), RemoteStatus::Importing);
        assert_eq!(status(&marketo, ends, import.id().unwrap()), RemoteStatus::Complete);
    }

    #[test]
    fn other_integrations_imports_fill_the_queue() {
        let mut marketo = marketo();
        marketo.set_other_imports(SECOND, 9);
        accepted(&mut marketo, SECOND, lasting(5));
        assert_eq!(refused(marketo.create(SECOND, lasting(5))), "1016");
        marketo.set_other_imports(SECOND, 8);
        accepted(&mut marketo, SECOND, lasting(5));
        assert_eq!(marketo.call_log(SECOND).max_queued, 10);
    }

    #[test]
    fn a_static_list_is_imported_to_one_file_at_a_time() {
        let mut marketo = marketo();
        let into =
            |list| upload(ImportKind::Leads, &[("format", "csv"), ("listId", list)], "email,x\na@b.c,!lasts:5s\n");
        accepted(&mut marketo, SECOND, into("7"));
        assert_eq!(refused(marketo.create(SECOND, into("7"))), "1019");
        accepted(&mut marketo, SECOND, into("8"));
        assert_eq!(refused(marketo.create(SECOND * 6 - TICK, into("7"))), "1019");
        accepted(&mut marketo, SECOND * 6, into("7"));
        assert_eq!(refused(marketo.create(SECOND, into("seven"))), "1013");
    }

    #[test]
    fn a_wrong_request_is_refused_and_occupies_no_slot() {
        let mut marketo = marketo();
        let csv = ("format", "csv");
        let part = |change: fn(&mut FormPart)| {
            let mut upload = upload(ImportKind::Leads, &[csv], "email\na@b.c\n");
            upload.form.as_mut().unwrap().iter_mut().for_each(change);
            upload
        };
        let mut large = upload(ImportKind::Leads, &[csv], "email\na@b.c\n");
        large.body_bytes = 10_000_001;
        let mut garbled = upload(ImportKind::Leads, &[csv], "");
        garbled.form = Err("no boundary".into());
        for (upload, code) in [
            (upload(ImportKind::Leads, &[], "email\na@b.c\n"), "1003"),
            (upload(ImportKind::Leads, &[("format", "CSV")], "email\na@b.c\n"), "1003"),
            (upload(ImportKind::Leads, &[csv], ""), "1003"),
            (upload(ImportKind::Leads, &[csv], "name\nA\n"), "1006"),
            (upload(ImportKind::Leads, &[csv, ("lookupField", "id")], "email\na@b.c\n"), "1006"),
            (upload(ImportKind::ProgramMembers, &[csv], "email\na@b.c\n"), "1003"),
            (upload(ImportKind::ProgramMembers, &[csv, ("programMemberStatus", "In")], "name\nA\n"), "1006"),
            (part(|part| part.name = "data".into()), "1003"),
            (part(|part| part.filename = None), "1003"),
            (part(|part| part.content_type = None), "1003"),
            (part(|part| part.content_type = Some("application/octet-stream".into())), "1003"),
            (garbled, "1003"),
            (large, "http 413"),
        ] {
            assert_eq!(refused(marketo.create(SECOND, upload.clone())), code, "{upload:?}");
        }
        let call_log = marketo.call_log(SECOND);
        assert_eq!((call_log.creates.len(), call_log.imports.len(), call_log.max_queued), (13, 0, 0));
    }

    #[test]
    fn a_body_of_exactly_the_limit_is_accepted() {
        let mut upload = lasting(1);
        upload.body_bytes = 10_000_000;
        accepted(&mut marketo(), SECOND, upload);
    }

    #[test]
    fn a_status_has_partial_counts_and_then_all() {
        let mut marketo = marketo();
        let file = "email,x\na@b.c,!lasts:10s\nb@b.c,\nc@b.c,!fail:No\nd,\n";
        let id = accepted(&mut marketo, Duration::ZERO, upload(ImportKind::Leads, &[("format", "csv")], file));
        let ask = |now| marketo.status(now, &ImportKind::Leads, &id).unwrap();
        let counts = |processed, failed, warned| Counts {
            processed: Some(processed),
            failed: Some(failed),
            warned: Some(warned),
        };
        assert_eq!(ask(SECOND * 4).counts(), counts(1, 0, 0));
        assert_eq!(ask(SECOND * 4).message, None);
        assert_eq!(ask(SECOND * 10).counts(), counts(3, 1, 1));
        assert_eq!(
            ask(SECOND * 10).message.as_deref(),
            Some("Import completed with errors, 3 records imported (3 members), 1 failed, 1 warning.")
        );
    }

    #[test]
    fn custom_objects_have_their_name_and_no_import_id() {
        let mut marketo = marketo();
        let boats = ImportKind::CustomObject("boat_c".into());
        let file = "hull,x\n1,!lasts:2s\n";
        let receipt = marketo.create(SECOND, upload(boats.clone(), &[("format", "csv")], file)).unwrap();
        let id = receipt.batch_id.clone().unwrap();
        assert_eq!((receipt.import_id, receipt.object_api_name.as_deref()), (None, Some("boat_c")));
        let ended = marketo.status(SECOND * 3, &boats, &id).unwrap();
        assert_eq!((ended.num_of_objects_processed, ended.num_of_leads_processed), (Some(1), None));
        assert_eq!((ended.operation.as_deref(), ended.import_time.as_deref()), (Some("import"), Some("2 second(s)")));
        let report = |report| marketo.report(SECOND * 3, &boats, &id, report);
        assert_eq!(report(ReportKind::Failures), Err(ApiRefusal::Http(404)));
        assert_eq!(report(ReportKind::Warnings), Err(ApiRefusal::Http(404)));
    }

    #[test]
    fn reports_exist_once_the_import_has_ended() {
        let mut marketo = marketo();
        let file = "email,x\na@b.c,!lasts:2s\nb@b.c,!fail:No\n";
        let id = accepted(&mut marketo, Duration::ZERO, upload(ImportKind::Leads, &[("format", "csv")], file));
        let failures = |now| marketo.report(now, &ImportKind::Leads, &id, ReportKind::Failures).unwrap();
        assert!(failures(SECOND * 2 - TICK).is_empty());
        assert_eq!(failures(SECOND * 2), "email,x,Import Failure Reason\nb@b.c,!fail:No,No\n");
        assert!(marketo.report(SECOND * 2, &ImportKind::Leads, &id, ReportKind::Warnings).unwrap().is_empty());
        let mut strict = MarketoModel::new(Settings { no_file_is_404: true, ..Settings::default() }, DAY);
        let id = accepted(&mut strict, Duration::ZERO, lasting(1));
        assert_eq!(strict.report(SECOND, &ImportKind::Leads, &id, ReportKind::Failures), Err(ApiRefusal::Http(404)));
    }

    #[test]
    fn an_import_can_fail_as_a_whole() {
        let mut marketo = marketo();
        let file = "email,x,y\na@b.c,!lasts:2s,!batch-failed:Out of order\n";
        let id = accepted(&mut marketo, Duration::ZERO, upload(ImportKind::Leads, &[("format", "csv")], file));
        let ended = marketo.status(SECOND * 2, &ImportKind::Leads, &id).unwrap();
        assert_eq!(ended.remote_status(), Some(RemoteStatus::Failed));
        assert_eq!(ended.message.as_deref(), Some("Out of order"));
        assert_eq!(ended.counts(), Counts { processed: Some(0), failed: Some(0), warned: Some(0) });
    }

    #[test]
    fn an_id_is_kept_for_seven_days_for_its_kind_of_target() {
        let mut marketo = marketo();
        let id = accepted(&mut marketo, SECOND, lasting(1));
        assert_eq!(status(&marketo, SECOND + DAY * 7 - TICK, &id), RemoteStatus::Complete);
        assert_eq!(refused(marketo.status(SECOND + DAY * 7, &ImportKind::Leads, &id)), "1013");
        assert_eq!(refused(marketo.status(SECOND, &ImportKind::ProgramMembers, &id)), "1013");
        for unknown in ["1", "9999", "x", "-1"] {
            assert_eq!(refused(marketo.status(SECOND, &ImportKind::Leads, unknown)), "1013");
        }
    }

    #[test]
    fn each_create_call_is_logged_with_its_outcome() {
        let mut marketo = marketo();
        let id = accepted(&mut marketo, SECOND, lasting(1));
        let mut refusal = lasting(1);
        refusal.refusal = Some(ApiRefusal::new(606, "Slow down"));
        assert_eq!(refused(marketo.create(SECOND * 2, refusal)), "606");
        let creates = marketo.call_log(SECOND * 2).creates;
        assert_eq!(creates[0].outcome, Outcome::Accepted(id.parse().unwrap()));
        assert_eq!(creates[1].outcome, Outcome::Refused { code: "606".into(), message: "Slow down".into() });
        let file = creates[1].file.as_ref().unwrap();
        assert_eq!((file.name.as_str(), file.bytes), ("some.csv", 24));
        assert_eq!((file.sha256.len(), &file.content), (64, &None));
        assert_eq!(creates[1].query["format"], "csv");
    }
}

//! Which routes are there? All of them, with what is said of each.

use crate::api::dto::{EventData, History, InstanceStatus, JobsPage, Readiness, Status, SubmittedJob};
use crate::api::handlers::{backup, create, erase, events, health, jobs, reports, retry, settle, status};
use crate::api::openapi::document;
use crate::api::openapi::route::{Access, Operation, Route, bytes, object, of};
use crate::api::{marketo_compat, metrics};
use crate::retention::{EraseReport, RetentionRun};
use crate::scheduler::explain::Explanation;
use crate::store::Job;

/// Whoever looks for a route finds it here.
pub(crate) fn all() -> Vec<Route> {
    let mut routes = of_jobs();
    routes.extend(of_one_job());
    routes.extend(of_the_daemon());
    routes.extend(marketo_compat::routes());
    routes
}

fn of_jobs() -> Vec<Route> {
    let add = Operation::new("addJob", "Drops a file in. It is taken once it is on the disk for good")
        .query::<create::CreateJobQuery>()
        .header("Idempotency-Key", "The same key and the same file give the same job")
        .body("application/octet-stream", bytes)
        .json::<SubmittedJob>(201, "The job")
        .json::<SubmittedJob>(200, "The job that this key made before")
        .error(403, "The client may not use this instance")
        .error(413, "The file is larger than api.max_file_bytes")
        .error(415, "The body is not the file as it is, but a form or packed")
        .error(422, "The file can't be imported, or the key stands for something else")
        .error(507, "The disk is full");
    let list = Operation::new("listJobs", "Jobs, newest first")
        .query::<jobs::ListQuery>()
        .json::<JobsPage>(200, "One page of them");
    vec![Route::new("/v1/jobs", Access::Authenticated).post(create::create, add).get(jobs::list, list)]
}

fn of_one_job() -> Vec<Route> {
    let job = |path| Route::new(path, Access::JobOwner);
    let report = |id: &str, says: &str| {
        Operation::new(id, says)
            .query::<reports::ReportQuery>()
            .text(200, "All batches' files as one, in the order of the file", "text/csv")
            .error(409, "The batches' files differ in their columns: ask for each with part")
            .error(410, "It was erased")
    };
    vec![
        job("/v1/jobs/{id}").get(
            jobs::show,
            Operation::new("showJob", "One job with its batches")
                .query::<jobs::WaitQuery>()
                .json::<Job>(200, "The job"),
        ),
        job("/v1/jobs/{id}/failures").get(reports::failures, report("jobFailures", "The rows that failed, and why")),
        job("/v1/jobs/{id}/warnings").get(reports::warnings, report("jobWarnings", "The rows with warnings, and why")),
        job("/v1/jobs/{id}/file").get(
            reports::file,
            Operation::new("jobFile", "The file as it was dropped in")
                .text(200, "A csv or ssv file", "text/csv")
                .text(200, "A tsv file", "text/tab-separated-values")
                .error(410, "It was erased"),
        ),
        job("/v1/jobs/{id}/history").get(
            jobs::history,
            Operation::new("jobHistory", "What happened to a job, oldest first").json::<History>(200, "Its history"),
        ),
        job("/v1/jobs/{id}/explain").get(
            jobs::explain,
            Operation::new("explainJob", "Why a job is where it is: what it waits for, and until when")
                .json::<Explanation>(200, "The reason")
                .error(409, "Its instance is not in the configuration any more"),
        ),
        job("/v1/jobs/{id}/cancel").post(
            jobs::cancel,
            Operation::new("cancelJob", "Leaves what Marketo does not have yet")
                .query::<jobs::CancelQuery>()
                .json::<Job>(200, "The job")
                .error(409, "There is nothing left to cancel")
                .error(507, "The disk is full"),
        ),
        job("/v1/jobs/{id}/retry").post(
            retry::retry,
            Operation::new("retryJob", "Sends the batches that failed once more, or the failed rows as a new job")
                .query::<retry::RetryQuery>()
                .json::<Job>(200, "The job")
                .json::<Job>(201, "The new job of the rows that failed")
                .error(409, "There is nothing to send again, or it can't be had")
                .error(410, "It was erased")
                .error(413, "The rows are more than api.max_file_bytes")
                .error(422, "The rows make no file that can be imported")
                .error(507, "The disk is full"),
        ),
        // Whoever says it has looked on Marketo, where the imports of all are.
        Route::new("/v1/jobs/{id}/settle", Access::LocalOnly).post(
            settle::settle,
            Operation::new("settleJob", "Says which import a held batch has become")
                .query::<settle::SettleQuery>()
                .json::<Job>(200, "The job")
                .error(404, "There is no such job, or no such batch")
                .error(409, "The batch is not held")
                .error(507, "The disk is full"),
        ),
        job("/v1/jobs/{id}/erase").post(
            erase::job,
            Operation::new("eraseJob", "Erases the content and the reports of a job that has ended")
                .query::<erase::EraseQuery>()
                .json::<EraseReport>(200, "What was erased")
                .error(409, "The job has not ended")
                .error(507, "The disk is full"),
        ),
    ]
}

fn of_the_daemon() -> Vec<Route> {
    let known = |path| Route::new(path, Access::Authenticated);
    let instance = |id: &str, says: &str| {
        Operation::new(id, says)
            .json::<InstanceStatus>(200, "How the instance stands")
            .error(403, "The client may not use this instance")
            .error(404, "There is no such instance")
            .error(507, "The disk is full")
    };
    vec![
        Route::new("/v1/retention", Access::LocalOnly).post(
            erase::due,
            Operation::new("eraseDue", "Erases what is older than the configuration keeps")
                .query::<erase::EraseQuery>()
                .json::<RetentionRun>(200, "What was erased")
                .error(507, "The disk is full"),
        ),
        Route::new("/v1/backup", Access::LocalOnly).get(
            backup::backup,
            Operation::new("backup", "A copy of the database as it is now")
                .answer(200, "An SQLite database", "application/vnd.sqlite3", bytes)
                .error(507, "The disk is full"),
        ),
        known("/metrics").get(
            metrics::metrics,
            Operation::new("metrics", "For Prometheus")
                .text(200, "Prometheus's text format", "text/plain")
                .error(403, "The client may use some instances only, and this tells of all"),
        ),
        known("/v1/events").get(
            events::events,
            Operation::new("events", "Every change, or those of some jobs, as server-sent events")
                .query::<events::EventsQuery>()
                .error(404, "There is no such job")
                .error(503, "The daemon is stopping, its disk fails, or too many answers wait: Retry-After tells when to come again")
                // One event's data: an answer is a stream of them.
                .answer(200, "Without an end; the data of each event", "text/event-stream", of::<EventData>),
        ),
        known("/v1/status").get(
            status::status,
            Operation::new("status", "Slots, queue and limits of each instance")
                .json::<Status>(200, "How it all stands"),
        ),
        known("/v1/instances/{name}/pause").post(status::pause, instance("pauseInstance", "Stops its uploads")),
        known("/v1/instances/{name}/resume").post(status::resume, instance("resumeInstance", "Lets uploads go on")),
        Route::new("/healthz", Access::Public)
            .get(health::healthz, Operation::new("healthz", "It lives").text(200, "ok", "text/plain")),
        Route::new("/readyz", Access::Public).get(
            health::readyz,
            Operation::new("readyz", "Its store writes, and the credentials of an instance at least work")
                .query::<health::ReadyQuery>()
                .error(404, "There is no such instance")
                .json::<Readiness>(200, "It is ready")
                .answer(503, "It is not, and this is why", "application/problem+json", of::<health::NotReady<'static>>),
        ),
        Route::new("/openapi.json", Access::Public).get(
            document::openapi,
            Operation::new("openapi", "This description").answer(200, "OpenAPI 3.1", "application/json", object),
        ),
    ]
}

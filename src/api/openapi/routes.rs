//! Table of all routes, with the description of each.

use crate::api::dto::{
    EraseReportDto, EventData, ExplanationDto, FileCheck, History, InstanceQueue, InstanceStatus, JobDto, JobsPage,
    NotReady, Readiness, ReasonsDto, ReportRowDto, RetentionRunDto, RetriedJob, Stats, Status, SubmittedJob,
};
use crate::api::handlers::{
    backup, create, erase, events, file_check, health, instances, jobs, metrics, queue, reasons, reports, results,
    retry, settle, stats, status,
};
use crate::api::marketo_compat;
use crate::api::openapi::document;
use crate::api::openapi::route::{Access, Operation, Route, bytes, object, of};

/// Returns all routes of the daemon.
pub(crate) fn all() -> Vec<Route> {
    let mut routes = job_collection_routes();
    routes.extend(job_routes());
    routes.extend(daemon_routes());
    routes.extend(marketo_compat::routes());
    routes
}

fn job_collection_routes() -> Vec<Route> {
    let add = Operation::new("addJob", "Submits a file. The response is sent once the file is durably stored")
        .query::<create::CreateJobQuery>()
        .header("Idempotency-Key", "The same key and the same file return the same job")
        .body("application/octet-stream", bytes)
        .json::<SubmittedJob>(201, "The job")
        .json::<SubmittedJob>(200, "The job that was made with this key before")
        .error(403, "The client may not use this instance")
        .error(413, "The file is larger than api.max_file_bytes")
        .error(415, "The body is a form or compressed, and not the file itself")
        .error(422, "The file can't be imported, or the key was used for another request")
        .error(507, "The disk is full");
    let list = Operation::new("listJobs", "Jobs, newest first")
        .query::<jobs::ListQuery>()
        .json::<JobsPage>(200, "One page of jobs");
    let check = Operation::new("checkFile", "Checks a file as addJob does, and stores nothing")
        .query::<create::CreateJobQuery>()
        .body("application/octet-stream", bytes)
        .json::<FileCheck>(200, "What the checks found, also where the file would be refused")
        .error(403, "The client may not use this instance, or may only read")
        .error(413, "The file is larger than api.max_file_bytes")
        .error(415, "The body is a form or compressed, and not the file itself");
    vec![
        Route::new("/v1/jobs", Access::Authenticated).post(create::create, add).get(jobs::list, list),
        Route::new("/v1/check", Access::Authenticated).post(file_check::check, check),
    ]
}

fn job_routes() -> Vec<Route> {
    let job = |path| Route::new(path, Access::JobOwner);
    let report = |id: &str, summary: &str| {
        Operation::new(id, summary)
            .query::<reports::ReportQuery>()
            .text(200, "The files of all batches, joined in the order of the submitted file", "text/csv")
            .response(200, "With format=ndjson: a line for each row", "application/x-ndjson", of::<ReportRowDto>)
            .error(409, "The columns of the batches' files differ: download each with part")
            .error(410, "The data was erased")
    };
    vec![
        job("/v1/jobs/{id}").get(
            jobs::show,
            Operation::new("showJob", "One job with its batches")
                .query::<jobs::WaitQuery>()
                .json::<JobDto>(200, "The job"),
        ),
        job("/v1/jobs/{id}/failures")
            .get(reports::failures, report("jobFailures", "The failed rows, with Marketo's reasons")),
        job("/v1/jobs/{id}/warnings")
            .get(reports::warnings, report("jobWarnings", "The rows with warnings, with Marketo's reasons")),
        job("/v1/jobs/{id}/file").get(
            reports::file,
            Operation::new("jobFile", "The submitted file")
                .text(200, "A csv or ssv file", "text/csv")
                .text(200, "A tsv file", "text/tab-separated-values")
                .error(410, "The data was erased"),
        ),
        job("/v1/jobs/{id}/results").get(
            results::results,
            Operation::new("jobResults", "The submitted file with the columns Marketo Result and Marketo Reason")
                .text(200, "A csv or ssv file", "text/csv")
                .text(200, "A tsv file", "text/tab-separated-values")
                .error(410, "The data was erased"),
        ),
        job("/v1/jobs/{id}/reasons").get(
            reasons::reasons,
            Operation::new("jobReasons", "Marketo's reasons of failures and warnings, with the rows of each")
                .json::<ReasonsDto>(200, "The reasons, those with the most rows first")
                .error(410, "The data was erased"),
        ),
        job("/v1/jobs/{id}/history").get(
            jobs::history,
            Operation::new("jobHistory", "Events of a job, oldest first").json::<History>(200, "Its history"),
        ),
        job("/v1/jobs/{id}/explain").get(
            jobs::explain,
            Operation::new("explainJob", "What a job waits for, and until when")
                .json::<ExplanationDto>(200, "The reason")
                .error(409, "The job's instance is no longer configured"),
        ),
        job("/v1/jobs/{id}/cancel").post(
            jobs::cancel,
            Operation::new("cancelJob", "Cancels the batches that Marketo does not have yet")
                .query::<jobs::CancelQuery>()
                .json::<JobDto>(200, "The job")
                .error(409, "There is nothing left to cancel")
                .error(507, "The disk is full"),
        ),
        job("/v1/jobs/{id}/retry").post(
            retry::retry,
            Operation::new("retryJob", "Uploads the failed batches again, or makes a new job of the failed rows")
                .query::<retry::RetryQuery>()
                .header(
                    "Idempotency-Key",
                    "With rows=failed or rows=corrected: the same key and rows return the same job",
                )
                .optional_body("application/octet-stream", bytes)
                .json::<RetriedJob>(200, "The job, or the new job that was made with this key before")
                .json::<RetriedJob>(201, "The new job of the failed rows")
                .error(409, "There is nothing to retry, or no failed row can be told from the others")
                .error(410, "The data was erased")
                .error(413, "The failed rows are larger than api.max_file_bytes")
                .error(415, "The body is a form or compressed, and not the file itself")
                .error(
                    422,
                    "The failed rows are not a file that can be imported, or the key was used for another request",
                )
                .error(507, "The disk is full"),
        ),
        // An operator finds the id in Marketo's user interface, which shows the imports of all clients.
        Route::new("/v1/jobs/{id}/settle", Access::LocalOnly).post(
            settle::settle,
            Operation::new("settleJob", "Records the Marketo import that a held batch became")
                .query::<settle::SettleQuery>()
                .json::<JobDto>(200, "The job")
                .error(404, "There is no such job, or no such batch")
                .error(409, "The batch is not held, or Marketo has no such import")
                .error(503, "Marketo could not be asked for the import")
                .error(507, "The disk is full"),
        ),
        job("/v1/jobs/{id}/erase").post(
            erase::job,
            Operation::new("eraseJob", "Erases the content and the reports of a job that has ended")
                .query::<erase::EraseQuery>()
                .json::<EraseReportDto>(200, "What was erased")
                .error(409, "The job has not ended")
                .error(507, "The disk is full"),
        ),
    ]
}

fn daemon_routes() -> Vec<Route> {
    let authenticated = |path| Route::new(path, Access::Authenticated);
    let instance = |id: &str, summary: &str| {
        Operation::new(id, summary)
            .json::<InstanceStatus>(200, "The instance's status")
            .error(403, "The client may not use this instance")
            .error(404, "There is no such instance")
            .error(507, "The disk is full")
    };
    vec![
        Route::new("/v1/retention", Access::LocalOnly).post(
            erase::due,
            Operation::new("eraseDue", "Erases all data past its retention period")
                .query::<erase::EraseQuery>()
                .json::<RetentionRunDto>(200, "What was erased")
                .error(507, "The disk is full"),
        ),
        Route::new("/v1/backup", Access::LocalOnly).get(
            backup::backup,
            Operation::new("backup", "A copy of the database as it is now")
                .response(200, "An SQLite database", "application/vnd.sqlite3", bytes)
                .error(507, "The disk is full"),
        ),
        authenticated("/metrics").get(
            metrics::metrics,
            Operation::new("metrics", "Metrics for Prometheus")
                .text(200, "Prometheus' text format", "text/plain")
                .error(403, "The client may use some instances only, and the metrics cover all"),
        ),
        authenticated("/v1/events").get(
            events::events,
            Operation::new("events", "All changes, or those of some jobs, as server-sent events")
                .query::<events::EventsQuery>()
                .error(404, "There is no such job")
                .error(
                    503,
                    "The daemon is stopping, its disk failed, or too many responses wait: retry after Retry-After",
                )
                // The schema is that of one event's data; the response is a stream of events.
                .response(
                    200,
                    "An endless stream; the schema is that of each event's data",
                    "text/event-stream",
                    of::<EventData>,
                ),
        ),
        authenticated("/v1/status").get(
            status::status,
            Operation::new("status", "Slots, queue and limits of each instance").json::<Status>(200, "The status"),
        ),
        authenticated("/v1/stats").get(
            stats::stats,
            Operation::new("stats", "Rows by result, ended jobs, uploads and calls over time")
                .query::<stats::StatsQuery>()
                .json::<Stats>(200, "A number for each step; a client's own jobs only")
                .error(403, "The client may not use this instance")
                .error(404, "There is no such instance"),
        ),
        authenticated("/v1/instances/{name}/queue").get(
            queue::queue,
            Operation::new(
                "instanceQueue",
                "What occupies an instance's slots, and the jobs behind them in their order",
            )
            .query::<queue::QueueQuery>()
            .json::<InstanceQueue>(200, "Slots and queue; a client sees places of other clients without their jobs")
            .error(403, "The client may not use this instance")
            .error(404, "There is no such instance"),
        ),
        authenticated("/v1/instances/{name}/pause")
            .post(instances::pause, instance("pauseInstance", "Stops the uploads of an instance")),
        authenticated("/v1/instances/{name}/resume")
            .post(instances::resume, instance("resumeInstance", "Restarts the uploads of an instance")),
        Route::new("/healthz", Access::Public)
            .get(health::healthz, Operation::new("healthz", "The daemon answers").text(200, "ok", "text/plain")),
        Route::new("/readyz", Access::Public).get(
            health::readyz,
            Operation::new(
                "readyz",
                "The database can be written, and Marketo accepts the credentials of at least one instance",
            )
            .query::<health::ReadyQuery>()
            .error(404, "There is no such instance")
            .json::<Readiness>(200, "The daemon is ready")
            .response(
                503,
                "The daemon is not ready, with the reason",
                "application/problem+json",
                of::<NotReady>,
            ),
        ),
        Route::new("/openapi.json", Access::Public).get(
            document::openapi,
            Operation::new("openapi", "This document").response(200, "OpenAPI 3.1", "application/json", object),
        ),
    ]
}

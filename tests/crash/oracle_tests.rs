//! Tests of the oracle: each mutation breaks one thing in a valid trace, and the oracle must report it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use marqueue::domain::{JobId, JobState, RemoteStatus};
use marqueue::simulator::call_log::{Create, File as SentFile, Outcome};

use super::files::File;
use super::oracle::{Invariant, check};
use super::sharing::divisions;
use super::trace::{DaemonRun, FinalJob, Reply, Submission, Trace};
use super::uploads::hex;
use super::valid_trace::{is_about, shared_file, valid_trace};

/// Changes one thing in a trace. Returns None if the trace has nothing that can be changed so.
type Mutation = fn(&mut Trace) -> Option<()>;

/// The mutations, and the invariant that each of them violates.
const MUTATIONS: [(&str, Invariant, Mutation); 38] = [
    ("a job is lost", Invariant::NoJobLost, |trace| trace.jobs.pop().map(drop)),
    ("a job is lost of which rows were sent and whose client got no reply", Invariant::NoJobLost, |trace| {
        let lost = trace.jobs.pop()?;
        submission(trace, &lost.job.filename)?.reply = Reply::Nothing;
        Some(())
    }),
    ("a file becomes two jobs", Invariant::NoJobLost, |trace| {
        let mut twin = trace.jobs.last()?.clone();
        twin.job.id = JobId(1_000_000);
        trace.jobs.push(twin);
        Some(())
    }),
    ("a client received the id of another job", Invariant::NoJobLost, |trace| {
        let reply = trace.files.iter_mut().find(|submission| matches!(submission.reply, Reply::Job(_)))?;
        reply.reply = Reply::Job(JobId(1_000_000));
        Some(())
    }),
    ("a good file is refused", Invariant::NoJobLost, |trace| {
        trace.files.last_mut()?.reply = Reply::Refused("no".into());
        Some(())
    }),
    ("a job comes from nowhere", Invariant::NoJobLost, |trace| {
        let mut strange = trace.jobs.last()?.clone();
        strange.job.filename = "strange.csv".into();
        trace.jobs.push(strange);
        Some(())
    }),
    ("half a file is left", Invariant::NoJobLost, |trace| {
        trace.incomplete = 1;
        Some(())
    }),
    ("the last byte is lost", Invariant::ContentIntact, |trace| trace.jobs.last_mut()?.content.pop().map(drop)),
    ("Marketo took nothing of a job", Invariant::Imported, |trace| {
        let name = trace.jobs.last()?.job.filename.clone();
        refuse(trace, |create| is_about(create, &name))
    }),
    ("Marketo took all of a job but one batch", Invariant::Imported, |trace| {
        let several = trace.jobs.iter().find(|found| found.job.batches.len() > 1 || found.content.len() > 100_000)?;
        let name = several.job.filename.clone();
        let file = trace.call_log.accepted().filter(|create| is_about(create, &name)).last()?.file.clone()?;
        refuse(trace, |other| other.file.as_ref() == Some(&file))
    }),
    ("a batch changes on the way", Invariant::SentAsSubmitted, |trace| {
        sent(trace)?.file.as_mut()?.sha256 = "0".repeat(64);
        Some(())
    }),
    ("a file is sent that no client submitted", Invariant::SentAsSubmitted, |trace| {
        sent(trace)?.file.as_mut()?.name = "strange.csv".into();
        Some(())
    }),
    ("a batch goes to another target", Invariant::SentAsSubmitted, |trace| {
        sent(trace)?.path = "/bulk/v1/customobjects/other_c/import.json".into();
        Some(())
    }),
    ("a batch goes into another list", Invariant::SentAsSubmitted, |trace| {
        sent(trace)?.query.insert("listId".into(), "12".into());
        Some(())
    }),
    ("rows are sent again whose import was asked after", Invariant::NoUnexplainedResend, |trace| {
        let at = answered(trace, true)?;
        again(trace, at, trace.call_log.creates.len());
        Some(())
    }),
    ("rows are sent again in the same run, whose answer came", Invariant::NoUnexplainedResend, |trace| {
        let at = answered(trace, false)?;
        forget_questions(trace);
        again(trace, at, at + 1);
        Some(())
    }),
    ("rows are sent again whose import the daemon had listed", Invariant::NoUnexplainedResend, |trace| {
        let at = answered(trace, false)?;
        let Outcome::Accepted(id) = trace.call_log.creates[at].outcome else { return None };
        forget_questions(trace);
        trace.runs.iter_mut().rev().nth(1)?.known.insert(id);
        again(trace, at, trace.call_log.creates.len());
        Some(())
    }),
    ("rows are sent again although the daemon had waited for the answer", Invariant::NoUnexplainedResend, |trace| {
        let at = answered(trace, false)?;
        forget_questions(trace);
        trace.runs.iter_mut().for_each(|run| *run = DaemonRun { left: true, known: BTreeSet::new(), ..*run });
        again(trace, at, trace.call_log.creates.len());
        Some(())
    }),
    ("rows are sent again although an operator was to be asked", Invariant::NoUnexplainedResend, |trace| {
        let at = answered(trace, false)?;
        forget_questions(trace);
        trace.limits.hold = true;
        again(trace, at, trace.call_log.creates.len());
        Some(())
    }),
    ("more answers are lost at a kill than can be under way", Invariant::NoUnexplainedResend, |trace| {
        forget_questions(trace);
        trace.runs.iter_mut().for_each(|run| run.known.clear());
        let first = trace.runs.first()?.creates;
        let accepted = |at: &usize| {
            let create = &trace.call_log.creates[*at];
            matches!(create.outcome, Outcome::Accepted(_)) && !create.answer_lost
        };
        let cut_off: Vec<usize> = (0..first).filter(accepted).take(trace.limits.calls_at_once + 1).collect();
        let enough = cut_off.len() > trace.limits.calls_at_once;
        cut_off.into_iter().for_each(|at| again(trace, at, trace.call_log.creates.len()));
        enough.then_some(())
    }),
    ("an import has the rows of a job twice", Invariant::SentAsSubmitted, |trace| {
        let (at, names) = shared(trace)?;
        let file = |name: &String| &trace.files.iter().find(|of| of.file.name == *name).expect("its file").file;
        let twice: Vec<&File> = names.iter().chain(names.last()).map(file).collect();
        trace.call_log.creates[at].file = Some(shared_file(&twice));
        Some(())
    }),
    ("an import has half of the rows of a job", Invariant::SentAsSubmitted, |trace| {
        let (at, _) = shared(trace)?;
        let sent = trace.call_log.creates[at].file.as_mut()?;
        let content = sent.content.take()?;
        let content = content.slice(..content.len() - 8);
        *sent = SentFile { bytes: content.len() as u64, sha256: hex(&content), content: Some(content), ..sent.clone() };
        Some(())
    }),
    ("a job that is to go alone shares an import", Invariant::Sharing, |trace| {
        let (_, names) = shared(trace)?;
        submission(trace, names.last()?)?.file.pack = Some(false);
        Some(())
    }),
    ("a job has a wrong number of others in its import", Invariant::Sharing, |trace| {
        let packed = |found: &&mut FinalJob| found.job.batches.iter().any(|batch| batch.shared_with > 0);
        trace.jobs.iter_mut().find(packed)?.job.batches[0].shared_with += 1;
        Some(())
    }),
    ("a job names the import of another one", Invariant::Sharing, |trace| {
        let batches = trace.jobs.iter().flat_map(|found| &found.job.batches);
        let ids: BTreeSet<String> = batches.filter_map(|batch| batch.marketo_batch_id.clone()).collect();
        let batch = trace.jobs.iter_mut().rev().find_map(|found| found.job.batches.last_mut())?;
        let other = ids.into_iter().find(|id| Some(id) != batch.marketo_batch_id.as_ref())?;
        batch.marketo_batch_id = Some(other);
        Some(())
    }),
    ("a job does not record that its shared import failed", Invariant::Sharing, |trace| {
        let history = trace.jobs.iter_mut().map(|found| &mut found.history);
        let history = history.rev().find(|history| history.iter().any(|entry| entry.event == "unpacked"))?;
        history.retain(|entry| entry.event != "unpacked");
        Some(())
    }),
    ("a shared import is divided that was not too large", Invariant::Sharing, |trace| {
        trace.jobs.iter().flat_map(divisions).next()?;
        trace
            .call_log
            .creates
            .retain(|create| !matches!(&create.outcome, Outcome::Refused { code, .. } if code == "http 413"));
        Some(())
    }),
    ("a job of a shared import that failed is not sent again", Invariant::Imported, |trace| {
        let failed = |id: u64| {
            let import = trace.call_log.imports.iter().find(|import| import.id == id);
            import.is_some_and(|import| import.status == RemoteStatus::Failed)
        };
        let is_shared = |create: &&Create| trace.files.iter().filter(|of| is_about(create, &of.file.name)).count() > 1;
        let failed = |create: &&Create| matches!(create.outcome, Outcome::Accepted(id) if failed(id));
        let import = trace.call_log.creates.iter().filter(failed).find(is_shared)?.clone();
        let of_it = |of: &&Submission| is_about(&import, &of.file.name) && !of.file.fails_whole();
        let name = trace.files.iter().find(of_it)?.file.name.clone();
        refuse(trace, |create| is_about(create, &name) && create.at != import.at)
    }),
    ("one import too many is in the queue", Invariant::Queue, |trace| {
        let import = trace.call_log.imports.last()?.clone();
        (0..trace.limits.in_flight).for_each(|_| trace.call_log.imports.push(import.clone()));
        Some(())
    }),
    ("three imports are at work", Invariant::Queue, |trace| {
        let import = trace.call_log.imports.last()?.clone();
        trace.limits.in_flight = usize::MAX;
        (0..2).for_each(|_| trace.call_log.imports.push(import.clone()));
        Some(())
    }),
    ("one call too many is made in a window", Invariant::Calls, |trace| {
        trace.call_log.max_calls_in_window = trace.limits.calls + 1;
        Some(())
    }),
    ("one call too many is made at once", Invariant::Calls, |trace| {
        trace.call_log.max_concurrent_calls = trace.limits.calls_at_once + 1;
        Some(())
    }),
    ("a job of a group does not wait for the one before", Invariant::Group, |trace| {
        let of_group = |submission: &&Submission| {
            submission.file.group.is_some() && trace.jobs.iter().any(|found| found.job.filename == submission.file.name)
        };
        let last = trace.files.iter().rfind(of_group)?.file.clone();
        let older =
            trace.files.iter().filter(of_group).filter(|submission| submission.file.group == last.group).count() - 1;
        let creates = trace.call_log.creates.iter_mut();
        creates
            .filter(|create| create.file.as_ref().is_some_and(|file| file.name == last.name))
            .for_each(|create| create.at = Duration::ZERO);
        (older > 0).then_some(())
    }),
    ("two batches of a group are with Marketo at once", Invariant::Group, |trace| {
        let creates = &trace.call_log.creates;
        let grouped = |name: &str| trace.files.iter().any(|of| of.file.name == name && of.file.group.is_some());
        let of = |create: &Create| Some((create.file.clone()?, matches!(create.outcome, Outcome::Accepted(_))));
        let last_life = trace.runs.iter().rev().nth(1)?.creates;
        let at = (last_life + 1..creates.len()).find(|&at| {
            let (Some((before, taken)), Some((file, _))) = (of(&creates[at - 1]), of(&creates[at])) else {
                return false;
            };
            let both = before.name == file.name && before.sha256 != file.sha256;
            both && taken && grouped(&file.name) && !creates[at - 1].answer_lost
        })?;
        trace.call_log.creates[at].at = creates[at - 1].at;
        Some(())
    }),
    ("a job never ends", Invariant::Ended, |trace| {
        trace.jobs.last_mut()?.job.state = JobState::Running;
        Some(())
    }),
    ("a row is miscounted", Invariant::Ended, |trace| {
        let processed = &mut trace.jobs.last_mut()?.job.rows.processed;
        *processed = processed.map(|processed| processed + 1);
        Some(())
    }),
    ("a failed row is not reported", Invariant::Ended, |trace| {
        let failed = trace.jobs.iter_mut().find(|found| found.failures.is_some())?;
        failed.failures = failed.failures.as_ref()?.rsplit_once("\n").map(|(rest, _)| rest.to_owned());
        Some(())
    }),
    ("a warning file is missing", Invariant::Ended, |trace| {
        trace.jobs.iter_mut().find(|found| found.warnings.is_some())?.warnings.take().map(drop)
    }),
];

/// Asserts that each mutation of a valid trace is reported. Returns the mutations that the trace has no place for.
pub fn assert_all_detected(trace: &Trace) -> Vec<&'static str> {
    let mut not_applicable = Vec::new();
    for (name, invariant, mutate) in MUTATIONS {
        let mut mutated = trace.clone();
        if mutate(&mut mutated).is_none() {
            not_applicable.push(name);
            continue;
        }
        let violations = check(&mutated);
        assert!(
            violations.iter().any(|violations| violations.invariant == invariant),
            "\"{name}\" was not detected: {violations:?}"
        );
    }
    not_applicable
}

fn submission<'a>(trace: &'a mut Trace, name: &str) -> Option<&'a mut Submission> {
    trace.files.iter_mut().find(|submission| submission.file.name == name)
}

/// Index of an accepted upload that several files share, and the names of these files in its order.
fn shared(trace: &Trace) -> Option<(usize, Vec<String>)> {
    trace.call_log.creates.iter().enumerate().find_map(|(at, create)| {
        matches!(create.outcome, Outcome::Accepted(_)).then_some(())?;
        let content = create.file.as_ref()?.content.as_deref()?;
        let row = |name: &str| {
            let row = format!("\n{name}-0@");
            content.windows(row.len()).position(|window| window == row.as_bytes())
        };
        let names = trace.files.iter().map(|of| &of.file.name).filter_map(|name| Some((row(name)?, name.clone())));
        let names: BTreeMap<usize, String> = names.collect();
        (names.len() > 1).then(|| (at, names.into_values().collect()))
    })
}

fn sent(trace: &mut Trace) -> Option<&mut Create> {
    trace.call_log.creates.iter_mut().rev().find(|create| create.file.is_some())
}

fn refuse(trace: &mut Trace, which: impl Fn(&Create) -> bool) -> Option<()> {
    let refused = || Outcome::Refused { code: "611".into(), message: "System error".into() };
    let creates = trace.call_log.creates.iter_mut().filter(|create| which(create));
    creates.map(|create| create.outcome = refused()).last()
}

/// Index of an upload that Marketo accepted and whose answer no fault removed, in a run before the last.
fn answered(trace: &Trace, asked: bool) -> Option<usize> {
    let before_last = trace.runs.iter().rev().nth(1)?.creates;
    trace.call_log.creates[..before_last].iter().position(|create| {
        let Outcome::Accepted(id) = create.outcome else { return false };
        let import = trace.call_log.imports.iter().find(|import| import.id == id);
        !create.answer_lost && (!asked || import.is_some_and(|import| import.asked.is_some()))
    })
}

fn forget_questions(trace: &mut Trace) {
    trace.call_log.imports.iter_mut().for_each(|import| import.asked = None);
}

/// The upload at `from` is sent once more, in the run that `to` falls into.
fn again(trace: &mut Trace, from: usize, to: usize) {
    let mut create = trace.call_log.creates[from].clone();
    create.outcome = Outcome::Refused { code: "611".into(), message: "System error".into() };
    create.at = Duration::MAX;
    trace.call_log.creates.insert(to, create);
    let later = trace.runs.iter_mut().filter(|run| run.creates >= to);
    later.for_each(|run| run.creates += 1);
}

#[test]
fn oracle_accepts_a_valid_trace() {
    assert_eq!(check(&valid_trace()), []);
}

#[test]
fn oracle_reports_every_mutation() {
    assert_eq!(assert_all_detected(&valid_trace()), [""; 0], "the trace has no place for these");
}

#[test]
fn oracle_accepts_a_resend_after_a_lost_answer() {
    // Removed by a fault, or lost at a kill, and never asked after.
    for at_a_kill in [false, true] {
        let mut trace = valid_trace();
        let at = answered(&trace, false).expect("an upload");
        forget_questions(&mut trace);
        trace.call_log.creates[at].answer_lost = !at_a_kill;
        let to = if at_a_kill { trace.call_log.creates.len() } else { at + 1 };
        again(&mut trace, at, to);
        trace.limits.in_flight = 10;
        assert_eq!(
            check(&trace).iter().filter(|violations| violations.invariant == Invariant::NoUnexplainedResend).count(),
            0
        );
    }
}

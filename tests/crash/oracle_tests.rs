//! Would the judge notice? Stories are told with one thing changed each.

use std::collections::BTreeSet;
use std::time::Duration;

use marqueue::domain::{JobId, JobState};
use marqueue::simulator::call_log::{Create, File as SentFile, Outcome};

use super::oracle::{Promise, judge};
use super::trace::{Dropped, Heard, Life, Story};
use super::valid_trace::true_story;

/// Changes one thing in a story; none if there is nothing in it that can be changed so.
type Lie = fn(&mut Story) -> Option<()>;

/// Which promise each lie breaks.
const LIES: [(&str, Promise, Lie); 30] = [
    ("a job is lost", Promise::Kept, |story| story.jobs.pop().map(drop)),
    ("a job is lost of which rows were sent and nothing was heard", Promise::Kept, |story| {
        let lost = story.jobs.pop()?;
        dropped(story, &lost.job.filename)?.heard = Heard::Nothing;
        Some(())
    }),
    ("a file becomes two jobs", Promise::Kept, |story| {
        let mut twin = story.jobs.last()?.clone();
        twin.job.id = JobId(1_000_000);
        story.jobs.push(twin);
        Some(())
    }),
    ("a client heard of another job", Promise::Kept, |story| {
        let heard = story.files.iter_mut().find(|dropped| matches!(dropped.heard, Heard::Job(_)))?;
        heard.heard = Heard::Job(JobId(1_000_000));
        Some(())
    }),
    ("a good file is refused", Promise::Kept, |story| {
        story.files.last_mut()?.heard = Heard::Refused("no".into());
        Some(())
    }),
    ("a job comes from nowhere", Promise::Kept, |story| {
        let mut strange = story.jobs.last()?.clone();
        strange.job.filename = "strange.csv".into();
        story.jobs.push(strange);
        Some(())
    }),
    ("half a file is left", Promise::Kept, |story| {
        story.halves = 1;
        Some(())
    }),
    ("the last byte is lost", Promise::Whole, |story| story.jobs.last_mut()?.content.pop().map(drop)),
    ("Marketo took nothing of a job", Promise::Imported, |story| {
        let name = story.jobs.last()?.job.filename.clone();
        refuse(story, |file| file.name == name)
    }),
    ("Marketo took all of a job but one batch", Promise::Imported, |story| {
        let several = story.jobs.iter().find(|found| found.job.batches.len() > 1 || found.content.len() > 100_000)?;
        let name = several.job.filename.clone();
        let of_it = |create: &&Create| create.file.as_ref().is_some_and(|file| file.name == name);
        let file = story.ledger.accepted().filter(of_it).last()?.file.clone()?;
        refuse(story, |other| *other == file)
    }),
    ("a batch changes on the way", Promise::True, |story| {
        sent(story)?.file.as_mut()?.sha256 = "0".repeat(64);
        Some(())
    }),
    ("a file is sent that nobody dropped in", Promise::True, |story| {
        sent(story)?.file.as_mut()?.name = "strange.csv".into();
        Some(())
    }),
    ("a batch goes to another target", Promise::True, |story| {
        sent(story)?.path = "/bulk/v1/customobjects/other_c/import.json".into();
        Some(())
    }),
    ("a batch goes into another list", Promise::True, |story| {
        sent(story)?.query.insert("listId".into(), "12".into());
        Some(())
    }),
    ("rows are sent again whose import was asked after", Promise::Once, |story| {
        let at = answered(story, true)?;
        again(story, at, story.ledger.creates.len());
        Some(())
    }),
    ("rows are sent again in the same life, whose answer came", Promise::Once, |story| {
        let at = answered(story, false)?;
        forget_questions(story);
        again(story, at, at + 1);
        Some(())
    }),
    ("rows are sent again whose import the daemon had spoken of", Promise::Once, |story| {
        let at = answered(story, false)?;
        let Outcome::Accepted(id) = story.ledger.creates[at].outcome else { return None };
        forget_questions(story);
        story.lives.iter_mut().rev().nth(1)?.known.insert(id);
        again(story, at, story.ledger.creates.len());
        Some(())
    }),
    ("rows are sent again although the daemon had waited for the answer", Promise::Once, |story| {
        let at = answered(story, false)?;
        forget_questions(story);
        story.lives.iter_mut().for_each(|life| *life = Life { left: true, known: BTreeSet::new(), ..*life });
        again(story, at, story.ledger.creates.len());
        Some(())
    }),
    ("rows are sent again although a person was to be asked", Promise::Once, |story| {
        let at = answered(story, false)?;
        forget_questions(story);
        story.limits.hold = true;
        again(story, at, story.ledger.creates.len());
        Some(())
    }),
    ("more answers are lost in a death than can be on their way", Promise::Once, |story| {
        forget_questions(story);
        story.lives.iter_mut().for_each(|life| life.known.clear());
        let first = story.lives.first()?.creates;
        let accepted = |at: &usize| {
            let create = &story.ledger.creates[*at];
            matches!(create.outcome, Outcome::Accepted(_)) && !create.answer_lost
        };
        let cut_off: Vec<usize> = (0..first).filter(accepted).take(story.limits.calls_at_once + 1).collect();
        let enough = cut_off.len() > story.limits.calls_at_once;
        cut_off.into_iter().for_each(|at| again(story, at, story.ledger.creates.len()));
        enough.then_some(())
    }),
    ("one import too many is in the queue", Promise::Queue, |story| {
        let import = story.ledger.imports.last()?.clone();
        (0..story.limits.in_flight).for_each(|_| story.ledger.imports.push(import.clone()));
        Some(())
    }),
    ("three imports are at work", Promise::Queue, |story| {
        let import = story.ledger.imports.last()?.clone();
        story.limits.in_flight = usize::MAX;
        (0..2).for_each(|_| story.ledger.imports.push(import.clone()));
        Some(())
    }),
    ("one call too many is made in a window", Promise::Calls, |story| {
        story.ledger.most_calls_in_window = story.limits.calls + 1;
        Some(())
    }),
    ("one call too many is made at once", Promise::Calls, |story| {
        story.ledger.most_concurrent_calls = story.limits.calls_at_once + 1;
        Some(())
    }),
    ("a job of a group does not wait for the one before", Promise::Group, |story| {
        let of_group = |dropped: &&Dropped| {
            dropped.file.group.is_some() && story.jobs.iter().any(|found| found.job.filename == dropped.file.name)
        };
        let last = story.files.iter().rfind(of_group)?.file.clone();
        let older = story.files.iter().filter(of_group).filter(|dropped| dropped.file.group == last.group).count() - 1;
        let creates = story.ledger.creates.iter_mut();
        creates
            .filter(|create| create.file.as_ref().is_some_and(|file| file.name == last.name))
            .for_each(|create| create.at = Duration::ZERO);
        (older > 0).then_some(())
    }),
    ("two batches of a group are with Marketo at once", Promise::Group, |story| {
        let creates = &story.ledger.creates;
        let grouped = |name: &str| story.files.iter().any(|of| of.file.name == name && of.file.group.is_some());
        let of = |create: &Create| Some((create.file.clone()?, matches!(create.outcome, Outcome::Accepted(_))));
        let last_life = story.lives.iter().rev().nth(1)?.creates;
        let at = (last_life + 1..creates.len()).find(|&at| {
            let (Some((before, taken)), Some((file, _))) = (of(&creates[at - 1]), of(&creates[at])) else {
                return false;
            };
            let both = before.name == file.name && before.sha256 != file.sha256;
            both && taken && grouped(&file.name) && !creates[at - 1].answer_lost
        })?;
        story.ledger.creates[at].at = creates[at - 1].at;
        Some(())
    }),
    ("a job never ends", Promise::Ended, |story| {
        story.jobs.last_mut()?.job.state = JobState::Running;
        Some(())
    }),
    ("a row is miscounted", Promise::Ended, |story| {
        let processed = &mut story.jobs.last_mut()?.job.rows.processed;
        *processed = processed.map(|processed| processed + 1);
        Some(())
    }),
    ("a failed row is not told of", Promise::Ended, |story| {
        let failed = story.jobs.iter_mut().find(|found| found.failures.is_some())?;
        failed.failures = failed.failures.as_ref()?.rsplit_once("\n").map(|(rest, _)| rest.to_owned());
        Some(())
    }),
    ("a warning file is missing", Promise::Ended, |story| {
        story.jobs.iter_mut().find(|found| found.warnings.is_some())?.warnings.take().map(drop)
    }),
];

/// Tells every lie about a story in which nothing is wrong. Gives those for which there was no occasion.
pub fn are_found_out(story: &Story) -> Vec<&'static str> {
    let mut untold = Vec::new();
    for (name, promise, lie) in LIES {
        let mut told = story.clone();
        if lie(&mut told).is_none() {
            untold.push(name);
            continue;
        }
        let broken = judge(&told);
        assert!(broken.iter().any(|broken| broken.promise == promise), "\"{name}\" was not found out: {broken:?}");
    }
    untold
}

fn dropped<'a>(story: &'a mut Story, name: &str) -> Option<&'a mut Dropped> {
    story.files.iter_mut().find(|dropped| dropped.file.name == name)
}

fn sent(story: &mut Story) -> Option<&mut Create> {
    story.ledger.creates.iter_mut().rev().find(|create| create.file.is_some())
}

fn refuse(story: &mut Story, which: impl Fn(&SentFile) -> bool) -> Option<()> {
    let refused = || Outcome::Refused { code: "611".into(), message: "System error".into() };
    let creates = story.ledger.creates.iter_mut().filter(|create| create.file.as_ref().is_some_and(&which));
    creates.map(|create| create.outcome = refused()).last()
}

/// Where an upload stands that Marketo took and whose answer no fault ate, in a life before the last.
fn answered(story: &Story, asked: bool) -> Option<usize> {
    let before_last = story.lives.iter().rev().nth(1)?.creates;
    story.ledger.creates[..before_last].iter().position(|create| {
        let Outcome::Accepted(id) = create.outcome else { return false };
        let import = story.ledger.imports.iter().find(|import| import.id == id);
        !create.answer_lost && (!asked || import.is_some_and(|import| import.asked.is_some()))
    })
}

fn forget_questions(story: &mut Story) {
    story.ledger.imports.iter_mut().for_each(|import| import.asked = None);
}

/// The upload at `from` is sent once more, in the life that `to` falls into.
fn again(story: &mut Story, from: usize, to: usize) {
    let mut create = story.ledger.creates[from].clone();
    create.outcome = Outcome::Refused { code: "611".into(), message: "System error".into() };
    create.at = Duration::MAX;
    story.ledger.creates.insert(to, create);
    let later = story.lives.iter_mut().filter(|life| life.creates >= to);
    later.for_each(|life| life.creates += 1);
}

#[test]
fn the_judge_finds_nothing_wrong_with_a_true_story() {
    assert_eq!(judge(&true_story()), []);
}

#[test]
fn the_judge_finds_out_every_lie() {
    assert_eq!(are_found_out(&true_story()), [""; 0], "these could not be told");
}

#[test]
fn an_answer_that_was_lost_is_a_reason_to_send_again() {
    // Eaten by a fault, or by the daemon's death, and never asked after.
    for in_a_death in [false, true] {
        let mut story = true_story();
        let at = answered(&story, false).expect("an upload");
        forget_questions(&mut story);
        story.ledger.creates[at].answer_lost = !in_a_death;
        let to = if in_a_death { story.ledger.creates.len() } else { at + 1 };
        again(&mut story, at, to);
        story.limits.in_flight = 10;
        assert_eq!(judge(&story).iter().filter(|broken| broken.promise == Promise::Once).count(), 0);
    }
}

//! Benchmarks: the release binary against its targets of speed and memory, measured from outside as a whole process.
//!
//! `cargo bench --bench queue` measures all, `cargo bench --bench queue -- accepts` (or another of the [`PARTS`]) a part.
//! With `MARQUEUE_WRITE_DOCS=1` the tables go to `docs/performance.md` too. The exit status is 1 where a target is
//! missed. Beside each figure of the disk stands what the disk itself gives in the same run: on another machine the ratio
//! can still be compared, and the figure alone cannot.
//!
//! Temporary files go to `TMPDIR`; on a file system in memory the figures of durable accepts mean nothing.
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use page::Page;

mod accepts;
mod bench_daemon;
mod client;
mod instances;
mod large_files;
mod leads;
mod memory;
mod packing;
mod page;
mod peers;
mod row_match;
mod scale;
mod shared_report;
mod shared_writes;
mod slots;
mod web_page;

/// The names of the parts. Their tables stand between marks of the same name on the page.
const PARTS: &[&str] = &[
    "accepts",
    "memory",
    "large_files",
    "large_files_4gb",
    "slots",
    "row_match",
    "packing",
    "instances",
    "scale",
    "page",
    "peers",
];

/// What was measured: each line is printed at once and kept for the page; and whether a target was missed.
#[derive(Default)]
pub struct Report {
    missed: bool,
    page: Rc<RefCell<Page>>,
}

impl Report {
    /// The title of what follows.
    fn part(&self, title: &str) {
        println!("\n{title}");
        self.page.borrow_mut().table(title);
    }

    /// A figure that explains others.
    fn figure(&self, what: &str, value: &str) {
        println!("  {what:<58} {value:>24}");
        self.page.borrow_mut().line(what, value, "", "");
    }

    /// A figure that has a target, in the unit of the figure.
    fn target(&mut self, what: &str, value: &str, target: &str, reached: bool) {
        self.missed |= !reached;
        let verdict = if reached { "reached" } else { "MISSED" };
        println!("  {what:<58} {value:>24}   {target:<14} {verdict}");
        self.page.borrow_mut().line(what, value, target, verdict);
    }
}

/// Returns the median; of an even number of values the upper one of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    // Cargo passes `--bench` to every benchmark.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let Some(word) = chosen.iter().find(|word| !PARTS.contains(&word.as_str())) {
        println!("there is no part \"{word}\", but: {}", PARTS.join(", "));
        return ExitCode::from(2);
    }
    let four_gb = chosen.iter().any(|word| word == "large_files_4gb");
    let mut report = Report::default();
    let page = Rc::clone(&report.page);
    let wanted = |part: &'static str| {
        page.borrow_mut().begin(part);
        chosen.is_empty() || chosen.iter().any(|word| word == part)
    };
    if wanted("row_match") {
        row_match::measure(&mut report);
        shared_report::measure(&mut report);
    }
    // One thread for the simulator; the clients have threads of their own, and this one waits.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("the runtime starts");
    runtime.block_on(async {
        if wanted("accepts") {
            accepts::measure(&mut report).await;
        }
        if wanted("memory") {
            memory::measure(&mut report).await;
        }
        // Both write the same table. That of 4 GB is measured only where it is named, for the room that it takes.
        let is_usual = wanted("large_files");
        if four_gb {
            large_files::measure(&mut report, large_files::Extent::FourGb).await;
        } else if is_usual {
            large_files::measure(&mut report, large_files::Extent::Usual).await;
        }
        if wanted("slots") {
            slots::measure(&mut report).await;
        }
        if wanted("instances") {
            instances::measure(&mut report).await;
        }
        if wanted("scale") {
            scale::measure(&mut report).await;
        }
        if wanted("page") {
            web_page::measure(&mut report).await;
        }
        if wanted("peers") {
            peers::measure(&mut report).await;
        }
        if wanted("packing") {
            accepts::measure_packed(&report).await;
            shared_writes::measure(&mut report).await;
            shared_report::measure_daemon(&mut report).await;
            packing::measure(&mut report).await;
        }
    });
    if std::env::var_os("MARQUEUE_WRITE_DOCS").is_some() {
        for part in page.borrow().write() {
            println!("docs/performance.md has no marks for \"{part}\"");
        }
    }
    ExitCode::from(u8::from(report.missed))
}

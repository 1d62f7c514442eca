//! What is counted, and the most instructions of each.
#![expect(clippy::disallowed_methods, reason = "the library's main ends the process by its exit code")]

use std::collections::HashMap;
use std::hint::black_box;

use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group};
use marqueue::api::handlers::create;
use marqueue::delimited::{FileLayout, ReportMatcher, RowMatch, ScanRules, Scanner, columns};
use marqueue::domain::{Format, Source};
use marqueue::scheduler::{Plan, plan};
use marqueue::store::{CHUNK_BYTES, CompressedChunk, NewJob};

use crate::inputs::{HEADER, PIECE_BYTES, PlanInput, Reported, leads, plan_input, query, reported, scan_rules};

/// The most instructions of a benchmark.
fn limited(name: &str) -> LibraryBenchmarkConfig {
    let line = include_str!("limits.txt").lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    // Without a line nothing is allowed: a new benchmark fails until its limit is written.
    let most: u64 = line.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, most)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

// Checks 1 MB and cuts it into ten parts.
#[library_benchmark(config = limited("scan"))]
#[bench::one_mb(leads(1_000_000), scan_rules())]
fn scan(file: String, rules: ScanRules) -> FileLayout {
    let mut scanner = Scanner::new(black_box(rules));
    for piece in black_box(&file).as_bytes().chunks(PIECE_BYTES) {
        scanner.push(piece).expect("the file is valid");
    }
    scanner.finish().expect("the file is valid")
}

#[library_benchmark(config = limited("compress"))]
#[bench::chunk(leads(CHUNK_BYTES))]
fn compress(chunk: String) -> CompressedChunk {
    CompressedChunk::compress(0, black_box(&chunk).as_bytes()).expect("zstd has memory")
}

// Plans for 10 batches in flight and 1,000 pending ones.
#[library_benchmark(config = limited("plan_steps"))]
#[bench::thousand(plan_input(1_000))]
fn plan_steps(input: PlanInput) -> Plan {
    let PlanInput { snapshot, rules, now } = black_box(input);
    plan(&snapshot, &HashMap::new(), &rules, now)
}

// Matches a report about half of the rows of 1 MB.
#[library_benchmark(config = limited("match_rows"))]
#[bench::one_mb(reported(1_000_000))]
fn match_rows(input: Reported) -> RowMatch {
    let Reported { upload, report } = black_box(input);
    let mut matcher = ReportMatcher::new(columns(HEADER.as_bytes(), Format::Csv), Format::Csv);
    report.as_bytes().chunks(PIECE_BYTES).for_each(|piece| matcher.push(piece));
    let mut matcher = matcher.finish();
    upload.as_bytes().chunks(PIECE_BYTES).for_each(|piece| matcher.push(piece));
    matcher.finish(&[])
}

// Reads the parameters of a request that adds a job.
#[library_benchmark(config = limited("read_parameters"))]
#[bench::all(query())]
fn read_parameters(query: &'static str) -> NewJob {
    let pairs = url::form_urlencoded::parse(black_box(query).as_bytes()).into_owned().collect();
    create::read(pairs, None, Source::Socket { uid: Some(0) }).expect("they are valid").0
}

library_benchmark_group!(name = hot_paths, benchmarks = [scan, compress, plan_steps, match_rows, read_parameters]);

gungraun::main!(library_benchmark_groups = hot_paths);

/// What the library made of it.
pub fn run() {
    main();
}

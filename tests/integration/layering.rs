//! Layering: every file imports only from lower layers. `docs/architecture.md` shows the layers.
//!
//! Within a folder, no file imports from the folder's own root file (`store.rs` of `store/`), which only declares and
//! re-exports. So the root may re-export any of its children without an import cycle.
//!
//! The test reads all paths that begin with `crate::`, `super::`, `self::` or `marqueue::`, in `use` lines and
//! elsewhere. Comments, texts and the test module at a file's end are ignored: tests may import from higher layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

mod reader;

/// From the lowest layer up. A module imports none of its own layer.
const LAYERS: [&[&str]; 11] = [
    &["backoff", "byte_order_mark", "clock", "disk", "form", "log_throttle", "secret", "untrusted_text"],
    &["domain", "error_chain"],
    &["config"],
    &["delimited", "store", "marketo"],
    &["intake", "scheduler", "retention", "simulator", "http_server"],
    &["drop_folder"],
    &["api"],
    // A notification carries the job in the form of the API.
    &["client", "notification"],
    &["daemon"],
    // The command `demo` has a daemon in its own process.
    &["cli"],
    &["main"],
];

/// The steps of a job: each ends in a row, and the next begins with that row.
const STEPS: [&str; 3] = ["upload", "poll", "fetch_reports"];

/// The order within a folder, from the lowest layer up: a file imports none of a higher layer.
const INNER_LAYERS: [(&str, &[&[&str]]); 1] = [(
    "store",
    &[
        &["error", "events", "models", "new_job", "batch_changes", "job_filter"],
        &["change_log"],
        &["event_bus"],
        &["engine"],
        &["tables"],
        &["handle", "inspection", "backup_verification"],
        &["content", "operations"],
    ],
)];

/// A file's module path, such as `["schedule", "upload"]`, and its source.
type Sources = BTreeMap<Vec<String>, String>;

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Why `from` must not import `to`; both are module paths, that of `to` with the item's name behind it.
fn fault(from: &[String], to: &[String]) -> Option<String> {
    let (own, other) = (from[0].as_str(), to.first().map_or("", String::as_str));
    let Some(own_layer) = layer(own) else { return Some(format!("{own} is in no layer")) };
    let Some(other_layer) = layer(other) else { return Some(format!("{other} is in no layer")) };
    let second = |path: &[String]| path.get(1).cloned().unwrap_or_default();
    if own == other {
        let (here, there) = (second(from), second(to));
        let steps = STEPS.contains(&here.as_str()) && STEPS.contains(&there.as_str());
        return (own == "scheduler" && steps && here != there).then(|| format!("{here} and {there} are two steps"));
    }
    if own == "simulator" && other == "marketo" && second(to) != "types" {
        return Some("the simulator shares the body types with the client and nothing else".to_owned());
    }
    (other_layer >= own_layer).then(|| format!("{other} is not below {own}"))
}

/// Why the file `from` must not import `to` of its own folder, or of a folder that it is in.
fn inner_fault(sources: &Sources, from: &[String], to: &[String]) -> Option<String> {
    let inner = |path: &[String]| {
        let (_, layers) = INNER_LAYERS.iter().find(|(folder, _)| path.first().is_some_and(|first| first == folder))?;
        let file = path.get(1)?;
        layers.iter().position(|layer| layer.contains(&file.as_str()))
    };
    if from[0] == to[0]
        && let (Some(here), Some(there)) = (inner(from), inner(to))
        && there > here
    {
        return Some(format!("{} is not below {}", to[1], from[1]));
    }
    // The file that has the item: the longest prefix that is a file. A path without an item is that of `pub(in …)`.
    let file = (1..=to.len()).rev().map(|length| &to[..length]).find(|path| sources.contains_key(*path))?;
    let is_root = file.len() < from.len().min(to.len()) && from.starts_with(file);
    is_root.then(|| "a root file only declares and re-exports".to_owned())
}

fn faults(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (from, source) in sources {
        for to in reader::imports(from, source) {
            if let Some(reason) = fault(from, &to).or_else(|| inner_fault(sources, from, &to)) {
                found.push(format!("{} imports {}: {reason}", from.join("::"), to.join("::")));
            }
        }
    }
    found
}

/// Files that import each other, directly or indirectly. A file and those in its folder count as one: a parent
/// re-exports what its children have, and they use what it has.
fn cycles(sources: &Sources) -> Vec<String> {
    let mut edges: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for (from, source) in sources {
        for to in reader::imports(from, source) {
            let file = (1..=to.len()).rev().find_map(|length| sources.get_key_value(&to[..length]));
            if let Some((file, _)) = file
                && !from.starts_with(file)
                && !file.starts_with(from)
            {
                edges.entry(from).or_default().insert(file);
            }
        }
    }
    let reaches = |from: &[String]| {
        let mut seen = BTreeSet::new();
        let mut ahead: Vec<&[String]> = edges.get(from).into_iter().flatten().copied().collect();
        while let Some(file) = ahead.pop() {
            if seen.insert(file) {
                ahead.extend(edges.get(file).into_iter().flatten());
            }
        }
        seen
    };
    edges.keys().filter(|from| reaches(from).contains(*from)).map(|from| from.join("::")).collect()
}

/// Every file below `src` but `lib.rs`, which only lists the modules, and files of tests, whose names end in `tests`.
fn sources() -> Sources {
    fn walk(folder: &Path, module: &[String], found: &mut Sources) {
        for entry in fs::read_dir(folder).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            let name = path.file_stem().expect("an entry has a name").to_string_lossy().into_owned();
            let module = [module, std::slice::from_ref(&name)].concat();
            if path.is_dir() {
                walk(&path, &module, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") && name != "lib" && !name.ends_with("tests")
            {
                found.insert(module, fs::read_to_string(&path).expect("a source file can be read"));
            }
        }
    }
    let mut found = Sources::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut found);
    found
}

/// Sources that are made up: `scheduler::upload` and what stands in it.
fn made_up(files: &[(&str, &str)]) -> Sources {
    let module = |name: &str| name.split("::").map(str::to_owned).collect();
    files.iter().map(|(name, source)| (module(name), (*source).to_owned())).collect()
}

#[test]
fn every_file_imports_only_from_lower_layers() {
    let sources = sources();
    assert!(sources.contains_key(&["domain".to_owned()][..]), "the reader has found nothing");
    assert_eq!(faults(&sources), Vec::<String>::new());
}

#[test]
fn one_file_alone_has_unsafe_code() {
    let with_unsafe = |(module, source): (Vec<String>, String)| {
        let lifts_the_ban = source.contains("expect(unsafe_code") || source.contains("allow(unsafe_code");
        lifts_the_ban.then(|| module.join("/"))
    };
    let found: Vec<_> = sources().into_iter().filter_map(with_unsafe).collect();
    assert_eq!(found, ["daemon/memory_release"], "see docs/decisions/0073");
}

#[test]
fn there_is_no_import_cycle() {
    assert_eq!(cycles(&sources()), Vec::<String>::new());
}

#[test]
fn an_import_from_the_same_or_a_higher_layer_is_reported() {
    for (from, source, found) in [
        (
            "domain",
            "use crate::error_chain::sentence;",
            "domain imports error_chain::sentence: error_chain is not below domain",
        ),
        ("store", "use crate::delimited;", "store imports delimited: delimited is not below store"),
        ("store::writer", "use super::super::api::Job;", "store::writer imports api::Job: api is not below store"),
        ("marketo", "use super::daemon::run;", "marketo imports daemon::run: daemon is not below marketo"),
        (
            "intake",
            "use crate::{\n    domain::JobId,\n    cli::{self as c, show::Show},\n};",
            "intake imports cli: cli is not below intake\nintake imports cli::show::Show: cli is not below intake",
        ),
        ("intake", "fn f() { crate::api::serve() }", "intake imports api::serve: api is not below intake"),
        ("cli", "use crate::main::x;", "cli imports main::x: main is not below cli"),
        ("main", "use marqueue::attic::X;", "main imports attic::X: attic is in no layer"),
        ("attic", "use crate::domain::JobId;", "attic imports domain::JobId: attic is in no layer"),
        (
            "simulator::http",
            "use crate::marketo::{Client, types::Import};",
            "simulator::http imports marketo::Client: the simulator shares the body types with the client and nothing else",
        ),
        (
            "scheduler::upload",
            "use super::{plan::Step, poll::ask};",
            "scheduler::upload imports scheduler::poll::ask: upload and poll are two steps",
        ),
    ] {
        assert_eq!(faults(&made_up(&[(from, source)])).join("\n"), found, "{source}");
    }
}

#[test]
fn an_import_within_a_folder_against_its_order_is_reported() {
    let sources = made_up(&[
        ("domain", "pub use ids::JobId;"),
        ("domain::ids", "use crate::domain::Format;\nuse super::Target;"),
        ("store", "mod engine;"),
        ("store::engine", ""),
        ("store::engine::writer", "use crate::store::tables::jobs::read;"),
        ("store::tables::jobs", "use crate::store::engine::writer::Writer;\nuse crate::store::handle::Store;"),
        ("store::handle", "use crate::store::events::ChangeEvent;"),
        ("store::events", ""),
    ]);
    assert_eq!(
        faults(&sources),
        [
            "domain::ids imports domain::Format: a root file only declares and re-exports",
            "domain::ids imports domain::Target: a root file only declares and re-exports",
            "store::engine::writer imports store::tables::jobs::read: tables is not below engine",
            "store::tables::jobs imports store::handle::Store: handle is not below tables",
        ]
    );
}

#[test]
fn allowed_imports_are_not_reported() {
    let sources = made_up(&[
        ("domain", "mod states;\npub use states::step;\nuse std::fmt;"),
        ("domain::states", "use super::ids::{JobId, find};\npub(in crate::domain) fn f() { super::ids::g::<u8>() }"),
        ("domain::ids", "use std::fmt;"),
        ("simulator", "use crate::marketo::types::{self, Import};\nuse crate::domain::Format;"),
        ("scheduler::poll", "use super::plan;\nuse crate::store::Store;\nuse self::policy::next;"),
        ("main", "use marqueue::{cli, daemon};"),
        (
            "store",
            "//! Unlike [`crate::api`].\n/* crate::api */ const A: &str = \"crate::api::X\"; const B: &str = r#\"\"crate::cli::X\"#;",
        ),
        (
            "delimited",
            "fn f<'a>(c: char) -> bool { c == '\"' }\n#[cfg(test)]\nmod tests {\n    use crate::store::X;\n}",
        ),
    ]);
    assert_eq!(faults(&sources), Vec::<String>::new());
    assert_eq!(cycles(&sources), Vec::<String>::new());
}

#[test]
fn an_indirect_import_cycle_is_reported() {
    let sources = made_up(&[
        ("store", "mod a; mod b; mod c;"),
        ("store::a", "use super::b::B;"),
        ("store::b", "use super::c::C;"),
        ("store::c", "use crate::store::a::A;"),
        ("store::d", "use super::a::A;"),
    ]);
    assert_eq!(cycles(&sources), ["store::a", "store::b", "store::c"]);
}

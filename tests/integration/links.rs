//! The documentation's links: each relative link and anchor resolves, and each page can be reached from the README.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Adds the Markdown files below `folder`, as paths relative to the repository.
fn add_pages(folder: &str, pages: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(repository().join(folder)).expect("the folder") {
        let entry = entry.expect("an entry");
        let path = Path::new(folder).join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            add_pages(path.to_str().expect("a path of text"), pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.insert(path);
        }
    }
}

/// Returns the text without fenced code blocks, where brackets and `#` mean something else.
fn without_code(text: &str) -> String {
    let mut is_code = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Returns the targets of the links `[text](target)`.
fn link_targets(text: &str) -> Vec<String> {
    let parts = text.split("](").skip(1);
    parts.filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// Returns a heading's anchor as web renderers make it: lower case, `-` for blanks, other punctuation removed.
fn anchor(heading: &str) -> String {
    let letters = heading.trim().to_lowercase();
    let kept = letters.chars().filter(|&letter| letter.is_alphanumeric() || " -_".contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// Resolves `link` as seen from `page`; both are relative to the repository.
fn resolve(page: &Path, link: &str) -> PathBuf {
    let mut path = page.parent().expect("a folder").to_path_buf();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{} links out of the repository: {link}", page.display()),
            other => path.push(other),
        }
    }
    path
}

fn read(page: &Path) -> String {
    without_code(&fs::read_to_string(repository().join(page)).expect("the page"))
}

fn pages() -> BTreeSet<PathBuf> {
    let top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(PathBuf::from);
    let mut pages: BTreeSet<PathBuf> = top.into_iter().filter(|page| repository().join(page).exists()).collect();
    add_pages("docs", &mut pages);
    pages
}

/// Returns the page's relative links as (file, anchor).
fn relative_links(page: &Path) -> Vec<(PathBuf, Option<String>)> {
    let targets = link_targets(&read(page)).into_iter().filter(|target| !target.contains("://"));
    let split = |target: String| {
        let (file, anchor) = target.split_once('#').map_or((&target[..], None), |(file, anchor)| (file, Some(anchor)));
        let file = if file.is_empty() { page.to_path_buf() } else { resolve(page, file) };
        (file, anchor.map(str::to_owned))
    };
    targets.map(split).collect()
}

#[test]
fn every_relative_link_and_anchor_resolves() {
    let mut broken = Vec::new();
    let mut count = 0;
    for page in pages() {
        for (file, wanted) in relative_links(&page) {
            count += 1;
            if !repository().join(&file).exists() {
                broken.push(format!("{}: no file {}", page.display(), file.display()));
            } else if let Some(wanted) = wanted.filter(|wanted| !anchors(&read(&file)).contains(wanted)) {
                broken.push(format!("{}: no heading #{wanted} in {}", page.display(), file.display()));
            }
        }
    }
    assert!(count > 20, "only {count} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let all = pages();
    let mut reached = BTreeSet::from([PathBuf::from("README.md")]);
    let mut waiting = vec![PathBuf::from("README.md")];
    while let Some(page) = waiting.pop() {
        for (file, _) in relative_links(&page) {
            if all.contains(&file) && reached.insert(file.clone()) {
                waiting.push(file);
            }
        }
    }
    let unlinked: Vec<_> = all.difference(&reached).collect();
    assert!(unlinked.is_empty(), "no page links to {unlinked:?}");
}

#[test]
fn anchors_are_made_as_web_renderers_do() {
    assert_eq!(anchor(" What is erased, and when"), "what-is-erased-and-when");
    assert_eq!(anchor("`job.toml`: options"), "jobtoml-options");
}

/// Returns the repository's files and folders that the Debian package has below its folder of documentation.
fn packaged_documents() -> BTreeSet<PathBuf> {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("the manifest");
    let mut documents = BTreeSet::new();
    for line in manifest.lines() {
        let fields: Vec<_> = line.split('"').collect();
        let [_, from, _, to, _, _, _] = fields[..] else { continue };
        let Some(folder) = to.strip_prefix("usr/share/doc/marqueue/") else { continue };
        let from = Path::new(from);
        // The third-party licences are generated; licences stand beside the pages.
        if from.starts_with("target") || from.parent() != Some(Path::new(folder.trim_end_matches('/'))) {
            continue;
        }
        documents.insert(from.parent().expect("a folder").to_path_buf());
        let name = from.file_name().and_then(|name| name.to_str()).expect("a name");
        let (begins, ends) = name.split_once('*').unwrap_or((name, ""));
        for entry in fs::read_dir(repository().join(from.parent().expect("a folder"))).expect("the folder") {
            let found = entry.expect("an entry").file_name().into_string().expect("a name of text");
            if found == name || (name.contains('*') && found.starts_with(begins) && found.ends_with(ends)) {
                documents.insert(from.with_file_name(found));
            }
        }
    }
    documents
}

#[test]
fn links_of_packaged_pages_resolve_in_the_package() {
    let packaged = packaged_documents();
    let mut count = 0;
    let mut broken = Vec::new();
    for page in packaged.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        for (file, _) in relative_links(page) {
            count += 1;
            let file: PathBuf = file.components().collect();
            if !packaged.contains(&file) {
                broken.push(format!("{} links to {}, which is not packaged", page.display(), file.display()));
            }
        }
    }
    assert!(count > 20, "only {count} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

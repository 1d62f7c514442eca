//! Check of the drop folder: whether files can be taken from it, and whether rejected files wait there.

use std::path::Path;

use crate::cli::doctor::disk;
use crate::cli::doctor::finding::Finding;
use crate::cli::format::count;
use crate::config::Config;
use crate::drop_folder::{folders_with_invalid_options, rejected_files};

const CHECK: &str = "drop folder";

/// Checks the drop folder.
pub fn check_drop_folder(config: &Config) -> Vec<Finding> {
    let Some(path) = &config.drop.path else { return Vec::new() };
    let shown = path.display();
    if !path.exists() {
        // The daemon's start creates it, with its missing parents.
        let above = path.ancestors().skip(1).find(|folder| folder.exists());
        let above = above.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return vec![disk::check_folder_access(CHECK, above).unwrap_or_else(|| {
            Finding::ok(CHECK, format!("{shown} does not exist yet, and the next start can create it"))
        })];
    }
    let mut folders = vec![path.clone()];
    for instance in config.instances.keys() {
        let kinds = ["", "leads", "custom-objects", "program-members"].iter();
        folders.extend(kinds.map(|kind| path.join(instance).join(kind)).filter(|folder| folder.exists()));
    }
    let mut findings: Vec<Finding> =
        folders.iter().find_map(|folder| disk::check_folder_access(CHECK, folder)).into_iter().collect();
    let rejected = path.join("rejected");
    match rejected_files(path) {
        Ok(0) => {}
        Ok(files) => {
            let detail = format!("{} rejected in {}", count(files, "file"), rejected.display());
            let advice = "read the .reason.txt beside each, correct it and drop it in again, or remove both";
            findings.push(Finding::warning(CHECK, detail, advice));
        }
        Err(error) => {
            let detail = format!("{} can't be read: {error}", rejected.display());
            findings.push(Finding::error(CHECK, detail, disk::AS_SERVICE));
        }
    }
    match folders_with_invalid_options(path) {
        Ok(invalid) => findings.extend(invalid.into_iter().map(|folder| {
            let detail = format!("job.toml of {} was not valid when the daemon read it", path.join(folder).display());
            Finding::warning(CHECK, detail, "read job.toml.reason.txt beside it and correct it")
        })),
        // One finding for one cause.
        Err(_) if !findings.is_empty() => {}
        Err(error) => {
            let detail = format!("{shown} can't be read: {error}");
            findings.push(Finding::error(CHECK, detail, disk::AS_SERVICE));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("files can be taken from {shown}, and none was rejected")));
    }
    findings
}

//! Check of the database: whether the daemon can use or create it, and whether it has jobs that no instance will send.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::Access;

use crate::cli::doctor::disk;
use crate::cli::doctor::finding::Finding;
use crate::cli::format::count;
use crate::config::Config;
use crate::disk::parent_folder;
use crate::store::{InspectError, InspectionReport, inspect, resolve_path};

const CHECK: &str = "database";

/// Checks the database.
pub async fn check_database(config: &Config) -> Vec<Finding> {
    // If the path can't be resolved, the checks below report the path as written.
    let path = &resolve_path(&config.store.path).unwrap_or_else(|_| config.store.path.clone());
    if let Some(denied) = disk::check_folder_access(CHECK, parent_folder(path)) {
        return vec![denied];
    }
    let shown = path.display();
    let mode = match fs::metadata(path) {
        Ok(file) if !file.is_file() => {
            let advice = "move it away, or name another store.path";
            return vec![Finding::error(CHECK, format!("{shown} is no file"), advice)];
        }
        Ok(file) => file.permissions().mode(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::ok(CHECK, format!("{shown} does not exist yet, and the first start can create it"))];
        }
        Err(error) => {
            return vec![Finding::error(CHECK, format!("{shown} can't be read: {error}"), disk::AS_SERVICE)];
        }
    };
    if let Some(refused) = disk::check_access(CHECK, path, Access::READ_OK | Access::WRITE_OK) {
        return vec![refused];
    }
    let mut findings = match inspect(path).await {
        Ok(found) => valid(path, found, config),
        Err(error) => vec![invalid(path, &error)],
    };
    if mode & 0o077 != 0 {
        let detail = format!("others than its owner have rights on {shown}, which holds personal data");
        findings.push(Finding::warning(CHECK, detail, format!("take them away (chmod 600 {shown})")));
    }
    findings
}

fn valid(path: &Path, found: Option<InspectionReport>, config: &Config) -> Vec<Finding> {
    let shown = path.display();
    let Some(InspectionReport { schema, known, unended }) = found else {
        return vec![Finding::ok(CHECK, format!("{shown} is empty, and the first start fills it"))];
    };
    let mut findings = vec![if schema < known {
        let detail = format!("{shown} is intact, and the next start brings it from schema {schema} to {known}");
        Finding::ok(CHECK, detail).with_hint("make a copy before (marqueue backup FILE)")
    } else {
        Finding::ok(CHECK, format!("{shown} is intact, and its schema is this program's ({schema})"))
    }];
    for (name, jobs) in unended {
        if !config.instances.contains_key(&name) {
            let detail = format!("{} for instance {name}, which is not in the configuration", waiting(jobs));
            let advice = format!("write [instances.{name}] again, or cancel them (marqueue list, marqueue cancel ID)");
            findings.push(Finding::warning("jobs", detail, advice));
        }
    }
    findings
}

fn waiting(jobs: u64) -> String {
    format!("{} {}", count(jobs, "job"), if jobs == 1 { "waits" } else { "wait" })
}

fn invalid(path: &Path, error: &InspectError) -> Finding {
    let detail = format!("{}: {error}", path.display());
    let advice = match error {
        InspectError::LogAlone => {
            return Finding::warning(CHECK, detail, "start the daemon, and run the check again");
        }
        InspectError::Newer { .. } => "install that version again",
        InspectError::Foreign => "name another store.path",
        InspectError::Damaged(_) | InspectError::Sql(_) => {
            "stop the daemon, keep the file and those beside it, and restore a copy (docs/operations.md, Restore)"
        }
    };
    Finding::error(CHECK, detail, advice)
}

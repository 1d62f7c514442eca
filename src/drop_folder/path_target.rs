//! Path target: derives the parameters of a job from the path of its folder and from `job.toml`.
//!
//! The path gives the instance and the target, `job.toml` the other options.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use crate::clock::StartTime;
use crate::domain::{Format, Source, Target};
use crate::intake::Checks;
use crate::intake::packing::validate_packing;
use crate::intake::validate::validate_parameters;
use crate::store::NewJob;

const VALID_FOLDERS: &str = "files belong into leads, custom-objects/NAME or program-members/ID/STATUS below";

/// The instance and the target of the files of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FolderTarget {
    pub(super) instance: String,
    pub(super) target: Target,
}

/// The keys of `job.toml`, all optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FolderOptions {
    priority: i64,
    group: Option<String>,
    /// Overrides the format of the file's extension, such as `ssv` for a `.csv` with semicolons.
    format: Option<Format>,
    check: Option<bool>,
    lookup_field: Option<String>,
    list_id: Option<i64>,
    partition: Option<String>,
    not_before: Option<StartTime>,
    in_order: bool,
    canary: Option<u64>,
    max_failed_percent: Option<u8>,
    pack: Option<bool>,
    /// The earliest time of the uploads, as `not_before` meant it when the options were read.
    #[serde(skip)]
    earliest: Option<Timestamp>,
}

/// Reads a folder's path, which is relative to the drop folder.
///
/// # Errors
/// A sentence that names the folders in which files belong.
pub(super) fn parse_folder(folder: &Path, instances: &BTreeSet<String>) -> Result<FolderTarget, String> {
    let names: Option<Vec<&str>> = folder.iter().map(OsStr::to_str).collect();
    let names = names.ok_or("the name of a folder above it is not UTF-8")?;
    let Some((&instance, below)) = names.split_first() else {
        return Err(format!("it is in no instance's folder: {VALID_FOLDERS} that"));
    };
    if !instances.contains(instance) {
        let known = instances.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(format!("there is no instance \"{instance}\" in the configuration: it has {known}"));
    }
    let target = match *below {
        ["leads"] => Target::Leads { lookup_field: None, list_id: None, partition: None },
        ["custom-objects", name] => Target::CustomObject { name: name.to_owned() },
        ["program-members", id, status] => {
            let program_id = id.parse().ok().filter(|id| *id > 0);
            let program_id = program_id
                .ok_or_else(|| format!("program-members/{id}: the id of a program is a whole number, not \"{id}\""))?;
            Target::ProgramMembers { program_id, status: status.to_owned() }
        }
        _ => return Err(format!("{} is not a folder for files: {VALID_FOLDERS} {instance}", folder.display())),
    };
    Ok(FolderTarget { instance: instance.to_owned(), target })
}

impl FolderOptions {
    /// Reads `job.toml` for the files of a folder. Options with which every file would be refused are refused here, so
    /// that the files wait until `job.toml` is corrected.
    ///
    /// # Errors
    /// A sentence that names the key or the line.
    pub(super) fn read(text: &str, folder_target: &FolderTarget, now: Timestamp) -> Result<FolderOptions, String> {
        let mut options: FolderOptions = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            format!("{line}{}", error.message().trim_end().replace('\n', "; "))
        })?;
        if !matches!(folder_target.target, Target::Leads { .. }) {
            let only_leads = [
                ("lookup_field", options.lookup_field.is_some()),
                ("list_id", options.list_id.is_some()),
                ("partition", options.partition.is_some()),
            ];
            if let Some((key, _)) = only_leads.into_iter().find(|(_, is_set)| *is_set) {
                return Err(format!("{key} is for leads, and these files are for {}", folder_target.target.kind()));
            }
        }
        options.earliest = options.not_before.map(|time| time.resolve_in_system_zone(now)).transpose()?;
        let job = options.job(folder_target, Path::new("any.csv"), "any.csv", Format::Csv);
        validate_packing(&job, options.checks())
            .and_then(|()| validate_parameters(&job, now))
            .map_err(|error| error.to_string())?;
        Ok(options)
    }

    pub(super) fn checks(&self) -> Checks {
        if self.check.unwrap_or(true) { Checks::All } else { Checks::None }
    }

    /// Returns the job's parameters. `path` is the file's, relative to the drop folder.
    pub(super) fn job(&self, folder_target: &FolderTarget, path: &Path, filename: &str, format: Format) -> NewJob {
        let target = match &folder_target.target {
            Target::Leads { .. } => Target::Leads {
                lookup_field: self.lookup_field.clone(),
                list_id: self.list_id,
                partition: self.partition.clone(),
            },
            other => other.clone(),
        };
        NewJob {
            instance: folder_target.instance.clone(),
            target,
            filename: filename.to_owned(),
            format: self.format.unwrap_or(format),
            priority: self.priority,
            group: self.group.clone(),
            not_before: self.earliest,
            in_order: self.in_order,
            canary: self.canary,
            max_failed_percent: self.max_failed_percent,
            pack: self.pack,
            idempotency_key: None,
            retry_of: None,
            source: Source::Drop { path: path.display().to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn target_of(folder: &str) -> Result<FolderTarget, String> {
        parse_folder(Path::new(folder), &BTreeSet::from(["default".to_owned(), "eu".to_owned()]))
    }

    #[test]
    fn a_folder_names_instance_and_target() {
        for (folder, instance, target) in [
            ("default/leads", "default", "leads"),
            ("eu/custom-objects/car_c", "eu", "custom-object car_c"),
            ("default/program-members/1044/On List", "default", "program-members 1044 (On List)"),
        ] {
            let folder_target = target_of(folder).unwrap();
            assert_eq!(
                (folder_target.instance.as_str(), folder_target.target.to_string().as_str()),
                (instance, target)
            );
        }
    }

    #[test]
    fn a_wrong_folder_gives_the_folders_for_files() {
        for (folder, reason) in [
            ("", "it is in no instance's folder: files belong into"),
            ("us/leads", "there is no instance \"us\" in the configuration: it has default, eu"),
            (
                "default",
                "default is not a folder for files: files belong into leads, custom-objects/NAME or program-members",
            ),
            ("default/leads/old", "default/leads/old is not a folder for files"),
            ("default/lead", "default/lead is not a folder for files"),
            ("default/custom-objects", "default/custom-objects is not a folder"),
            ("default/program-members/1044", "default/program-members/1044 is not a folder"),
            ("default/program-members/x/Member", "the id of a program is a whole number, not \"x\""),
            ("default/program-members/-1/Member", "the id of a program is a whole number, not \"-1\""),
        ] {
            let error = target_of(folder).unwrap_err();
            assert!(error.contains(reason), "{folder}: {error}");
        }
    }

    #[test]
    fn job_toml_gives_each_option_of_its_files() {
        let text = "priority = 5\ngroup = \"g\"\nlookup_field = \"id\"\nlist_id = 7\npartition = \"EU\"\nformat = \"ssv\"\ncheck = false\nnot_before = \"1970-06-01T02:00:00+02:00\"";
        let folder_target = target_of("eu/leads").unwrap();
        let options = FolderOptions::read(text, &folder_target, NOW).unwrap();
        let job = options.job(&folder_target, Path::new("eu/leads/a.csv"), "a.csv", Format::Csv);
        let target = Target::Leads { lookup_field: Some("id".into()), list_id: Some(7), partition: Some("EU".into()) };
        assert_eq!((job.target, job.format, job.priority, job.group.as_deref()), (target, Format::Ssv, 5, Some("g")));
        assert_eq!((job.instance.as_str(), job.filename.as_str(), options.checks()), ("eu", "a.csv", Checks::None));
        assert_eq!(job.not_before, Some("1970-06-01T00:00:00Z".parse().unwrap()));
        let no_options = FolderOptions::read("", &folder_target, NOW).unwrap();
        assert_eq!(no_options.checks(), Checks::All);
        assert_eq!(no_options.job(&folder_target, Path::new("a.tsv"), "a.tsv", Format::Tsv).format, Format::Tsv);
    }

    #[test]
    fn job_toml_turns_packing_on_and_off() {
        let folder_target = target_of("default/leads").unwrap();
        for (text, pack) in [("", None), ("pack = true", Some(true)), ("pack = false\ngroup = \"g\"", Some(false))] {
            let options = FolderOptions::read(text, &folder_target, NOW).unwrap();
            let job = options.job(&folder_target, Path::new("a.csv"), "a.csv", Format::Csv);
            assert_eq!(job.pack, pack, "{text}");
        }
    }

    #[test]
    fn an_invalid_job_toml_gives_a_message_of_one_line() {
        for (folder, text, reason) in [
            ("default/leads", "priority = 1\nprio = 2", "line 2: unknown field `prio`, expected one of"),
            ("default/leads", "priority = \"high\"", "line 1: invalid type: string \"high\", expected i64"),
            ("default/leads", "format = \"xml\"", "line 1: unknown variant `xml`, expected one of"),
            ("default/leads", "group = \"\"", "the group is empty"),
            ("default/leads", "pack = \"yes\"", "line 1: invalid type: string \"yes\", expected a boolean"),
            ("default/leads", "pack = true\ngroup = \"g\"", "a job of a group cannot share an import (pack)"),
            ("default/leads", "pack = true\ncanary = 5", "a job with a canary cannot share an import (pack)"),
            ("default/leads", "pack = true\ncheck = false", "a file without checks cannot share an import (pack)"),
            (
                "default/leads",
                "not_before = \"2 am\"",
                "line 1: a time is one of the day such as 02:00, or has its date",
            ),
            (
                "default/leads",
                "not_before = \"1971-01-03T00:00:00Z\"",
                "not_before 1971-01-03T00:00:00Z is more than a year ahead: give a time until 1971-01-02T00:00:00Z",
            ),
            ("default/leads", "priority =", "line 1: "),
            (
                "default/custom-objects/car_c",
                "list_id = 7",
                "list_id is for leads, and these files are for custom-object",
            ),
        ] {
            let error = FolderOptions::read(text, &target_of(folder).unwrap(), NOW).unwrap_err();
            assert!(error.contains(reason) && !error.contains('\n'), "{text}: {error}");
        }
    }
}

//! Target and format arguments, which `add` and `check` share.

use std::path::PathBuf;

use clap::Subcommand;

use crate::domain::Target;

/// A target with its files.
#[derive(Debug, Subcommand)]
pub enum TargetArgs {
    /// People, whom Marketo calls leads
    #[command(after_help = "\
Examples:
  marqueue add leads people.csv more.csv --list-id 1001 --wait
  marqueue add leads updates.tsv --lookup-field id
  marqueue check leads people.csv --lookup-field email")]
    Leads {
        #[arg(required = true, value_name = "FILE", help = FILES)]
        files: Vec<PathBuf>,
        /// The field that finds an existing person (Marketo's default: email; id only updates)
        #[arg(long, value_name = "FIELD")]
        lookup_field: Option<String>,
        /// A static list that the people join
        #[arg(long, value_name = "N")]
        list_id: Option<i64>,
        /// The lead partition for new people
        #[arg(long, value_name = "NAME")]
        partition: Option<String>,
    },
    /// Records of one custom object
    #[command(after_help = "\
Examples:
  marqueue add custom-object car_c cars.csv
  marqueue check custom-object car_c cars.csv")]
    CustomObject {
        /// The object's API name
        name: String,
        #[arg(required = true, value_name = "FILE", help = FILES)]
        files: Vec<PathBuf>,
    },
    /// Members of one program
    #[command(after_help = "\
Examples:
  marqueue add program-members 1044 members.csv --status Registered
  marqueue check program-members 1044 members.csv --status Registered")]
    ProgramMembers {
        /// The program's number
        program_id: i64,
        #[arg(required = true, value_name = "FILE", help = FILES)]
        files: Vec<PathBuf>,
        /// The status in the program that the members get
        #[arg(long)]
        status: String,
    },
}

const FILES: &str = "Files to import, each a job of its own, and folders with such files; - is standard input";

impl TargetArgs {
    /// Returns the target and the files.
    pub fn into_parts(self) -> (Target, Vec<PathBuf>) {
        match self {
            TargetArgs::Leads { files, lookup_field, list_id, partition } => {
                (Target::Leads { lookup_field, list_id, partition }, files)
            }
            TargetArgs::CustomObject { name, files } => (Target::CustomObject { name }, files),
            TargetArgs::ProgramMembers { program_id, files, status } => {
                (Target::ProgramMembers { program_id, status }, files)
            }
        }
    }
}

//! Sample files of the demo, of every format and target. Each run generates the same content.
//!
//! Every record has an address at `example.com`, which is reserved for examples.

use csv::WriterBuilder;

use crate::domain::{Format, Target};

const FIRST: [&str; 13] =
    ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Ken", "Frances", "John", "Hedy", "Tim", "Zoë"];
const LAST: [&str; 11] =
    ["Almeida", "Berg", "Costa", "Dubois", "Eriksen", "Fischer", "García", "Hughes", "Ivanova", "Jansen", "Kaur"];
const COMPANIES: [&str; 7] =
    ["Acme", "Blue Harbour", "Cobalt, Dunn & Co", "Delta Rail", "Elm Street Books", "Fjord Energy", "Golden Bakery"];
const COUNTRIES: [&str; 5] = ["Portugal", "Norway", "France", "Germany", "India"];
const GOODS: [&str; 5] = ["Hatchback", "Estate", "Van", "Roadster", "Pickup"];

const PERSON_FIELDS: [&str; 5] = ["email", "firstName", "lastName", "company", "country"];
const OBJECT_FIELDS: [&str; 5] = ["number", "email", "model", "price", "boughtOn"];

/// One file, and its expected result.
pub struct Sample {
    pub filename: &'static str,
    pub target: Target,
    pub priority: i64,
    pub group: Option<&'static str>,
    pub rows: u64,
    pub failed: u64,
    pub warned: u64,
    /// Whether the daemon rejects it, because of a mistake in its last row.
    pub refused: bool,
}

impl Sample {
    fn new(filename: &'static str, target: Target, rows: u64) -> Sample {
        Sample { filename, target, priority: 0, group: None, rows, failed: 0, warned: 0, refused: false }
    }

    /// Makes some of the rows fail.
    fn failing(self, failed: u64) -> Sample {
        Sample { failed, ..self }
    }

    /// Makes some of the rows have a warning.
    fn warning(self, warned: u64) -> Sample {
        Sample { warned, ..self }
    }

    /// Returns the format, by the file's ending.
    pub fn format(&self) -> Format {
        Format::from_filename(self.filename).expect("the names below end in a format")
    }

    /// Generates the file's content.
    ///
    /// # Errors
    /// None in practice: the content is written to memory.
    pub fn content(&self) -> anyhow::Result<Vec<u8>> {
        let things = matches!(self.target, Target::CustomObject { .. });
        let mut writer = WriterBuilder::new().delimiter(self.format().delimiter()).flexible(true).from_writer(vec![]);
        if things {
            writer.write_record(OBJECT_FIELDS)?
        } else {
            writer.write_record(PERSON_FIELDS)?
        }
        for row in 0..self.rows {
            let mut record = if things { self.object_record(row) } else { self.person_record(row) };
            if self.refused && row + 1 == self.rows {
                // An unquoted comma in a company's name adds a field.
                record.insert(4, " Inc.".to_owned());
            }
            writer.write_record(record)?;
        }
        Ok(writer.into_inner().map_err(|error| error.into_error())?)
    }

    fn person_record(&self, row: u64) -> Vec<String> {
        let (email, country) = match self.row_outcome(row) {
            RowOutcome::Fine => (address(row), of(&COUNTRIES, row)),
            RowOutcome::Warned => (address(row).replace('@', "."), of(&COUNTRIES, row)),
            RowOutcome::Failed(nth) if nth % 2 == 1 => (String::new(), of(&COUNTRIES, row)),
            RowOutcome::Failed(_) => (address(row), "!fail:Bad country"),
        };
        let fields = [of(&FIRST, row), of(&LAST, row), of(&COMPANIES, row), country].map(str::to_owned);
        [vec![email], fields.to_vec()].concat()
    }

    fn object_record(&self, row: u64) -> Vec<String> {
        let price = match self.row_outcome(row) {
            RowOutcome::Fine => format!("{}.{:02}", 9_000 + row * 37 % 8_000, row * 7 % 100),
            RowOutcome::Warned => "!warn:Price was left empty".to_owned(),
            RowOutcome::Failed(_) => "!fail:Price is not a number".to_owned(),
        };
        let number = format!("{:06}", 100_000 + row * 13);
        let bought = format!("2026-{:02}-{:02}", 1 + row % 12, 1 + row % 28);
        vec![number, address(row), of(&GOODS, row).to_owned(), price, bought]
    }

    /// Returns the outcome of a row. The failing rows and those with a warning are spread over the file.
    fn row_outcome(&self, row: u64) -> RowOutcome {
        let odd = self.failed + self.warned;
        let Some(apart) = self.rows.checked_div(odd) else { return RowOutcome::Fine };
        match row / apart {
            nth if row % apart != apart / 2 || nth >= odd => RowOutcome::Fine,
            nth if nth < self.failed => RowOutcome::Failed(nth),
            _ => RowOutcome::Warned,
        }
    }
}

enum RowOutcome {
    Fine,
    Warned,
    /// With its index among the failing rows.
    Failed(u64),
}

fn address(row: u64) -> String {
    format!("{}{}@example.com", of(&FIRST, row).to_lowercase().replace('ë', "e"), row + 1)
}

fn of(values: &[&'static str], row: u64) -> &'static str {
    // The remainder is smaller than a length.
    values[(row % values.len() as u64) as usize]
}

/// Returns all samples, in the order in which they are added.
pub fn samples() -> Vec<Sample> {
    let leads = || Target::Leads { lookup_field: None, list_id: None, partition: None };
    let list = || Target::Leads { lookup_field: None, list_id: Some(1001), partition: None };
    let object = |name: &str| Target::CustomObject { name: name.to_owned() };
    let members = |program_id, status: &str| Target::ProgramMembers { program_id, status: status.to_owned() };
    let nightly = |filename, rows| Sample { group: Some("nightly"), ..Sample::new(filename, leads(), rows) };
    vec![
        Sample::new("webinar.csv", leads(), 180).failing(3).warning(1),
        Sample::new("trade-fair.csv", list(), 90),
        Sample::new("newsletter.csv", list(), 140).warning(4),
        Sample::new("orders.csv", object("order_c"), 840).failing(5),
        Sample::new("attendees.csv", members(1044, "Registered"), 110).failing(2),
        Sample::new("no-shows.tsv", members(1044, "No Show"), 45),
        nightly("nightly-1.csv", 70),
        nightly("nightly-2.csv", 60),
        nightly("nightly-3.csv", 40),
        Sample::new("cars.tsv", object("car_c"), 150).failing(1).warning(2),
        Sample::new("crm-export.tsv", leads(), 220),
        Sample::new("contacts.ssv", leads(), 75),
        Sample { refused: true, ..Sample::new("guests.csv", leads(), 12) },
        Sample::new("leases.ssv", object("lease_c"), 130).warning(1),
        Sample::new("waitlist.csv", members(2040, "Waitlisted"), 25),
        Sample { priority: 10, ..Sample::new("vip.csv", leads(), 6) },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn records(sample: &Sample) -> Vec<Vec<String>> {
        let content = sample.content().unwrap();
        let delimiter = sample.format().delimiter();
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(&content[..]);
        reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn a_dozen_or_more_files_show_every_target_and_every_format() {
        let all = samples();
        assert!(all.len() > 12);
        let kinds: BTreeSet<_> = all.iter().map(|sample| sample.target.kind()).collect();
        let formats: BTreeSet<_> = all.iter().map(|sample| sample.format().as_str()).collect();
        assert_eq!((kinds.len(), formats.len()), (3, 3));
    }

    #[test]
    fn a_sample_has_as_many_faulty_rows_as_it_states() {
        for sample in samples() {
            let rows = records(&sample);
            let holds = |row: &&Vec<String>, mark: &str| row.iter().any(|cell| cell.starts_with(mark));
            let failed = rows.iter().filter(|row| row[0].is_empty() || holds(row, "!fail:")).count();
            let warned = rows.iter().filter(|row| !row[0].is_empty() && !row.iter().any(|cell| cell.contains('@')));
            let warned = warned.filter(|row| !holds(row, "!fail:")).count()
                + rows.iter().filter(|row| holds(row, "!warn:")).count();
            assert_eq!(
                (rows.len() as u64, failed as u64, warned as u64),
                (sample.rows, sample.failed, sample.warned),
                "{}",
                sample.filename
            );
        }
    }

    #[test]
    fn every_address_is_at_example_com() {
        for address in samples().iter().flat_map(records).flatten().filter(|cell| cell.contains('@')) {
            assert!(address.ends_with("@example.com"), "{address}");
        }
    }

    #[test]
    fn only_the_file_to_be_refused_is_ragged() {
        for sample in samples() {
            let lengths: BTreeSet<_> = records(&sample).iter().map(Vec::len).collect();
            assert_eq!(lengths.len() > 1, sample.refused, "{}", sample.filename);
        }
    }
}

//! One line of a report as NDJSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A row of a failure or warning file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ReportRow")]
pub struct ReportRowDto {
    /// The line in the submitted file, its header being line 1; null where it can't be told.
    pub line: Option<u64>,
    /// The row's batch.
    pub part: u32,
    /// Marketo's reason; null in a malformed row, missing with `reason=false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub reason: Option<Option<String>>,
    /// The values by their columns; null in a malformed row.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub row: Option<ReportRowValues>,
    /// The values of a malformed row, of which it is unknown to which columns they belong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
}

/// Values with the names of their columns, in the order of the file. Of columns with one name, the second gets the name
/// with ` (2)` behind it, and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRowValues {
    /// The names and values.
    pub columns: Vec<NamedValue>,
}

/// One value with the name of its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedValue {
    /// The column's name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl ReportRowValues {
    /// Pairs names and values.
    pub fn new<'a>(names: &'a [String], values: impl Iterator<Item = String>) -> ReportRowValues {
        let mut times: BTreeMap<&'a str, u32> = BTreeMap::new();
        let columns = names
            .iter()
            .zip(values)
            .map(|(name, value)| {
                let times = times.entry(name).or_insert(0);
                *times += 1;
                let name = if *times == 1 { name.clone() } else { format!("{name} ({times})") };
                NamedValue { name, value }
            })
            .collect();
        ReportRowValues { columns }
    }
}

impl Serialize for ReportRowValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len()))?;
        for NamedValue { name, value } in &self.columns {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_has_the_order_of_its_file_and_loses_no_column() {
        let names = ["b", "a", "b"].map(str::to_owned);
        let row = ReportRowValues::new(&names, ["1", "", "3"].into_iter().map(str::to_owned));
        let line = ReportRowDto { line: None, part: 2, reason: Some(Some("no".into())), row: Some(row), fields: None };
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"line":null,"part":2,"reason":"no","row":{"b":"1","a":"","b (2)":"3"}}"#
        );
        let malformed = ReportRowDto { reason: None, row: None, fields: Some(vec!["1".into()]), ..line };
        assert_eq!(serde_json::to_string(&malformed).unwrap(), r#"{"line":null,"part":2,"row":null,"fields":["1"]}"#);
    }
}

//! Submission channel: the interface through which a file is submitted, and how an option of the file is set there.

/// The interface through which a file is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionChannel {
    /// The commands `add` and `check`.
    CommandLine,
    /// The native HTTP API.
    HttpApi,
    /// The drop folder.
    DropFolder,
}

impl SubmissionChannel {
    /// Returns how `option`, a parameter of the native API, is set to `value`.
    pub fn set_option(self, option: &str, value: &str) -> String {
        match self {
            SubmissionChannel::CommandLine => format!("--{} {value}", option.replace('_', "-")),
            SubmissionChannel::HttpApi => format!("{option}={value}"),
            SubmissionChannel::DropFolder => format!("{option} = \"{value}\" in job.toml"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_written_as_its_interface_names_it() {
        let set = |channel: SubmissionChannel| channel.set_option("lookup_field", "id");
        assert_eq!(set(SubmissionChannel::CommandLine), "--lookup-field id");
        assert_eq!(set(SubmissionChannel::HttpApi), "lookup_field=id");
        assert_eq!(set(SubmissionChannel::DropFolder), "lookup_field = \"id\" in job.toml");
    }
}

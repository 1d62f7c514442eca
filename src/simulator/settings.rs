//! Settings of the simulated instance. The defaults are Marketo's published numbers.

use std::time::Duration;

use crate::simulator::report_shape::ReportShape;

/// Rules and limits of the simulator. [`Default`] has Marketo's real numbers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The client id of the only valid credentials.
    pub client_id: String,
    /// The secret of the credentials.
    pub client_secret: String,
    /// Lifetime of a token.
    pub token_life: Duration,
    /// Imports processed at once.
    pub importing: usize,
    /// Imports in the queue, those processed included.
    pub queued: usize,
    /// Bytes of a whole multipart body; one more is HTTP 413.
    pub max_body: u64,
    /// Calls in any `window`; one more is 606.
    pub calls: usize,
    /// Length of the sliding window of calls.
    pub window: Duration,
    /// Calls at once; one more is 615.
    pub concurrent_calls: usize,
    /// Calls from one reset (06:00 UTC) to the next; one more is 607.
    pub daily_calls: u64,
    /// How long a batch id, its status and its files are known, from its acceptance on.
    pub batch_life: Duration,
    /// How long an import of no rows takes, and how much longer it takes for each row.
    ///
    /// Published samples say 1 to 2 s for 3 rows and 15 to 30 minutes for ten thousand through one vendor's pipeline;
    /// the defaults make that 1.36 s and 20 minutes.
    pub import_base: Duration,
    /// Additional time of an import for each row.
    pub import_per_row: Duration,
    /// Divides what an import takes, and nothing else: the windows of calls and the life of a token stay as they are,
    /// so that it refuses what Marketo refuses.
    pub speed: f64,
    /// Whether a status says how many rows are done while the import runs.
    pub counts_while_importing: bool,
    /// Leads and program members without a failed (or warned) row: HTTP 404 instead of an empty 200. Custom objects
    /// always answer 404.
    pub no_file_is_404: bool,
    /// Leave columns that are empty in every listed row out of failure and warning files, as Marketo was seen to do.
    pub drop_empty_columns: bool,
    /// Separate the failure and warning files of TSV and SSV imports by commas. Not documented, so try both.
    pub reports_in_csv: bool,
    /// How failure and warning files are written otherwise.
    pub report_shape: ReportShape,
    /// Take what published clients send and Marketo is known to have taken, though its documentation has it otherwise:
    /// the token as the query or form parameter `access_token`, parameters in the form, and any type of the file's
    /// part.
    pub lenient: bool,
    /// Keep the bytes of every uploaded file in the call log.
    pub keep_uploads: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            client_id: "simulator".into(),
            client_secret: "secret".into(),
            token_life: Duration::from_secs(3600),
            importing: 2,
            queued: 10,
            max_body: 10_000_000,
            calls: 100,
            window: Duration::from_secs(20),
            concurrent_calls: 10,
            daily_calls: 50_000,
            batch_life: Duration::from_secs(7 * 24 * 3600),
            import_base: Duration::from_secs(1),
            import_per_row: Duration::from_millis(120),
            speed: 1.0,
            counts_while_importing: true,
            no_file_is_404: false,
            drop_empty_columns: true,
            reports_in_csv: false,
            report_shape: ReportShape::default(),
            lenient: false,
            keep_uploads: false,
        }
    }
}

impl Settings {
    /// Returns the duration of an import of `rows` rows takes.
    pub fn import_time(&self, rows: u64) -> Duration {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let whole = self.import_base.saturating_add(self.import_per_row.saturating_mul(rows));
        if self.speed == 1.0 {
            return whole;
        }
        Duration::try_from_secs_f64(whole.as_secs_f64() / self.speed).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_durations_match_published_samples() {
        let settings = Settings::default();
        assert_eq!(settings.import_time(3), Duration::from_millis(1360));
        assert_eq!(settings.import_time(10_000), Duration::from_secs(1201));
    }

    #[test]
    fn speed_divides_the_duration_of_an_import() {
        let settings = Settings { speed: 10.0, ..Settings::default() };
        assert_eq!(settings.import_time(3), Duration::from_millis(136));
        assert_eq!(Settings { speed: 0.0, ..Settings::default() }.import_time(3), Duration::MAX);
    }
}

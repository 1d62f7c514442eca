//! File check: the checks and the split of a file that is not stored.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::delimited::FileLayout;
use crate::intake::error::IntakeError;
use crate::intake::lenient_scanner::LenientScanner;
use crate::intake::packing::validate_packing;
use crate::intake::receiver::Intake;
use crate::intake::request::Checks;
use crate::intake::validate::validate_parameters;
use crate::store::NewJob;

impl Intake {
    /// Checks and splits a file as [`Intake::receive`] does, and stores nothing of it.
    ///
    /// # Errors
    /// As of [`Intake::receive`], except for those of the store.
    pub async fn check<E: std::fmt::Display>(
        &self,
        mut new: NewJob,
        checks: Checks,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<FileLayout, IntakeError> {
        validate_packing(&new, checks)?;
        self.set_defaults(&mut new)?;
        validate_parameters(&new, self.now())?;
        let mut scan = LenientScanner::new(self.rules(&new, checks)?);
        let mut received = 0;
        let mut body = std::pin::pin!(body);
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| IntakeError::CutOff(error.to_string()))?;
            received += bytes.len() as u64;
            self.check_announced_size(received)?;
            scan.push(&bytes);
            if let Some(fault) = &scan.fault {
                return Err(fault.clone().into());
            }
        }
        Ok(scan.finish()?)
    }
}

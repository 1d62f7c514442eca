//! Lenient scanner: keeps the first fault of a file while the rest of the file is still received.

use crate::delimited::{FileLayout, ScanRules, Scanner, ValidationError};

/// A scanner that ignores all bytes after the first fault, and that fault.
pub(super) struct LenientScanner {
    scanner: Scanner,
    pub(super) fault: Option<ValidationError>,
}

impl LenientScanner {
    pub(super) fn new(rules: ScanRules) -> LenientScanner {
        LenientScanner { scanner: Scanner::new(rules), fault: None }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.scanner.push(bytes).err();
        }
    }

    pub(super) fn finish(self) -> Result<FileLayout, ValidationError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => self.scanner.finish(),
        }
    }
}

//! Errors of a form, with the limits that they name.

/// The longest head of a part, and the longest preamble before the first part.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;
pub(super) const MAX_PREAMBLE_BYTES: usize = 64 * 1024;

/// Why a form can't be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The request is not a form.
    #[error("the Content-Type is not multipart/form-data")]
    NotAForm,
    /// The parameter `boundary` is missing or invalid.
    #[error("the Content-Type has no valid boundary")]
    NoBoundary,
    /// The preamble exceeds its limit.
    #[error("the preamble before the first part is longer than {MAX_PREAMBLE_BYTES} bytes")]
    LongPreamble,
    /// A head exceeds its limit.
    #[error("the head of a part is longer than {MAX_HEAD_BYTES} bytes")]
    LongHead,
    /// A head has no valid `Content-Disposition`.
    #[error("the head of a part is invalid")]
    BadHead,
    /// A boundary's line is invalid.
    #[error("a boundary is not followed by a line end")]
    BadBoundary,
    /// A part has a transfer encoding.
    #[error("a part is encoded as base64, which RFC 7578 does not allow")]
    Encoded,
    /// The last boundary is missing.
    #[error("the form ends before its last boundary")]
    CutOff,
}

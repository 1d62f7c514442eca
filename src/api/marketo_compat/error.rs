//! Errors of login, form and intake as Marketo's error codes.

use axum::http::StatusCode;

use crate::api::auth::tokens::AuthError;
use crate::api::marketo_compat::response::CompatError;
use crate::delimited::ValidationError;
use crate::form::FormError;
use crate::intake::IntakeError;

impl From<AuthError> for CompatError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid => CompatError::new(601, "Access token invalid"),
            AuthError::Expired => CompatError::new(602, "Access token expired"),
        }
    }
}

impl From<FormError> for CompatError {
    fn from(error: FormError) -> Self {
        match error {
            FormError::NotAForm => CompatError::new(612, "Invalid Content Type"),
            error => CompatError::new(613, format!("Invalid Multipart Request: {error}")),
        }
    }
}

impl From<IntakeError> for CompatError {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::File(ValidationError::Empty) => CompatError::new(1003, "Empty File"),
            IntakeError::File(ValidationError::MissingColumn { column, .. }) => {
                CompatError::new(1006, format!("Header field '{column}' not found"))
            }
            IntakeError::File(fault) => CompatError::new(1003, fault.to_string()),
            IntakeError::Wrong(wrong) => CompatError::new(1003, wrong),
            IntakeError::TooLarge(_) => CompatError::bare(StatusCode::PAYLOAD_TOO_LARGE),
            IntakeError::CutOff(_) => FormError::CutOff.into(),
            IntakeError::UnknownInstance { .. } => CompatError::not_found(),
            IntakeError::Store(error) => {
                CompatError::of_store(error, || CompatError::new(608, "API Temporarily Unavailable"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_token_is_602_and_an_invalid_one_601() {
        assert_eq!(CompatError::from(AuthError::Expired), CompatError::new(602, "Access token expired"));
        assert_eq!(CompatError::from(AuthError::Invalid), CompatError::new(601, "Access token invalid"));
    }
}

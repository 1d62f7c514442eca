//! Body types of Marketo's API, shared by the client, which reads them, and the simulator, which writes them.
//!
//! Reading is lenient where real responses differ from Adobe's pages: a number may be text and text a number, a list
//! may be missing or null, and unknown fields are ignored. Writing follows Adobe's pages.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::domain::{Counts, RemoteStatus, marketo_id};

/// The envelope of every response except the token's: `{"requestId", "success", "result", "errors", "warnings"}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", bound(deserialize = "T: DeserializeOwned"))]
pub struct Envelope<T> {
    /// The id of the request at Marketo, which Adobe's support needs.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub request_id: Option<String>,
    /// Whether the call succeeded. A missing field is read as false.
    #[serde(default)]
    pub success: bool,
    /// The results. Can be empty although `success` is true.
    #[serde(default = "Vec::<T>::new", skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub result: Vec<T>,
    /// The errors. Can be empty although `success` is false.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub errors: Vec<ApiError>,
    /// The warnings: texts or objects, which have no effect here.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub warnings: Vec<Value>,
}

/// One entry of `errors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiError {
    /// Digits, such as `"1016"`. Some responses have a number, some lack it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "marketo_id::deserialize")]
    pub code: Option<String>,
    /// Marketo's text.
    #[serde(default, deserialize_with = "lenient")]
    pub message: String,
}

/// The entry of `result` in the responses to a create call and to a status call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// The import's id.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "marketo_id")]
    #[schemars(with = "marketo_id::Shape")]
    pub batch_id: Option<String>,
    /// The same id. Missing for custom objects, and sometimes for other targets.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "marketo_id::deserialize")]
    pub import_id: Option<String>,
    /// `import`; custom objects only.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub operation: Option<String>,
    /// One of [`RemoteStatus`]. It is kept as text, so that an undocumented status does not make the response
    /// unreadable.
    #[serde(default, deserialize_with = "lenient")]
    pub status: String,
    /// The name of the custom object; custom objects only.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub object_api_name: Option<String>,
    /// Rows processed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub num_of_leads_processed: Option<u64>,
    /// Rows processed, for custom objects.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub num_of_objects_processed: Option<u64>,
    /// Rows that failed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub num_of_rows_failed: Option<u64>,
    /// Rows imported with a warning.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub num_of_rows_with_warning: Option<u64>,
    /// Such as `2 second(s)`; custom objects only.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub import_time: Option<String>,
    /// Marketo's text about the import.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub message: Option<String>,
}

impl Import {
    /// Returns the import's id, from either field.
    pub fn id(&self) -> Option<&str> {
        self.batch_id.as_deref().or(self.import_id.as_deref())
    }

    /// Returns the status, where it is one of the four documented ones. Letter case is ignored.
    pub fn remote_status(&self) -> Option<RemoteStatus> {
        [
            ("queued", RemoteStatus::Queued),
            ("importing", RemoteStatus::Importing),
            ("complete", RemoteStatus::Complete),
            ("failed", RemoteStatus::Failed),
        ]
        .into_iter()
        .find_map(|(name, status)| self.status.eq_ignore_ascii_case(name).then_some(status))
    }

    /// Returns the row counts that the response has.
    pub fn counts(&self) -> Counts {
        Counts {
            processed: self.num_of_leads_processed.or(self.num_of_objects_processed),
            failed: self.num_of_rows_failed,
            warned: self.num_of_rows_with_warning,
        }
    }
}

/// The token endpoint's success response.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
pub struct TokenBody {
    /// The token.
    pub access_token: String,
    /// `bearer`.
    #[serde(default, deserialize_with = "lenient")]
    pub token_type: String,
    /// The remaining lifetime in seconds. Until a token expires, the endpoint returns the same one with less, down to
    /// 0.
    #[serde(default, deserialize_with = "count")]
    pub expires_in: Option<u64>,
    /// The API user.
    #[serde(default, deserialize_with = "lenient")]
    pub scope: String,
}

/// The token endpoint's error response: HTTP 401, without the usual envelope.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct TokenErrorBody {
    /// The OAuth error code.
    #[serde(default)]
    pub error: String,
    /// The error's text.
    #[serde(default)]
    pub error_description: String,
}

/// Reads a value; null or another type gives the default. An informational field must not make the response unreadable.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(input: D) -> Result<T, D::Error> {
    Ok(T::deserialize(Value::deserialize(input)?).unwrap_or_default())
}

/// Reads a list; null gives an empty one, and unreadable entries are skipped.
fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(input: D) -> Result<Vec<T>, D::Error> {
    let Value::Array(entries) = Value::deserialize(input)? else { return Ok(Vec::new()) };
    Ok(entries.into_iter().filter_map(|entry| T::deserialize(entry).ok()).collect())
}

/// Reads a non-negative integer, or its digits as text.
fn count<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(body: &str) -> Envelope<Import> {
        serde_json::from_str(body).expect(body)
    }

    #[test]
    fn queued_import_is_read_for_each_target() {
        let leads = import(
            r#"{"requestId":"a1#1","result":[{"batchId":77,"importId":"77","status":"Queued"}],"success":true}"#,
        );
        assert!(leads.success);
        assert_eq!(leads.request_id.as_deref(), Some("a1#1"));
        assert_eq!(leads.result[0].id(), Some("77"));
        assert_eq!(leads.result[0].remote_status(), Some(RemoteStatus::Queued));
        let object = import(
            r#"{"requestId":"a1#2","success":true,"result":[{"batchId":9,"status":"Importing","objectApiName":"boat_c"}]}"#,
        );
        assert_eq!(object.result[0].object_api_name.as_deref(), Some("boat_c"));
        assert_eq!(object.result[0].remote_status(), Some(RemoteStatus::Importing));
    }

    #[test]
    fn id_may_be_text_and_in_import_id_only() {
        assert_eq!(import(r#"{"success":true,"result":[{"batchId":"12"}]}"#).result[0].id(), Some("12"));
        assert_eq!(import(r#"{"success":true,"result":[{"importId":13}]}"#).result[0].id(), Some("13"));
        assert_eq!(import(r#"{"success":true,"result":[{"status":"Queued"}]}"#).result[0].id(), None);
    }

    #[test]
    fn counts_are_read_under_both_names_and_may_be_missing() {
        let leads = import(
            r#"{"success":true,"result":[{"batchId":1,"status":"Complete","numOfLeadsProcessed":4,"numOfRowsFailed":1,
               "numOfRowsWithWarning":2,"message":"done"}]}"#,
        );
        let counts = Counts { processed: Some(4), failed: Some(1), warned: Some(2) };
        assert_eq!(leads.result[0].counts(), counts);
        let object = import(
            r#"{"success":true,"result":[{"batchId":1,"operation":"import","status":"Complete",
               "numOfObjectsProcessed":"3","numOfRowsFailed":null,"importTime":"2 second(s)"}]}"#,
        );
        assert_eq!(object.result[0].counts(), Counts { processed: Some(3), failed: None, warned: None });
    }

    #[test]
    fn error_code_may_be_text_number_or_missing() {
        for (body, code, message) in [
            (r#"{"success":false,"errors":[{"code":"1016","message":"Too many"}]}"#, Some("1016"), "Too many"),
            (r#"{"success":false,"errors":[{"code":615,"message":"At once"}]}"#, Some("615"), "At once"),
            (r#"{"success":false,"errors":[{"message":"Empty"}]}"#, None, "Empty"),
        ] {
            let error = &import(body).errors[0];
            assert_eq!((error.code.as_deref(), error.message.as_str()), (code, message));
        }
    }

    #[test]
    fn lists_may_be_missing_and_warnings_have_any_type() {
        for body in [
            r#"{"success":false}"#,
            r#"{"success":false,"errors":[],"warnings":[]}"#,
            r#"{"success":false,"errors":null,"result":null,"warnings":null}"#,
            r#"{"success":true,"result":[],"warnings":["a text",{"code":"1","message":"an object"}]}"#,
        ] {
            let answer = import(body);
            assert!(answer.errors.is_empty() && answer.result.is_empty(), "{body}");
        }
    }

    #[test]
    fn missing_success_is_read_as_false() {
        assert!(!import(r#"{"requestId":"x","result":[]}"#).success);
    }

    #[test]
    fn unknown_status_is_kept_as_text() {
        let answer = import(r#"{"success":true,"result":[{"batchId":1,"status":"Paused"}]}"#);
        assert_eq!(answer.result[0].remote_status(), None);
        assert_eq!(answer.result[0].status, "Paused");
    }

    #[test]
    fn token_may_have_no_lifetime_left() {
        let token: TokenBody =
            serde_json::from_str(r#"{"access_token":"t","token_type":"bearer","expires_in":0,"scope":"s"}"#).unwrap();
        assert_eq!(token.expires_in, Some(0));
    }

    #[test]
    fn refused_credentials_have_their_own_body_type() {
        let error: TokenErrorBody =
            serde_json::from_str(r#"{"error":"unauthorized","error_description":"No client with requested id"}"#)
                .unwrap();
        assert_eq!(
            (error.error.as_str(), error.error_description.as_str()),
            ("unauthorized", "No client with requested id")
        );
    }

    #[test]
    fn import_whose_rows_all_failed_is_complete() {
        let answer = import(
            r#"{"requestId":"9#9","result":[{"batchId":5,"operation":"import","status":"Complete","objectApiName":"boat_c",
               "numOfObjectsProcessed":0,"numOfRowsFailed":2,"numOfRowsWithWarning":0,"importTime":"1 second(s)",
               "message":"none of 2"}],"success":true}"#,
        );
        let import = &answer.result[0];
        assert_eq!(import.remote_status(), Some(RemoteStatus::Complete));
        assert_eq!(import.counts(), Counts { processed: Some(0), failed: Some(2), warned: Some(0) });
    }

    #[test]
    fn the_simulator_writes_marketos_json_types() {
        let import = Import {
            batch_id: Some("7".into()),
            import_id: Some("7".into()),
            status: "Queued".into(),
            ..Import::default()
        };
        let json = serde_json::to_value(&import).unwrap();
        assert_eq!(json, serde_json::json!({"batchId": 7, "importId": "7", "status": "Queued"}));
    }
}

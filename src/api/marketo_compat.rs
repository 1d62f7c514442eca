//! Marketo-compatible API: Marketo's token endpoint and the twelve paths of its bulk import API, with its response
//! shapes and error codes, for programs that are written for Marketo.
//!
//! A job stands for such a program's import. Its upload is accepted once it is on the disk, however full Marketo's
//! import queue is, and `batchId` is the job's id.

mod address;
mod call;
mod endpoints;
mod error;
mod form_fields;
mod handler;
mod job_to_import;
pub(super) mod legacy_tokens;
mod oauth;
mod openapi;
mod report;
mod response;
mod upload;
mod upload_form;

pub(super) use address::by_address;
pub(super) use handler::{bulk, routes};
pub use legacy_tokens::{LegacyTokens, StrippedAddress, take_from_query};

//! How does one speak to Marketo? Wire shapes, token, limits, what each error asks for, the client.

mod asks;
mod cause;
mod client;
mod limits;
mod multipart;
mod token;
pub mod wire;

pub use asks::{Ask, asks};
pub use client::{AskFault, Client, CreateFault, Created, File, Report, ReportKind, Status, Upload, read_envelope};
pub use limits::{Gate, Look, Permit, Window};
pub use multipart::content_limit;
pub use token::{AccessToken, TokenFault};

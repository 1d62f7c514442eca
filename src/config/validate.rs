//! Validation: turns the keys as written into a checked configuration.

mod api;
mod bounds;
mod clients;
mod instance;
mod notify;
mod page;
mod whole;

#[cfg(test)]
mod tests;

pub(super) use whole::validate;

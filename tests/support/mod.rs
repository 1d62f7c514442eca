//! What the integration tests and the compatibility tests share. The crash tests use `test_env` alone.

mod api;
pub mod test_env;

pub use api::{leads, quick};
pub use test_env::{TestEnv, binary};

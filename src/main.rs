//! The `marqueue` binary. Its body is in the library: see [`marqueue::cli::main`].

use std::process::ExitCode;

fn main() -> ExitCode {
    marqueue::cli::main()
}

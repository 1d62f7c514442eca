//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let file = arguments.iter().position(|a| a == "--config").and_then(|at| arguments.get(at + 1));
    let config = match marqueue::config::Config::load(file.map(std::path::Path::new)) {
        Ok(config) => config,
        Err(_) => return ExitCode::from(2),
    };
    if marqueue::daemon::logging::init(&config.log).is_err() {
        return ExitCode::from(2);
    }
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::from(1) };
    match runtime.block_on(marqueue::daemon::serve(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(1)
        }
    }
}

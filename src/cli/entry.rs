//! Entry point of the binary: parses the arguments, builds the runtime, runs the command, returns its exit status.
//!
//! It is part of the library so that the asynchronous code is compiled once: a binary that blocks on a library's future
//! compiles that future, and everything below it, a second time.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::cli::completion;
use crate::cli::exit_status::ExitStatus;
use crate::cli::usage_hint::usage_hint;
use crate::cli::{Cli, CliCommand, Serve, run as run_command};
use crate::config::Config;
use crate::daemon;
use crate::daemon::StartMode;
use crate::notification::supervisor;
use crate::untrusted_text::is_unsafe;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| name == supervisor::NAME) {
        return supervisor::main(arguments);
    }
    if completion::answer() {
        return ExitCode::SUCCESS;
    }
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error),
    };
    let exit = match command {
        CliCommand::Serve(args) => block_on(Runtime::new(), serve(args)),
        CliCommand::Demo(demo) => block_on(Runtime::new(), demo.run(&global)),
        CliCommand::Client(command) => {
            block_on(Builder::new_current_thread().enable_all().build(), run_command(command, &global))
        }
    };
    exit.into()
}

/// Writes the requested help, or what is wrong with the command line.
fn report_usage(error: &clap::Error) -> ExitCode {
    // The message quotes arguments, and an argument may be a file name with control characters.
    if std::env::args_os().any(|argument| argument.to_string_lossy().contains(is_unsafe)) {
        crate::cli::output::note(error.render().to_string().trim_end());
    } else {
        // If it can't be written, the exit status still reports it.
        drop(error.print());
    }
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(hint) = usage_hint(error, &arguments) {
        crate::cli::output::note(&hint);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::from(ExitStatus::Usage)))
}

async fn serve(args: Serve) -> ExitStatus {
    let config = match Config::load(args.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return report_failure(ExitStatus::Usage, &error),
    };
    let level = match daemon::logging::init(&config.log) {
        Ok(level) => level,
        Err(error) => return report_failure(ExitStatus::Usage, &format!("{error:#}")),
    };
    let mode = if args.paused { StartMode::Paused } else { StartMode::Normal };
    match daemon::serve(config, mode, &level, || Config::load(args.config.as_deref())).await {
        Ok(()) => ExitStatus::Done,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitStatus::Failed
        }
    }
}

fn block_on(runtime: io::Result<Runtime>, work: impl Future<Output = ExitStatus>) -> ExitStatus {
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(work);
            // A thread that reads standard input cannot be interrupted, so the shutdown does not wait for it.
            runtime.shutdown_background();
            exit
        }
        Err(error) => report_failure(ExitStatus::Failed, &format!("the program can't start its threads: {error}")),
    }
}

/// Writes an error that occurs before logging has started, as one line on standard error.
fn report_failure(exit: ExitStatus, error: &dyn std::fmt::Display) -> ExitStatus {
    crate::cli::output::note(&format!("error: {error}"));
    exit
}

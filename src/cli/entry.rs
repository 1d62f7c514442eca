//! Entry point of the binary: parses the arguments, builds the runtime, carries the command out, returns its exit status.
//!
//! It stands in the library so that the asynchronous code is compiled once: a binary that blocks on a library's future
//! compiles that future, and everything below it, a second time.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::cli::exit_status::ExitStatus;
use crate::cli::{Cli, CliCommand, Serve, run as run_command};
use crate::config::Config;
use crate::daemon;
use crate::notification::supervisor;
use crate::untrusted_text::is_unsafe;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| name == supervisor::NAME) {
        return supervisor::main(arguments);
    }
    let Cli { global, verb } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let exit = match verb {
        CliCommand::Serve(command) => block_on(Runtime::new(), serve(command)),
        CliCommand::Demo(demo) => block_on(Runtime::new(), demo.run(&global)),
        CliCommand::Asked(verb) => {
            block_on(Builder::new_current_thread().enable_all().build(), run_command(verb, &global))
        }
    };
    exit.into()
}

/// Shows the help that was asked for, or what is wrong with the command line.
fn misused(error: &clap::Error) -> ExitCode {
    // An argument is quoted there, and a file's name may be one.
    if std::env::args_os().any(|argument| argument.to_string_lossy().contains(is_unsafe)) {
        crate::cli::output::note(error.render().to_string().trim_end());
    } else {
        // Where it can't be written, the exit status says it.
        drop(error.print());
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::from(ExitStatus::Usage)))
}

async fn serve(serve: Serve) -> ExitStatus {
    let config = match Config::load(serve.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return failed(ExitStatus::Usage, &error),
    };
    let level = match daemon::logging::init(&config.log) {
        Ok(level) => level,
        Err(error) => return failed(ExitStatus::Usage, &format!("{error:#}")),
    };
    match daemon::serve(config, serve.paused, &level, || Config::load(serve.config.as_deref())).await {
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
            // Standard input is read by a thread that nothing interrupts, so its end is not waited for.
            runtime.shutdown_background();
            exit
        }
        Err(error) => failed(ExitStatus::Failed, &format!("the program can't start its threads: {error}")),
    }
}

/// Reports an error before there is a log, as one line on standard error.
fn failed(exit: ExitStatus, error: &dyn std::fmt::Display) -> ExitStatus {
    crate::cli::output::note(&format!("error: {error}"));
    exit
}

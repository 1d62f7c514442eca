//! Entry point of the binary: parses the arguments, builds the runtime, runs the command, returns its exit status.
//!
//! It is part of the library so that the asynchronous code is compiled once: a binary that blocks on a library's future
//! compiles that future, and everything below it, a second time.

use std::io;
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use crate::cli::command_line::{Cli, CliCommand, ClientCommand};
use crate::cli::completion;
use crate::cli::exit_status::ExitStatus;
use crate::cli::global::GlobalArgs;
use crate::cli::usage_hint::usage_hint;
use crate::cli::{error_report, output};
use crate::notification::supervisor;
use crate::untrusted_text::is_unsafe;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| name == supervisor::NAME) {
        return supervisor::main(arguments);
    }
    if completion::answer(Cli::definition) {
        return ExitCode::SUCCESS;
    }
    let Cli { global, command } = match Cli::parse_arguments(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error),
    };
    let exit = match command {
        CliCommand::Serve(args) => block_on(Runtime::new(), args.run()),
        CliCommand::Demo(demo) => block_on(Runtime::new(), demo.run(&global)),
        CliCommand::Client(command) => {
            block_on(Builder::new_current_thread().enable_all().build(), run(command, &global))
        }
    };
    exit.into()
}

/// Writes the requested help, or what is wrong with the command line.
fn report_usage(error: &clap::Error) -> ExitCode {
    let is_error = error.exit_code() != 0;
    if is_error && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).split("\n\nUsage:").next().unwrap_or_default();
        error_report::report_usage(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    // The message quotes arguments, and an argument may be a file name with control characters.
    } else if std::env::args_os().any(|argument| argument.to_string_lossy().contains(is_unsafe)) {
        output::note(error.render().to_string().trim_end());
    } else {
        // If it can't be written, the exit status still reports it.
        drop(error.print());
    }
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(hint) = usage_hint(error, &arguments) {
        output::note(&hint);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::from(ExitStatus::Usage)))
}

/// Runs a command on the ambient tokio runtime, and writes its error to standard error.
async fn run(command: ClientCommand, global: &GlobalArgs) -> ExitStatus {
    let result = match command {
        ClientCommand::Add(args) => args.run(global).await,
        ClientCommand::List(args) => args.run(global).await,
        ClientCommand::Show(args) => args.run(global).await,
        ClientCommand::Wait(args) => args.run(global).await,
        ClientCommand::Failures(args) => args.run(global).await,
        ClientCommand::Warnings(args) => args.run(global).await,
        ClientCommand::File(args) => args.run(global).await,
        ClientCommand::Results(args) => args.run(global).await,
        ClientCommand::Reasons(args) => args.run(global).await,
        ClientCommand::Retry(args) => args.run(global).await,
        ClientCommand::Cancel(args) => args.run(global).await,
        ClientCommand::Settle(args) => args.run(global).await,
        ClientCommand::Erase(args) => args.run(global).await,
        ClientCommand::Retention(args) => args.run(global).await,
        ClientCommand::Backup(args) => args.run(global).await,
        ClientCommand::Explain(args) => args.run(global).await,
        ClientCommand::Events(args) => args.run(global).await,
        ClientCommand::Pause(args) => args.run(global).await,
        ClientCommand::Resume(args) => args.run(global).await,
        ClientCommand::Health(args) => args.run(global).await,
        ClientCommand::Doctor(args) => args.run(global).await,
        ClientCommand::Stats(args) => args.run(global).await,
        ClientCommand::Status(args) => args.run(global).await,
        ClientCommand::Check(args) => args.run(global).await,
        ClientCommand::Simulate(args) => args.run(global).await,
        ClientCommand::Completions(args) => args.run(Cli::definition()),
        ClientCommand::Man(args) => args.run(Cli::definition(), global),
    };
    result.unwrap_or_else(|error| {
        error_report::report(&error, global);
        error.exit()
    })
}

fn block_on(runtime: io::Result<Runtime>, work: impl Future<Output = ExitStatus>) -> ExitStatus {
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(work);
            // A thread that reads standard input cannot be interrupted, so the shutdown does not wait for it.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            output::note(&format!("error: the program can't start its threads: {error}"));
            ExitStatus::Failed
        }
    }
}

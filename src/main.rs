//! Arguments in, exit code out.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use marqueue::cli::{self, Cli, Exit, Verb};
use marqueue::config::Config;
use marqueue::daemon;
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    let exit = match verb {
        Verb::Serve(serve) => run(Runtime::new(), self::serve(serve)),
        Verb::Demo(demo) => run(Runtime::new(), demo.run(&global)),
        Verb::Asked(verb) => run(Builder::new_current_thread().enable_all().build(), cli::run(verb, &global)),
    };
    exit.into()
}

async fn serve(serve: cli::Serve) -> Exit {
    let config = match Config::load(serve.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return failed(Exit::Usage, &error),
    };
    let level = match daemon::logging::init(&config.log) {
        Ok(level) => level,
        Err(error) => return failed(Exit::Usage, &format!("{error:#}")),
    };
    match daemon::serve(config, serve.paused, &level, || Config::load(serve.config.as_deref())).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!("{error:#}");
            Exit::Failed
        }
    }
}

fn run(runtime: io::Result<Runtime>, work: impl Future<Output = Exit>) -> Exit {
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(work);
            // Standard input is read by a thread that nothing interrupts; to wait for it is to wait for a person.
            runtime.shutdown_background();
            exit
        }
        Err(error) => failed(Exit::Failed, &format!("the program can't start its threads: {error}")),
    }
}

/// Before there is a log, and for those who have none, a mistake is one line on standard error.
fn failed(exit: Exit, error: &dyn std::fmt::Display) -> Exit {
    // Where not even that can be written, the exit status says it.
    let _ = writeln!(io::stderr(), "error: {error}");
    exit
}

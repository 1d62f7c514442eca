//! Integration tests: the real binary, real SQLite and real sockets, with the simulator as Marketo. One module a subject.

mod backup;
mod cli;
mod cli_env;
mod clock;
mod closed_port;
mod completion;
mod database_moved;
mod demo;
mod disk;
mod doctor;
mod drop_folder;
mod errors;
mod files;
mod health;
mod inspect;
mod io_faults;
mod layering;
mod limits;
mod links;
mod metrics;
mod notification;
mod openapi;
mod outbound;
mod power_loss;
mod queue;
mod readme_walkthrough;
mod reload;
mod remote_access;
mod retention;
mod sample_config;
mod screens;
mod slow_clients;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
mod watchdog;

//! Shell completion: the scripts of the shells, and the candidates that this program gives them.
//!
//! A script runs the program with the words of the command line. [`answer`] writes what can stand at the cursor:
//! commands, options, job ids and instances of the running daemon, and the files that fit.

mod candidates;
mod daemon;
mod reply;
mod scripts;

pub(super) use reply::answer;
pub(super) use scripts::script;

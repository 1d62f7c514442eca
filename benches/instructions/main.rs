//! Benchmarks of hot paths, counted in instructions by valgrind's callgrind: the guard against slower code in CI, since
//! times on shared machines vary more than what is to be noticed.
//!
//! `tests/system/instructions.sh` installs what this needs and runs it; with `--renew` it writes what was counted, and
//! some headroom, to `limits.txt` beside this file. A count above its limit fails. Counts depend on the processor's
//! instruction set: memchr and zstd choose their code by it. The limits are for x86-64 with AVX2, and the compiler of
//! the day: renew them with a new one.
#![expect(clippy::print_stdout, reason = "says why nothing was measured")]

use std::env;
use std::process::{Command, Stdio};

mod counted;
mod inputs;

fn main() {
    // With this word the runner starts this program again below valgrind.
    let is_counted = env::args().nth(1).is_some_and(|word| word == "--gungraun-run");
    if is_counted || (is_installed("valgrind") && is_installed("gungraun-runner")) {
        counted::run();
    } else {
        println!("instructions: not measured: run tests/system/instructions.sh, which installs what it needs");
    }
}

fn is_installed(program: &str) -> bool {
    // Its output and its status do not matter.
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

# Lists the recipes.
default:
    @just --list

# Everything that has to hold before a change goes in.
ci:
    .ci/run

# Format and lints.
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings

# All tests, or those whose name contains the argument.
test *NAME:
    cargo test --locked {{NAME}}

# A daemon and the simulator at work.
demo:
    cargo run --release -- demo

# Rewrites docs/commands.md from the commands' definitions.
docs:
    MARQUEUE_WRITE_DOCS=1 cargo test --locked --lib cli::reference

# Kills the daemon again and again.
crash RUNS="500":
    CRASH_RUNS={{RUNS}} cargo test --locked --release --test crash kills -- --nocapture

# The Debian package.
package:
    packaging/debian/build

//! Compatibility tests: a program made for Marketo gets the same responses from the daemon at another address. Raw HTTP
//! over TCP, TLS and the Unix socket, with the real binary and the simulator behind it.

mod address;
mod compat_env;
mod legacy;
mod login;
mod loops;
mod packing;
mod program;
mod refused;
mod scope;
mod source;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod uploads;

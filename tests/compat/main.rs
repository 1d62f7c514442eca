//! Does a program that was made for Marketo get the same from the daemon, by a changed address? Raw HTTP over TCP, TLS and
//! the Unix socket, the real binary, the simulator behind it.

mod address;
mod compat_env;
mod legacy;
mod login;
mod loops;
mod program;
mod refused;
mod scope;
mod source;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod uploads;

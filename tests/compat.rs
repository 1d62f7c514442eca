//! Does a program that was made for Marketo get the same from the daemon, by a changed address? Raw HTTP over TCP, TLS and
//! the Unix socket, the real binary, the simulator behind it.

#[path = "compat/address.rs"]
mod address;
#[path = "compat/house.rs"]
mod house;
#[path = "compat/legacy.rs"]
mod legacy;
#[path = "compat/login.rs"]
mod login;
#[path = "compat/loops.rs"]
mod loops;
#[path = "compat/program.rs"]
mod program;
#[path = "compat/refused.rs"]
mod refused;
#[path = "compat/scope.rs"]
mod scope;
#[path = "compat/source.rs"]
mod source;
mod support;
#[path = "compat/tls.rs"]
mod tls;
#[path = "compat/uploads.rs"]
mod uploads;

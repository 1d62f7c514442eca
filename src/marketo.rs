//! How does one speak to Marketo? Wire shapes, token, limits, what each error asks for, the client.

pub mod wire;

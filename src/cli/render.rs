//! Rendering: lays records out as text that fits the terminal, or as plain lines where there is none.

pub mod live_area;
pub mod screen;
pub mod table;
pub mod time;
pub mod tone;
pub mod width;

pub use live_area::LiveArea;
pub use screen::Screen;
pub use table::{Cell, Column, Table, bar};
pub use tone::Tone;

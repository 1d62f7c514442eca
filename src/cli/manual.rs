//! Manual pages: one of section 1 for each command, and one of section 5 for the configuration file.

mod command_page;
mod config_page;
mod roff_text;

pub(super) use command_page::command_pages;
pub(super) use config_page::config_page;

//! Tone: what a text means, from which its colour follows.

use console::Style;

/// Meaning of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// No meaning of its own.
    #[default]
    Plain,
    /// The head of a table, or the name of a value.
    Head,
    /// Done, as it should be.
    Good,
    /// Under way.
    Active,
    /// It needs attention: it waits for a decision, or is done but not wholly.
    Attention,
    /// It failed.
    Fault,
    /// Of little interest: it waits, or there is nothing.
    Faint,
}

impl Tone {
    /// Returns the colour of this meaning.
    pub fn style(self) -> Style {
        let style = Style::new();
        match self {
            Tone::Plain => style,
            Tone::Head => style.bold(),
            Tone::Good => style.green(),
            Tone::Active => style.cyan(),
            Tone::Attention => style.yellow(),
            Tone::Fault => style.red().bold(),
            Tone::Faint => style.dim(),
        }
    }
}

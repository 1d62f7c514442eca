//! Text of a manual page in roff.

use clap_mangen::roff::{Inline, Roff, roman};

/// One finished page.
pub struct Page {
    /// The file's name, such as `marqueue-add.1`.
    pub file_name: String,
    /// The page in roff.
    pub text: String,
}

/// Returns the title line and the section NAME, in the form that `mandb` reads for `apropos`.
pub fn title(name: &str, section: u8, about: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let about = about.split_whitespace().collect::<Vec<_>>().join(" ").replace('\\', "\\e").replace('-', "\\-");
    // clap_mangen writes no argument for a missing date, which moves those behind it, and escapes the hyphens of the
    // name.
    format!(
        ".TH {} {section} \"\" \"marqueue {version}\" \"marqueue manual\"\n.SH NAME\n{name} \\- {about}\n",
        name.to_uppercase()
    )
}

/// Returns a section whose lines stay as they are.
pub fn verbatim_section(heading: &str, lines: &[String]) -> String {
    let mut roff = Roff::new();
    roff.control("SH", [heading]).control("nf", []);
    for line in lines {
        roff.text([roman(line.as_str())]);
    }
    roff.control("fi", []);
    roff.render()
}

/// Returns a section of terms with their explanations.
pub fn terms_section(heading: &str, terms: &[(String, String)]) -> String {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (term, explanation) in terms {
        roff.control("TP", []).text([Inline::Bold(term.clone())]).text([roman(explanation.as_str())]);
    }
    roff.render()
}

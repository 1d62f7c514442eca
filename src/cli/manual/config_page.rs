//! Page of the configuration file, made from the sample that has every key with its default and comment.

use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::manual::roff_text::{Page, terms_section, title};

const SAMPLE: &str = include_str!("../../../config/marqueue.toml");

/// Returns the page `marqueue.toml(5)`.
pub fn config_page() -> Page {
    let sample = parse(SAMPLE);
    let mut roff = Roff::new();
    roff.control("SH", ["DESCRIPTION"]).text([roman(
        "The file that \"marqueue serve --config FILE\" reads, in TOML. A key that is not given has the default shown here; \
         where an example is shown instead, the key has none.",
    )]);
    paragraphs(&mut roff, &sample.intro);
    for table in &sample.tables {
        roff.control("SH", [table.header.as_str()]);
        paragraphs(&mut roff, &table.comment);
        for key in &table.keys {
            let kind = if key.is_default { "default" } else { "example" };
            roff.control("TP", []);
            roff.text([bold(key.name.as_str()), roman(format!(" ({kind}: {})", key.value))]);
            roff.text([roman(key.comment.join(" "))]);
        }
    }
    let mut text = title("marqueue.toml", 5, "configuration of the job queue daemon marqueue");
    text += &roff.render();
    text += &terms_section(
        "FILES",
        &[
            ("/etc/marqueue/marqueue.toml".to_owned(), "The configuration of the packaged service.".to_owned()),
            (
                "/usr/share/doc/marqueue/config/marqueue.toml".to_owned(),
                "This page as a file, to copy from.".to_owned(),
            ),
        ],
    );
    text += ".SH \"SEE ALSO\"\n.BR marqueue (1),\n.BR marqueue-serve (1),\n.BR marqueue-doctor (1)\n";
    Page { file_name: "marqueue.toml.5".to_owned(), text }
}

fn paragraphs(roff: &mut Roff, comment: &[String]) {
    for line in comment {
        if line.is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(line.as_str())]);
        }
    }
}

/// The parsed sample. A comment is a list of lines; an empty one begins a paragraph.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sample {
    intro: Vec<String>,
    tables: Vec<Table>,
}

#[derive(Debug, PartialEq, Eq)]
struct Table {
    /// As in the file, such as `[[api.clients]]`.
    header: String,
    comment: Vec<String>,
    keys: Vec<Key>,
}

#[derive(Debug, PartialEq, Eq)]
struct Key {
    name: String,
    value: String,
    /// The key stands behind a comment mark, so its value is the default.
    is_default: bool,
    comment: Vec<String>,
}

fn parse(text: &str) -> Sample {
    let mut sample = Sample::default();
    let mut comment = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            let header = line.trim_end().to_owned();
            sample.tables.push(Table { header, comment: std::mem::take(&mut comment), keys: Vec::new() });
        } else if let Some(key) = parse_key(line) {
            if let Some(table) = sample.tables.last_mut() {
                table.keys.push(Key { comment: std::mem::take(&mut comment), ..key });
            }
        } else if let Some(prose) = line.strip_prefix('#') {
            comment.push(prose.trim().to_owned());
        } else if sample.tables.is_empty() {
            sample.intro.append(&mut comment);
        }
    }
    sample
}

/// Parses a key and its value. A comment of prose has a space behind its mark.
fn parse_key(line: &str) -> Option<Key> {
    let text = line.strip_prefix('#').unwrap_or(line);
    let (name, value) = text.split_once(" = ")?;
    let is_name = name.starts_with(|first: char| first.is_ascii_lowercase()) && !name.contains(char::is_whitespace);
    is_name.then(|| Key {
        name: name.to_owned(),
        value: value.to_owned(),
        is_default: line.starts_with('#'),
        comment: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_with_what_follows_them() {
        let sample = parse(
            "# Head.\n#\n# More.\n\n[store]\n# The path.\n#path = \"a.db\"\n#other = 1\n\n# A table.\n[[a.b]]\nid = \"c\"\n",
        );
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let key = |name: &str, value: &str, is_default, comment: &[&str]| Key {
            name: name.into(),
            value: value.into(),
            is_default,
            comment: lines(comment),
        };
        assert_eq!(sample.intro, lines(&["Head.", "", "More."]));
        assert_eq!(
            sample.tables,
            [
                Table {
                    header: "[store]".into(),
                    comment: Vec::new(),
                    keys: vec![key("path", "\"a.db\"", true, &["The path."]), key("other", "1", true, &[])],
                },
                Table {
                    header: "[[a.b]]".into(),
                    comment: lines(&["A table."]),
                    keys: vec![key("id", "\"c\"", false, &[])],
                },
            ]
        );
    }

    #[test]
    fn every_key_of_the_sample_is_in_the_page() {
        let Page { file_name, text } = config_page();
        assert_eq!(file_name, "marqueue.toml.5");
        assert!(text.contains("\n.SH NAME\nmarqueue.toml \\- configuration of "), "{text}");
        let lines = SAMPLE.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
        let keys: Vec<&str> = lines
            .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert!(keys.len() > 40, "{keys:?}");
        for key in keys {
            assert!(text.contains(&format!("\n.TP\n\\fB{key}\\fR (")), "{key}: {text}");
        }
        for line in SAMPLE.lines().filter(|line| line.starts_with('[')) {
            assert!(text.contains(&format!("\n.SH {line}\n")), "{line}: {text}");
        }
        let known = [".TH ", ".SH ", ".TP", ".PP", ".BR ", ".ie ", ".el "];
        for line in text.lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(known.iter().any(|request| line.starts_with(request)), "{line}");
        }
    }
}

//! What the commands show on terminals of two sizes, in a pipe, on a terminal without escape sequences and without
//! colours.
//!
//! `tests/integration/screens/NAME.txt` has the expected screens; times and paths that differ from run to run are
//! replaced, and colours are written as `<green>`. `WRITE_SCREENS=1 cargo test --test integration -- screens`
//! rewrites the files: read them as a user would.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cli_env::{CliEnv, Size, run, shown_on_terminal};

/// Where a command writes to.
struct Place {
    name: &'static str,
    /// None for a pipe.
    size: Option<Size>,
    environment: &'static [(&'static str, &'static str)],
}

const PLACES: [Place; 5] = [
    Place { name: "80x24", size: Some(Size { columns: 80, lines: 24 }), environment: &[("TERM", "xterm-256color")] },
    Place { name: "120x40", size: Some(Size { columns: 120, lines: 40 }), environment: &[("TERM", "xterm-256color")] },
    Place { name: "pipe", size: None, environment: &[("TERM", "xterm-256color")] },
    Place { name: "TERM=dumb, 80x24", size: Some(Size { columns: 80, lines: 24 }), environment: &[("TERM", "dumb")] },
    Place {
        name: "NO_COLOR, 80x24",
        size: Some(Size { columns: 80, lines: 24 }),
        environment: &[("TERM", "xterm-256color"), ("NO_COLOR", "1")],
    },
];

/// A daemon with a job in each state, and names that are hard to show.
fn prepared() -> CliEnv {
    let mut cli = CliEnv::new();
    cli.env.config = emea(&cli);
    cli.env.kill();
    cli.start();
    let rows = |numbers: std::ops::Range<u32>| numbers.map(|row| format!("p{row}@example.com,\n")).collect::<String>();
    let head = "email,note\n";
    cli.file("people.csv", &format!("{head}{}", rows(0..40)));
    cli.file("webinar-registrations-2026-08-01-emea-final-version.csv", &format!("{head}{}", rows(0..10)));
    let failing: String = (0..12).map(|row| format!("q{row}@example.com,!fail:Invalid value\n")).collect();
    cli.file("顧客名簿-二〇二六年.csv", &format!("{head}{}{failing}", rows(0..988)));
    cli.file(
        "לקוחות.csv",
        &format!("{head}r@example.com,!batch-failed:The lead partition 'Old' does not exist any more\n"),
    );
    cli.file("all-fail.csv", &format!("{head}{failing}"));
    for (words, status) in [
        ("add leads people.csv --wait", 0),
        (
            "add program-members 1044 webinar-registrations-2026-08-01-emea-final-version.csv --status Registered --wait",
            0,
        ),
        ("add leads 顧客名簿-二〇二六年.csv --wait", 4),
        ("add leads לקוחות.csv --wait", 1),
        ("add leads all-fail.csv --wait", 4),
        ("pause emea", 0),
        ("add custom-object order_c people.csv --instance emea --no-check", 0),
        ("add leads people.csv --instance emea", 0),
        ("cancel 7", 0),
    ] {
        cli.run(words).expect(status);
    }
    cli
}

/// The command at each place, one after the other.
fn screens(cli: &CliEnv, words: &str) -> String {
    let mut text = format!("$ marqueue {words}\n");
    for place in &PLACES {
        let mut command: Command = cli.command(words);
        command.env_remove("NO_COLOR").env_remove("TERM").envs(place.environment.iter().copied());
        let shown = match place.size {
            Some(size) => {
                let shown = in_the_end(&shown_on_terminal(command, size).text);
                // Sentences are left to the terminal, which wraps them so that they can be copied.
                let is_table = !words.starts_with("wait") && !words.starts_with("check");
                assert!(!is_table || shown.lines().all(|line| fits(line, size)), "{words} at {}: {shown}", place.name);
                shown
            }
            None => {
                let ran = run(command, "");
                ran.out + &ran.err
            }
        };
        assert!(!shown.contains("None"), "{words} at {}: {shown}", place.name);
        let may_have_colours = place.name == "80x24" || place.name == "120x40";
        assert!(may_have_colours || !shown.contains('\x1b'), "{words} at {}: {shown}", place.name);
        write!(text, "\n--- {} ---\n{}", place.name, normalised(cli, &shown)).expect("writing to text");
    }
    text
}

/// Whether a line fits without its colours. Wide letters take two columns.
fn fits(line: &str, size: Size) -> bool {
    console::measure_text_width(line) <= usize::from(size.columns)
}

/// Replaces what differs from run to run, and names the colours.
fn normalised(cli: &CliEnv, text: &str) -> String {
    let mut text = text.replace(&cli.env.folder.path().display().to_string(), "FOLDER");
    text = text.replace(cli.env.simulator.base_url(), "http://127.0.0.1:PORT");
    for (code, name) in [
        ("\x1b[31m\x1b[1m", "<fault>"),
        ("\x1b[1m", "<bold>"),
        ("\x1b[2m", "<dim>"),
        ("\x1b[32m", "<green>"),
        ("\x1b[33m", "<yellow>"),
        ("\x1b[36m", "<cyan>"),
        ("\x1b[0m", "</>"),
    ] {
        text = text.replace(code, name);
    }
    text.split('\n').map(normalised_line).collect::<Vec<_>>().join("\n")
}

/// Replaces the times and numbers of a line by others; columns keep their widths.
fn normalised_line(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        let is_start = !text.ends_with(|letter: char| letter.is_alphanumeric());
        let Some((length, replacement)) = variable_part(rest).filter(|_| is_start) else {
            text.push(letter);
            rest = &rest[letter.len_utf8()..];
            continue;
        };
        rest = &rest[length..];
        text += replacement;
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        if blanks > 1 {
            text += &" ".repeat((length + blanks).saturating_sub(replacement.len()));
            rest = &rest[blanks..];
        }
    }
    text
}

/// The length of a part at the text's beginning that differs from run to run, and what stands for it.
fn variable_part(text: &str) -> Option<(usize, &'static str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let hexadecimal = |text: &str| text.bytes().take_while(u8::is_ascii_hexdigit).count();
    if is_exact_time(text) {
        return Some((24, "2026-08-01T10:00:00.000Z"));
    }
    for (before, after, replacement) in
        [("", " s ago", "5 s ago"), ("", " min ago", "5 s ago"), ("for ", " s", "for 5 s"), ("user ", "", "user 1000")]
    {
        let Some(rest) = text.strip_prefix(before) else { continue };
        let number = digits(rest);
        if number > 0 && rest[number..].starts_with(after) {
            return Some((before.len() + number + after.len(), replacement));
        }
    }
    if text.strip_suffix(" s").is_some_and(|number| number.len() == digits(number)) {
        return Some((text.len(), "5 s"));
    }
    if text == "now" || text.starts_with("now  ") {
        return Some((3, "5 s ago"));
    }
    let first = hexadecimal(text);
    let second = text[first..].strip_prefix('#').map(hexadecimal).filter(|&second| first > 0 && second > 0)?;
    Some((first + 1 + second, "1a2b#3c4d5e6f7a8"))
}

fn is_exact_time(text: &str) -> bool {
    let pattern = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let matches = |(&found, &wanted): (&u8, &u8)| if wanted == b'd' { found.is_ascii_digit() } else { found == wanted };
    text.len() >= pattern.len() && text.as_bytes().iter().zip(pattern).all(matches)
}

/// What stands on the terminal in the end: lines that were overwritten are gone.
fn in_the_end(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut row = 0;
    for piece in text.split_inclusive('\n') {
        let mut line = piece.strip_suffix('\n').unwrap_or(piece).replace('\r', "");
        if let Some(rest) = line.strip_prefix("\x1b[0J").map(str::to_owned) {
            lines.truncate(row);
            line = rest;
        }
        let up = line.strip_prefix("\x1b[").and_then(|code| code.split_once('A'));
        if let Some((number, rest)) = up.and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest))) {
            row -= number;
            line = rest.to_owned();
        }
        if let Some(rest) = line.strip_prefix("\x1b[0J").map(str::to_owned) {
            lines.truncate(row);
            line = rest;
        }
        if !piece.ends_with('\n') && line.is_empty() {
            break;
        }
        lines.truncate(lines.len().max(row));
        let line = line.replace("\x1b[K", "");
        if row < lines.len() {
            lines[row] = line;
        } else {
            lines.push(line);
        }
        row += 1;
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn compare(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/integration/screens/{name}.txt"));
    if std::env::var_os("WRITE_SCREENS").is_some() {
        fs::write(&path, found).expect("the screens are written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differing = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
    assert!(
        expected == found,
        "{name}: {differing:?}; WRITE_SCREENS=1 rewrites the file if the change is intended\n{found}"
    );
}

/// A daemon that makes no calls: its instances are paused, and a job waits for each.
fn paused() -> CliEnv {
    let mut cli = CliEnv::new();
    cli.env.config = emea(&cli);
    cli.env.kill();
    cli.start();
    cli.file("people.csv", "email\na@example.com\n");
    for words in ["pause", "pause emea", "add leads people.csv", "add leads people.csv --instance emea"] {
        cli.run(words).expect(0);
    }
    cli
}

fn emea(cli: &CliEnv) -> String {
    "\n[instances.emea]\nbase_url = 'BASE'\nclient_id = 'simulator'\nclient_secret = 'secret'\n"
        .replace("BASE", cli.env.simulator.base_url())
}

#[test]
fn an_overwritten_line_is_not_in_the_screen() {
    assert_eq!(in_the_end("a\nb\n"), "a\nb\n");
    assert_eq!(in_the_end("1\x1b[K\n2\x1b[K\n\r\x1b[0J\x1b[2Adone\x1b[K\n\r\x1b[0Jnext\n"), "done\nnext\n");
}

#[test]
fn daemon_states_show_what_the_screens_expect() {
    let cli = paused();
    for (name, words) in [("status", "status"), ("status-of-one", "status emea"), ("explain-paused", "explain 2")] {
        compare(name, &screens(&cli, words));
    }
}

#[test]
fn commands_show_what_the_screens_expect() {
    let cli = prepared();
    for (name, words) in [
        ("list", "list"),
        ("list-of-one-state", "list --state failed"),
        ("show-complete", "show 3"),
        ("show-failed", "show 4"),
        ("show-pending", "show 6"),
        ("explain-complete", "explain 3"),
        ("explain-failed", "explain 4"),
        ("check", "check leads people.csv all-fail.csv"),
        ("doctor-without-configuration", "doctor --config none.toml"),
        ("wait", "wait 1 3 4"),
        ("refused", "show 70"),
    ] {
        compare(name, &screens(&cli, words));
    }
}

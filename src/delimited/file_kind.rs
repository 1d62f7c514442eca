//! File kind: detects files that are not delimited text, by their first bytes.

use std::fmt;

use crate::byte_order_mark::without_mark;

/// The number of bytes that are inspected. The mark of a tar archive is the last, at byte 257.
pub(super) const OPENING_BYTES: usize = 512;

/// What a file is instead of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A gzip archive.
    Gzip,
    /// An archive, with its display name: `xz`, `a tar archive`.
    Archive(&'static str),
    /// A zip archive whose first entry is that of an Office document.
    OfficeZip,
    /// An OpenDocument file, such as `.ods`.
    OpenDocument,
    /// The compound file of Office 97 to 2003: `.xls`, also `.doc` and others.
    OldOffice,
    /// A PDF document.
    Pdf,
    /// An encrypted file.
    Encrypted,
    /// A database file, with its display name.
    Database(&'static str),
    /// Text of another kind.
    Markup(&'static str),
    /// Text in UTF-16 or UTF-32.
    Unicode {
        /// `UTF-16` or `UTF-32`, with the order of the bytes.
        encoding: &'static str,
        /// By a byte-order mark; else by where the NULs stand, which is a guess.
        marked: bool,
    },
}

const SIGNATURES: [(&[u8], FileKind); 21] = [
    (b"\x1f\x8b", FileKind::Gzip),
    (b"\x1f\x9d", FileKind::Archive("a file packed with compress (.Z)")),
    (b"BZh", FileKind::Archive("a bzip2 archive")),
    (b"\xfd7zXZ\0", FileKind::Archive("an xz archive")),
    (b"\x28\xb5\x2f\xfd", FileKind::Archive("a zstd archive")),
    (b"\x04\x22\x4d\x18", FileKind::Archive("an lz4 archive")),
    (b"7z\xbc\xaf\x27\x1c", FileKind::Archive("a 7-Zip archive")),
    (b"Rar!\x1a\x07", FileKind::Archive("a RAR archive")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind::OldOffice),
    (b"%PDF-", FileKind::Pdf),
    (b"SQLite format 3\0", FileKind::Database("an SQLite database")),
    (b"PAR1", FileKind::Database("a Parquet file")),
    (b"-----BEGIN PGP MESSAGE", FileKind::Encrypted),
    (b"age-encryption.org/", FileKind::Encrypted),
    (b"{\\rtf", FileKind::Markup("a rich-text document (RTF)")),
    // UTF-32 first: its mark in the small order begins as that of UTF-16 does.
    (b"\xff\xfe\0\0", FileKind::Unicode { encoding: "UTF-32 (little-endian)", marked: true }),
    (b"\0\0\xfe\xff", FileKind::Unicode { encoding: "UTF-32 (big-endian)", marked: true }),
    (b"\xff\xfe", FileKind::Unicode { encoding: "UTF-16 (little-endian)", marked: true }),
    (b"\xfe\xff", FileKind::Unicode { encoding: "UTF-16 (big-endian)", marked: true }),
    (b"\xef\xbb\xbf<", FileKind::Markup("HTML or XML")),
    (b"<", FileKind::Markup("HTML or XML")),
];

impl FileKind {
    /// The kind of the file that begins with `opening`; none where it may be delimited text. No header of API names
    /// begins as any of these does.
    pub(super) fn of(opening: &[u8]) -> Option<FileKind> {
        if opening.starts_with(b"PK\x03\x04") || opening.starts_with(b"PK\x05\x06") {
            return Some(zip(opening));
        }
        let begins = |signature: &[u8]| opening.starts_with(signature);
        let found = SIGNATURES.into_iter().find(|(signature, kind)| {
            // Three letters alone could begin a name.
            begins(signature) && (*kind != FileKind::Archive("a bzip2 archive") || opening.get(4..6) == Some(b"1A"))
        });
        if let Some((_, kind)) = found {
            return Some(kind);
        }
        if opening.get(257..262) == Some(b"ustar") {
            return Some(FileKind::Archive("a tar archive"));
        }
        let text = without_mark(opening).trim_ascii_start();
        if text.starts_with(b"{") || text.starts_with(b"[") {
            return Some(FileKind::Markup("JSON"));
        }
        wide(opening)
    }

    /// Returns the machine-readable code.
    pub fn code(self) -> &'static str {
        match self {
            FileKind::Unicode { .. } => "not-utf8",
            _ => "not-delimited-text",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileKind::Gzip => write!(f, "the file is a gzip archive: unpack it first"),
            FileKind::Archive(name) => write!(f, "the file is {name}: unpack it first"),
            FileKind::OfficeZip => write!(
                f,
                "the file is an Office document, as an Excel workbook (.xlsx) is: save the sheet as \"CSV UTF-8\""
            ),
            FileKind::OpenDocument => {
                write!(
                    f,
                    "the file is an OpenDocument file, as a spreadsheet (.ods) is: save the sheet as CSV in UTF-8"
                )
            }
            FileKind::OldOffice => write!(
                f,
                "the file is an Office document of the old kind, as an Excel workbook (.xls) is: save the sheet as \"CSV \
                 UTF-8\""
            ),
            FileKind::Pdf => write!(f, "the file is a PDF document: export the table as CSV in UTF-8"),
            FileKind::Encrypted => write!(f, "the file is encrypted: decrypt it first"),
            FileKind::Database(name) => write!(f, "the file is {name}: export the table as CSV in UTF-8"),
            FileKind::Markup(name) => write!(f, "the file begins as {name} does: export the table as CSV in UTF-8"),
            FileKind::Unicode { encoding, marked: true } => {
                write!(f, "the file is {encoding} by its byte-order mark: save it as UTF-8")
            }
            FileKind::Unicode { encoding, marked: false } => {
                write!(f, "the file looks like {encoding} without a byte-order mark: save it as UTF-8")
            }
        }
    }
}

/// Returns the kind of a zip archive, by the name of its first entry.
fn zip(opening: &[u8]) -> FileKind {
    let length = opening.get(26..28).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    let name = opening.get(30..30 + length).unwrap_or_default();
    let office: [&[u8]; 5] = [b"[Content_Types].xml", b"_rels/", b"docProps/", b"xl/", b"word/"];
    if office.iter().any(|begin| name.starts_with(begin)) {
        FileKind::OfficeZip
    } else if name == b"mimetype" {
        FileKind::OpenDocument
    } else {
        FileKind::Archive("a zip archive")
    }
}

/// Text of two or four bytes a letter without a mark: Western letters have NULs in fixed places. The header is such
/// text whatever the rows hold, so its first eight letters decide.
fn wide(opening: &[u8]) -> Option<FileKind> {
    let guess = |encoding| Some(FileKind::Unicode { encoding, marked: false });
    let nul_at = |width: usize, place: usize| {
        let letters = opening.chunks_exact(width).take(8);
        letters.len() > 1
            && letters
                .into_iter()
                .all(|letter| letter.iter().enumerate().all(|(at, &byte)| (byte == 0) == (at != place)))
    };
    if nul_at(4, 0) {
        guess("UTF-32 (little-endian)")
    } else if nul_at(4, 3) {
        guess("UTF-32 (big-endian)")
    } else if nul_at(2, 0) {
        guess("UTF-16 (little-endian)")
    } else if nul_at(2, 1) {
        guess("UTF-16 (big-endian)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_detected_by_its_first_bytes() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let utf32 = |text: &str| text.chars().flat_map(|letter| u32::from(letter).to_be_bytes()).collect::<Vec<u8>>();
        let entry = |name: &str| {
            let mut zip = b"PK\x03\x04".to_vec();
            zip.resize(26, 0);
            zip.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            zip.extend([0, 0]);
            zip.extend(name.bytes());
            zip
        };
        let mut tar = b"people.csv".to_vec();
        tar.resize(257, 0);
        tar.extend(b"ustar\x0000");
        for (opening, words) in [
            (b"\x1f\x8b\x08\0\0\0\0\0\x02\xff".to_vec(), "is a gzip archive"),
            (entry("[Content_Types].xml"), "an Excel workbook (.xlsx)"),
            (entry("xl/workbook.xml"), "an Excel workbook (.xlsx)"),
            (entry("mimetype"), "a spreadsheet (.ods)"),
            (entry("people.csv"), "is a zip archive"),
            (b"PK\x05\x06".to_vec(), "is a zip archive"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0".to_vec(), "an Excel workbook (.xls)"),
            (b"%PDF-1.7\n".to_vec(), "is a PDF document"),
            (b"BZh91AY&SY".to_vec(), "is a bzip2 archive"),
            (tar, "is a tar archive"),
            (b"<!DOCTYPE html>".to_vec(), "begins as HTML or XML does"),
            (b"[{\"email\": 1}]".to_vec(), "begins as JSON does"),
            (utf16("\u{feff}email\n"), "is UTF-16 (little-endian) by its byte-order mark"),
            (utf16("email,name\n"), "looks like UTF-16 (little-endian) without"),
            (utf32("\u{feff}email\n"), "is UTF-32 (big-endian) by its byte-order mark"),
            (utf32("email\n"), "looks like UTF-32 (big-endian) without"),
            (b"\0e\0m\0a".to_vec(), "looks like UTF-16 (big-endian) without"),
        ] {
            let kind = FileKind::of(&opening).map(|kind| kind.to_string());
            assert!(kind.as_ref().is_some_and(|kind| kind.contains(words)), "{words}: {kind:?}");
        }
    }

    #[test]
    fn delimited_text_is_not_detected_as_another_kind() {
        for text in [
            &b""[..],
            b"email,firstName\nana@example.com,Ana\n",
            b"\xef\xbb\xbf\"email\"\r\n",
            b"PK,PAR\n1,2\n",
            b"BZh,b\n1,2\n",
            b"a\0",
            "vin\nÄ\n".as_bytes(),
        ] {
            assert_eq!(FileKind::of(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}

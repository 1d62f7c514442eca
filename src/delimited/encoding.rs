//! Encoding detection: guesses the encoding of text that is not UTF-8. Most encodings accept any byte, so it stays a
//! guess.

use std::fmt;

/// The number of bytes that are inspected, from the first invalid one on.
pub(super) const EVIDENCE_BYTES: usize = 32;

/// A guess at the encoding of text that is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The file ends within a character.
    CutOff,
    /// The byte is a quote, a dash or the like there, and a control character in Latin-1.
    Windows1252,
    /// The two agree on letters with accents.
    Windows1252OrLatin1,
    /// Bytes beyond ASCII stand close together, as in scripts other than Latin.
    OtherScript,
    /// None of the others.
    Unknown,
}

/// What follows the inspected bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterEvidence {
    FileEnd,
    MoreBytes,
}

impl Encoding {
    /// Guesses from the bytes beginning with the first that is not UTF-8.
    pub(super) fn guess(evidence: &[u8], after: AfterEvidence) -> Encoding {
        let Some(&first) = evidence.first() else { return Encoding::Unknown };
        // One byte alone may as well be the accented last letter of another encoding.
        if after == AfterEvidence::FileEnd
            && evidence.len() > 1
            && std::str::from_utf8(evidence).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        {
            return Encoding::CutOff;
        }
        let run = evidence.iter().take_while(|byte| !byte.is_ascii()).count();
        match first {
            _ if run > 3 => Encoding::OtherScript,
            // Windows-1252 leaves these undefined.
            0x81 | 0x8d | 0x8f | 0x90 | 0x9d => Encoding::Unknown,
            0x80..=0x9f => Encoding::Windows1252,
            0xa0..=0xff => Encoding::Windows1252OrLatin1,
            _ => Encoding::Unknown,
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::CutOff => "the file ends within a character, so it may have been cut off",
            Encoding::Windows1252 => "the file is probably in Windows-1252, so save it as UTF-8 (Excel: \"CSV UTF-8\")",
            Encoding::Windows1252OrLatin1 => {
                "the file is probably in Windows-1252 or Latin-1 (ISO 8859-1), so save it as UTF-8 (Excel: \"CSV UTF-8\")"
            }
            Encoding::OtherScript => {
                "the file may be in an encoding such as Windows-1251, Shift_JIS or GBK, so save it as UTF-8"
            }
            Encoding::Unknown => "save the file as UTF-8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::AfterEvidence::{FileEnd, MoreBytes};
    use super::*;

    #[test]
    fn the_encoding_is_guessed_from_the_bytes() {
        for (evidence, after, guess) in [
            (&b"\x93Jo\x94,O\x92Hara\n"[..], MoreBytes, Encoding::Windows1252),
            (b"\x93\xc9cole\x94", MoreBytes, Encoding::Windows1252),
            (b"\xe9\n", MoreBytes, Encoding::Windows1252OrLatin1),
            (b"\xe9\xe9e", MoreBytes, Encoding::Windows1252OrLatin1),
            // "Иван" in Windows-1251, "山田" in Shift_JIS.
            (b"\xc8\xe2\xe0\xed,", MoreBytes, Encoding::OtherScript),
            (b"\x8e\x52\x93\x63", MoreBytes, Encoding::Windows1252),
            (b"\x8fd", MoreBytes, Encoding::Unknown),
            (b"\xe2\x82", FileEnd, Encoding::CutOff),
            (b"\xe2\x82", MoreBytes, Encoding::Windows1252OrLatin1),
            (b"\xe9", FileEnd, Encoding::Windows1252OrLatin1),
            (b"\x93", FileEnd, Encoding::Windows1252),
        ] {
            assert_eq!(Encoding::guess(evidence, after), guess, "{evidence:x?}");
        }
    }
}

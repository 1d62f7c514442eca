//! UTF-8 validation of a file that arrives in pieces, with the offset of the first invalid byte.

use memchr::memchr;

/// Validates the bytes of a file, including a sequence that is split between two pushes.
#[derive(Debug, Default)]
pub(super) struct Utf8Validator {
    /// Bytes seen so far.
    at: u64,
    /// The beginning of a sequence whose end is still to come: at most three bytes.
    carry: Vec<u8>,
}

/// The first byte that is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Utf8Error {
    /// The offset, from 0, of the first byte of the sequence that is wrong.
    Utf8(u64),
    /// The offset of a NUL. It is valid UTF-8, but no text has it, and all UTF-16 of Western text has.
    Nul(u64),
}

impl Utf8Error {
    pub fn offset(self) -> u64 {
        match self {
            Utf8Error::Utf8(offset) | Utf8Error::Nul(offset) => offset,
        }
    }
}

impl Utf8Validator {
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Utf8Error> {
        let utf8 = self.follow(bytes);
        let nul = memchr(0, bytes).map(|at| Utf8Error::Nul(self.at + at as u64));
        self.at += bytes.len() as u64;
        match (utf8, nul) {
            (Err(bad), Some(nul)) if nul.offset() < bad.offset() => Err(nul),
            (Err(bad), _) => Err(bad),
            (Ok(()), Some(nul)) => Err(nul),
            (Ok(()), None) => Ok(()),
        }
    }

    /// The end of the file: a sequence may not be left open.
    pub fn finish(&self) -> Result<(), Utf8Error> {
        if self.carry.is_empty() { Ok(()) } else { Err(self.bad_carry()) }
    }

    /// The beginning of a sequence whose end is still to come, or of one that the file's end cut off.
    pub fn carried(&self) -> &[u8] {
        &self.carry
    }

    fn follow(&mut self, bytes: &[u8]) -> Result<(), Utf8Error> {
        let carried = self.carry.len();
        let mut taken = 0;
        while !self.carry.is_empty() {
            let Some(&byte) = bytes.get(taken) else { return Ok(()) };
            self.carry.push(byte);
            match std::str::from_utf8(&self.carry) {
                Ok(_) => self.carry.clear(),
                Err(error) if error.error_len().is_some() => {
                    return Err(Utf8Error::Utf8(self.at - carried as u64));
                }
                Err(_) => {}
            }
            taken += 1;
        }
        let rest = &bytes[taken..];
        // Several times as fast as the standard library where letters are not ASCII, but without the offset of a fault.
        // A sequence that the next bytes complete is no fault, and must not have the slower way taken for the others.
        let complete = complete_bytes(rest);
        if simdutf8::basic::from_utf8(&rest[..complete]).is_ok() {
            self.carry.extend_from_slice(&rest[complete..]);
            return Ok(());
        }
        match std::str::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => {
                Err(Utf8Error::Utf8(self.at + (taken + error.valid_up_to()) as u64))
            }
            Err(error) => {
                self.carry.extend_from_slice(&rest[error.valid_up_to()..]);
                Ok(())
            }
        }
    }

    fn bad_carry(&self) -> Utf8Error {
        Utf8Error::Utf8(self.at - self.carry.len() as u64)
    }
}

/// Returns the number of bytes before a sequence at the end that may be completed by bytes behind it.
fn complete_bytes(bytes: &[u8]) -> usize {
    let end = bytes.len();
    for back in 1..=end.min(3) {
        let length = match bytes[end - back] {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        // Also where the second byte cannot follow on the first: then the sequence is no text.
        let may_go_on =
            length > back && std::str::from_utf8(&bytes[end - back..]).is_err_and(|error| error.error_len().is_none());
        return if may_go_on { end - back } else { end };
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_fault(bytes: &[u8], size: usize) -> Option<Utf8Error> {
        let mut utf8 = Utf8Validator::default();
        bytes.chunks(size).try_for_each(|chunk| utf8.push(chunk)).and_then(|()| utf8.finish()).err()
    }

    #[test]
    fn text_of_any_length_and_split_is_accepted() {
        let text = "aä€😀".repeat(40);
        for size in 1..=text.len() {
            assert_eq!(first_fault(text.as_bytes(), size), None, "by {size}");
        }
    }

    #[test]
    fn a_fault_in_long_text_has_its_offset() {
        let text = "aä€😀".repeat(40);
        for at in 0..text.len() {
            for byte in [0xC0, 0xFF, 0x80] {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = byte;
                let expected =
                    std::str::from_utf8(&bytes).err().map(|error| Utf8Error::Utf8(error.valid_up_to() as u64));
                for size in [1, 3, 64, 100, bytes.len()] {
                    assert_eq!(first_fault(&bytes, size), expected, "{byte:#x} at {at} by {size}");
                }
            }
        }
    }

    #[test]
    fn the_offset_of_a_fault_does_not_depend_on_the_chunks() {
        for (bytes, fault) in [
            ("ä€😀 plain".as_bytes(), None),
            (b"caf\xe9, noir", Some(Utf8Error::Utf8(3))),
            (b"ab\xe2\x82", Some(Utf8Error::Utf8(2))),
            (b"ab\xe2\x82x", Some(Utf8Error::Utf8(2))),
            (b"ab\xf0\x9f\x98", Some(Utf8Error::Utf8(2))),
            (b"\xff\xfea\0", Some(Utf8Error::Utf8(0))),
            (b"e\0m\0", Some(Utf8Error::Nul(1))),
            (b"e\0\xff", Some(Utf8Error::Nul(1))),
            (b"\xc3\0", Some(Utf8Error::Utf8(0))),
        ] {
            for size in 1..=bytes.len() {
                assert_eq!(first_fault(bytes, size), fault, "{bytes:?} by {size}");
            }
        }
    }
}

//! Multipart framing of an upload: one part named `file`. Built here because its exact size must be known: Marketo's
//! limit applies to the whole body, and the Content-Length is sent before it.

use rand::RngExt;

/// The length of every boundary: `marqueue` and 128 random bits in hexadecimal.
const BOUNDARY_BYTES: usize = 8 + 32;

/// The bytes before and after the file in the body. Public for the fuzzers, which check that a file is unchanged in it.
pub struct MultipartFrame {
    /// The boundary, without its leading dashes.
    pub boundary: String,
    /// The bytes before the file.
    pub head: String,
    /// The bytes after the file.
    pub tail: String,
}

impl MultipartFrame {
    /// Builds a frame with a random boundary.
    pub fn new(filename: &str) -> MultipartFrame {
        MultipartFrame::with_boundary(filename, format!("marqueue{:032x}", rand::rng().random::<u128>()))
    }

    fn with_boundary(filename: &str, boundary: String) -> MultipartFrame {
        debug_assert_eq!(boundary.len(), BOUNDARY_BYTES);
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\n\
             Content-Type: text/csv\r\n\r\n",
            sanitize_filename(filename)
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        MultipartFrame { boundary, head, tail }
    }

    /// Returns the value of the Content-Type header.
    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// Returns the length of the whole body in bytes, with a file of `content` bytes.
    pub fn body_bytes(&self, content: u64) -> u64 {
        self.head.len() as u64 + content + self.tail.len() as u64
    }
}

/// Returns the maximum length in bytes of a file of this name, so that its whole body has at most `upload_bytes`.
pub fn max_content_bytes(filename: &str, upload_bytes: u64) -> u64 {
    upload_bytes.saturating_sub(MultipartFrame::with_boundary(filename, "-".repeat(BOUNDARY_BYTES)).body_bytes(0))
}

/// Replaces the characters of a file name that are unsafe in a header: quotes, line ends, non-ASCII letters.
fn sanitize_filename(filename: &str) -> String {
    let plain: String = filename
        .chars()
        .take(100)
        .map(|letter| if letter.is_ascii_alphanumeric() || "._- ".contains(letter) { letter } else { '_' })
        .collect();
    if plain.trim().is_empty() { "import.csv".into() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_one_part_named_file() {
        let frame = MultipartFrame::with_boundary("leads.csv", "b".repeat(BOUNDARY_BYTES));
        let body = format!("{}email\na@b.c\n{}", frame.head, frame.tail);
        let boundary = "b".repeat(BOUNDARY_BYTES);
        assert_eq!(
            body,
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"leads.csv\"\r\n\
                 Content-Type: text/csv\r\n\r\nemail\na@b.c\n\r\n--{boundary}--\r\n"
            )
        );
        assert_eq!(frame.body_bytes(12), body.len() as u64);
    }

    #[test]
    fn file_at_the_limit_fills_the_upload_exactly() {
        for name in ["leads.csv", "a name with \"quotes\".csv", "", &"x".repeat(300)] {
            let content = max_content_bytes(name, 10_000_000);
            assert_eq!(MultipartFrame::new(name).body_bytes(content), 10_000_000);
        }
        assert_eq!(max_content_bytes("leads.csv", 10), 0);
    }

    #[test]
    fn unsafe_characters_of_a_file_name_are_replaced() {
        assert_eq!(sanitize_filename("a\"b\r\nc.csv"), "a_b__c.csv");
        assert_eq!(sanitize_filename("größe.csv"), "gr__e.csv");
        assert_eq!(sanitize_filename(""), "import.csv");
    }

    #[test]
    fn each_upload_has_its_own_boundary() {
        assert_ne!(MultipartFrame::new("a").boundary, MultipartFrame::new("a").boundary);
    }
}

//! Hashed content: a file that is read twice, first for its hash and then to be sent, without a change in between.

use std::fs::File;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, ReadBuf};

/// Bytes that are read at once.
const READ_BYTES: usize = 128 * 1024;

/// A content whose hash is known before it is sent.
pub struct HashedContent {
    /// The SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Size in bytes.
    pub bytes: u64,
    /// The content from its begin. Reading fails at its end if it is not the one that was hashed.
    pub content: Verified<tokio::fs::File>,
}

impl HashedContent {
    /// Hashes a file that can be read again.
    ///
    /// # Errors
    /// The file can't be read.
    pub async fn of_file(mut file: tokio::fs::File) -> io::Result<HashedContent> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut bytes = 0;
        loop {
            let read = file.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            bytes += read as u64;
        }
        Self::rewound(file, hash, bytes).await
    }

    /// Hashes a content that can be read only once, such as standard input. It is kept in a temporary file without a
    /// name, which no other program can open.
    ///
    /// # Errors
    /// The content can't be read, or the temporary file can't be written.
    pub async fn of_stream(mut stream: impl AsyncRead + Unpin) -> io::Result<HashedContent> {
        let no_spool =
            |error: io::Error| io::Error::new(error.kind(), format!("its copy in {} fails: {error}", folder()));
        let spool: File = tempfile::tempfile().map_err(no_spool)?;
        let mut spool = tokio::fs::File::from_std(spool);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut bytes = 0;
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            spool.write_all(&buffer[..read]).await.map_err(no_spool)?;
            bytes += read as u64;
        }
        spool.flush().await.map_err(no_spool)?;
        Self::rewound(spool, hash, bytes).await
    }

    async fn rewound(mut file: tokio::fs::File, hash: Sha256, bytes: u64) -> io::Result<HashedContent> {
        file.seek(SeekFrom::Start(0)).await?;
        let sha256 = hash.finalize().into();
        Ok(HashedContent { sha256, bytes, content: Verified { inner: file, hash: Sha256::new(), expected: sha256 } })
    }
}

fn folder() -> String {
    std::env::temp_dir().display().to_string()
}

/// A reader that fails at the end of its content if that is not the expected one. The sender of the content does not
/// send its end then.
pub struct Verified<R> {
    inner: R,
    hash: Sha256,
    expected: [u8; 32],
}

impl<R: AsyncRead + Unpin> AsyncRead for Verified<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        if !read.is_empty() || buffer.remaining() == 0 {
            self.hash.update(read);
            return Poll::Ready(Ok(()));
        }
        let found: [u8; 32] = self.hash.clone().finalize().into();
        Poll::Ready(if found == self.expected {
            Ok(())
        } else {
            Err(io::Error::other("it was changed while it was sent, and nothing of it is kept: add it again"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn read(mut hashed: HashedContent) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        hashed.content.read_to_end(&mut content).await?;
        Ok(content)
    }

    #[tokio::test]
    async fn file_and_stream_have_one_hash_and_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let text: Vec<u8> = b"email\na@example.com\n".repeat(20_000);
        fs::write(&path, &text).unwrap();
        let expected: [u8; 32] = Sha256::digest(&text).into();
        let file = HashedContent::of_file(tokio::fs::File::open(&path).await.unwrap()).await.unwrap();
        let stream = HashedContent::of_stream(&text[..]).await.unwrap();
        for hashed in [file, stream] {
            assert_eq!((hashed.sha256, hashed.bytes), (expected, text.len() as u64));
            assert!(read(hashed).await.unwrap() == text);
        }
    }

    #[tokio::test]
    async fn a_change_between_hash_and_sending_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        for changed in ["email\nb@example.com\n", "email\na@example.com\nmore\n", "email\n", ""] {
            fs::write(&path, "email\na@example.com\n").unwrap();
            let hashed = HashedContent::of_file(tokio::fs::File::open(&path).await.unwrap()).await.unwrap();
            fs::write(&path, changed).unwrap();
            let error = read(hashed).await.unwrap_err().to_string();
            assert!(error.contains("it was changed while it was sent"), "{changed}: {error}");
        }
    }
}

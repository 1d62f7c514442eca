//! A client that adds little to what is measured: HTTP/1.1 over one kept-alive connection, in blocking calls; two
//! system calls a request and no library between.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(socket: &Path) -> io::Result<Client> {
        Ok(Client { stream: BufReader::new(UnixStream::connect(socket)?) })
    }

    /// Status and body of one request.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut request = head(method, path, body.len() as u64);
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request).expect("the daemon reads");
        self.answer()
    }

    /// Sends `bytes` bytes of `body` as they are read.
    pub fn stream(&mut self, path: &str, bytes: u64, body: &mut impl Read) -> (u16, Vec<u8>) {
        let stream = self.stream.get_mut();
        stream.write_all(&head("POST", path, bytes)).expect("the daemon reads");
        let sent = io::copy(body, stream).expect("the daemon reads to the end");
        assert_eq!(sent, bytes, "the body is as long as was announced");
        self.answer()
    }

    fn answer(&mut self) -> (u16, Vec<u8>) {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the daemon answers");
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("the head is whole");
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the body is whole");
        (status, body)
    }
}

fn head(method: &str, path: &str, bytes: u64) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: daemon\r\ncontent-length: {bytes}\r\n\r\n").into_bytes()
}

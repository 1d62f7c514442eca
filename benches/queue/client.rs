//! A client that adds little to what is measured: HTTP/1.1 over one kept-alive connection, in blocking calls; two
//! system calls a request and no library between.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

trait Connection: Read + Write + Send {}
impl<T: Read + Write + Send> Connection for T {}

pub struct Client {
    connection: Box<dyn Connection>,
    /// A line of each request's head, or nothing.
    authorization: String,
    /// Bytes of the answer that is being read.
    received: Vec<u8>,
}

impl Client {
    pub fn connect(socket: &Path) -> io::Result<Client> {
        Ok(Client::over(UnixStream::connect(socket)?))
    }

    /// Connects over TCP and logs in.
    pub fn connect_tcp(address: SocketAddr, client_id: &str, secret: &str) -> io::Result<Client> {
        let mut client = Client::connect_with_token(address, "")?;
        client.authorization.clear();
        let path =
            format!("/identity/oauth/token?grant_type=client_credentials&client_id={client_id}&client_secret={secret}");
        let (status, answer) = client.ask("GET", &path, b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
        client.authorize(answer["access_token"].as_str().expect("a token"));
        Ok(client)
    }

    /// Connects over TCP with the token of another connection.
    pub fn connect_with_token(address: SocketAddr, token: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut client = Client::over(stream);
        client.authorize(token);
        Ok(client)
    }

    fn over(connection: impl Connection + 'static) -> Client {
        Client { connection: Box::new(connection), authorization: String::new(), received: Vec::new() }
    }

    fn authorize(&mut self, token: &str) {
        self.authorization = format!("authorization: Bearer {token}\r\n");
    }

    /// The token that it sends.
    pub fn token(&self) -> &str {
        self.authorization.trim_start_matches("authorization: Bearer ").trim_end()
    }

    /// Status and body of one request.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let request = self.request(method, path, body);
        self.send(&request)
    }

    /// The bytes of a request, for [`Client::send`].
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let mut request = self.head(method, path, body.len() as u64);
        request.extend_from_slice(body);
        request
    }

    /// Status and body of a request that was made before.
    pub fn send(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        self.connection.write_all(request).expect("the daemon reads");
        self.answer()
    }

    /// Sends `bytes` bytes of `body` as they are read.
    pub fn stream(&mut self, path: &str, bytes: u64, body: &mut impl Read) -> (u16, Vec<u8>) {
        let head = self.head("POST", path, bytes);
        self.connection.write_all(&head).expect("the daemon reads");
        let sent = io::copy(body, &mut self.connection).expect("the daemon reads to the end");
        assert_eq!(sent, bytes, "the body is as long as was announced");
        self.answer()
    }

    fn head(&self, method: &str, path: &str, bytes: u64) -> Vec<u8> {
        let authorization = &self.authorization;
        format!("{method} {path} HTTP/1.1\r\nhost: daemon\r\ncontent-length: {bytes}\r\n{authorization}\r\n")
            .into_bytes()
    }

    fn answer(&mut self) -> (u16, Vec<u8>) {
        self.received.clear();
        let end = loop {
            self.receive();
            if let Some(at) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
        };
        let head = str::from_utf8(&self.received[..end]).expect("a head of text");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a length"))
        });
        let all = end + 4 + length.unwrap_or(0);
        while self.received.len() < all {
            self.receive();
        }
        (status, self.received[end + 4..].to_vec())
    }

    fn receive(&mut self) {
        let mut piece = [0; 8 * 1024];
        let read = self.connection.read(&mut piece).expect("the daemon answers");
        assert!(read > 0, "the daemon closed the connection");
        self.received.extend_from_slice(&piece[..read]);
    }
}

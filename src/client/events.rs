//! Event stream of the client: reads the daemon's server-sent events.

use reqwest::{Method, Response};

use crate::api::dto::EventData;
use crate::client::error::ClientError;
use crate::client::http_client::Client;
use crate::client::response::MAX_PROBLEM_BYTES;
use crate::domain::JobId;
use crate::error_chain::innermost;

/// Events since the call. The stream ends when the daemon stops; the caller reconnects.
pub struct EventStream {
    response: Response,
    lines: LineBuffer,
}

impl Client {
    /// Follows at most [`MAX_FOLLOWED`] jobs: one event with the current state of each, then their changes.
    ///
    /// # Errors
    /// Every [`ClientError`] but [`ClientError::Content`]. Where [`ClientError::is_too_many_waiting`], poll the jobs instead.
    ///
    /// [`MAX_FOLLOWED`]: crate::api::dto::MAX_FOLLOWED
    pub async fn events_of(&self, jobs: &[JobId]) -> Result<EventStream, ClientError> {
        let jobs: Vec<String> = jobs.iter().map(JobId::to_string).collect();
        let request = self.request(Method::GET, "/v1/events").query(&[("job", jobs.join(","))]);
        Ok(EventStream { response: self.send_in_time(request).await?, lines: LineBuffer::default() })
    }
}

impl EventStream {
    /// Returns the next event; none when the daemon closed the stream.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the connection is lost, or an event can't be parsed.
    pub async fn next(&mut self) -> Result<Option<EventData>, ClientError> {
        let broken = |reason: String| ClientError::Broken(reason);
        loop {
            if let Some(data) = self.lines.next_data() {
                return serde_json::from_str(&data).map(Some).map_err(|error| broken(error.to_string()));
            }
            if self.lines.held_bytes() > MAX_PROBLEM_BYTES {
                return Err(broken(format!("an event is longer than {MAX_PROBLEM_BYTES} bytes")));
            }
            match self.response.chunk().await.map_err(|error| broken(innermost(&error)))? {
                Some(bytes) => self.lines.unread.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

/// Parses the stream: `data:` lines up to an empty line are an event. Names and comments are ignored, since the data have
/// their type.
#[derive(Default)]
struct LineBuffer {
    unread: Vec<u8>,
    /// Bytes of `unread` that contain no line end.
    searched: usize,
    data: Option<String>,
}

impl LineBuffer {
    /// Returns the buffered bytes of the incomplete event.
    fn held_bytes(&self) -> usize {
        self.unread.len() + self.data.as_ref().map_or(0, String::len)
    }

    fn next_data(&mut self) -> Option<String> {
        while let Some(line) = self.next_line() {
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Some(data);
                }
            } else if let Some(text) = line.strip_prefix("data:") {
                let text = text.strip_prefix(' ').unwrap_or(text);
                match &mut self.data {
                    Some(data) => *data += &format!("\n{text}"),
                    None => self.data = Some(text.to_owned()),
                }
            }
        }
        None
    }

    fn next_line(&mut self) -> Option<String> {
        let Some(end) = self.unread[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.unread.len();
            return None;
        };
        let mut line: Vec<u8> = self.unread.drain(..=self.searched + end).collect();
        self.searched = 0;
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nevent: job\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 3\ndata:ö\n\n:\ndata: cut of";

    #[test]
    fn events_are_the_same_however_the_bytes_arrive() {
        for size in 1..=STREAM.len() {
            let (mut lines, mut found) = (LineBuffer::default(), Vec::new());
            for piece in STREAM.as_bytes().chunks(size) {
                lines.unread.extend_from_slice(piece);
                while let Some(data) = lines.next_data() {
                    found.push(data);
                }
            }
            assert_eq!(found, ["{\"a\":\n1}", "ö"], "pieces of {size}");
        }
    }
}

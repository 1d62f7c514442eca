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

/// One event, and the id after which a new stream continues.
#[derive(Clone, Debug)]
pub struct StreamEvent {
    /// The event's id; none where it has none.
    pub id: Option<String>,
    /// The event.
    pub data: EventData,
}

impl Client {
    /// Follows at most [`MAX_FOLLOWED`] jobs: one event with the current state of each, then their changes.
    ///
    /// # Errors
    /// Every [`ClientError`] but [`ClientError::Content`]. Where [`ClientError::is_too_many_waiting`], poll the jobs
    /// instead.
    ///
    /// [`MAX_FOLLOWED`]: crate::api::dto::MAX_FOLLOWED
    pub async fn events_of(&self, jobs: &[JobId]) -> Result<EventStream, ClientError> {
        self.events(jobs, None).await
    }

    /// Follows these jobs as [`Client::events_of`] does, or with none all jobs and instances. `last_id` is that of the
    /// last event of an earlier stream of all: this one first has what has changed since.
    ///
    /// # Errors
    /// As of [`Client::events_of`].
    pub async fn events(&self, jobs: &[JobId], last_id: Option<&str>) -> Result<EventStream, ClientError> {
        let mut request = self.request(Method::GET, "/v1/events");
        if !jobs.is_empty() {
            let jobs: Vec<String> = jobs.iter().map(JobId::to_string).collect();
            request = request.query(&[("job", jobs.join(","))]);
        }
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        Ok(EventStream { response: self.send_in_time(request).await?, lines: LineBuffer::default() })
    }
}

impl EventStream {
    /// Returns the next event; none when the daemon closed the stream.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the connection is lost, or an event can't be parsed.
    pub async fn next(&mut self) -> Result<Option<EventData>, ClientError> {
        Ok(self.next_with_id().await?.map(|event| event.data))
    }

    /// Returns the next event with its id; none when the daemon closed the stream.
    ///
    /// # Errors
    /// As of [`EventStream::next`].
    pub async fn next_with_id(&mut self) -> Result<Option<StreamEvent>, ClientError> {
        let broken = |reason: String| ClientError::Broken(reason);
        loop {
            if let Some(RawEvent { id, data }) = self.lines.next_event() {
                let data = serde_json::from_str(&data).map_err(|error| broken(error.to_string()))?;
                return Ok(Some(StreamEvent { id, data }));
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

/// An event before its data are parsed.
#[derive(Debug, PartialEq, Eq)]
struct RawEvent {
    id: Option<String>,
    data: String,
}

/// Parses the stream: the lines up to an empty one are an event, if any of them is a `data:` line. Names and comments
/// are ignored, since the data have their type.
#[derive(Default)]
struct LineBuffer {
    unread: Vec<u8>,
    /// Bytes of `unread` that contain no line end.
    searched: usize,
    id: Option<String>,
    data: Option<String>,
}

impl LineBuffer {
    /// Returns the buffered bytes of the incomplete event.
    fn held_bytes(&self) -> usize {
        let begun = [&self.id, &self.data].into_iter().flatten().map(String::len).sum::<usize>();
        self.unread.len() + begun
    }

    fn next_event(&mut self) -> Option<RawEvent> {
        while let Some(line) = self.next_line() {
            if line.is_empty() {
                let id = self.id.take();
                if let Some(data) = self.data.take() {
                    return Some(RawEvent { id, data });
                }
            } else if let Some(text) = field(&line, "data:") {
                match &mut self.data {
                    Some(data) => *data += &format!("\n{text}"),
                    None => self.data = Some(text.to_owned()),
                }
            } else if let Some(id) = field(&line, "id:") {
                self.id = Some(id.to_owned());
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

/// Returns the value of a line that begins with the name of this field and a colon.
fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let value = line.strip_prefix(name)?;
    Some(value.strip_prefix(' ').unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nevent: job\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 3\ndata:ö\n\n:\ndata: cut of";

    #[test]
    fn events_do_not_depend_on_the_chunks() {
        for size in 1..=STREAM.len() {
            let (mut lines, mut found) = (LineBuffer::default(), Vec::new());
            for piece in STREAM.as_bytes().chunks(size) {
                lines.unread.extend_from_slice(piece);
                while let Some(event) = lines.next_event() {
                    found.push(event);
                }
            }
            let event = |id: Option<&str>, data: &str| RawEvent { id: id.map(Into::into), data: data.into() };
            assert_eq!(found, [event(None, "{\"a\":\n1}"), event(Some("3"), "ö")], "pieces of {size}");
        }
    }
}

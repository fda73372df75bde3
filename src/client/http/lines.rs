//! A watch: a body of events, one on each line.

use api::request::{EventKind, EventStream, WatchEvent};
use api::status::Status;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::answer::status_of;
use crate::scan;

/// The longest watch event.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// The events of a watch's answer. One that breaks off ends with why.
pub(super) fn events(body: Incoming) -> EventStream {
    let lines = Lines {
        body,
        buffer: BytesMut::new(),
        searched: 0,
    };
    let events = futures_util::stream::unfold(Some(lines), |lines| async move {
        let mut lines = lines?;
        match lines.next().await {
            Ok(Some(line)) => Some((event(&line), Some(lines))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    });
    events.boxed()
}

/// A body cut at its line ends.
struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = unsearched.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                if line.len() > 1 {
                    return Ok(Some(line));
                }
                continue;
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(Status::internal("a watch event is too long"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(Status::unavailable(format!("the watch broke off: {e}"))),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }
}

/// One line of a watch as an event.
fn event(line: &Bytes) -> Result<WatchEvent, Status> {
    let object =
        scan::member(line, "object").ok_or_else(|| Status::internal("a watch event without object"))?;
    let kind = match scan::member(line, "type").unwrap_or_default() {
        br#""ADDED""# => EventKind::Added,
        br#""MODIFIED""# => EventKind::Modified,
        br#""DELETED""# => EventKind::Deleted,
        br#""BOOKMARK""# => EventKind::Bookmark,
        _ => return Err(status_of(object, 500)),
    };
    Ok(WatchEvent {
        kind,
        object: line.slice_ref(object),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_lines_become_events() {
        let line = Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":{\"a\":1}}\n");
        let seen = event(&line).unwrap();
        assert_eq!(
            (seen.kind, seen.object),
            (EventKind::Modified, Bytes::from_static(b"{\"a\":1}"))
        );
        let line = Bytes::from_static(
            b"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"old\"}}",
        );
        assert_eq!(event(&line).unwrap_err().code, 410);
    }
}

//! HTML on its way through a proxy: its links are led through the proxy too, block by block as it comes.

use std::io::{self, Write};

use api::decode::media_type;
use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;

use super::links::Links;
use super::tags;
use crate::body::Body;
use crate::body::streamed;

/// A tag longer than this goes on as it is.
const TAG_BYTES_MAX: usize = 64 * 1024;
/// Compressed text is opened in pieces of this size, so that little of it can never become much at once.
const PIECE_BYTES: usize = 1024;

/// The answer with its links led through the proxy, if it is a page that can be read.
pub fn corrected(response: Response<Body>, links: Links) -> Response<Body> {
    let Some(gzip) = readable(response.headers()) else {
        return response;
    };
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let page = Page {
        links,
        held: Vec::new(),
        raw: None,
    };
    let state = Passing {
        body: Some(body),
        came: Bytes::new(),
        page,
        coding: gzip.then(Gzip::new),
    };
    let chunks = futures_util::stream::unfold(state, |mut state| async {
        let chunk = state.next().await?;
        Some((chunk, state))
    });
    Response::from_parts(parts, streamed(chunks))
}

/// Whether an answer is a page, and then whether it is compressed; `None` when it is none, or coded otherwise.
fn readable(headers: &HeaderMap) -> Option<bool> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let media = media_type(text(&CONTENT_TYPE));
    match text(&CONTENT_ENCODING) {
        _ if media != "text/html" => None,
        "" => Some(false),
        "gzip" => Some(true),
        _ => None,
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body under way.
struct Passing {
    /// `None` once it has ended.
    body: Option<Body>,
    /// What came and has not been read yet.
    came: Bytes,
    page: Page,
    coding: Option<Gzip>,
}

impl Passing {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            let made = if self.came.has_remaining() {
                let piece = self.came.split_to(self.came.len().min(PIECE_BYTES));
                self.pass(&piece)
            } else {
                match self.body.as_mut()?.frame().await {
                    Some(Ok(frame)) => {
                        self.came = frame.into_data().unwrap_or_default();
                        continue;
                    }
                    Some(Err(error)) => {
                        self.body = None;
                        return Some(Err(error));
                    }
                    None => {
                        self.body = None;
                        self.end()
                    }
                }
            };
            match made {
                Ok(made) if made.is_empty() => {}
                made => return Some(made.map(Bytes::from).map_err(Into::into)),
            }
        }
    }

    fn pass(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match &mut self.coding {
            None => Ok(self.page.pass(piece)),
            Some(coding) => {
                let text = coding.open(piece)?;
                let text = self.page.pass(&text);
                coding.close(&text)
            }
        }
    }

    fn end(&mut self) -> io::Result<Vec<u8>> {
        let rest = std::mem::take(&mut self.page.held);
        match self.coding.take() {
            None => Ok(rest),
            Some(coding) => coding.finish(&rest),
        }
    }
}

struct Gzip {
    open: GzDecoder<Vec<u8>>,
    close: GzEncoder<Vec<u8>>,
}

impl Gzip {
    fn new() -> Self {
        Self {
            open: GzDecoder::new(Vec::new()),
            close: GzEncoder::new(Vec::new(), Compression::fast()),
        }
    }

    fn open(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        self.open.write_all(piece)?;
        self.open.flush()?;
        Ok(std::mem::take(self.open.get_mut()))
    }

    fn close(&mut self, text: &[u8]) -> io::Result<Vec<u8>> {
        self.close.write_all(text)?;
        Ok(std::mem::take(self.close.get_mut()))
    }

    fn finish(mut self, rest: &[u8]) -> io::Result<Vec<u8>> {
        self.close.write_all(rest)?;
        self.close.finish()
    }
}

/// A page that is read as it comes.
struct Page {
    links: Links,
    /// The beginning of a tag whose end has not come yet.
    held: Vec<u8>,
    /// The element whose text, which is no markup, is under way.
    raw: Option<&'static str>,
}

impl Page {
    /// What can go on of what was held back and what came.
    fn pass(&mut self, text: &[u8]) -> Vec<u8> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(text);
        let mut out = Vec::with_capacity(held.len());
        let mut rest = &held[..];
        while !rest.is_empty() {
            let Some(after) = self.step(rest, &mut out) else {
                if rest.len() > TAG_BYTES_MAX {
                    out.extend_from_slice(rest);
                } else {
                    self.held = rest.to_vec();
                }
                break;
            };
            rest = rest.get(after..).unwrap_or_default();
        }
        out
    }

    /// Passes the text before a tag, and the tag; `None` when its end is missing.
    fn step(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if let Some(name) = self.raw {
            let closing = format!("</{name}");
            let found = tags::find(text, closing.as_bytes());
            if found.is_some() {
                self.raw = None;
            }
            // The beginning of the end may be there already.
            let end = found.unwrap_or(text.len().saturating_sub(closing.len() - 1));
            out.extend_from_slice(text.get(..end)?);
            return (found.is_some() || end > 0).then_some(end);
        }
        let before = text.iter().position(|c| *c == b'<').unwrap_or(text.len());
        if before > 0 {
            out.extend_from_slice(text.get(..before)?);
            return Some(before);
        }
        let tag = tags::first(text)?;
        let mut from = 0;
        for link in &tag.links {
            let value = std::str::from_utf8(text.get(link.clone())?).unwrap_or_default();
            let Some(led) = self.links.through(value) else {
                continue;
            };
            out.extend_from_slice(text.get(from..link.start)?);
            out.extend_from_slice(led.as_bytes());
            from = link.end;
        }
        out.extend_from_slice(text.get(from..tag.end)?);
        self.raw = tag.raw;
        Some(tag.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<html><!-- <a href='/no'> --><script src=/s.js>if (a<b) x('<a href=\"/no\">')</script>\
        <a href=\"/x?a&amp;b\">1 < 2</a><a href='y'>2</a><form action=/post></form><a href=http://else/>";
    const SEEN: &str = "<html><!-- <a href='/no'> --><script src=/p/s.js>if (a<b) x('<a href=\"/no\">')</script>\
        <a href=\"/p/x?a&amp;b\">1 < 2</a><a href='y'>2</a><form action=/p/post></form><a href=http://else/>";

    fn links() -> Links {
        Links {
            prefix: "/p".into(),
            asked: "api".into(),
            backend: "pod".into(),
        }
    }

    /// What becomes of an answer whose body comes in blocks of so many bytes.
    fn through(body: &[u8], block: usize, encoding: &'static str) -> Vec<u8> {
        let blocks: Vec<_> = body.chunks(block).map(Bytes::copy_from_slice).map(Ok).collect();
        let mut response = Response::new(streamed(futures_util::stream::iter(blocks)));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, "text/html; charset=utf-8".parse().unwrap());
        if !encoding.is_empty() {
            response
                .headers_mut()
                .insert(CONTENT_ENCODING, encoding.parse().unwrap());
        }
        let body = corrected(response, links()).into_body().collect();
        futures_util::future::FutureExt::now_or_never(body)
            .unwrap()
            .unwrap()
            .to_bytes()
            .to_vec()
    }

    #[test]
    fn pages_lead_through_the_proxy_wherever_they_are_cut() {
        for block in [1, 2, 7, 64, 10_000] {
            let seen = through(PAGE.as_bytes(), block, "");
            assert_eq!(String::from_utf8(seen).unwrap(), SEEN, "{block}");
        }
    }

    #[test]
    fn compressed_pages_stay_compressed() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(PAGE.as_bytes()).unwrap();
        let seen = through(&packed.finish().unwrap(), 10, "gzip");
        let mut opened = GzDecoder::new(Vec::new());
        opened.write_all(&seen).unwrap();
        assert_eq!(String::from_utf8(opened.finish().unwrap()).unwrap(), SEEN);
    }

    #[test]
    fn what_cannot_be_read_goes_on_as_it_is() {
        assert_eq!(through(PAGE.as_bytes(), 64, "br"), PAGE.as_bytes());
        let cut = "<a href=/x";
        assert_eq!(through(cut.as_bytes(), 3, ""), cut.as_bytes());
        let long = format!("<a href={}>", "/".repeat(3 * TAG_BYTES_MAX));
        assert_eq!(through(long.as_bytes(), 4096, ""), long.as_bytes());
    }
}

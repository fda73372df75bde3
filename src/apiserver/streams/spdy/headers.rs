//! SPDY header blocks: name/value pairs, compressed by one zlib stream for
//! each direction, which begins from a dictionary that the draft lays down.

use std::sync::OnceLock;

use bytes::{Buf, BufMut, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Names of the dictionary, each preceded by its length.
const NAMES: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// What follows the names.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized\
403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// Headers of a stream, names in lower case.
pub type Headers = Vec<(String, String)>;

/// A decompressed block is never larger: kubectl's are below 200 bytes.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

fn dictionary() -> &'static [u8] {
    static DICTIONARY: OnceLock<Vec<u8>> = OnceLock::new();
    DICTIONARY.get_or_init(|| {
        let mut bytes = Vec::with_capacity(1423);
        for name in NAMES {
            bytes.put_u32(name.len() as u32);
            bytes.put_slice(name.as_bytes());
        }
        bytes.put_slice(TAIL.as_bytes());
        bytes
    })
}

/// Why a header block cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SPDY headers: {0}")]
pub struct HeaderError(&'static str);

/// Compresses the header blocks of one direction, in order.
pub struct Compressor(Compress);

impl Compressor {
    /// At the start of a connection.
    pub fn new() -> Result<Self, HeaderError> {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(dictionary())
            .map_err(|_| HeaderError("the dictionary was not taken"))?;
        Ok(Self(zlib))
    }

    /// The block of these headers.
    pub fn block(&mut self, headers: &Headers) -> Result<Bytes, HeaderError> {
        let mut plain = Vec::new();
        plain.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(text.len() as u32);
            plain.put_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let mut rest = &plain[..];
        loop {
            let before = self.0.total_in();
            self.0
                .compress_vec(rest, &mut out, FlushCompress::Sync)
                .map_err(|_| HeaderError("compression failed"))?;
            rest = rest
                .get((self.0.total_in() - before) as usize..)
                .unwrap_or_default();
            // Spare room says that everything was flushed.
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out.into());
            }
            out.reserve(256);
        }
    }
}

/// Decompresses the header blocks of one direction, in order.
pub struct Decompressor(Decompress);

impl Decompressor {
    /// At the start of a connection.
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The headers of a block.
    pub fn headers(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        let plain = self.inflate(block)?;
        parse(&plain).ok_or(HeaderError("malformed"))
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut out = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = self.0.total_in();
            let step = self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            rest = rest
                .get((self.0.total_in() - before) as usize..)
                .unwrap_or_default();
            match step {
                Ok(Status::StreamEnd) => return Ok(out),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(dictionary());
                    set.map_err(|_| HeaderError("another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(HeaderError("not zlib")),
            }
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
            if out.len() > BLOCK_BYTES_MAX {
                return Err(HeaderError("too large"));
            }
            out.reserve(1024);
        }
    }
}

fn parse(mut plain: &[u8]) -> Option<Headers> {
    let count = plain.try_get_u32().ok()?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut plain)?.to_ascii_lowercase();
        headers.push((name, text(&mut plain)?));
    }
    Some(headers)
}

fn text(plain: &mut &[u8]) -> Option<String> {
    let length = plain.try_get_u32().ok()? as usize;
    let (text, rest) = plain.split_at_checked(length)?;
    *plain = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_dictionary_is_the_drafts() {
        assert_eq!(dictionary().len(), 1423);
        // Its Adler-32, which every client names in its first block.
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!(b << 16 | a, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_follow_one_another_in_one_stream() {
        let mut write = Compressor::new().unwrap();
        let mut read = Decompressor::new();
        let long = "x".repeat(5000);
        for headers in [
            vec![pair("streamtype", "error")],
            vec![
                pair("streamtype", "data"),
                pair("port", "80"),
                pair("requestid", "0"),
            ],
            vec![],
            vec![pair("long", &long)],
            vec![pair("streamtype", "stdin")],
        ] {
            let block = write.block(&headers).unwrap();
            assert_eq!(read.headers(&block).unwrap(), headers);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(Decompressor::new().headers(b"nonsense").is_err());
        assert_eq!(parse(&[0, 0, 0, 1, 0, 0, 0, 9, b'x']), None);
        assert_eq!(parse(&[0xff, 0xff, 0xff, 0xff]), None);
    }
}

//! The byte formats' common parts: LEB128 numbers, length-prefixed bytes, and
//! the header of an object. Nothing here trusts what it reads.

use bytes::{Buf, Bytes};

use crate::types::Header;

/// What did not fit while decoding. Whoever reads a file adds its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Appends a number in LEB128, 1 to 10 bytes.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a number or its absence: 0, or the number plus one.
pub fn put_optional(out: &mut Vec<u8>, number: Option<u64>) {
    put_number(out, number.map_or(0, |n| n.saturating_add(1)));
}

/// Appends an object's header.
pub fn put_header(out: &mut Vec<u8>, header: &Header) {
    put_bytes(out, header.uid.as_bytes());
    put_pairs(out, &header.labels);
    put_number(out, header.owners.len() as u64);
    for owner in &header.owners {
        put_bytes(out, owner.as_bytes());
    }
    put_pairs(out, &header.fields);
}

fn put_pairs(out: &mut Vec<u8>, pairs: &[(String, String)]) {
    put_number(out, pairs.len() as u64);
    for (name, value) in pairs {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// Reads what the functions above wrote. Slices share the source's memory.
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// A reader at the first byte.
    pub fn new(bytes: Bytes) -> Self {
        Reader { rest: bytes }
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.rest.first().ok_or(Malformed("ends too early"))?;
        self.rest.advance(1);
        Ok(byte)
    }

    /// A LEB128 number.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            number |= part << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed("number is too large"))
    }

    /// A number that may be absent.
    pub fn optional(&mut self) -> Result<Option<u64>, Malformed> {
        Ok(self.number()?.checked_sub(1))
    }

    /// Length-prefixed bytes.
    pub fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.length()?;
        Ok(self.rest.split_to(length))
    }

    /// Length-prefixed UTF-8.
    pub fn string(&mut self) -> Result<String, Malformed> {
        let length = self.length()?;
        let text = std::str::from_utf8(&self.rest[..length])
            .map(str::to_owned)
            .map_err(|_| Malformed("text is not UTF-8"));
        self.rest.advance(length);
        text
    }

    /// The length of bytes that follow, and are there.
    fn length(&mut self) -> Result<usize, Malformed> {
        match usize::try_from(self.number()?) {
            Ok(length) if length <= self.rest.len() => Ok(length),
            _ => Err(Malformed("length goes beyond the end")),
        }
    }

    /// A count of things that each take at least one byte.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        match usize::try_from(self.number()?) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(Malformed("count goes beyond the end")),
        }
    }

    /// An object's header.
    pub fn header(&mut self) -> Result<Header, Malformed> {
        let uid = self.string()?;
        let labels = self.pairs()?;
        let count = self.count()?;
        let owners = (0..count).map(|_| self.string()).collect::<Result<_, _>>()?;
        let fields = self.pairs()?;
        Ok(Header {
            uid,
            labels,
            owners,
            fields,
        })
    }

    /// Everything that is left.
    pub fn remainder(self) -> Bytes {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn pairs(&mut self) -> Result<Vec<(String, String)>, Malformed> {
        let count = self.count()?;
        (0..count).map(|_| Ok((self.string()?, self.string()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, optional: Option<u32>) {
            let mut out = vec![];
            put_number(&mut out, number);
            put_optional(&mut out, optional.map(u64::from));
            let mut reader = Reader::new(out.into());
            prop_assert_eq!(reader.number(), Ok(number));
            prop_assert_eq!(reader.optional(), Ok(optional.map(u64::from)));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn headers_come_back(
            uid: String,
            labels: Vec<(String, String)>,
            owners: Vec<String>,
            fields: Vec<(String, String)>,
        ) {
            let header = Header { uid, labels, owners, fields };
            let mut out = vec![];
            put_header(&mut out, &header);
            let mut reader = Reader::new(out.into());
            prop_assert_eq!(reader.header(), Ok(header));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn garbage_is_refused_not_trusted(garbage: Vec<u8>) {
            let _ = Reader::new(garbage.clone().into()).header();
            let _ = Reader::new(garbage.into()).bytes();
        }
    }

    #[test]
    fn eleven_byte_numbers_are_refused() {
        assert!(Reader::new(vec![0xff; 11].into()).number().is_err());
        assert!(Reader::new(vec![0x80].into()).number().is_err());
    }
}

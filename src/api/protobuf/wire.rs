//! Protobuf's wire format: numbered items, read one after another. Also the
//! writer that the OpenAPI document needs.

/// What every body begins with.
pub const MAGIC: &[u8] = b"k8s\0";

/// One item of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Item<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

const CUT_SHORT: &str = "unexpected EOF";

fn wrong_type() -> String {
    "proto: wrong wireType".to_owned()
}

impl<'a> Item<'a> {
    pub fn bytes(&self) -> Result<&'a [u8], String> {
        match self {
            Item::Bytes(bytes) => Ok(bytes),
            _ => Err(wrong_type()),
        }
    }

    pub fn varint(&self) -> Result<u64, String> {
        match self {
            Item::Varint(number) => Ok(*number),
            _ => Err(wrong_type()),
        }
    }

    pub fn fixed64(&self) -> Result<u64, String> {
        match self {
            Item::Fixed64(bits) => Ok(*bits),
            _ => Err(wrong_type()),
        }
    }
}

/// The items of a message. Ends after the first error.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0u64;
        for place in 0..10 {
            let (byte, rest) = self.rest.split_first().ok_or(CUT_SHORT)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("proto: integer overflow".to_owned())
    }

    fn item(&mut self) -> Result<(u32, Item<'a>), String> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|n| *n > 0)
            .ok_or("proto: illegal tag")?;
        let item = match tag & 7 {
            0 => Item::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| CUT_SHORT)?;
                Item::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| CUT_SHORT)?;
                Item::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Item::Fixed32)?,
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        Ok((number, item))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u32, Item<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.item();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// The numbers of a packed list.
pub(crate) fn packed(bytes: &[u8]) -> impl Iterator<Item = Result<u64, String>> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        if reader.rest.is_empty() {
            return None;
        }
        let number = reader.varint();
        if number.is_err() {
            reader.rest = &[];
        }
        Some(number)
    })
}

/// A message being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn varint_raw(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push((number as u8 & 0x7f) | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }

    /// A number; zero is left out.
    pub fn varint(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.varint_raw(u64::from(number) << 3);
            self.varint_raw(value);
        }
    }

    /// A number, zero included: what a pointer points to is written even so.
    pub fn number(&mut self, number: u32, value: u64) {
        self.varint_raw(u64::from(number) << 3);
        self.varint_raw(value);
    }

    /// A number with a fraction.
    pub fn double(&mut self, number: u32, value: f64) {
        self.varint_raw(u64::from(number) << 3 | 1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes or a message, empty ones included.
    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint_raw(u64::from(number) << 3 | 2);
        self.varint_raw(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A text; the empty text is left out.
    pub fn text(&mut self, number: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(number, text.as_bytes());
        }
    }

    /// A message.
    pub fn message(&mut self, number: u32, message: &Writer) {
        self.bytes(number, &message.out);
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

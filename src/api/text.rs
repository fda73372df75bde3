//! The text of an answer: whole, or in pieces that stay where they are.
//!
//! A list is made of the objects' texts as they are stored. Joining them would touch every byte once more and take
//! as much memory again, for each of those who ask; so the pieces are read where they lie, when they are sent.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

/// Pieces that together are one text.
pub trait Pieces: Send + Sync + 'static {
    /// The piece of that number, counted from zero; `None` after the last one.
    fn piece(&self, number: usize) -> Option<&[u8]>;

    /// Bytes of all pieces together.
    fn bytes(&self) -> usize {
        (0..)
            .map_while(|number| self.piece(number))
            .map(<[u8]>::len)
            .sum()
    }
}

/// The text of an answer. Copies share it.
#[derive(Clone)]
pub struct Text {
    of: Of,
    bytes: usize,
}

#[derive(Clone)]
enum Of {
    Whole(Bytes),
    Pieces(Arc<dyn Pieces>),
}

impl Text {
    /// A text that is in pieces.
    pub fn of_pieces(pieces: impl Pieces) -> Self {
        let bytes = pieces.bytes();
        Self {
            of: Of::Pieces(Arc::new(pieces)),
            bytes,
        }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The text in one piece: shared if it is in one, else a copy.
    pub fn whole(&self) -> Bytes {
        match &self.of {
            Of::Whole(bytes) => bytes.clone(),
            Of::Pieces(_) => self.clone().read().take(self.bytes),
        }
    }

    /// Reads it from its beginning.
    pub fn read(self) -> Reading {
        Reading {
            left: self.bytes,
            of: self.of,
            piece: 0,
            at: 0,
        }
    }
}

impl<T: Into<Bytes>> From<T> for Text {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        Self {
            bytes: bytes.len(),
            of: Of::Whole(bytes),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.bytes)
    }
}

/// A text that is being read.
pub struct Reading {
    of: Of,
    /// The piece that is read, and how far.
    piece: usize,
    at: usize,
    left: usize,
}

impl Reading {
    /// Bytes that have not been taken.
    pub fn left(&self) -> usize {
        self.left
    }

    /// A copy of the next bytes, up to so many: what waits elsewhere to be sent does not keep the whole text.
    pub fn take(&mut self, most: usize) -> Bytes {
        let mut room = self.left.min(most);
        let mut out = BytesMut::with_capacity(room);
        self.left -= room;
        while room > 0 {
            let piece = match &self.of {
                Of::Whole(bytes) => Some(bytes.as_ref()),
                Of::Pieces(pieces) => pieces.piece(self.piece),
            };
            let rest = piece.and_then(|piece| piece.get(self.at..));
            let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
                // Unless the pieces told a length that they do not have, there is another one.
                if piece.is_none() {
                    break;
                }
                (self.piece, self.at) = (self.piece + 1, 0);
                continue;
            };
            let taken = rest.get(..room).unwrap_or(rest);
            out.put_slice(taken);
            self.at += taken.len();
            room -= taken.len();
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Words(Vec<&'static str>);

    impl Pieces for Words {
        fn piece(&self, number: usize) -> Option<&[u8]> {
            self.0.get(number).map(|word| word.as_bytes())
        }
    }

    #[test]
    fn pieces_read_like_the_whole() {
        let text = Text::of_pieces(Words(vec!["[", "", "one", ",", "two", "]", ""]));
        assert_eq!((text.len(), text.is_empty()), (9, false));
        assert_eq!(text.whole(), "[one,two]");
        for most in 1..=10 {
            let mut reading = text.clone().read();
            let mut all = Vec::new();
            while reading.left() > 0 {
                let taken = reading.take(most);
                assert!(!taken.is_empty() && taken.len() <= most);
                all.extend_from_slice(&taken);
            }
            assert_eq!(all, b"[one,two]");
            assert!(reading.take(most).is_empty());
        }
    }

    #[test]
    fn a_whole_text_is_shared() {
        let bytes = Bytes::from_static(b"abc");
        let text = Text::from(bytes.clone());
        assert_eq!(text.whole().as_ptr(), bytes.as_ptr());
        assert_eq!(text.read().take(2), "ab");
        assert!(Text::default().is_empty());
    }
}

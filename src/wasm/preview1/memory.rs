//! A module's memory. Whatever lies outside it ends the module, as the
//! specification of preview 1 asks.

use std::ops::Range;
use wasmtime::Trap;

/// The memory of the module that calls.
pub(super) struct Guest<'a>(pub(super) &'a mut [u8]);

/// An address in it.
pub(super) type Pointer = i32;

impl Guest<'_> {
    pub(super) fn read<const N: usize>(&self, at: Pointer) -> wasmtime::Result<[u8; N]> {
        let bytes = self.0.get(range(at, N as u32)).ok_or(Trap::MemoryOutOfBounds)?;
        Ok(bytes.try_into()?)
    }

    pub(super) fn u32(&self, at: Pointer) -> wasmtime::Result<u32> {
        self.read(at).map(u32::from_le_bytes)
    }

    pub(super) fn write(&mut self, at: Pointer, bytes: &[u8]) -> wasmtime::Result<()> {
        let place = self.0.get_mut(range(at, bytes.len() as u32));
        place.ok_or(Trap::MemoryOutOfBounds)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Bytes of the first of several buffers that is not empty.
    pub(super) fn first_buffer(&mut self, list: Pointer, count: i32) -> wasmtime::Result<&mut [u8]> {
        let mut found = (0, 0);
        for number in 0..count as u32 {
            let at = offset(list, number, 8)?;
            let length = self.u32(offset(at, 1, 4)?)?;
            if length > 0 {
                found = (self.u32(at)? as Pointer, length);
                break;
            }
        }
        let bytes = self.0.get_mut(range(found.0, found.1));
        Ok(bytes.ok_or(Trap::MemoryOutOfBounds)?)
    }
}

/// The address of an element of a list.
pub(super) fn offset(list: Pointer, number: u32, size: u32) -> wasmtime::Result<Pointer> {
    let bytes = number.checked_mul(size);
    let at = bytes.and_then(|bytes| (list as u32).checked_add(bytes));
    Ok(at.ok_or(Trap::MemoryOutOfBounds)? as i32)
}

fn range(at: Pointer, length: u32) -> Range<usize> {
    let start = at as u32 as usize;
    start..start + length as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_touched() {
        let mut bytes = [0u8; 32];
        let mut guest = Guest(&mut bytes);
        guest.write(28, &7u32.to_le_bytes()).unwrap();
        assert_eq!(guest.u32(28).unwrap(), 7);
        assert!(guest.u32(29).is_err() && guest.u32(-1).is_err());
        assert!(guest.write(31, &[1, 2]).is_err());
        assert!(offset(-8, 1, 8).is_err());
    }

    #[test]
    fn the_first_buffer_that_is_not_empty() {
        let mut bytes = [0u8; 64];
        let mut guest = Guest(&mut bytes);
        for (at, value) in [(0, 32u32), (4, 0), (8, 40), (12, 5), (16, 60), (20, 5)] {
            guest.write(at, &value.to_le_bytes()).unwrap();
        }
        guest.write(40, b"hello").unwrap();
        assert_eq!(guest.first_buffer(0, 2).unwrap(), b"hello");
        assert_eq!(guest.first_buffer(0, 1).unwrap(), b"");
        assert_eq!(guest.first_buffer(0, 0).unwrap(), b"");
        assert!(guest.first_buffer(16, 1).is_err(), "it reaches beyond the end");
    }
}

//! What a JSON patch may make of an object: a small patch can make a huge or a deep one, by copying and moving what
//! it has made before.

use serde_json::Value;

use crate::depth::{STORED_MAX, TOO_DEEP};

/// All copies together may add this many bytes of JSON (as large as a body may be).
const COPIED_MAX: usize = 3 * 1024 * 1024;
/// All that is copied and moved may have this many values: each operation may move a whole object.
const TOUCHED_MAX: usize = 10_000_000;

/// What one patch has done so far.
#[derive(Default)]
pub(super) struct Bounds {
    copied: usize,
    touched: usize,
}

impl Bounds {
    /// Takes note that `value` is copied to below so many levels.
    ///
    /// # Errors
    /// When it is too much or too deep.
    pub(super) fn copy(&mut self, value: &Value, levels: usize) -> Result<(), String> {
        self.place(value, levels)?;
        self.copied += serde_json::to_vec(value).map_or(usize::MAX, |text| text.len());
        match self.copied > COPIED_MAX {
            true => Err(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {COPIED_MAX}",
                self.copied
            )),
            false => Ok(()),
        }
    }

    /// Takes note that `value` will be below so many levels.
    ///
    /// # Errors
    /// When it is too much or too deep.
    pub(super) fn place(&mut self, value: &Value, levels: usize) -> Result<(), String> {
        let left = STORED_MAX.checked_sub(levels).ok_or(TOO_DEEP)?;
        self.touch(value, left)
    }

    fn touch(&mut self, value: &Value, left: usize) -> Result<(), String> {
        self.touched += 1;
        if self.touched > TOUCHED_MAX {
            return Err(format!("the operations touch more than {TOUCHED_MAX} values"));
        }
        let deeper = || left.checked_sub(1).ok_or(TOO_DEEP);
        match value {
            Value::Array(items) => {
                let left = deeper()?;
                items.iter().try_for_each(|item| self.touch(item, left))
            }
            Value::Object(map) => {
                let left = deeper()?;
                map.values().try_for_each(|item| self.touch(item, left))
            }
            _ => Ok(()),
        }
    }
}

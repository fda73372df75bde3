//! What an evaluation may cost.

/// What is left to spend. Units are those of cel-go: about one per step, and a tenth of a unit per
/// character that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// That many units.
    pub fn new(units: u64) -> Self {
        Self { left: units }
    }

    /// Units that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes some units.
    ///
    /// # Errors
    /// cel-go's text when there are not as many left.
    pub fn spend(&mut self, units: usize) -> Result<(), String> {
        match self.left.checked_sub(units as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EXCEEDED.to_owned())
            }
        }
    }
}

/// What an expression that costs too much fails with.
pub const EXCEEDED: &str = "operation cancelled: actual cost limit exceeded";

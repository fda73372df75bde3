//! Bits that flip in a state, on a machine that the group can do without: below a process that runs, or while none
//! does. Whoever reads such a piece is told so and gets nothing; a process that needs it to start does not. The
//! administrator, who hears of it, puts a machine with a new id in the place of that one.

use base::Random;

use super::World;
use crate::error::StoreError;

impl World {
    /// A piece of the state of a machine is damaged. It goes on, or is stopped and started.
    pub(super) fn rot_one(&mut self) -> Result<(), String> {
        let fit = |at: &usize| !self.machines[*at].witness && !self.is_rotten();
        let Some(at) = self.expendable().filter(fit) else {
            return Ok(());
        };
        if self.random.below(2) == 0 {
            self.stop(at);
        }
        let memory = self.machines[at].memory.clone();
        let mut pieces = memory.pieces();
        let piece = match pieces.len() as u64 {
            0 => return Ok(()),
            count => pieces.swap_remove(self.random.below(count) as usize),
        };
        memory.flip(piece);
        self.stats.rotten += 1;
        self.start(at)
    }

    /// Whether the state of a machine is damaged that is still there.
    fn is_rotten(&self) -> bool {
        let mut machines = self.machines.iter();
        machines.any(|machine| !machine.lost && machine.memory.damaged().is_some())
    }

    /// What a machine says: that its state is damaged, and where; or else something is wrong.
    pub(super) fn complain(&mut self, at: usize, error: StoreError) -> Result<(), String> {
        let machine = &mut self.machines[at];
        match error {
            StoreError::Damaged { .. } if machine.memory.damaged().is_some() => {
                self.stats.named += u64::from(!machine.complained);
                machine.complained = true;
                Ok(())
            }
            error => Err(format!("member {:x} failed: {error}", machine.id)),
        }
    }

    /// The administrator takes a machine away that has complained, if the group can do without it.
    pub(super) fn replace_damaged(&mut self) {
        let Some((voters, _)) = self.dispensable() else {
            return;
        };
        let damaged = |at: &usize| {
            let machine = &self.machines[*at];
            machine.complained && !machine.lost && voters.contains(&machine.id)
        };
        if let Some(at) = (0..self.machines.len()).find(damaged) {
            self.stop(at);
            self.lose(at);
        }
    }
}

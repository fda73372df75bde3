//! Runs programs as the kernel would, so that tests can say what becomes of a call.

use sys::seccomp::Instruction;

/// What the kernel hands to a program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// Its number.
    pub number: u32,
    /// The token of the caller's architecture.
    pub architecture: u32,
    /// What it was given.
    pub arguments: [u64; 6],
}

/// Of `x86_64`.
pub const X86_64: u32 = 0xc000_003e;
/// Of 32-bit x86.
pub const X86: u32 = 0x4000_0003;
/// Of `aarch64`.
pub const AARCH64: u32 = 0xc000_00b7;

impl Call {
    /// Four bytes of it.
    fn at(&self, place: u32) -> Option<u32> {
        let half = |argument: u64, place: u32| match place % 8 {
            0 => argument as u32,
            _ => (argument >> 32) as u32,
        };
        match place {
            0 => Some(self.number),
            4 => Some(self.architecture),
            16.. if place.is_multiple_of(4) => {
                let argument = self.arguments.get((place as usize - 16) / 8)?;
                Some(half(*argument, place))
            }
            _ => None,
        }
    }
}

/// What becomes of a call, and after how many instructions; none for what is no program.
#[must_use]
pub fn run(program: &[Instruction], call: &Call) -> Option<(u32, usize)> {
    let (mut at, mut held) = (0, 0);
    for step in 1.. {
        let Instruction { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        let near = |passed: bool| usize::from(if passed { jt } else { jf });
        match code {
            0x20 => held = call.at(k)?,
            0x54 => held &= k,
            0x05 => at += k as usize,
            0x15 => at += near(held == k),
            0x25 => at += near(held > k),
            0x35 => at += near(held >= k),
            0x06 => return Some((k, step)),
            _ => return None,
        }
    }
    None
}

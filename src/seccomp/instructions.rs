//! The instructions of which a filter is made.

use sys::seccomp::Instruction;

/// Tests on the number that was loaded last.
pub(crate) struct Test;

impl Test {
    pub(crate) const EQUAL: u16 = 0x15;
    pub(crate) const GREATER: u16 = 0x25;
    pub(crate) const AT_LEAST: u16 = 0x35;
}

pub(crate) fn instruction(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Loads the four bytes there.
pub(crate) fn load(place: u32) -> Instruction {
    instruction(0x20, place)
}

/// Leaves of what was loaded the bits of a mask.
pub(crate) fn mask(bits: u32) -> Instruction {
    instruction(0x54, bits)
}

/// The end.
pub(crate) fn ret(verdict: u32) -> Instruction {
    instruction(0x06, verdict)
}

/// Leaves so many instructions out.
pub(crate) fn forward(distance: usize) -> Instruction {
    // Longer ones are no programs: see LENGTH_MAX.
    instruction(0x05, u32::try_from(distance).unwrap_or(u32::MAX))
}

/// Leaves so many instructions out if the test is passed, and so many if not.
pub(crate) fn jump(test: u16, k: u32, passed: usize, failed: usize) -> Instruction {
    // Callers know that they are near: six conditions of seven instructions are the longest way.
    let near = |distance: usize| {
        debug_assert!(distance <= usize::from(u8::MAX), "{distance}");
        u8::try_from(distance).unwrap_or(u8::MAX)
    };
    Instruction {
        code: test,
        jt: near(passed),
        jf: near(failed),
        k,
    }
}

//! Which devices the processes of a group may use. Version 1 has files for that, which whoever makes the group writes;
//! version 2 asks a program, which is made here.

use std::fs::File;
use std::io;

use super::{Hierarchy, hierarchies};
use crate::bpf::{self, Instruction};

/// Makes the file of a device.
pub const MAKE: u32 = 1;
/// Reads from it.
pub const READ: u32 = 2;
/// Writes to it.
pub const WRITE: u32 = 4;

/// The two kinds of devices, by the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Disks and the like.
    Block = 1,
    /// All others.
    Character = 2,
}

/// What a group may do with some devices; what nothing allows is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Those of this kind.
    pub kind: Kind,
    /// Those of this driver; `None` for every one.
    pub major: Option<u32>,
    /// That one of the driver's; `None` for every one.
    pub minor: Option<u32>,
    /// [`MAKE`], [`READ`] and [`WRITE`], added up.
    pub access: u32,
}

/// Refuses a group all devices but these, where version 2 is what counts. Not to be called twice for a group: each call
/// takes away, none gives back.
///
/// # Errors
/// What the kernel said.
pub fn allow_devices(path: &str, allowed: &[Allowed]) -> io::Result<()> {
    let all = hierarchies();
    // Beside hierarchies of version 1 containers are not put into version 2, see `offers`.
    let [unified] = all.as_slice() else {
        return Ok(());
    };
    if !unified.is_v2() {
        return Ok(());
    }
    attach(unified, path, allowed)
        .map_err(|error| io::Error::new(error.kind(), format!("the devices of {path}: {error}")))
}

fn attach(unified: &Hierarchy, path: &str, allowed: &[Allowed]) -> io::Result<()> {
    let group = File::open(unified.group(path))?;
    bpf::attach_to_group(&bpf::load_for_devices(&program(allowed))?, &group)
}

// Registers: 0 is the answer; 1 is where the question lies, then scratch.
const ANSWER: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Codes: a load of 32 bits; 32-bit arithmetic with a value or a register; a jump if not equal; the end.
const LOAD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb4;
const JUMP_IF_NOT: u8 = 0x55;
const EXIT: u8 = 0x95;

fn with_value(code: u8, register: u8, value: u32) -> Instruction {
    Instruction {
        code,
        registers: register,
        offset: 0,
        value: value.cast_signed(),
    }
}

fn with_register(code: u8, to: u8, from: u8, offset: i16) -> Instruction {
    Instruction {
        code,
        registers: from << 4 | to,
        offset,
        value: 0,
    }
}

fn answer(yes: bool) -> [Instruction; 2] {
    [with_value(SET, ANSWER, yes.into()), with_value(EXIT, 0, 0)]
}

/// The question is three numbers: the access, in the upper half, and the kind; the driver; which one of the driver's.
fn program(allowed: &[Allowed]) -> Vec<Instruction> {
    let mut program = vec![
        with_register(LOAD, KIND, SCRATCH, 0),
        with_register(LOAD, MAJOR, SCRATCH, 4),
        with_register(LOAD, MINOR, SCRATCH, 8),
        with_register(COPY, ACCESS, KIND, 0),
        with_value(SHIFT_RIGHT, ACCESS, 16),
        with_value(AND, KIND, 0xffff),
    ];
    for one in allowed {
        program.extend(passage(one));
    }
    program.extend(answer(false));
    program
}

/// Says yes to what one entry allows, and goes on behind itself for everything else.
fn passage(one: &Allowed) -> Vec<Instruction> {
    // What is asked for beyond it must be nothing.
    let mut checks = vec![
        with_register(COPY, SCRATCH, ACCESS, 0),
        with_value(AND, SCRATCH, !one.access),
        with_value(JUMP_IF_NOT, SCRATCH, 0),
        with_value(JUMP_IF_NOT, KIND, one.kind as u32),
    ];
    let numbers = [(MAJOR, one.major), (MINOR, one.minor)];
    checks.extend(
        numbers
            .iter()
            .filter_map(|(register, number)| Some(with_value(JUMP_IF_NOT, *register, (*number)?))),
    );
    let yes = answer(true);
    let end = checks.len() + yes.len();
    for (at, check) in checks
        .iter_mut()
        .enumerate()
        .filter(|(_, check)| check.code == JUMP_IF_NOT)
    {
        // A handful of instructions: it always fits.
        check.offset = i16::try_from(end - at - 1).unwrap_or(i16::MAX);
    }
    checks.extend(yes);
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers as the kernel's machine does, of which this knows what the programs here need.
    fn ask(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let question = [access << 16 | kind, major, minor];
        let mut registers = [0_u64; 16];
        let mut at = 0;
        loop {
            let Instruction {
                code,
                registers: both,
                offset,
                value,
            } = program[at];
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            at += 1;
            let value = value.cast_unsigned();
            let low = registers[to] as u32;
            match code {
                LOAD => registers[to] = question[usize::try_from(offset).unwrap() / 4].into(),
                COPY => registers[to] = registers[from] & 0xffff_ffff,
                SET => registers[to] = value.into(),
                AND => registers[to] = (low & value).into(),
                SHIFT_RIGHT => registers[to] = (low >> value).into(),
                JUMP_IF_NOT if registers[to] != u64::from(value) => at += usize::try_from(offset).unwrap(),
                JUMP_IF_NOT => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown code {other}"),
            }
        }
    }

    const SOME: [Allowed; 3] = [
        Allowed {
            kind: Kind::Block,
            major: None,
            minor: None,
            access: MAKE,
        },
        Allowed {
            kind: Kind::Character,
            major: Some(1),
            minor: Some(3),
            access: MAKE | READ | WRITE,
        },
        Allowed {
            kind: Kind::Character,
            major: Some(136),
            minor: None,
            access: READ,
        },
    ];

    #[test]
    fn what_nothing_allows_is_refused() {
        let program = program(&SOME);
        let (block, character) = (1, 2);
        for (kind, access, major, minor, answer) in [
            (character, READ | WRITE, 1, 3, true),
            (character, READ, 1, 3, true),
            (character, READ, 1, 1, false),
            (block, READ, 1, 3, false),
            (block, MAKE, 254, 0, true),
            (block, MAKE | READ, 254, 0, false),
            (character, MAKE, 254, 0, false),
            (character, READ, 136, 7, true),
            (character, READ | WRITE, 136, 7, false),
        ] {
            assert_eq!(
                ask(&program, kind, access, major, minor),
                answer,
                "{kind} {access} {major}:{minor}"
            );
        }
        assert!(!ask(&super::program(&[]), character, READ, 1, 3));
    }

    #[test]
    fn the_kernel_takes_the_program() {
        match bpf::load_for_devices(&program(&SOME)) {
            Ok(_) => {}
            // Another user than root, or a kernel without it.
            Err(error) => eprintln!("SKIPPED: the kernel loads no programs for devices here: {error}"),
        }
    }
}

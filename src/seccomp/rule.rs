//! What becomes of a call, and under which conditions.

use sys::seccomp::Instruction;

use super::calls::ScmpSyscall;
use super::error::{Result, SeccompError};
use super::instructions::{Test, jump, load, mask, ret};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScmpAction {
    /// Its thread ends.
    KillThread,
    /// Its process ends.
    KillProcess,
    /// A signal.
    Trap,
    /// It fails.
    Errno(i32),
    /// Somebody else decides.
    Notify,
    /// A tracer is told that number.
    Trace(u16),
    /// It is made, and logged.
    Log,
    /// It is made.
    Allow,
}

impl ScmpAction {
    /// As the kernel knows it.
    #[must_use]
    pub fn verdict(self) -> u32 {
        match self {
            ScmpAction::KillThread => 0,
            ScmpAction::KillProcess => 0x8000_0000,
            ScmpAction::Trap => 0x0003_0000,
            ScmpAction::Errno(number) => 0x0005_0000 | number.unsigned_abs() & 0xffff,
            ScmpAction::Notify => 0x7fc0_0000,
            ScmpAction::Trace(number) => 0x7ff0_0000 | u32::from(number),
            ScmpAction::Log => 0x7ffc_0000,
            ScmpAction::Allow => 0x7fff_0000,
        }
    }

    /// Whether a call that this becomes of is not made.
    pub(crate) fn refuses(self) -> bool {
        matches!(
            self,
            ScmpAction::KillThread | ScmpAction::KillProcess | ScmpAction::Trap | ScmpAction::Errno(_)
        )
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are their names")]
pub enum ScmpCompareOp {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterEqual,
    Greater,
    /// What is left under the mask, the comparison's number, is this.
    MaskedEqual(u64),
}

/// A condition on one argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScmpArgCompare {
    argument: u32,
    how: ScmpCompareOp,
    number: u64,
}

impl ScmpArgCompare {
    /// The argument, from 0, compared with a number.
    #[must_use]
    pub const fn new(argument: u32, how: ScmpCompareOp, number: u64) -> ScmpArgCompare {
        ScmpArgCompare {
            argument,
            how,
            number,
        }
    }
}

/// Arguments of which the kernel reads 32 bits: what a caller leaves above them must not decide.
const NARROW: [(&str, u32); 7] = [
    ("personality", 0),
    ("socket", 0),
    ("socket", 1),
    ("socket", 2),
    ("socketpair", 0),
    ("socketpair", 1),
    ("socketpair", 2),
];

const ARGUMENTS: u32 = 6;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    compared: ScmpArgCompare,
    is_narrow: bool,
}

/// What becomes of a call if all conditions are met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    conditions: Vec<Condition>,
    pub(crate) action: ScmpAction,
}

impl Rule {
    pub(crate) fn of(action: ScmpAction) -> Rule {
        Rule {
            conditions: Vec::new(),
            action,
        }
    }

    pub(crate) fn when(action: ScmpAction, call: ScmpSyscall, conditions: &[ScmpArgCompare]) -> Result<Rule> {
        // Each argument once, as the C library has it: so the code of a rule stays short.
        let mut seen = [false; ARGUMENTS as usize];
        for compared in conditions {
            let free = seen.get_mut(compared.argument as usize).filter(|seen| !**seen);
            *free.ok_or(SeccompError::NoArgument(compared.argument))? = true;
        }
        let conditions = conditions.iter().map(|compared| Condition {
            compared: *compared,
            is_narrow: NARROW.contains(&(call.name(), compared.argument)),
        });
        Ok(Rule {
            conditions: conditions.collect(),
            action,
        })
    }

    pub(crate) fn is_unconditional(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Returns what becomes of the call, or ends behind its last instruction.
    pub(crate) fn code(&self) -> Vec<Instruction> {
        let then = vec![ret(self.action.verdict())];
        self.conditions
            .iter()
            .rfold(then, |then, condition| condition.code(then))
    }
}

impl Condition {
    /// Goes on with `then` if it is met, else behind it.
    fn code(&self, then: Vec<Instruction>) -> Vec<Instruction> {
        use ScmpCompareOp::*;
        let ScmpArgCompare {
            argument,
            how,
            number,
        } = self.compared;
        // The specification's order: the mask first, what must be left second.
        let (masked, number) = match how {
            MaskedEqual(left) => (Some(number), left),
            _ => (None, number),
        };
        let (high, low) = ((number >> 32) as u32, number as u32);
        // Structures of the kernel's: 16 bytes, then six arguments, whose lower half comes first.
        let place = 16 + 8 * argument;
        let part = |place: u32, masked: Option<u32>| {
            let masked = masked.map(mask);
            std::iter::once(load(place)).chain(masked)
        };
        let mut code: Vec<Instruction> = part(place, masked.map(|bits| bits as u32)).collect();
        let past = then.len();
        code.push(match how {
            Equal | MaskedEqual(_) => jump(Test::EQUAL, low, 0, past),
            NotEqual => jump(Test::EQUAL, low, past, 0),
            Greater => jump(Test::GREATER, low, 0, past),
            LessOrEqual => jump(Test::GREATER, low, past, 0),
            GreaterEqual => jump(Test::AT_LEAST, low, 0, past),
            Less => jump(Test::AT_LEAST, low, past, 0),
        });
        if self.is_narrow {
            code.extend(then);
            return code;
        }
        // The upper half decides unless it is the same.
        let (met, not_met) = (code.len(), code.len() + past);
        let upper = match how {
            Equal | MaskedEqual(_) => vec![jump(Test::EQUAL, high, 0, not_met)],
            NotEqual => vec![jump(Test::EQUAL, high, 0, met)],
            Greater | GreaterEqual => vec![
                jump(Test::GREATER, high, met + 1, 0),
                jump(Test::EQUAL, high, 0, not_met),
            ],
            Less | LessOrEqual => vec![
                jump(Test::GREATER, high, not_met + 1, 0),
                jump(Test::EQUAL, high, 0, met),
            ],
        };
        let before = part(place + 4, masked.map(|bits| (bits >> 32) as u32));
        before.chain(upper).chain(code).chain(then).collect()
    }
}

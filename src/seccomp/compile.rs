//! From rules to a program.
//!
//! Numbers of calls are cut into ranges of which the same becomes, and the range is found by halving. In an allow-list of
//! 350 calls there are about a hundred ranges, so that a call costs eleven instructions wherever it is (and eighteen where
//! arguments decide); the kernel (from 5.11) remembers what is always allowed, and does not even run those.
//!
//! ```text
//! architecture? ─▶ number ─▶ ≥ middle? ─▶ … ─▶ verdict, or conditions on arguments ─▶ verdict
//! ```

use std::collections::{BTreeMap, BTreeSet};

use sys::seccomp::Instruction;

use super::calls::{ARM_OWN, Abi, ScmpSyscall, X32_BIT};
use super::error::{Result, SeccompError};
use super::instructions::{Test, forward, jump, load, ret};
use super::rule::{Rule, ScmpAction};

/// Longest program, in instructions.
const LENGTH_MAX: usize = 4096;
const NO_SUCH_CALL: ScmpAction = ScmpAction::Errno(38);
/// Where the kernel has number and architecture of a call.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are their names")]
pub enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// This one.
    pub const HERE: Machine = match cfg!(target_arch = "aarch64") {
        true => Machine::Aarch64,
        false => Machine::X86_64,
    };

    /// What its programs can speak, its own first; what shares a token stands together.
    fn abis(self) -> &'static [&'static [Abi]] {
        match self {
            Machine::X86_64 => &[&[Abi::X86_64, Abi::X32], &[Abi::X86]],
            Machine::Aarch64 => &[&[Abi::Aarch64], &[Abi::Arm]],
        }
    }
}

/// The first number of a range, and what becomes of calls from there on.
type Range = (u32, Body);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    Always(ScmpAction),
    Depends(Vec<Rule>),
}

/// What a profile says.
#[derive(Debug)]
pub(crate) struct Rules {
    default: ScmpAction,
    pub(crate) abis: BTreeSet<Abi>,
    calls: BTreeMap<ScmpSyscall, Vec<Rule>>,
}

impl Rules {
    pub(crate) fn new(default: ScmpAction) -> Rules {
        Rules {
            default,
            abis: BTreeSet::new(),
            calls: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, call: ScmpSyscall, rule: Rule) {
        let rules = self.calls.entry(call).or_default();
        if rules.iter().any(Rule::is_unconditional) {
            return;
        }
        if rule.is_unconditional() {
            rules.clear();
        }
        rules.push(rule);
    }

    pub(crate) fn has(&self, action: ScmpAction) -> bool {
        self.calls.values().flatten().any(|rule| rule.action == action)
    }

    pub(crate) fn compile(&self, machine: Machine) -> Result<Vec<Instruction>> {
        // Programs of an architecture that is not in the profile end.
        let mut code = vec![ret(ScmpAction::KillThread.verdict())];
        for (at, abis) in machine.abis().iter().enumerate().rev() {
            let is_spoken = |(order, abi): &(usize, &Abi)| (at, *order) == (0, 0) || self.abis.contains(abi);
            let spoken = abis.iter().enumerate().filter(is_spoken);
            let spoken: Vec<Abi> = spoken.map(|(_, abi)| *abi).collect();
            let Some(first) = spoken.first() else { continue };
            let mut block = vec![load(NUMBER)];
            block.extend(self.tree(&self.ranges(&spoken)));
            // Jumps of which it depends whether they are taken reach 255 instructions far.
            let mut before = vec![jump(Test::EQUAL, first.token(), 1, 0), forward(block.len())];
            before.extend(block);
            before.extend(code);
            code = before;
        }
        code.insert(0, load(ARCHITECTURE));
        match code.len() {
            length if length > LENGTH_MAX => Err(SeccompError::TooLong(length)),
            _ => Ok(code),
        }
    }

    /// What becomes of each number, in order, from 0.
    fn ranges(&self, abis: &[Abi]) -> Vec<Range> {
        let mut bodies: BTreeMap<u32, Body> = BTreeMap::new();
        for abi in abis {
            for (call, rules) in &self.calls {
                if let Some(number) = call.number(*abi) {
                    bodies.insert(number, body(rules));
                }
            }
        }
        let default = Body::Always(self.default);
        let mut ranges: Vec<Range> = vec![(0, default.clone())];
        let mut next = 0;
        for (number, body) in &bodies {
            if *number > next {
                push(&mut ranges, next, default.clone());
            }
            push(&mut ranges, *number, body.clone());
            next = number + 1;
        }
        push(&mut ranges, next, default);
        for abi in abis {
            self.unknown_from(*abi, &bodies, &mut ranges);
        }
        if abis.contains(&Abi::X86_64) && !abis.contains(&Abi::X32) {
            // Or whoever sets the bit would go round a list of what is refused.
            cut(&mut ranges, X32_BIT, u32::MAX, NO_SUCH_CALL);
        }
        ranges
    }

    /// Calls newer than all that is spoken of: nobody has judged them.
    fn unknown_from(&self, abi: Abi, bodies: &BTreeMap<u32, Body>, ranges: &mut Vec<Range>) {
        let (from, to) = match abi {
            Abi::X86_64 => (0, X32_BIT - 1),
            Abi::X32 => (X32_BIT, u32::MAX),
            Abi::Arm => (0, ARM_OWN - 1),
            Abi::X86 | Abi::Aarch64 => (0, u32::MAX),
        };
        let newest = bodies.range(from..=to).next_back();
        if let (true, Some((newest, _))) = (self.default.refuses(), newest) {
            cut(ranges, newest + 1, to, NO_SUCH_CALL);
        }
    }

    /// Looks for the range that the number is in, by halves.
    fn tree(&self, ranges: &[Range]) -> Vec<Instruction> {
        match ranges {
            [] => vec![ret(self.default.verdict())],
            [(_, body)] => self.leaf(body),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let middle = high.first().map_or(0, |(first, _)| *first);
                let (low, high) = (self.tree(low), self.tree(high));
                let mut code = match low.len() {
                    length if length <= usize::from(u8::MAX) => vec![jump(Test::AT_LEAST, middle, length, 0)],
                    length => vec![jump(Test::AT_LEAST, middle, 0, 1), forward(length)],
                };
                code.extend(low);
                code.extend(high);
                code
            }
        }
    }

    fn leaf(&self, body: &Body) -> Vec<Instruction> {
        match body {
            Body::Always(action) => vec![ret(action.verdict())],
            Body::Depends(rules) => {
                let mut code: Vec<Instruction> = rules.iter().flat_map(Rule::code).collect();
                code.push(ret(self.default.verdict()));
                code
            }
        }
    }
}

fn body(rules: &[Rule]) -> Body {
    match rules {
        [rule] if rule.is_unconditional() => Body::Always(rule.action),
        rules => Body::Depends(rules.to_vec()),
    }
}

/// Begins a range, unless the one before goes on.
fn push(ranges: &mut Vec<Range>, first: u32, body: Body) {
    match ranges.last_mut() {
        Some((_, before)) if *before == body => {}
        Some((at, before)) if *at == first => *before = body,
        _ => ranges.push((first, body)),
    }
}

/// Puts one action in the place of all between `from` and `to`, both included.
fn cut(ranges: &mut Vec<Range>, from: u32, to: u32, action: ScmpAction) {
    let after = to.checked_add(1);
    let rest = after.and_then(|after| {
        let (_, body) = ranges.iter().rfind(|(first, _)| *first <= after)?;
        Some((after, body.clone()))
    });
    ranges.retain(|(first, _)| *first < from || after.is_some_and(|after| *first > after));
    ranges.push((from, Body::Always(action)));
    ranges.extend(rest);
    ranges.sort_by_key(|(first, _)| *first);
}

#[cfg(test)]
mod tests;

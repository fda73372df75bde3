use crate::machine::{self, Call};
use crate::{
    Machine, ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp as Op, ScmpFilterContext, ScmpSyscall,
};

const REFUSED: ScmpAction = ScmpAction::Errno(1);
const UNKNOWN: ScmpAction = ScmpAction::Errno(38);

fn context(default: ScmpAction, allowed: &[&str]) -> ScmpFilterContext {
    let mut context = ScmpFilterContext::new(default).unwrap();
    for name in allowed {
        let call = ScmpSyscall::from_name(name).unwrap();
        context.add_rule(ScmpAction::Allow, call).unwrap();
    }
    context
}

fn when(context: &mut ScmpFilterContext, action: ScmpAction, name: &str, conditions: &[(u32, Op, u64)]) {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|(argument, how, number)| ScmpArgCompare::new(*argument, *how, *number))
        .collect();
    let call = ScmpSyscall::from_name(name).unwrap();
    context.add_rule_conditional(action, call, &conditions).unwrap();
}

/// What becomes of a call of `x86_64`.
fn judged(context: &ScmpFilterContext, number: u32, arguments: &[u64]) -> u32 {
    let mut call = Call {
        number,
        architecture: machine::X86_64,
        ..Call::default()
    };
    call.arguments[..arguments.len()].copy_from_slice(arguments);
    let program = context.program(Machine::X86_64).unwrap();
    machine::run(&program, &call).unwrap().0
}

#[test]
fn what_is_listed_is_allowed_and_what_is_newer_unknown() {
    let context = context(REFUSED, &["read", "close", "fchmodat2", "umount"]);
    let numbers = [
        (0, ScmpAction::Allow),
        (1, REFUSED),
        (2, REFUSED),
        (3, ScmpAction::Allow),
        (4, REFUSED),
    ];
    for (number, action) in numbers {
        assert_eq!(judged(&context, number, &[]), action.verdict(), "{number}");
    }
    for (number, action) in [
        (451, REFUSED),
        (452, ScmpAction::Allow),
        (453, UNKNOWN),
        (0x3fff_ffff, UNKNOWN),
        (0x4000_0000, UNKNOWN),
        (u32::MAX, UNKNOWN),
    ] {
        assert_eq!(judged(&context, number, &[]), action.verdict(), "{number}");
    }
}

#[test]
fn a_list_of_what_is_refused_cannot_be_gone_round() {
    let mut context = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
    let mkdir = ScmpSyscall::from_name("mkdir").unwrap();
    context.add_rule(ScmpAction::Errno(28), mkdir).unwrap();
    assert_eq!(judged(&context, 83, &[]), ScmpAction::Errno(28).verdict());
    assert_eq!(judged(&context, 84, &[]), ScmpAction::Allow.verdict());
    assert_eq!(judged(&context, 999, &[]), ScmpAction::Allow.verdict());
    // As a program of x32, and as one of 32 bits, neither of which is in the profile.
    assert_eq!(judged(&context, 83 | 0x4000_0000, &[]), UNKNOWN.verdict());
    let program = context.program(Machine::X86_64).unwrap();
    let call = Call {
        number: 39,
        architecture: machine::X86,
        ..Call::default()
    };
    assert_eq!(
        machine::run(&program, &call).unwrap().0,
        ScmpAction::KillThread.verdict()
    );
    context.add_arch(ScmpArch::X86).unwrap();
    context.add_arch(ScmpArch::X32).unwrap();
    context.add_arch(ScmpArch::Mips).unwrap();
    let program = context.program(Machine::X86_64).unwrap();
    assert_eq!(
        machine::run(&program, &call).unwrap().0,
        ScmpAction::Errno(28).verdict()
    );
    assert_eq!(
        judged(&context, 83 | 0x4000_0000, &[]),
        ScmpAction::Errno(28).verdict()
    );
}

#[test]
fn arguments_are_compared_in_both_halves() {
    const FAR: u64 = 5 << 32;
    let samples = [
        0,
        1,
        6,
        7,
        8,
        FAR + 6,
        FAR + 7,
        FAR + 8,
        FAR + (1 << 32),
        u64::MAX,
    ];
    type Compare = fn(&u64, &u64) -> bool;
    let ways: [(Op, Compare); 6] = [
        (Op::Equal, u64::eq),
        (Op::NotEqual, u64::ne),
        (Op::Less, u64::lt),
        (Op::LessOrEqual, u64::le),
        (Op::Greater, u64::gt),
        (Op::GreaterEqual, u64::ge),
    ];
    for (way, holds) in ways {
        for number in [7, FAR + 7] {
            let mut context = context(REFUSED, &[]);
            when(&mut context, ScmpAction::Allow, "kill", &[(1, way, number)]);
            for sample in samples {
                let expected = match holds(&sample, &number) {
                    true => ScmpAction::Allow,
                    false => REFUSED,
                };
                assert_eq!(
                    judged(&context, 62, &[9, sample]),
                    expected.verdict(),
                    "{way:?} {number} {sample}"
                );
            }
        }
    }
}

#[test]
fn masks_are_as_the_specification_has_them() {
    // As libcontainer passes `value` (the mask) and `valueTwo` (what must be left) on.
    let mut context = context(REFUSED, &[]);
    when(
        &mut context,
        ScmpAction::Allow,
        "clone",
        &[(0, Op::MaskedEqual(0), 0x7e02_0000)],
    );
    for (flags, action) in [
        (0x11, ScmpAction::Allow),
        (0x1000_0000, REFUSED),
        (0x0002_0011, REFUSED),
        (1 << 40, ScmpAction::Allow),
    ] {
        assert_eq!(judged(&context, 56, &[flags]), action.verdict(), "{flags:x}");
    }
}

#[test]
fn the_first_rule_that_fits_decides_and_all_conditions_must() {
    let mut context = context(REFUSED, &[]);
    when(
        &mut context,
        UNKNOWN,
        "kill",
        &[(0, Op::Equal, 1), (1, Op::Equal, 9)],
    );
    when(&mut context, ScmpAction::Allow, "kill", &[(0, Op::Equal, 1)]);
    for (arguments, action) in [([1, 9], UNKNOWN), ([1, 8], ScmpAction::Allow), ([2, 9], REFUSED)] {
        assert_eq!(
            judged(&context, 62, &arguments),
            action.verdict(),
            "{arguments:?}"
        );
    }
    // One without conditions takes their place, and stays.
    let kill = ScmpSyscall::from_name("kill").unwrap();
    context.add_rule(ScmpAction::Log, kill).unwrap();
    context.add_rule(ScmpAction::Trap, kill).unwrap();
    assert_eq!(judged(&context, 62, &[1, 9]), ScmpAction::Log.verdict());
    let twice = [(0, Op::Equal, 1), (0, Op::Equal, 2)].map(|(a, how, n)| ScmpArgCompare::new(a, how, n));
    assert!(context.add_rule_conditional(UNKNOWN, kill, &twice).is_err());
    let far = ScmpArgCompare::new(6, Op::Equal, 1);
    assert!(context.add_rule_conditional(UNKNOWN, kill, &[far]).is_err());
}

#[test]
fn what_the_kernel_does_not_read_does_not_decide() {
    let mut context = context(REFUSED, &[]);
    when(&mut context, ScmpAction::Allow, "socket", &[(0, Op::Greater, 40)]);
    for (family, action) in [(40, REFUSED), (41, ScmpAction::Allow), ((1 << 32) + 40, REFUSED)] {
        assert_eq!(judged(&context, 41, &[family]), action.verdict(), "{family}");
    }
}

#[test]
fn the_worst_profile_is_found_to_be_too_long() {
    let mut context = context(REFUSED, &["read"]);
    for number in 0..2000 {
        when(
            &mut context,
            ScmpAction::Allow,
            "ioctl",
            &[(1, Op::Equal, number)],
        );
    }
    assert!(context.program(Machine::X86_64).is_err());
}

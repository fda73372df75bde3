//! System calls by name, and their numbers.

use std::sync::OnceLock;

use super::error::{Result, SeccompError};

/// A line for each call, sorted by name: its numbers as [`Abi`] has them in order, `-` where there is no such call.
/// Up to Linux 7.1.
const TABLE: &str = include_str!("calls.txt");

/// How programs speak to the kernel, each with numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Abi {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
}

/// Marks calls of x32 among those of `x86_64`.
pub(crate) const X32_BIT: u32 = 0x4000_0000;
/// From here on ARM has a few calls of its own.
pub(crate) const ARM_OWN: u32 = 0xf_0000;

impl Abi {
    /// What the kernel calls it; x32 goes by the name of its big brother.
    pub(crate) fn token(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }
}

struct Entry {
    name: &'static str,
    numbers: [Option<u32>; 5],
}

fn table() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let entry = |line: &'static str| {
            let mut words = line.split(' ');
            let name = words.next()?;
            let numbers = std::array::from_fn(|_| words.next()?.parse().ok());
            Some(Entry { name, numbers })
        };
        TABLE.lines().filter_map(entry).collect()
    })
}

/// A call, on whatever machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScmpSyscall(usize);

impl ScmpSyscall {
    /// The call of that name.
    ///
    /// # Errors
    /// When there is none on any machine that we know.
    pub fn from_name(name: &str) -> Result<ScmpSyscall> {
        let found = table().binary_search_by_key(&name, |entry| entry.name);
        found
            .map(ScmpSyscall)
            .map_err(|_| SeccompError::Unknown(name.to_owned()))
    }

    pub(crate) fn name(self) -> &'static str {
        table().get(self.0).map_or("", |entry| entry.name)
    }

    /// Its number as programs of that sort say it; none if they have no such call.
    pub(crate) fn number(self, abi: Abi) -> Option<u32> {
        let number = *table().get(self.0)?.numbers.get(abi as usize)?;
        number.map(|number| if abi == Abi::X32 { number | X32_BIT } else { number })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [Abi; 5] = [Abi::X86_64, Abi::X32, Abi::X86, Abi::Aarch64, Abi::Arm];

    #[test]
    fn the_table_is_sorted_and_numbers_are_used_once() {
        assert_eq!(table().len(), TABLE.lines().count());
        assert!(table().is_sorted_by(|one, next| one.name < next.name));
        for abi in ALL {
            let calls = (0..table().len()).map(ScmpSyscall);
            let numbers: Vec<u32> = calls.filter_map(|call| call.number(abi)).collect();
            assert_eq!(
                numbers.iter().collect::<BTreeSet<_>>().len(),
                numbers.len(),
                "{abi:?}"
            );
        }
    }

    #[test]
    fn names_have_the_kernels_numbers() {
        let of = |name: &str| {
            let call = ScmpSyscall::from_name(name).unwrap();
            ALL.map(|abi| call.number(abi))
        };
        let execve = [Some(59), Some(520 | X32_BIT), Some(11), Some(221), Some(11)];
        assert_eq!(of("execve"), execve);
        assert_eq!(of("umount"), [None, None, Some(22), None, None]);
        assert!(ScmpSyscall::from_name("fly").is_err());
    }
}

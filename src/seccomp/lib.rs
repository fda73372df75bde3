//! What a container's processes may call, made into a program that the kernel runs before each call.
//!
//! ```text
//! profile ─▶ libcontainer ─▶ ScmpFilterContext ─▶ compile: numbers, ranges, a tree ─▶ kernel
//! ```
//! libcontainer loads profiles, at the one moment when that can be done, with a crate called `libseccomp` that wraps the
//! C library. This crate has its name, and of its face as much as libcontainer looks at. It knows calls by its own table
//! (`calls.txt`), finds them by halving, and differs from the C library where profiles would not hold, or programs fail:
//!
//! - Calls that are newer than all that a profile speaks of are unknown (`ENOSYS`) rather than refused, as other runtimes
//!   have it: so programs fall back on what they did before there was that call.
//! - What the kernel reads 32 bits of is compared in 32 bits (`rule.rs`).
//! - `SCMP_CMP_MASKED_EQ` means what the runtime specification says: libcontainer gives mask and value in the wrong order.

mod calls;
mod compile;
pub mod error;
mod instructions;
pub mod machine;
mod rule;

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use nix::sys::prctl;

pub use calls::ScmpSyscall;
pub use compile::Machine;
pub use rule::{ScmpAction, ScmpArgCompare, ScmpCompareOp};

use calls::Abi;
use compile::Rules;
use rule::Rule;

use error::{Result, SeccompError};

/// Architectures, as profiles name them. Those that a machine cannot have mean nothing on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are their names")]
pub enum ScmpArch {
    Native,
    X86,
    X8664,
    X32,
    Arm,
    Aarch64,
    Mips,
    Mips64,
    Mips64N32,
    Mipsel,
    Mipsel64,
    Mipsel64N32,
    Ppc,
    Ppc64,
    Ppc64Le,
    S390,
    S390X,
    Riscv64,
    Parisc,
    Parisc64,
    Loongarch64,
    M68k,
    Sh,
    Sheb,
}

impl ScmpArch {
    fn abi(self) -> Option<Abi> {
        Some(match self {
            ScmpArch::X8664 => Abi::X86_64,
            ScmpArch::X32 => Abi::X32,
            ScmpArch::X86 => Abi::X86,
            ScmpArch::Aarch64 => Abi::Aarch64,
            ScmpArch::Arm => Abi::Arm,
            _ => return None,
        })
    }
}

/// A profile that is being put together.
#[derive(Debug)]
pub struct ScmpFilterContext {
    rules: Rules,
    flags: std::ffi::c_ulong,
    no_new_privileges: bool,
    listener: Option<OwnedFd>,
}

impl ScmpFilterContext {
    /// One without rules.
    ///
    /// # Errors
    /// None; those of the crate whose place this takes.
    pub fn new(default: ScmpAction) -> Result<ScmpFilterContext> {
        Ok(ScmpFilterContext {
            rules: Rules::new(default),
            flags: 0,
            no_new_privileges: true,
            listener: None,
        })
    }

    fn flag(&mut self, flag: std::ffi::c_ulong, is_set: bool) -> Result<&mut Self> {
        match is_set {
            true => self.flags |= flag,
            false => self.flags &= !flag,
        }
        Ok(self)
    }

    /// Whether what is refused is logged.
    ///
    /// # Errors
    /// None.
    pub fn set_ctl_log(&mut self, is_set: bool) -> Result<&mut Self> {
        self.flag(sys::seccomp::LOG, is_set)
    }

    /// Whether it is for all threads.
    ///
    /// # Errors
    /// None.
    pub fn set_ctl_tsync(&mut self, is_set: bool) -> Result<&mut Self> {
        self.flag(sys::seccomp::ALL_THREADS | sys::seccomp::THREADS_FAIL, is_set)
    }

    /// Whether speculation goes on.
    ///
    /// # Errors
    /// None.
    pub fn set_ctl_ssb(&mut self, is_set: bool) -> Result<&mut Self> {
        self.flag(sys::seccomp::SPECULATE, is_set)
    }

    /// Whether only what kills interrupts a call that somebody else decides.
    ///
    /// # Errors
    /// None.
    pub fn set_ctl_waitkill(&mut self, is_set: bool) -> Result<&mut Self> {
        self.flag(sys::seccomp::WAIT_KILLABLE, is_set)
    }

    /// Whether the process gives up gaining privileges before the filter is loaded.
    ///
    /// # Errors
    /// None.
    pub fn set_ctl_nnp(&mut self, is_set: bool) -> Result<&mut Self> {
        self.no_new_privileges = is_set;
        Ok(self)
    }

    /// Lets programs of that architecture run; the machine's own has been there from the beginning.
    ///
    /// # Errors
    /// None.
    pub fn add_arch(&mut self, arch: ScmpArch) -> Result<&mut Self> {
        self.rules.abis.extend(arch.abi());
        Ok(self)
    }

    /// What becomes of a call, whatever its arguments are. As with the C library, rules with conditions give way to it,
    /// and later ones of its sort.
    ///
    /// # Errors
    /// None.
    pub fn add_rule(&mut self, action: ScmpAction, call: ScmpSyscall) -> Result<&mut Self> {
        self.rules.add(call, Rule::of(action));
        Ok(self)
    }

    /// What becomes of a call whose arguments meet all of these conditions. The first rule that fits decides.
    ///
    /// # Errors
    /// For an argument that calls do not have.
    pub fn add_rule_conditional(
        &mut self,
        action: ScmpAction,
        call: ScmpSyscall,
        conditions: &[ScmpArgCompare],
    ) -> Result<&mut Self> {
        let rule = Rule::when(action, call, conditions)?;
        self.rules.add(call, rule);
        Ok(self)
    }

    /// The program for a machine.
    ///
    /// # Errors
    /// When it is too long.
    pub fn program(&self, machine: Machine) -> Result<Vec<sys::seccomp::Instruction>> {
        self.rules.compile(machine)
    }

    /// Loads it into the kernel: from here on it holds for this thread and its children.
    ///
    /// # Errors
    /// When it is too long; the kernel's.
    pub fn load(&mut self) -> Result<()> {
        let program = self.program(Machine::HERE)?;
        if self.no_new_privileges {
            prctl::set_no_new_privs().map_err(std::io::Error::from)?;
        }
        let listen = match self.rules.has(ScmpAction::Notify) {
            true => sys::seccomp::LISTEN,
            false => 0,
        };
        self.listener = sys::seccomp::load(&program, self.flags | listen)?;
        Ok(())
    }

    /// The descriptor over which somebody decides calls, once; the caller closes it.
    ///
    /// # Errors
    /// When no rule has calls decided.
    pub fn get_notify_fd(&mut self) -> Result<RawFd> {
        let listener = self.listener.take().ok_or(SeccompError::NobodyListens)?;
        Ok(listener.into_raw_fd())
    }
}

//! The system calls that a container may make: the profile that it names, or the standard one, which is containerd's: a
//! list of what is allowed, to which capabilities add.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::spec::Security;

/// What everybody may call. Names that a machine has no call of are left out when the profile is compiled.
const ALWAYS: [&str; 11] = [
    // Files and what is in them.
    "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 \
     fadvise64 fadvise64_64 arm_fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl \
     fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync \
     ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat ioctl lchown lchown32 lgetxattr link \
     linkat listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat \
     mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev \
     pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir \
     sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
     sync_file_range arm_sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime \
     utimensat utimensat_time64 utimes vmsplice write writev",
    // Waiting for something to happen. The rings of io_uring are not among them: too much has gone wrong there.
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
     eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
     io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll ppoll ppoll_time64 pselect6 \
     pselect6_time64 select",
    // Sockets; socket itself is below.
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 \
     recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair",
    // Memory.
    "brk cachestat madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect \
     mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages",
    // Processes and threads; clone is below.
    "execve execveat exit exit_group fork getpgid getpgrp getpid getppid getsid get_thread_area gettid pidfd_open rseq \
     setpgid setsid set_thread_area set_tid_address uretprobe vfork wait4 waitid waitpid",
    // What processes tell each other.
    "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list ipc membarrier mq_getsetattr \
     mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget \
     msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 set_robust_list shmat shmctl shmdt shmget",
    // Signals.
    "kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
     rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask \
     sigreturn tgkill tkill",
    // Turns on the processors, and limits.
    "getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_getaffinity sched_getattr \
     sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval \
     sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield \
     setpriority setrlimit times ugetrlimit",
    // Time: these change none without the capability.
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
     clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete \
     timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
     timerfd_gettime64 timerfd_settime timerfd_settime64",
    // Who it is and what it may, down to giving up more.
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 \
     getresuid getresuid32 getuid getuid32 landlock_add_rule landlock_create_ruleset landlock_restrict_self \
     lsm_get_self_attr lsm_list_modules lsm_set_self_attr prctl seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid \
     setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 \
     setuid setuid32",
    // The machine, and what only some of them have.
    "getrandom sysinfo uname arch_prctl modify_ldt breakpoint cacheflush set_tls",
];

/// What may be called beside by whoever has a capability within its bound.
const BY_CAPABILITY: [(&str, &str); 15] = [
    ("BPF", "bpf"),
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    ("PERFMON", "perf_event_open"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module finit_module init_module"),
    (
        "SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("SYS_PACCT", "acct"),
    (
        "SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    ("SYS_RAWIO", "ioperm iopl"),
    ("SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYSLOG", "syslog"),
    // From Linux 4.8 on a tracer cannot get round the filter of whom it traces, and anybody may be one.
    (TRACING, "process_vm_readv process_vm_writev ptrace"),
];
const TRACING: &str = "(Linux 4.8)";

/// Namespaces that a clone could make: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const NAMESPACES: u32 = 0x0002_0000 | 0x7e00_0000;
/// Linux and Linux32, without and with UNAME26, and the question which it is.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// `AF_ALG` and `AF_VSOCK` reach beyond the container, into the kernel's ciphers and into the host of a virtual machine.
const ALG: u32 = 38;
const VSOCK: u32 = 40;
/// Whoever asks for this call falls back on clone, whose flags can be seen.
const NO_SUCH_CALL: u32 = 38;

/// The profile of a container with these capabilities, as the runtime specification writes it.
///
/// # Errors
/// A profile that is not there or cannot be read, in words.
pub(super) fn profile(security: &Security, capabilities: &BTreeSet<String>) -> Result<Option<Value>, String> {
    match security.seccomp.as_str() {
        _ if security.privileged => Ok(None),
        "" | "Unconfined" => Ok(None),
        "RuntimeDefault" => Ok(Some(standard(capabilities, can_all_trace(&release())))),
        path => read(path).map(Some),
    }
}

/// A profile from a file.
fn read(path: &str) -> Result<Value, String> {
    let text =
        std::fs::read(path).map_err(|error| format!("cannot load seccomp profile {path:?}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("cannot load seccomp profile {path:?}: {error}"))
}

/// This kernel's version.
fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

fn can_all_trace(release: &str) -> bool {
    let mut parts = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(4), Some(8))
}

fn standard(capabilities: &BTreeSet<String>, can_trace: bool) -> Value {
    let has = |name: &str| capabilities.contains(&format!("CAP_{name}"));
    let more = BY_CAPABILITY
        .iter()
        .filter(|(capability, _)| has(capability) || can_trace && *capability == TRACING);
    let lists = ALWAYS.into_iter().chain(more.map(|(_, calls)| *calls));
    let names: BTreeSet<&str> = lists.flat_map(str::split_ascii_whitespace).collect();
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    rules.push(allowed_if("socket", "SCMP_CMP_LT", ALG));
    rules.push(allowed_if("socket", "SCMP_CMP_EQ", ALG + 1));
    rules.push(allowed_if("socket", "SCMP_CMP_GT", VSOCK));
    rules.extend(PERSONALITIES.map(|one| allowed_if("personality", "SCMP_CMP_EQ", one)));
    if !has("SYS_ADMIN") {
        // Of these flags, none: the specification's mask, and what must be left.
        rules.push(allowed_if("clone", "SCMP_CMP_MASKED_EQ", NAMESPACES));
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": NO_SUCH_CALL}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": [
            "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM",
        ],
        "syscalls": rules,
    })
}

/// Allows a call by its first argument.
fn allowed_if(call: &str, how: &str, number: u32) -> Value {
    let condition = json!({"index": 0, "op": how, "value": number, "valueTwo": 0});
    json!({"names": [call], "action": "SCMP_ACT_ALLOW", "args": [condition]})
}

#[cfg(test)]
mod tests {
    use libseccomp::machine::{self, Call};
    use libseccomp::{
        Machine, ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp as Op, ScmpFilterContext, ScmpSyscall,
    };

    use super::*;

    const ALLOWED: u32 = 0x7fff_0000;
    const REFUSED: u32 = 0x0005_0001;
    const UNKNOWN: u32 = 0x0005_0026;

    fn capabilities(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("CAP_{name}")).collect()
    }

    /// A profile as libcontainer hands it on.
    fn compiled(profile: &Value, machine: Machine) -> Vec<sys::seccomp::Instruction> {
        let action = |of: &Value, errno: &Value| match of.as_str().unwrap() {
            "SCMP_ACT_ALLOW" => ScmpAction::Allow,
            "SCMP_ACT_ERRNO" => ScmpAction::Errno(errno.as_i64().unwrap() as i32),
            other => panic!("{other}"),
        };
        let default = action(&profile["defaultAction"], &profile["defaultErrnoRet"]);
        let mut context = ScmpFilterContext::new(default).unwrap();
        for arch in [
            ScmpArch::X8664,
            ScmpArch::X86,
            ScmpArch::X32,
            ScmpArch::Aarch64,
            ScmpArch::Arm,
        ] {
            context.add_arch(arch).unwrap();
        }
        for rule in profile["syscalls"].as_array().unwrap() {
            let action = action(&rule["action"], &rule["errnoRet"]);
            for name in rule["names"].as_array().unwrap() {
                let call = ScmpSyscall::from_name(name.as_str().unwrap()).unwrap();
                match &rule["args"] {
                    Value::Null => context.add_rule(action, call).unwrap(),
                    conditions => {
                        let condition = &conditions[0];
                        let number = |key: &str| condition[key].as_u64().unwrap();
                        let how = match condition["op"].as_str().unwrap() {
                            "SCMP_CMP_LT" => Op::Less,
                            "SCMP_CMP_EQ" => Op::Equal,
                            "SCMP_CMP_GT" => Op::Greater,
                            "SCMP_CMP_MASKED_EQ" => Op::MaskedEqual(number("valueTwo")),
                            other => panic!("{other}"),
                        };
                        let condition = ScmpArgCompare::new(0, how, number("value"));
                        context.add_rule_conditional(action, call, &[condition]).unwrap()
                    }
                };
            }
        }
        context.program(machine).unwrap()
    }

    fn call(architecture: u32, number: u32, first: u64) -> Call {
        Call {
            number,
            architecture,
            arguments: [first, 0, 0, 0, 0, 0],
        }
    }

    /// What becomes of calls of a program for `x86_64`, each with its first argument.
    fn judged(held: &[&str], calls: &[(u32, u64)]) -> Vec<u32> {
        let program = compiled(&standard(&capabilities(held), true), Machine::X86_64);
        let verdict = |(number, first): &(u32, u64)| {
            machine::run(&program, &call(machine::X86_64, *number, *first))
                .unwrap()
                .0
        };
        calls.iter().map(verdict).collect()
    }

    #[test]
    fn ordinary_programs_work_and_the_kernels_corners_are_closed() {
        // read, openat, futex, execve, statx, rseq, fchmodat2, ptrace
        let ordinary = [0, 257, 202, 59, 332, 334, 452, 101].map(|number| (number, 0));
        assert_eq!(judged(&[], &ordinary), [ALLOWED; 8]);
        // mount, unshare, setns, keyctl, bpf, io_uring_setup, userfaultfd, init_module, swapon, reboot, chroot
        let corners = [165, 272, 308, 250, 321, 425, 323, 175, 167, 169, 161].map(|number| (number, 0));
        assert_eq!(judged(&[], &corners), [REFUSED; 11]);
        // What came after all of them is not known rather than refused, and so are x32's.
        assert_eq!(judged(&[], &[(600, 0), (u32::MAX, 0)]), [UNKNOWN; 2]);
    }

    #[test]
    fn arguments_decide_where_one_call_does_many_things() {
        let (clone, socket, personality) = (56, 41, 135);
        let calls = [
            (clone, 0x11),
            (clone, 0x003d_0f00),
            (clone, 0x1000_0011),
            (clone, 0x0002_0011),
            (socket, 2),
            (socket, 16),
            (socket, 39),
            (socket, 38),
            (socket, 40),
            (socket, (1 << 32) + 40),
            (personality, 0),
            (personality, 0xffff_ffff),
            (personality, 0x0040_0000),
            (435, 0),
        ];
        let expected = [
            ALLOWED, ALLOWED, REFUSED, REFUSED, ALLOWED, ALLOWED, ALLOWED, REFUSED, REFUSED, REFUSED,
            ALLOWED, ALLOWED, REFUSED, UNKNOWN,
        ];
        assert_eq!(judged(&[], &calls), expected);
    }

    #[test]
    fn capabilities_add_the_calls_that_are_theirs() {
        let theirs: [(&str, &[u32]); 14] = [
            ("SYS_ADMIN", &[165, 272, 308, 321, 435, 103]),
            ("SYS_CHROOT", &[161]),
            ("SYS_MODULE", &[175, 176, 313]),
            ("SYS_PTRACE", &[312, 438]),
            ("SYS_TIME", &[164, 227]),
            ("SYS_NICE", &[237, 238, 239]),
            ("SYSLOG", &[103]),
            ("BPF", &[321]),
            ("PERFMON", &[298]),
            ("DAC_READ_SEARCH", &[304]),
            ("SYS_BOOT", &[169]),
            ("SYS_PACCT", &[163]),
            ("SYS_RAWIO", &[172, 173]),
            ("SYS_TTY_CONFIG", &[153]),
        ];
        for (capability, numbers) in theirs {
            let calls: Vec<(u32, u64)> = numbers.iter().map(|number| (*number, 0)).collect();
            assert!(
                judged(&[], &calls).iter().all(|verdict| *verdict != ALLOWED),
                "{capability}"
            );
            assert!(
                judged(&[capability], &calls)
                    .iter()
                    .all(|verdict| *verdict == ALLOWED),
                "{capability}"
            );
        }
        // With it, namespaces can be made.
        assert_eq!(judged(&["SYS_ADMIN"], &[(56, 0x1000_0011)]), [ALLOWED]);
        // Rings, keys and swapping are nobody's.
        let held = BY_CAPABILITY.map(|(name, _)| name);
        assert_eq!(judged(&held, &[(425, 0), (250, 0), (167, 0)]), [REFUSED; 3]);
    }

    #[test]
    fn a_call_costs_a_few_instructions() {
        for (machine, architecture) in [
            (Machine::X86_64, machine::X86_64),
            (Machine::Aarch64, machine::AARCH64),
        ] {
            let program = compiled(&standard(&capabilities(&[]), true), machine);
            let steps = |number| {
                let (_, steps) = machine::run(&program, &call(architecture, number, 0)).unwrap();
                steps
            };
            // Two looks, the architecture, six or seven halvings, the verdict; and conditions on arguments.
            let most = (0..480).map(steps).max().unwrap();
            assert!(most <= 20, "{most}");
            let usual = (0..480).map(steps).sum::<usize>() / 480;
            assert!(usual <= 12, "{usual}");
        }
    }

    #[test]
    fn other_architectures_of_a_machine_have_their_own_numbers() {
        let program = compiled(&standard(&capabilities(&[]), true), Machine::X86_64);
        let verdict =
            |architecture, number| machine::run(&program, &call(architecture, number, 0)).unwrap().0;
        // execve and mount of 32-bit programs, execve of x32, and somebody who is none of them.
        assert_eq!(verdict(machine::X86, 11), ALLOWED);
        assert_eq!(verdict(machine::X86, 21), REFUSED);
        assert_eq!(verdict(machine::X86_64, 0x4000_0000 + 520), ALLOWED);
        assert_eq!(verdict(machine::X86_64, 0x4000_0000 + 165), REFUSED);
        assert_eq!(verdict(machine::AARCH64, 0), 0);
        let program = compiled(&standard(&capabilities(&[]), true), Machine::Aarch64);
        let verdict = |number, first| {
            machine::run(&program, &call(machine::AARCH64, number, first))
                .unwrap()
                .0
        };
        // execve, mount, clone with a namespace of users, keyctl.
        let all = [(221, 0), (40, 0), (220, 0x1000_0011), (219, 0)].map(|(n, first)| verdict(n, first));
        assert_eq!(all, [ALLOWED, REFUSED, REFUSED, REFUSED]);
    }

    #[test]
    fn every_name_is_a_calls() {
        let more = BY_CAPABILITY.map(|(_, calls)| calls);
        let names: Vec<&str> = ALWAYS
            .into_iter()
            .chain(more)
            .flat_map(str::split_ascii_whitespace)
            .collect();
        for name in &names {
            assert!(ScmpSyscall::from_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn tracing_waits_for_a_kernel_that_makes_it_safe() {
        for (release, can) in [
            ("6.18.0-cloud", true),
            ("4.8.0", true),
            ("4.7.9", false),
            ("3.10", false),
            ("5.4-x", true),
            ("", false),
        ] {
            assert_eq!(can_all_trace(release), can, "{release}");
        }
        let names = |can| standard(&capabilities(&[]), can)["syscalls"][0]["names"].clone();
        let has = |can| names(can).as_array().unwrap().contains(&json!("ptrace"));
        assert!(has(true) && !has(false));
    }

    #[test]
    fn privileged_containers_have_no_profile() {
        let security = Security {
            privileged: true,
            seccomp: "RuntimeDefault".into(),
            ..Security::default()
        };
        assert_eq!(profile(&security, &capabilities(&["SYS_ADMIN"])), Ok(None));
    }
}

//! Commands: core modules and components behave alike.

use crate::support::*;
use coracle_wasm::{ExitReason, Mount, ProgramKind, Stdin, WasmError};

const BOTH: [(&str, ProgramKind); 2] = [
    ("hello-cli.module.wasm", ProgramKind::Module),
    ("hello-cli.wasm", ProgramKind::Command),
];

#[tokio::test]
async fn arguments_and_environment() {
    let host = host();
    for (file, kind) in BOTH {
        let program = compile(&host, file).await;
        assert_eq!(program.kind(), kind);
        let mut spec = spec(&["one", "two words"]);
        spec.spec.env = vec![("NAME".into(), "value".into()), ("EMPTY".into(), String::new())];
        let (exit, stdout, stderr) = run(&host, &program, spec).await;
        assert_eq!(
            (exit.code, exit.reason),
            (0, ExitReason::Completed),
            "{file}: {exit:?} {stderr}"
        );
        assert_eq!(
            stdout, "args: guest one two words\nenv: EMPTY=\nenv: NAME=value\n",
            "{file}"
        );
        assert_eq!(stderr, "");
    }
}

#[tokio::test]
async fn exit_codes_and_standard_error() {
    let host = host();
    for (file, _) in BOTH {
        let program = compile(&host, file).await;
        for code in [0, 1, 3, 42] {
            let text = code.to_string();
            let spec = spec(&["--stderr", "to stderr", "--exit", &text, "--panic"]);
            let (exit, _, stderr) = run(&host, &program, spec).await;
            assert_eq!(exit.code, code, "{file}: {exit:?}");
            assert_eq!(exit.reason == ExitReason::Completed, code == 0);
            assert_eq!(stderr, "to stderr\n");
        }
    }
}

#[tokio::test]
async fn files_writable_and_not() {
    let host = host();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    std::fs::write(dir.path().join("config/key"), "secret").unwrap();
    std::fs::write(dir.path().join("single"), "alone").unwrap();
    std::fs::write(dir.path().join("outside"), "not for guests").unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside"), dir.path().join("data/link")).unwrap();
    let mounts = |spec: &mut Spec| {
        let mount = |host: &str, guest: &str, read_only| Mount {
            host: dir.path().join(host),
            inside: Default::default(),
            guest: guest.into(),
            read_only,
        };
        spec.spec.mounts = vec![
            mount("data", "/data", false),
            mount("config", "/etc/config", true),
            mount("single", "/etc/single/file", true),
        ];
    };
    for (file, _) in BOTH {
        let program = compile(&host, file).await;
        let args = [
            "--read",
            "/etc/config/key",
            "--read",
            "/etc/single/file",
            "--write",
            "/data/out",
            "hello",
            "--read",
        ];
        let mut good = spec(&[&args[..], &["/data/out"]].concat());
        mounts(&mut good);
        let (exit, stdout, stderr) = run(&host, &program, good).await;
        assert_eq!(exit.code, 0, "{file}: {stderr}");
        for line in [
            "file /etc/config/key: secret",
            "file /etc/single/file: alone",
            "file /data/out: hello",
        ] {
            assert!(stdout.contains(line), "{file}: {stdout}");
        }
        assert_eq!(
            std::fs::read_to_string(dir.path().join("data/out")).unwrap(),
            "hello"
        );
        for refused in [
            vec!["--write", "/etc/config/key", "changed"],
            vec!["--write", "/etc/single/file", "changed"],
            vec!["--read", "/data/link"],
            vec!["--read", "/data/../outside"],
            vec!["--read", "/etc/passwd"],
        ] {
            let mut bad = spec(&refused);
            mounts(&mut bad);
            let (exit, stdout, stderr) = run(&host, &program, bad).await;
            assert_ne!(exit.code, 0, "{file} {refused:?}: {stdout}");
            assert!(stderr.contains("cannot"), "{file} {refused:?}: {stderr}");
        }
    }
    assert_eq!(
        std::fs::read_to_string(dir.path().join("config/key")).unwrap(),
        "secret"
    );
    assert_eq!(
        std::fs::read_to_string(dir.path().join("single")).unwrap(),
        "alone"
    );
}

#[tokio::test]
async fn standard_input() {
    let host = host();
    for (file, _) in BOTH {
        let program = compile(&host, file).await;
        let (exit, stdout, _) = run(&host, &program, spec(&["--stdin"])).await;
        assert_eq!(
            (exit.code, stdout.as_str()),
            (0, "args: guest --stdin\n"),
            "{file}"
        );
        let mut piped = spec(&["--stdin"]);
        piped.spec.stdin = Stdin::Pipe(Box::new(std::io::Cursor::new(b"one\ntwo\n".to_vec())));
        let (_, stdout, _) = run(&host, &program, piped).await;
        assert_eq!(stdout, "args: guest --stdin\none\ntwo\n", "{file}");
    }
}

#[tokio::test]
async fn impossible_specifications_are_refused() {
    let host = host();
    let program = compile(&host, "hello-cli.wasm").await;
    let mut missing = spec(&[]);
    missing.spec.mounts = vec![Mount {
        host: "/does/not/exist".into(),
        inside: Default::default(),
        guest: "/data".into(),
        read_only: true,
    }];
    let error = host.start(&program, missing.spec).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot mount /does/not/exist at /data: No such file or directory (os error 2)"
    );
    let zero = spec(&["a\0b"]);
    assert!(matches!(
        host.start(&program, zero.spec).await,
        Err(WasmError::Spec(_))
    ));
    let elsewhere = spec(&[]);
    let other_host = crate::support::host();
    assert!(matches!(
        other_host.start(&program, elsewhere.spec).await,
        Err(WasmError::Spec(_))
    ));
    let http = compile(&host, "hello-http.wasm").await;
    assert!(matches!(
        host.start(&http, spec(&[]).spec).await,
        Err(WasmError::Spec(_))
    ));
}

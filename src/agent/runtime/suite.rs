//! What every runtime has to do, tried on the fake one and on the Wasm one.
//! (The OCI one runs it where there are shims: in the integration tests.)

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::oci::{ExecSpec, Image, ImageConfig, ImageKind, LogSpec};
use base::SystemClock;

use super::guest::NoNetwork;
use super::wasm::WasmRuntime;
use super::{Launch, Runtime, RuntimeError, Sandbox, fake::FakeRuntime};

/// What a container of the suite does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Exit(i32),
    Forever,
    Print,
    Broken,
}

struct Bench<'a> {
    runtime: Arc<dyn Runtime>,
    dir: &'a Path,
    prepare: fn(&mut Launch, Script, &Path),
}

fn sandbox() -> Sandbox {
    Sandbox {
        uid: "u-1".into(),
        namespace: "ns".into(),
        name: "p".into(),
        hostname: "p".into(),
        ip: [127, 0, 0, 1].into(),
        netns: None,
        users: None,
        loopback: [127, 0, 0, 1].into(),
        host_network: true,
        host_pid: false,
        host_ipc: false,
        share_pid: false,
        sysctls: Vec::new(),
        resources: Default::default(),
        qos: "BestEffort".into(),
        search: Vec::new(),
        aliases: Vec::new(),
    }
}

/// A container of that program and nothing else.
pub(super) fn launch_of(program: &str) -> Launch {
    let log = LogSpec {
        path: "/nowhere".into(),
        bytes_max: 1 << 20,
        files_max: 2,
    };
    let image = Image {
        references: vec!["test:1".into()],
        digest: String::new(),
        id: String::new(),
        size_bytes: 0,
        config: ImageConfig::default(),
        kind: ImageKind::Oci { layers: Vec::new() },
        vouchers: vec![],
        pulled_by: Default::default(),
    };
    Launch {
        id: "c".into(),
        pod_uid: "u-1".into(),
        title: "ns/p/c".into(),
        name: "c".into(),
        attempt: 0,
        image,
        args: vec![program.to_owned()],
        env: Vec::new(),
        working_dir: String::new(),
        user: Default::default(),
        mounts: Vec::new(),
        devices: Vec::new(),
        hooks: Vec::new(),
        resources: Default::default(),
        security: Default::default(),
        tty: false,
        stdin: false,
        stdin_once: false,
        target: None,
        log,
        port: 8080,
        ports: Vec::new(),
        reuse: false,
        buckets: None,
        beside: Vec::new(),
        absent: Vec::new(),
        providers: Vec::new(),
        allowed_hosts: None,
    }
}

impl Bench<'_> {
    fn launch(&self, id: &str, script: Script) -> Launch {
        let mut launch = Launch {
            id: id.into(),
            title: format!("ns/p/{id}"),
            name: id.into(),
            ..launch_of("")
        };
        launch.log.path = self.dir.join(format!("{id}.log"));
        launch.args.clear();
        (self.prepare)(&mut launch, script, self.dir);
        launch
    }

    async fn started(&self, id: &str, script: Script) {
        self.runtime.create(&self.launch(id, script)).await.unwrap();
        self.runtime.start(id).await.unwrap();
    }

    async fn run(&self) {
        self.runtime.open_pod(&sandbox()).await.unwrap();
        self.runtime.open_pod(&sandbox()).await.unwrap();
        self.ends_are_told().await;
        self.stopping_ends().await;
        self.logs_are_written().await;
        self.failures_are_told().await;
        self.closing_ends_everything().await;
    }

    async fn ends_are_told(&self) {
        for code in [0, 3] {
            let id = format!("exit{code}");
            self.started(&id, Script::Exit(code)).await;
            let end = self.runtime.wait(&id).await.unwrap();
            assert_eq!(end.code, code);
            assert!(end.started <= end.finished);
            assert_eq!(self.runtime.wait(&id).await.unwrap(), end, "asked again");
            self.runtime.remove(&id).await.unwrap();
            assert!(matches!(
                self.runtime.wait(&id).await,
                Err(RuntimeError::NotFound(_))
            ));
        }
    }

    async fn stopping_ends(&self) {
        self.started("runs", Script::Forever).await;
        let waiting = tokio::time::timeout(Duration::from_millis(50), self.runtime.wait("runs")).await;
        assert!(waiting.is_err(), "it runs on");
        self.runtime
            .stop("runs", Duration::from_millis(100))
            .await
            .unwrap();
        assert_ne!(self.runtime.wait("runs").await.unwrap().code, 0);
        self.runtime.stop("runs", Duration::ZERO).await.unwrap();
        self.started("killed", Script::Forever).await;
        self.runtime.stop("killed", Duration::ZERO).await.unwrap();
        assert_eq!(self.runtime.wait("killed").await.unwrap().code, 137);
    }

    async fn logs_are_written(&self) {
        self.started("prints", Script::Print).await;
        let path = self.dir.join("prints.log");
        for _ in 0..200 {
            if std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with("stdout F hello\n")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the log holds {:?}", std::fs::read_to_string(&path));
    }

    async fn failures_are_told(&self) {
        let launch = self.launch("broken", Script::Broken);
        let result = match self.runtime.create(&launch).await {
            Ok(()) => self.runtime.start("broken").await.map(drop),
            Err(error) => Err(error),
        };
        assert!(matches!(result, Err(RuntimeError::Start(_))), "{result:?}");
        assert!(matches!(
            self.runtime.start("none").await,
            Err(RuntimeError::NotFound(_))
        ));
        assert!(matches!(
            self.runtime.stop("none", Duration::ZERO).await,
            Err(RuntimeError::NotFound(_))
        ));
        assert!(self.runtime.exec("none", &ExecSpec::default()).await.is_err());
    }

    async fn closing_ends_everything(&self) {
        self.started("left", Script::Forever).await;
        self.runtime.close_pod("u-1").await.unwrap();
        assert!(matches!(
            self.runtime.wait("left").await,
            Err(RuntimeError::NotFound(_))
        ));
        self.runtime.close_pod("u-1").await.unwrap();
    }
}

#[tokio::test]
async fn fake() {
    let temp = tempfile::tempdir().unwrap();
    let runtime = Arc::new(FakeRuntime::new("fake", Arc::new(SystemClock::new())));
    let prepare = |launch: &mut Launch, script: Script, _: &Path| {
        launch.args = match script {
            Script::Exit(code) => vec!["exit".into(), code.to_string()],
            Script::Forever => vec![],
            Script::Print => vec!["print".into(), "hello".into()],
            Script::Broken => vec!["cannot-start".into()],
        };
    };
    Bench {
        runtime,
        dir: temp.path(),
        prepare,
    }
    .run()
    .await;
}

fn wat(script: Script) -> String {
    match script {
        Script::Exit(code) => format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (func (export "_start") (call $exit (i32.const {code}))))"#
        ),
        Script::Forever => {
            r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#.into()
        }
        Script::Print => r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "hello\n")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (i32.const 6))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
            .into(),
        Script::Broken => "(module (func (export \"_sta".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wasm() {
    let temp = tempfile::tempdir().unwrap();
    let host = ::wasm::Host::new(::wasm::HostConfig {
        max_instances: 16,
        ..Default::default()
    })
    .unwrap();
    let clock = Arc::new(SystemClock::new());
    let runtime = Arc::new(WasmRuntime::new(host, Arc::new(NoNetwork), clock, Arc::default()));
    let prepare = |launch: &mut Launch, script: Script, dir: &Path| {
        let module = dir.join(format!("{}.wat", launch.id));
        std::fs::write(&module, wat(script)).unwrap();
        launch.image.kind = ImageKind::Wasm {
            module,
            digest: format!("sha256:{script:?}"),
        };
    };
    Bench {
        runtime,
        dir: temp.path(),
        prepare,
    }
    .run()
    .await;
}

//! Creating, starting and deleting one container, beside crun and runc: the
//! same root file system, `/bin/true`, one after the other, in turns.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use oci::images::{Images, ImagesConfig, ImportOptions};
use serde_json::json;

use crate::backend::pack;
use kit::process;
use kit::sandbox::run;
use kit::table::{self, median, ms, range};

/// The pod that is there all the time.
const LASTING: &str = "bench-lasting";

/// The peers.
pub const PEERS: [&str; 2] = ["crun", "runc"];

/// A runtime and what it took.
struct Series {
    name: String,
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

/// Prints the table.
pub async fn measure(bin: &Path, scratch: &Path, count: usize) -> anyhow::Result<()> {
    let root = busybox(scratch)?;
    let ours = Ours::open(bin, scratch, &root).await?;
    let bundle = bundle(scratch, &root, &["/bin/true"])?;
    let own = ["coracle, its shim included", "coracle, in a pod that is there"];
    ours.open_pod(LASTING).await?;
    let mut series: Vec<Series> = own
        .map(str::to_owned)
        .into_iter()
        .chain(PEERS.iter().map(|peer| version(peer)))
        .map(|name| Series {
            name,
            wall: vec![],
            cpu: vec![],
        })
        .collect();
    // Turn 0 warms caches and is not counted.
    for turn in 0..=count {
        for (at, series) in series.iter_mut().enumerate() {
            let (wall, cpu) = match at {
                0 => ours.with_pod(turn).await?,
                1 => ours.alone(turn).await?,
                peer => peer_once(PEERS[peer - own.len()], &bundle, turn)?,
            };
            if turn > 0 {
                series.wall.push(wall);
                series.cpu.push(cpu);
            }
        }
    }
    ours.containers.close_pod(LASTING).await?;
    let rows = series.iter().map(|series| {
        let cpu = series.cpu.iter().sum::<f64>() / count as f64;
        let wall = format!("{:.1} ms", median(&series.wall));
        vec![
            series.name.clone(),
            wall,
            range(&series.wall),
            format!("{cpu:.1} ms"),
        ]
    });
    table::print(
        &format!("Create, start, wait for and delete a container of `/bin/true`, {count} each, in turns"),
        &["runtime", "wall, median", "range", "CPU of the machine, mean"],
        &rows.collect::<Vec<_>>(),
    );
    Ok(())
}

/// A root file system with busybox alone.
pub fn busybox(scratch: &Path) -> anyhow::Result<PathBuf> {
    let root = scratch.join("root");
    for folder in ["bin", "proc", "sys", "dev", "tmp"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .context("/bin/busybox (Debian's busybox-static)")?;
    std::os::unix::fs::symlink("busybox", root.join("bin/true"))?;
    Ok(root)
}

/// A bundle for the peers, from the template that runc itself writes.
pub fn bundle(scratch: &Path, root: &Path, args: &[&str]) -> anyhow::Result<PathBuf> {
    let bundle = scratch.join("bundle");
    std::fs::create_dir_all(&bundle)?;
    run("runc", &["spec", "--bundle", &bundle.display().to_string()])?;
    let file = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(args);
    config["root"] = json!({"path": root, "readonly": true});
    // crun refuses a machine that mixes both versions of control groups, so all do without.
    config["linux"]["resources"] = json!({});
    std::fs::write(file, config.to_string())?;
    Ok(bundle)
}

/// Leaves version 2 of the control groups alone in this mount namespace.
fn version_two_only() -> anyhow::Result<()> {
    run("umount", &["-l", "-R", "/sys/fs/cgroup"])?;
    run("mount", &["-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"])
}

/// What a peer calls itself.
pub fn version(peer: &str) -> String {
    let said = Command::new(peer).arg("--version").output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    let first = said.unwrap_or_default().lines().next().unwrap_or(peer).to_owned();
    first.replace("version ", "")
}

/// Wall and CPU time of a peer's `run`, which creates, starts, waits and
/// deletes.
fn peer_once(peer: &'static str, bundle: &Path, turn: usize) -> anyhow::Result<(f64, f64)> {
    let bundle = bundle.display().to_string();
    with_version_two(move || {
        let (before, began) = (process::machine_cpu(), Instant::now());
        run(peer, &["run", "--bundle", &bundle, &format!("bench-{turn}")])?;
        Ok((ms(began.elapsed()), ms(process::machine_cpu() - before)))
    })
}

/// Works in a thread with mounts of its own: crun refuses a machine that mixes both versions of control groups.
pub fn with_version_two<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let apart = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        version_two_only()?;
        work()
    };
    let done = std::thread::spawn(apart).join();
    done.map_err(|_| anyhow::anyhow!("a peer could not be run"))?
}

/// Our store and containers, the shim being the lean binary.
pub struct Ours {
    /// The containers.
    pub containers: oci::Containers,
    image: oci::Image,
    scratch: PathBuf,
}

impl Ours {
    /// Opens both below `scratch`.
    pub async fn open(bin: &Path, scratch: &Path, root: &Path) -> anyhow::Result<Self> {
        let images = Images::open(ImagesConfig::new(scratch.join("images"))).await?;
        let options = ImportOptions {
            name: Some("local/busybox:1".to_owned()),
            entrypoint: vec!["/bin/true".to_owned()],
        };
        let imported = images
            .import(&pack(root, &scratch.join("root.tar"))?, options)
            .await?;
        let config = oci::ContainersConfig {
            dir: scratch.join("containers"),
            instance_id: "0000be4c".to_owned(),
            program: bin.to_owned(),
        };
        Ok(Self {
            containers: oci::Containers::open(config, images).await?,
            image: imported.into_iter().next().context("the imported image")?,
            scratch: scratch.to_owned(),
        })
    }

    /// Starts a pod's shim.
    pub async fn open_pod(&self, uid: &str) -> anyhow::Result<()> {
        let pod = oci::PodSpec {
            uid: uid.to_owned(),
            ..oci::PodSpec::default()
        };
        Ok(self.containers.open_pod(&pod).await?)
    }

    /// A container's life in a pod that is there.
    async fn live(&self, uid: &str, id: &str) -> anyhow::Result<()> {
        self.containers.create(&self.container(uid, id)).await?;
        self.containers.start(id).await?;
        let exit = self.containers.wait(id).await?;
        ensure!(exit.code == 0, "/bin/true ended with {exit:?}");
        Ok(self.containers.remove(id).await?)
    }

    /// Wall and CPU time of a pod's shim with one container in it, from nothing to nothing.
    async fn with_pod(&self, turn: usize) -> anyhow::Result<(f64, f64)> {
        let (before, began) = (process::machine_cpu(), Instant::now());
        let uid = format!("bench-{turn}");
        self.open_pod(&uid).await?;
        self.live(&uid, &format!("{turn:064x}")).await?;
        self.containers.close_pod(&uid).await?;
        Ok((ms(began.elapsed()), ms(process::machine_cpu() - before)))
    }

    /// Wall and CPU time of a further container: what the peers do as well.
    async fn alone(&self, turn: usize) -> anyhow::Result<(f64, f64)> {
        let (before, began) = (process::machine_cpu(), Instant::now());
        self.live(LASTING, &format!("a{turn:063x}")).await?;
        Ok((ms(began.elapsed()), ms(process::machine_cpu() - before)))
    }

    /// Where the pods' folders lie.
    pub fn folder(&self) -> PathBuf {
        self.scratch.join("containers")
    }

    /// A container of `/bin/true`.
    pub fn container(&self, uid: &str, id: &str) -> oci::ContainerSpec {
        oci::ContainerSpec {
            pod_uid: uid.to_owned(),
            id: id.to_owned(),
            name: "true".to_owned(),
            attempt: 0,
            image: self.image.clone(),
            args: vec!["/bin/true".to_owned()],
            env: vec![],
            working_dir: String::new(),
            user: oci::User::default(),
            devices: Vec::new(),
            hooks: Vec::new(),
            mounts: vec![],
            resources: oci::Resources::default(),
            security: oci::Security {
                no_new_privileges: true,
                ..oci::Security::default()
            },
            target: None,
            tty: false,
            stdin: false,
            stdin_once: false,
            log: oci::LogSpec {
                path: self.scratch.join("container.log"),
                bytes_max: 0,
                files_max: 1,
            },
        }
    }
}

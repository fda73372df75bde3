//! Images made on the spot: a root file system from `busybox-static`, and
//! archives in each form that Wasm programs are published in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tools;

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A tar of a root file system that holds busybox under all its names.
pub fn busybox_rootfs(dir: &Path) -> PathBuf {
    let root = dir.join("busybox-root");
    for folder in ["bin", "etc", "tmp", "www"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("/bin/busybox (Debian's busybox-static)");
    let list = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .expect("busybox --list");
    for applet in String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|name| *name != "busybox")
    {
        // May be there already, from a scenario's earlier call.
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(applet));
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    )
    .expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("group");
    let file = dir.join("busybox.tar");
    tar(&root, &file);
    file
}

/// A tar of a root file system that holds nothing but the server of `programs/polite.c`.
pub fn polite_rootfs(dir: &Path) -> PathBuf {
    let root = dir.join("polite-root");
    fs::create_dir_all(&root).expect("a folder");
    let source = tools::checkout().join("tests/programs/polite.c");
    let built = Command::new("cc")
        .args(["-O1", "-static", "-o"])
        .arg(root.join("polite"))
        .arg(source)
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "cc, from gcc or clang"
    );
    let file = dir.join("polite.tar");
    tar(&root, &file);
    file
}

/// Packs a folder's content.
pub fn tar(folder: &Path, file: &Path) {
    let status = Command::new("tar")
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(file)
        .arg("-C")
        .arg(folder)
        .arg(".")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "tar {}",
        folder.display()
    );
}

/// How a Wasm program is wrapped up.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// CNCF's Wasm artifact: a configuration type of its own, the program as a layer.
    Artifact,
    /// As runwasi's tools do: an ordinary configuration, the program as a layer.
    Runwasi,
    /// An ordinary image whose platform is `wasi/wasm`, the program a file in it.
    Platform,
}

/// An OCI archive named `name` with a Wasm program.
pub fn wasm_archive(dir: &Path, name: &str, program: &Path, form: Form) -> PathBuf {
    let code = fs::read(program).expect("a guest program");
    match form {
        Form::Artifact => {
            let config = json!({
                "created": "2024-09-25T12:00:00Z", "architecture": "wasm", "os": "wasip2",
                "layerDigests": [digest(&code)], "component": {"exports": [], "imports": []},
            });
            archive(
                dir,
                name,
                "application/vnd.wasm.config.v0+json",
                &config,
                "application/wasm",
                &code,
            )
        }
        Form::Runwasi => {
            let config = json!({
                "architecture": "wasm", "os": "wasip1", "config": {},
                "rootfs": {"type": "layers", "diff_ids": [digest(&code)]},
            });
            archive(
                dir,
                name,
                OCI_CONFIG,
                &config,
                "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
                &code,
            )
        }
        Form::Platform => {
            let root = dir.join("platform-root");
            fs::create_dir_all(&root).expect("a folder");
            fs::copy(program, root.join("app.wasm")).expect("a guest program");
            tar(&root, &dir.join("platform.tar"));
            let layer = fs::read(dir.join("platform.tar")).expect("a layer");
            let config = json!({
                "architecture": "wasm", "os": "wasi", "config": {"Entrypoint": ["/app.wasm"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
            });
            archive(dir, name, OCI_CONFIG, &config, OCI_LAYER, &layer)
        }
    }
}

/// An OCI archive of busybox, its shell as the entrypoint.
pub fn busybox_archive(dir: &Path, name: &str) -> PathBuf {
    let layer = fs::read(busybox_rootfs(dir)).expect("the root file system");
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    archive(dir, name, OCI_CONFIG, &config, OCI_LAYER, &layer)
}

/// An archive of one signature, as `cosign sign` leaves it beside an image.
pub fn signature_archive(dir: &Path, payload: &[u8], signature: &str) -> PathBuf {
    let layout = dir.join("layout");
    // The layout of the image made before.
    let _ = fs::remove_dir_all(&layout);
    let config = json!({
        "architecture": "", "os": "", "created": "0001-01-01T00:00:00Z", "config": {},
        "history": [{"created": "0001-01-01T00:00:00Z"}],
        "rootfs": {"type": "layers", "diff_ids": [digest(payload)]},
    });
    let mut layer = blob(
        &layout,
        "application/vnd.dev.cosign.simplesigning.v1+json",
        payload,
    );
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob(&layout, OCI_CONFIG, config.to_string().as_bytes()),
        "layers": [layer],
    });
    finish(dir, &layout, "signature:1", &manifest)
}

fn archive(
    dir: &Path,
    name: &str,
    config_type: &str,
    config: &Value,
    layer_type: &str,
    layer: &[u8],
) -> PathBuf {
    let layout = dir.join("layout");
    // The layout of the image made before.
    let _ = fs::remove_dir_all(&layout);
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob(&layout, config_type, &config),
        "layers": [blob(&layout, layer_type, layer)],
    });
    finish(dir, &layout, name, &manifest)
}

/// Completes a layout with its manifest and packs it.
fn finish(dir: &Path, layout: &Path, name: &str, manifest: &Value) -> PathBuf {
    let mut top = blob(layout, OCI_MANIFEST, manifest.to_string().as_bytes());
    top["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    fs::write(layout.join("index.json"), index.to_string()).expect("index.json");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("oci-layout");
    let file = dir.join(format!("{}.tar", name.replace(['/', ':'], "-")));
    tar(layout, &file);
    file
}

/// Stores content in a layout; its descriptor.
fn blob(layout: &Path, media_type: &str, content: &[u8]) -> Value {
    let digest = digest(content);
    let folder = layout.join("blobs/sha256");
    fs::create_dir_all(&folder).expect("blobs");
    fs::write(folder.join(digest.trim_start_matches("sha256:")), content).expect("a blob");
    json!({"mediaType": media_type, "digest": digest, "size": content.len()})
}

/// `sha256:…`
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(content))
}

/// An archive of a Spin application: `hello-http` twice, with routes, environment,
/// a file, and leave to connect to `allowed` for the first alone.
pub fn spin_archive(dir: &Path, name: &str, program: &Path, allowed: &str) -> PathBuf {
    let layout = dir.join("layout");
    // The layout of the image made before.
    let _ = fs::remove_dir_all(&layout);
    let code = fs::read(program).expect("a guest program");
    let page = b"a static page of more than nothing".to_vec();
    let component = |id: &str, hosts: &[&str]| {
        json!({"id": id, "source": {"content_type": "application/wasm", "digest": digest(&code)},
            "env": {"POD_NAME": id, "COLOUR": id}, "metadata": {"allowed_outbound_hosts": hosts},
            "files": [{"digest": digest(&page), "path": "page.txt"}]})
    };
    let trigger = |id: &str, route: &str| {
        json!({"id": format!("{id}-{route}"), "trigger_type": "http",
            "trigger_config": {"component": id, "route": route}})
    };
    let locked = json!({"spin_lock_version": 1, "metadata": {"name": "demo"},
        "triggers": [trigger("open", "/..."), trigger("closed", "/closed"), trigger("closed", "/fetch")],
        "components": [component("open", &[allowed]), component("closed", &[])]});
    let config =
        json!({"architecture": "wasm", "os": "Wasip1", "rootfs": {"type": "layers", "diff_ids": []}});
    let locked_type = "application/vnd.fermyon.spin.application.v1+config";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob(&layout, OCI_CONFIG, config.to_string().as_bytes()),
        "layers": [
            blob(&layout, "application/vnd.wasm.content.layer.v1+wasm", &code),
            blob(&layout, "application/vnd.wasm.content.layer.v1+data", &page),
            blob(&layout, locked_type, locked.to_string().as_bytes()),
        ],
    });
    finish(dir, &layout, name, &manifest)
}

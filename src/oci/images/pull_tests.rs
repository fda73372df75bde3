//! Pulls from a registry that misbehaves.

use std::io::Write;
use std::time::{Duration, Instant};

use hostile_registry::{Door, Fault, Hostile, digest};
use serde_json::{Value, json};

use super::{Attempt, Credentials, Image, ImageError, ImageKind, Images, ImagesConfig, Registries};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub(super) struct Store {
    dir: tempfile::TempDir,
    pub(super) images: Images,
}

impl Store {
    async fn new() -> Store {
        Store::open(tempfile::tempdir().unwrap(), Registries::default()).await
    }

    /// One in that folder, with those settings.
    async fn open(dir: tempfile::TempDir, registries: Registries) -> Store {
        let config = ImagesConfig {
            registries,
            silence_max: Duration::from_millis(400),
            ..ImagesConfig::new(dir.path().join("images"))
        };
        Store {
            images: Images::open(config).await.unwrap(),
            dir,
        }
    }

    /// One that is new, with settings as their file has them.
    pub(super) async fn with(settings: &str) -> Store {
        let registries = Registries::parse(settings).unwrap();
        Store::open(tempfile::tempdir().unwrap(), registries).await
    }

    /// The same after a change of the settings.
    pub(super) async fn again(self, settings: &str) -> Store {
        Store::open(self.dir, Registries::parse(settings).unwrap()).await
    }

    pub(super) async fn pull(&self, name: &str) -> Result<Image, ImageError> {
        self.images.pull(name, &[]).await
    }

    /// Everything in `tmp/` and `layers/`, for what should not be left.
    pub(super) fn left(&self) -> Vec<String> {
        let folders = ["tmp", "layers", "modules"].map(|sub| self.dir.path().join("images").join(sub));
        let entries = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
        entries.map(|entry| entry.path().display().to_string()).collect()
    }
}

fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

/// An image of layers: each archive, its media type, and how it is packed.
fn image(registry: &Hostile, name: &str, layers: &[(&[u8], &str, Vec<u8>)]) -> (String, Value) {
    let ids: Vec<String> = layers.iter().map(|(plain, _, _)| digest(plain)).collect();
    let config = json!({"architecture": architecture(), "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": ids}});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": registry.blob(CONFIG, config.to_string().as_bytes()),
        "layers": layers.iter().map(|(_, kind, packed)| registry.blob(kind, packed)).collect::<Vec<_>>()});
    registry.manifest(name, "1", MANIFEST, &manifest)
}

pub(super) fn plain_image(registry: &Hostile, name: &str, content: &[u8]) -> (String, String) {
    let layer = tar("file", content);
    let (reference, _) = image(registry, name, &[(&layer, LAYER, layer.clone())]);
    (reference, digest(&layer))
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7u64;
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn docker_and_oci_layers_of_every_packing_are_stacked() {
    let (registry, store) = (Hostile::start(), Store::new().await);
    let plain: Vec<Vec<u8>> = (0..4).map(|n| tar(&format!("file-{n}"), &[n])).collect();
    let zstd = zstd::encode_all(&plain[2][..], 1).unwrap();
    // zstd:chunked ends with a skippable frame that holds a table of contents.
    let mut chunked = zstd::encode_all(&plain[3][..], 1).unwrap();
    chunked.extend([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
    let layers = [
        (&plain[0][..], LAYER, plain[0].clone()),
        (
            &plain[1][..],
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            gzip(&plain[1]),
        ),
        (&plain[2][..], "application/vnd.oci.image.layer.v1.tar+zstd", zstd),
        (
            &plain[3][..],
            "application/vnd.oci.image.layer.v1.tar+zstd",
            chunked,
        ),
    ];
    let (name, _) = image(&registry, "many", &layers);
    let found = store.pull(&name).await.unwrap();
    let ImageKind::Oci { layers } = &found.kind else {
        panic!("{found:?}")
    };
    for (number, id) in layers.iter().enumerate() {
        let file = store.images.layer_path(id).join(format!("file-{number}"));
        assert_eq!(std::fs::read(file).unwrap(), [number as u8]);
    }
    assert_eq!(store.images.find(&found.digest).await.unwrap().unwrap(), found);
    // By tag and digest, and by digest alone.
    for by in [
        format!("{name}@{}", found.digest),
        format!("{}/many@{}", registry.address, found.digest),
    ] {
        assert_eq!(store.pull(&by).await.unwrap().digest, found.digest, "{by}");
    }
    let wrong = format!("{name}@{}", digest(b"else"));
    assert!(matches!(
        store.pull(&wrong).await,
        Err(ImageError::NotFound { .. })
    ));
}

#[tokio::test]
async fn an_index_within_an_index_is_descended() {
    let (registry, store) = (Hostile::start(), Store::new().await);
    let layer = tar("file", b"right");
    let (_, mut right) = image(&registry, "app", &[(&layer, LAYER, layer.clone())]);
    right["platform"] = json!({"os": "linux", "architecture": architecture()});
    let wrong =
        json!({"digest": digest(b"w"), "size": 1, "platform": {"os": "windows", "architecture": "amd64"}});
    let wasm = json!({"digest": digest(b"s"), "size": 1, "platform": {"os": "wasi", "architecture": "wasm"}});
    let inner = json!({"schemaVersion": 2, "manifests": [wrong, wasm, right]});
    let (_, inner) = registry.manifest("app", "inner", INDEX, &inner);
    let (name, outer) = registry.manifest(
        "app",
        "outer",
        INDEX,
        &json!({"schemaVersion": 2, "manifests": [inner]}),
    );
    let found = store.pull(&name).await.unwrap();
    assert_eq!(found.digest, outer["digest"].as_str().unwrap());
    let ImageKind::Oci { layers } = &found.kind else {
        panic!("{found:?}")
    };
    assert_eq!(
        std::fs::read(store.images.layer_path(&layers[0]).join("file")).unwrap(),
        b"right"
    );
}

#[tokio::test]
async fn what_breaks_off_goes_on_where_it_ended() {
    let (registry, store) = (Hostile::start(), Store::new().await);
    let (name, layer) = plain_image(&registry, "app", &noise(300_000));
    registry.fail(&layer, &[Fault::BreakAfter(100_000), Fault::BreakAfter(70_000)]);
    store.pull(&name).await.unwrap();
    let asked: Vec<String> = registry
        .requests()
        .into_iter()
        .filter(|r| r.contains(&layer))
        .collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(
        asked[1].ends_with("bytes=100000-") && asked[2].ends_with("bytes=170000-"),
        "{asked:?}"
    );
    assert_eq!(store.left().len(), 1, "the layer alone: {:?}", store.left());
}

#[tokio::test]
async fn a_later_pull_takes_up_what_an_earlier_one_has_left() {
    let (registry, store) = (Hostile::start(), Store::new().await);
    let (name, layer) = plain_image(&registry, "app", &noise(300_000));
    registry.fail(
        &layer,
        &[
            Fault::BreakAfter(200_000),
            Fault::Hang,
            Fault::Hang,
            Fault::Hang,
            Fault::Hang,
        ],
    );
    let begin = Instant::now();
    let error = store.pull(&name).await.unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(30), "bounded");
    store.pull(&name).await.unwrap();
    let last = registry.requests().pop().unwrap();
    assert!(last.ends_with("bytes=200000-"), "{last}");
}

#[tokio::test]
async fn busy_registries_are_asked_again_as_they_wish_and_redirects_are_followed() {
    let (registry, store) = (Hostile::start(), Store::new().await);
    let (name, layer) = plain_image(&registry, "app", b"content");
    registry.fail(
        "manifests",
        &[Fault::Status(429, Some("1")), Fault::Status(503, None)],
    );
    registry.fail(&layer, &[Fault::Status(500, None), Fault::Redirect]);
    let begin = Instant::now();
    store.pull(&name).await.unwrap();
    assert!(
        begin.elapsed() >= Duration::from_secs(2),
        "a second for 429, one for 503"
    );
    assert!(
        registry
            .requests()
            .iter()
            .any(|request| request.starts_with("/elsewhere/v2/app/blobs"))
    );
    // One that asks for an hour makes the pod wait, not the pull.
    let (name, _) = plain_image(&registry, "hour", b"other");
    registry.fail("hour/manifests", &[Fault::Status(429, Some("3600"))]);
    let error = store.pull(&name).await.unwrap_err();
    assert!(error.to_string().contains("429"), "{error}");
}

#[tokio::test]
async fn lies_about_size_and_digest_leave_nothing_behind() {
    let (registry, store) = (Hostile::start(), Store::new().await);
    let (name, layer) = plain_image(&registry, "app", &noise(100_000));
    for (fault, words) in [
        (Fault::OtherBytes, "expected sha256:"),
        (Fault::TooMany, "by its manifest, the registry sends"),
    ] {
        registry.fail(&layer, std::slice::from_ref(&fault));
        let error = store.pull(&name).await.unwrap_err();
        assert!(
            matches!(error, ImageError::Unusable(_)) && error.to_string().contains(words),
            "{fault:?}: {error}"
        );
        assert!(store.left().is_empty(), "{fault:?}: {:?}", store.left());
    }
    // A layer whose content is not what the configuration says.
    let (right, wrong) = (tar("file", b"right"), tar("file", b"wrong"));
    let (name, _) = image(&registry, "other", &[(&right, LAYER, wrong)]);
    assert!(
        store
            .pull(&name)
            .await
            .unwrap_err()
            .to_string()
            .contains("its image says")
    );
    assert!(store.left().is_empty(), "{:?}", store.left());
}

#[tokio::test]
async fn one_that_hangs_holds_up_nobody_else() {
    let (registry, store) = (Hostile::start(), Store::new().await);
    let (stuck, layer) = plain_image(&registry, "stuck", b"stuck");
    let (free, _) = plain_image(&registry, "free", b"free");
    registry.fail(&layer, &vec![Fault::Drip(Duration::from_millis(3)); 8]);
    let (stuck, free) = tokio::join!(store.pull(&stuck), async {
        let begin = Instant::now();
        store.pull(&free).await.unwrap();
        begin.elapsed()
    });
    assert!(free < Duration::from_secs(4), "{free:?}");
    // 2 KiB, a byte every 3 ms: slow, but it comes.
    stuck.unwrap();
}

#[tokio::test]
async fn credentials_are_tried_in_order() {
    for door in [Door::Basic, Door::Bearer] {
        let (registry, store) = (Hostile::start(), Store::new().await);
        let (name, _) = plain_image(&registry, "app", b"content");
        registry.close(door, "user", "right");
        let user = |password: &str| Attempt {
            credentials: Some(Credentials {
                username: "user".to_owned(),
                password: password.to_owned(),
            }),
            note: Some(password.to_owned()),
        };
        let error = store.pull(&name).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ImageError::Denied(_)), "{text}");
        for words in [
            "failed to resolve reference",
            "pull access denied, repository does not exist or may require authorization",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(store.images.pull(&name, &[user("wrong")]).await.is_err());
        let attempts = [user("wrong"), user("right")];
        let image = store.images.pull(&name, &attempts).await.unwrap();
        // It is noted whose attempt it was, and who else might have made it.
        let repository = Images::repository(&name).unwrap();
        assert_eq!(image.pulled_by[&repository], ["right"]);
        store.images.note(&image.digest, &name, "other").await.unwrap();
        store.images.note(&image.digest, &name, "right").await.unwrap();
        let found = store.images.find(&name).await.unwrap().unwrap();
        assert_eq!(found.pulled_by[&repository], ["other", "right"]);
    }
}

#[tokio::test]
async fn bombs_are_refused_by_name_and_leave_nothing() {
    let (registry, store) = (Hostile::start(), Store::new().await);
    // Two GiB of zeros in two MiB, behind a header that tells of them.
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(2 << 30);
    header.set_cksum();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(header.as_bytes()).unwrap();
    std::io::copy(
        &mut std::io::Read::take(std::io::repeat(0), 16 << 20),
        &mut encoder,
    )
    .unwrap();
    let bomb = encoder.finish().unwrap();
    let (name, _) = image(&registry, "bomb", &[(b"whatever", LAYER, bomb)]);
    let text = store.pull(&name).await.unwrap_err().to_string();
    assert!(
        text.contains("more than its limit") && text.contains("200 times"),
        "{text}"
    );
    assert!(store.left().is_empty(), "{:?}", store.left());
}

const LOCKED: &str = "application/vnd.fermyon.spin.application.v1+config";
const DATA: &str = "application/vnd.wasm.content.layer.v1+data";
const ARCHIVE: &str = "application/vnd.wasm.content.bundle.v1.tar+gzip";
const PROGRAM: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// A Spin application of two components, one with files in each form that Spin packs them.
fn spin_app(registry: &Hostile, locked_as_config: bool, extra: Value) -> String {
    let (one, two) = (b"\0asm one".to_vec(), b"\0asm two".to_vec());
    let archived = b"archived content".to_vec();
    let mut layers = vec![
        registry.blob(PROGRAM, &one),
        registry.blob(PROGRAM, &two),
        registry.blob(DATA, b"a data layer"),
        registry.blob(ARCHIVE, &gzip(&tar("sub/packed.txt", &archived))),
    ];
    let mut locked = json!({"spin_lock_version": 1, "metadata": {"name": "app"},
        "triggers": [
            {"id": "1", "trigger_type": "http", "trigger_config": {"component": "one", "route": "/..."}},
            {"id": "2", "trigger_type": "http", "trigger_config": {"component": "two", "route": "/two"}}],
        "components": [
            {"id": "one", "source": {"content_type": "application/wasm", "digest": digest(&one)}, "env": {"A": "1"},
             "metadata": {"allowed_outbound_hosts": ["https://example.com"]},
             "files": [
                {"inline": "aW5saW5l", "digest": digest(b"inline"), "path": "small.txt"},
                {"digest": digest(b"a data layer"), "path": "dir/data.txt"},
                {"digest": digest(&archived), "path": "packed.txt"}]},
            {"id": "two", "source": {"content_type": "application/wasm", "digest": digest(&two)}}]});
    for (key, value) in extra.as_object().unwrap() {
        locked[key] = value.clone();
    }
    let locked = locked.to_string();
    let config = if locked_as_config {
        registry.blob(LOCKED, locked.as_bytes())
    } else {
        layers.push(registry.blob(LOCKED, locked.as_bytes()));
        registry.blob(
            CONFIG,
            br#"{"architecture": "wasm", "os": "Wasip1", "rootfs": {"type": "layers", "diff_ids": []}}"#,
        )
    };
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    registry.manifest("spin", "1", MANIFEST, &manifest).0
}

#[tokio::test]
async fn spin_applications_of_both_forms_are_taken_apart() {
    for locked_as_config in [true, false] {
        let (registry, store) = (Hostile::start(), Store::new().await);
        let found = store
            .pull(&spin_app(&registry, locked_as_config, json!({})))
            .await
            .unwrap();
        let ImageKind::App { components } = &found.kind else {
            panic!("{found:?}")
        };
        let [one, two] = &components[..] else {
            panic!("{components:?}")
        };
        assert_eq!(
            (one.id.as_str(), &one.routes[..]),
            ("one", &["/...".to_owned()][..])
        );
        assert_eq!((two.routes[0].as_str(), two.files.as_ref()), ("/two", None));
        assert_eq!(one.allowed_outbound_hosts, ["https://example.com"]);
        let files = one.files.as_ref().unwrap();
        for (name, content) in [
            ("small.txt", "inline"),
            ("dir/data.txt", "a data layer"),
            ("packed.txt", "archived content"),
        ] {
            assert_eq!(
                std::fs::read_to_string(files.join(name)).unwrap(),
                content,
                "{name}"
            );
        }
        assert_eq!(std::fs::read(&two.module).unwrap(), b"\0asm two");
        // It stays as long as it has a name, and not longer.
        store.images.collect(&[]).await.unwrap();
        assert!(files.join("small.txt").is_file());
        store.images.remove(&found.references[0]).await.unwrap();
        store.images.remove_digest(&found.digest).await.unwrap();
        assert!(!files.exists() && store.left().is_empty(), "{:?}", store.left());
    }
}

#[tokio::test]
async fn spin_applications_that_ask_for_more_are_refused_by_name() {
    let (registry, store) = (Hostile::start(), Store::new().await);
    let redis = json!({"triggers": [{"id": "r", "trigger_type": "redis", "trigger_config": {}}]});
    let text = store
        .pull(&spin_app(&registry, false, redis))
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("\"redis\" is not supported"), "{text}");
    assert!(store.left().is_empty(), "{:?}", store.left());
}

/// A small disk of its own, gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(&self, options: &str, flags: nix::mount::MsFlags) {
        nix::mount::mount(Some("tmpfs"), self.0.path(), Some("tmpfs"), flags, Some(options)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_told_of_and_later_there_is_room() {
    use nix::mount::MsFlags;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
        return;
    }
    let disk = SmallDisk(tempfile::tempdir().unwrap());
    disk.mount("size=3m", MsFlags::empty());
    let dir = disk.0.path().join("images");
    let images = Images::open(ImagesConfig::new(dir.clone())).await.unwrap();
    let registry = Hostile::start();
    let (large, _) = plain_image(&registry, "large", &noise(4 << 20));
    let zeros = tar("zeros", &vec![0; 8 << 20]);
    let (unpacks_large, _) = image(&registry, "zeros", &[(&zeros, LAYER, gzip(&zeros))]);
    for (name, words) in [
        (&large, "bytes are needed"),
        (&unpacks_large, "a layer unpacks to more than"),
    ] {
        let error = images.pull(name, &[]).await.unwrap_err();
        assert!(matches!(error, ImageError::Io { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("no space left for images") && text.contains(words),
            "{text}"
        );
        for sub in ["tmp", "layers"] {
            assert_eq!(
                std::fs::read_dir(dir.join(sub)).unwrap().count(),
                0,
                "{sub} after {name}"
            );
        }
    }
    disk.mount("size=64m", MsFlags::MS_REMOUNT);
    for name in [&large, &unpacks_large] {
        images.pull(name, &[]).await.unwrap();
    }
}

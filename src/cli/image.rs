//! `image`: what this machine has to run, with or without a running node.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::DataDir;

#[derive(Args)]
pub(super) struct ImageArgs {
    #[command(subcommand)]
    verb: ImageVerb,
}

#[derive(Subcommand)]
enum ImageVerb {
    /// Read an image from a file: OCI archive, docker archive, root file system tar, or .wasm
    #[command(after_help = "\
Examples:
  coracle image import app-oci.tar
  coracle image import rootfs.tar --name local/tools:1 --entrypoint /bin/sh
  coracle image import hello.wasm --name local/hello:1")]
    Import {
        /// The file
        file: PathBuf,
        /// Name to give the image; needed where the file carries none
        #[arg(long)]
        name: Option<String>,
        /// Program of a root file system; give it again for each argument
        #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
        entrypoint: Vec<String>,
        #[command(flatten)]
        data_dir: DataDir,
    },
    /// List the images
    List {
        #[command(flatten)]
        data_dir: DataDir,
    },
    /// Forget images by name
    Remove {
        /// Names, as `list` shows them
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        data_dir: DataDir,
    },
}

#[cfg(not(feature = "oci"))]
pub(super) fn run(_args: ImageArgs) -> anyhow::Result<()> {
    anyhow::bail!("this coracle was built without images (feature `oci`)")
}

#[cfg(feature = "oci")]
pub(super) fn run(args: ImageArgs) -> anyhow::Result<()> {
    super::once::block_on(async {
        match args.verb {
            ImageVerb::Import {
                file,
                name,
                entrypoint,
                data_dir,
            } => {
                import(
                    &open(&data_dir).await?,
                    &file,
                    oci::ImportOptions { name, entrypoint },
                )
                .await
            }
            ImageVerb::List { data_dir } => list(&open(&data_dir).await?).await,
            ImageVerb::Remove { names, data_dir } => remove(&open(&data_dir).await?, &names).await,
        }
    })
}

#[cfg(feature = "oci")]
async fn open(data_dir: &DataDir) -> anyhow::Result<oci::Images> {
    let dir = data_dir.data_dir.join("images");
    Ok(oci::Images::open(oci::ImagesConfig::new(dir)).await?)
}

#[cfg(feature = "oci")]
async fn import(
    images: &oci::Images,
    file: &std::path::Path,
    options: oci::ImportOptions,
) -> anyhow::Result<()> {
    use anyhow::Context;

    let bar = indicatif::ProgressBar::new_spinner();
    bar.set_message(format!("importing {}", file.display()));
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let imported = images.import(file, options).await;
    bar.finish_and_clear();
    let imported = imported.with_context(|| format!("cannot import {}", file.display()))?;
    for image in imported {
        println!("imported {} ({})", image.references.join(", "), image.digest);
    }
    Ok(())
}

#[cfg(feature = "oci")]
async fn list(images: &oci::Images) -> anyhow::Result<()> {
    let images = images.list().await?;
    if images.is_empty() {
        println!("no images yet: `coracle image import FILE` brings one in");
        return Ok(());
    }
    let names = |image: &oci::Image| image.references.join(",");
    let width = images
        .iter()
        .map(|image| names(image).len())
        .max()
        .unwrap_or(0)
        .max(4);
    println!("{:width$}  {:5}  {:19}  {:>10}", "NAME", "KIND", "DIGEST", "SIZE");
    for image in images {
        let kind = match image.kind {
            oci::ImageKind::Oci { .. } => "oci",
            oci::ImageKind::Wasm { .. } => "wasm",
            oci::ImageKind::App { .. } => "app",
        };
        let digest: String = image.digest.chars().take(19).collect();
        let size = indicatif::HumanBytes(image.size_bytes).to_string();
        println!("{:width$}  {kind:5}  {digest:19}  {size:>10}", names(&image));
    }
    Ok(())
}

#[cfg(feature = "oci")]
async fn remove(images: &oci::Images, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        anyhow::ensure!(
            images.remove(name).await?,
            "there is no image {name}: see `coracle image list`"
        );
        println!("removed {name}");
    }
    Ok(())
}

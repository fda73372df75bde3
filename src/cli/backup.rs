//! `backup` and `restore`: a cluster as one file.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use apiserver::pki;
use clap::{Args, Subcommand};
use store::{BackupAbout, StoreConfig};

use super::DataDir;
use super::servers::Access;
use crate::folder::Folder;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct BackupArgs {
    #[command(subcommand)]
    verb: Option<BackupVerb>,
    /// The file to write; it must not exist
    #[arg(required = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

#[derive(Subcommand)]
enum BackupVerb {
    /// Check a file that was written earlier: whether it is whole, and what is in it
    Verify {
        /// The file
        file: PathBuf,
    },
}

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// The file that `coracle backup` wrote
    file: PathBuf,
    #[command(flatten)]
    data_dir: DataDir,
}

pub(super) fn backup(args: BackupArgs) -> anyhow::Result<()> {
    match (args.verb, args.file) {
        (Some(BackupVerb::Verify { file }), _) => verify(&file),
        (None, Some(file)) => write(&file, &args.access),
        // The parser lets nobody come here.
        (None, None) => bail!("name a file"),
    }
}

fn verify(file: &Path) -> anyhow::Result<()> {
    let about = verified(file)?;
    if let Some(missing) = pki::missing_of(&about.files) {
        bail!(
            "{} lacks the cluster's {missing}: use another one",
            file.display()
        );
    }
    println!("{}: whole, {}", file.display(), told(&about));
    Ok(())
}

fn write(file: &Path, access: &Access) -> anyhow::Result<()> {
    if file.exists() {
        bail!("{} exists already: name a new file", file.display());
    }
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let done = fetch(access, &unfinished).and_then(|about| {
        std::fs::rename(&unfinished, file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(about)
    });
    match done {
        Ok(about) => {
            let bytes = std::fs::metadata(file).map_or(0, |file| file.len());
            println!("{}: {} bytes, {}", file.display(), bytes, told(&about));
            println!("it holds the cluster's keys: keep it as you keep those");
            Ok(())
        }
        Err(error) => {
            // It may not have been made at all.
            let _ = std::fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

/// Writes a backup to a file and reads it back.
fn fetch(access: &Access, path: &Path) -> anyhow::Result<BackupAbout> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let file = opened.with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    super::once::block_on(async { access.open()?.reachable().await?.0.backup(&mut out).await })?;
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error);
    let synced = file.and_then(|file| file.sync_all());
    synced.with_context(|| format!("cannot write {}", path.display()))?;
    verified(path)
}

fn verified(path: &Path) -> anyhow::Result<BackupAbout> {
    let about = store::verify_backup(BufReader::new(open(path)?));
    about.with_context(|| format!("cannot use {}", path.display()))
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(super) fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let file = &args.file;
    // Before anything is touched.
    verified(file)?;
    let folder = Folder::open(&args.data_dir.data_dir)?;
    let config = StoreConfig::new(&folder.path);
    let about = store::restore(&config, BufReader::new(open(file)?))
        .with_context(|| format!("cannot restore into {}", folder.path.display()))?;
    pki::take_over(&folder.path, &about.files)?;
    println!("{}: restored, {}", folder.path.display(), told(&about));
    println!(
        "start it with the settings that the cluster had; servers of the old cluster must stay off, \
         and join it anew with empty folders"
    );
    Ok(())
}

fn told(about: &BackupAbout) -> String {
    let made = i64::try_from(about.made_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let made = made.map_or_else(String::new, |at| format!(", made at {at:.0}"));
    format!(
        "revision {}, {} versions of objects{made}",
        about.revision, about.versions
    )
}

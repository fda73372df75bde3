//! Unpacks an image (an OCI layout's folder or archive, a docker archive) into
//! a fresh store and says what it took, for comparing with `umoci unpack`:
//!
//! ```text
//! cargo run --release -p coracle-oci --example unpack -- LAYOUT-OR-ARCHIVE [STORE]
//! ```

use std::path::PathBuf;
use std::time::Instant;

use coracle_oci::{Images, ImagesConfig, ImportOptions};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let source = args.next().ok_or("which image? give an OCI layout or an archive")?;
    let temporary = std::env::temp_dir().join(format!("coracle-unpack-{}", std::process::id()));
    let (store, is_temporary) = args.next().map_or((temporary, true), |dir| (dir, false));
    let images = Images::open(ImagesConfig::new(store.clone())).await?;
    let options = ImportOptions {
        name: Some("local/unpacked:1".to_owned()),
        ..ImportOptions::default()
    };
    let begin = Instant::now();
    let imported = images.import(&source, options).await;
    let took = begin.elapsed();
    let used = getrusage(UsageWho::RUSAGE_SELF)?;
    if is_temporary {
        std::fs::remove_dir_all(&store)?;
    }
    let packed: u64 = imported?.iter().map(|image| image.size_bytes).sum();
    println!(
        "{packed} bytes packed: wall {} ms, user {} ms, system {} ms",
        took.as_millis(),
        used.user_time().num_milliseconds(),
        used.system_time().num_milliseconds()
    );
    Ok(())
}

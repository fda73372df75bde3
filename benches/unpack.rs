//! Unpacking an image of many files into a fresh store, beside `umoci unpack`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use kit::process;
use kit::sandbox::run;
use kit::table::{self, median, mib, ms, range};

const FILES: usize = 4000;

/// Prints the table.
pub fn measure(bin: &Path, scratch: &Path, runs: usize) -> anyhow::Result<()> {
    let layout = layout(scratch)?;
    let archive = crate::backend::pack(&layout, &scratch.join("image.tar"))?;
    let mut series = [
        ("coracle image import", vec![], vec![]),
        ("umoci unpack", vec![], vec![]),
    ];
    for turn in 0..=runs {
        for (at, (_, wall, cpu)) in series.iter_mut().enumerate() {
            let target = scratch.join(format!("out-{at}-{turn}"));
            let (before, began) = (process::cpu(std::process::id()), Instant::now());
            match at {
                0 => ours(bin, &archive, &target)?,
                _ => umoci(&layout, &target)?,
            }
            // The first fills the page cache.
            if turn > 0 {
                wall.push(ms(began.elapsed()));
                cpu.push(ms(process::cpu(std::process::id()) - before));
            }
            std::fs::remove_dir_all(&target)?;
        }
    }
    let size = mib(std::fs::metadata(&archive)?.len());
    let rows = series.iter().map(|(name, wall, cpu)| {
        let (wall_median, cpu_median) = (median(wall), median(cpu));
        vec![
            (*name).to_owned(),
            format!("{wall_median:.0} ms"),
            range(wall),
            format!("{cpu_median:.0} ms"),
        ]
    });
    table::print(
        &format!("Unpacking an image of {FILES} files (gzip, {size:.0} MiB packed), {runs} times in turns"),
        &["program", "wall, median", "range", "CPU"],
        &rows.collect::<Vec<_>>(),
    );
    Ok(())
}

/// An OCI layout with one gzip layer of files of all sizes, made by umoci.
fn layout(scratch: &Path) -> anyhow::Result<PathBuf> {
    let (layout, root) = (scratch.join("layout"), scratch.join("files"));
    for number in 0..FILES {
        let folder = root.join(format!("usr/share/part-{}", number % 97));
        std::fs::create_dir_all(&folder)?;
        let mut file = std::fs::File::create(folder.join(format!("file-{number}")))?;
        // Half text that packs well, half noise that does not, up to 64 KiB.
        let (length, mut state) = ((number * 7919) % 65_536, number as u64 + 1);
        let body: Vec<u8> = (0..length)
            .map(|at| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if number % 2 == 0 {
                    b"a line of text\n"[at % 15]
                } else {
                    (state >> 33) as u8
                }
            })
            .collect();
        file.write_all(&body)?;
    }
    let path = |path: &Path| path.display().to_string();
    let image = format!("{}:1", path(&layout));
    run("umoci", &["init", "--layout", &path(&layout)]).context("umoci (Debian package umoci)")?;
    run("umoci", &["new", "--image", &image])?;
    run(
        "umoci",
        &["insert", "--image", &image, &path(&root.join("usr")), "/usr"],
    )?;
    Ok(layout)
}

fn ours(bin: &Path, archive: &Path, target: &Path) -> anyhow::Result<()> {
    let output = Command::new(bin)
        .args(["image", "import"])
        .arg(archive)
        .args(["--name", "local/many:1", "--data-dir"])
        .arg(target)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn umoci(layout: &Path, target: &Path) -> anyhow::Result<()> {
    let image = format!("{}:1", layout.display());
    run(
        "umoci",
        &["unpack", "--image", &image, &target.display().to_string()],
    )
}

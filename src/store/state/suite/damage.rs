//! Files of the state in which bits have flipped: what can still be read is right, and the rest is refused.

use std::path::Path;

use super::*;

/// How many bits flip in each file, one after the other.
const FLIPS: u64 = 12;

/// Everything that one can ask, in text; none for what is refused.
type Answers = [Option<String>; 5];

fn said<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Option<String> {
    answer.ok().map(|answer| format!("{answer:?}"))
}

fn copied(state: &dyn State) -> Result<Vec<Version>, StoreError> {
    let (mut export, mut all) = (state.export()?, vec![]);
    loop {
        match export.next()? {
            portion if portion.is_empty() => return Ok(all),
            portion => all.extend(portion),
        }
    }
}

fn answers(state: &dyn State, meta: &Meta) -> Answers {
    let middle = meta.compacted.midpoint(meta.revision);
    [
        said(state.load()),
        said(state.list_at(&ListQuery::default(), middle)),
        said(state.events("", meta.compacted, meta.revision, usize::MAX)),
        said(state.expired(u64::MAX, usize::MAX)),
        said(copied(state)),
    ]
}

/// Whether something is refused of what is in a folder. All that is not must be as it was when the state had applied as
/// much as it says: whoever finds less there than it should be has the log, which says so.
fn refuses(dir: &Path, known: &BTreeMap<u64, (Meta, Answers)>) -> bool {
    let Ok(state) = Rocks::open(dir) else { return true };
    let Ok(meta) = state.meta() else { return true };
    let Some(meta) = meta else {
        assert!(state.load().is_ok_and(|entries| entries.is_empty()));
        return true;
    };
    let (then, before) = known.get(&meta.applied).expect("what was applied at a flush");
    assert_eq!(&meta, then);
    let now = answers(&state, &meta);
    for (now, before) in now.iter().zip(before) {
        assert!(now.is_none() || now == before, "{now:?} was {before:?}");
    }
    let refuses = now.iter().any(Option::is_none);
    assert_eq!(state.damage().is_some(), refuses, "it is told");
    refuses
}

#[test]
fn what_a_damaged_file_still_says_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    let mut pair = Pair::new(&whole, 11);
    let mut known = BTreeMap::new();
    for _ in 0..3 {
        (0..30).for_each(|_| pair.write(10));
        pair.compact();
        let applied = pair.rocks.flush().expect("a flush");
        known.insert(applied, (pair.meta.clone(), answers(&pair.rocks, &pair.meta)));
    }
    let Pair { rocks, random, .. } = pair;
    drop(rocks);
    let files = std::fs::read_dir(whole.join("state")).expect("files");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    // The rest says how the database was opened, or what it did.
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".sst") || name == "CURRENT" || name.starts_with("MANIFEST")
    });
    files.sort();
    let (mut flipped, mut refused) = (0, 0);
    for damaged in &files {
        for _ in 0..FLIPS {
            // Each time another one: a database that was not opened may still be tidying up its own.
            let copy = folder.path().join(format!("copy-{flipped}"));
            std::fs::create_dir_all(copy.join("state")).expect("a folder");
            for file in &files {
                let mut bytes = std::fs::read(file).expect("a file");
                if file == damaged {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << random.below(8);
                }
                let name = file.file_name().expect("a name");
                std::fs::write(copy.join("state").join(name), bytes).expect("a file");
            }
            flipped += 1;
            refused += usize::from(refuses(&copy, &known));
            // What is left goes with the whole folder.
            drop(std::fs::remove_dir_all(&copy));
        }
    }
    println!("{flipped} bits flipped, {refused} were noticed");
    assert!(refused > flipped / 2, "{refused} of {flipped}");
}

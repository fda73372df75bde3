//! The log over a simulated disk: crashes, damage, recycling.

use base::{Random, SeededRandom};

use super::*;
use crate::plant::Plants;
use crate::simulator::disk::{Crash, SimDisk, TROUBLES, Trouble};

const SEGMENT: u64 = 4096;

fn identity() -> Identity {
    Identity {
        log: 11,
        cluster: 22,
        member: 33,
        founder: true,
    }
}

fn create(disk: &SimDisk) -> Log {
    Log::create(Arc::new(disk.clone()), identity(), SEGMENT).expect("a new log")
}

fn open(disk: &SimDisk, applied: u64) -> Result<(Log, Recovered), StoreError> {
    Ok(Log::open(Arc::new(disk.clone()), SEGMENT, applied, Plants::default())?.expect("a log is there"))
}

fn entry(index: u64, size: usize) -> Entry {
    Entry {
        index,
        term: 2,
        data: vec![index as u8; size],
        ..Entry::default()
    }
}

fn append(log: &mut Log, indexes: std::ops::RangeInclusive<u64>, size: usize) {
    let entries: Vec<_> = indexes.map(|index| entry(index, size)).collect();
    log.append(entries.iter(), None).expect("an append");
}

fn indexes(recovered: &Recovered) -> Vec<u64> {
    recovered.entries.iter().map(|entry| entry.index).collect()
}

fn recycle(log: &mut Log, disk: &SimDisk, index: u64) {
    for segment in log.release(index) {
        blank(disk, &segment).expect("blanking");
        log.reuse(segment).expect("reusing");
    }
}

#[test]
fn entries_and_hard_state_come_back() {
    let disk = SimDisk::default();
    let mut log = create(&disk);
    append(&mut log, 1..=3, 10);
    log.append(
        [].iter(),
        Some(HardState {
            term: 5,
            vote: 33,
            commit: 2,
        }),
    )
    .expect("an append");
    log.defer(HardState {
        term: 5,
        vote: 33,
        commit: 3,
    });
    let (log, recovered) = open(&disk, 1).expect("opening");
    assert_eq!((indexes(&recovered), recovered.last_index), (vec![2, 3], 3));
    assert_eq!((recovered.hard.term, recovered.hard.commit), (5, 2));
    assert_eq!(log.identity(), identity());
}

#[test]
fn a_new_log_begins_in_term_1_and_nothing_is_no_log() {
    let disk = SimDisk::default();
    assert!(Log::open(Arc::new(disk.clone()), SEGMENT, 0, Plants::default()).is_ok_and(|log| log.is_none()));
    create(&disk);
    assert_eq!(
        open(&disk, 0).map(|(_, recovered)| recovered.hard.term).ok(),
        Some(1)
    );
}

#[test]
fn segments_roll_and_huge_batches_fit() {
    let disk = SimDisk::default();
    let mut log = create(&disk);
    append(&mut log, 1..=1, 3000);
    append(&mut log, 2..=2, 3000);
    append(&mut log, 3..=3, 50_000);
    append(&mut log, 4..=4, 10);
    let (_, recovered) = open(&disk, 0).expect("opening");
    assert_eq!(indexes(&recovered), [1, 2, 3, 4]);
    assert_eq!(recovered.entries[2].data.len(), 50_000);
}

#[test]
fn a_torn_last_batch_is_cut_and_written_over() {
    for seed in 0..200 {
        let (disk, random) = (SimDisk::default(), SeededRandom::new(seed));
        let mut log = create(&disk);
        append(&mut log, 1..=2, 300);
        log.forget_sync = true;
        append(&mut log, 3..=5, 500);
        disk.crash(Crash::PowerCut, &random);
        let (mut log, recovered) = open(&disk, 0).expect("opening after a power cut");
        let found = indexes(&recovered);
        assert!(
            found == [1, 2] || found == [1, 2, 3, 4, 5],
            "a batch is there or not: {found:?}"
        );
        let next = recovered.last_index + 1;
        append(&mut log, next..=next, 100);
        let (_, recovered) = open(&disk, 0).expect("opening again");
        assert_eq!(recovered.last_index, next);
    }
}

#[test]
fn what_a_killed_process_wrote_is_made_durable_before_use() {
    let (disk, random) = (SimDisk::default(), SeededRandom::new(1));
    let mut log = create(&disk);
    log.forget_sync = true;
    append(&mut log, 1..=2, 300);
    disk.crash(Crash::Kill, &random);
    drop(open(&disk, 0).expect("opening after a kill"));
    disk.crash(Crash::PowerCut, &random);
    assert_eq!(
        open(&disk, 0).map(|(_, recovered)| recovered.last_index).ok(),
        Some(2)
    );
}

#[test]
fn a_flipped_byte_in_the_middle_names_file_and_offset() {
    let random = SeededRandom::new(5);
    for _ in 0..50 {
        let disk = SimDisk::default();
        let mut log = create(&disk);
        append(&mut log, 1..=1, 100);
        let start = log.offset;
        append(&mut log, 2..=2, 100);
        let end = log.offset;
        append(&mut log, 3..=3, 100);
        // Bytes of the frame that are not its padding.
        disk.flip("00000001.log", (start + random.below(end - 7 - start)) as usize);
        match open(&disk, 0).map(drop) {
            Err(StoreError::Damaged { file, offset, .. }) => {
                assert!(file.ends_with("00000001.log"));
                assert_eq!(offset, start);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn damage_in_an_earlier_segment_and_in_headers_is_noticed() {
    let filled = || {
        let disk = SimDisk::default();
        let mut log = create(&disk);
        (1..=8).for_each(|index| append(&mut log, index..=index, 1500));
        assert!(log.live.len() >= 3);
        disk
    };
    let named = |disk: &SimDisk, applied, name: &str| match open(disk, applied) {
        Err(StoreError::Damaged { file, .. }) => assert!(file.ends_with(name), "{}", file.display()),
        other => panic!("{name}: {:?}", other.map(drop)),
    };
    // The last batch of a segment that is not the last one; also where nobody needs it any more but a witness.
    for applied in [0, 8] {
        let disk = filled();
        disk.flip("00000001.log", HEADER_BYTES + 1600);
        named(&disk, applied, "00000001.log");
    }
    // A header in the middle, and at the end.
    for name in filled().list().expect("names") {
        let disk = filled();
        disk.flip(&name, 30);
        named(&disk, 0, &name);
    }
}

#[test]
fn recycled_segments_do_not_bring_old_entries_back() {
    let disk = SimDisk::default();
    let mut log = create(&disk);
    let mut last = 0;
    for round in 0..40u64 {
        append(&mut log, last + 1..=last + 3, 400 + 37 * (round as usize % 7));
        last += 3;
        if round % 2 == 0 {
            recycle(&mut log, &disk, last - 2);
        }
        let (_, recovered) = open(&disk, last - 2).expect("opening");
        assert_eq!(indexes(&recovered), [last - 1, last]);
    }
    assert!(disk.list().expect("names").len() <= 6, "files are used again");
}

#[test]
fn a_missing_beginning_is_noticed() {
    let disk = SimDisk::default();
    let mut log = create(&disk);
    (1..=8).for_each(|index| append(&mut log, index..=index, 1500));
    recycle(&mut log, &disk, 5);
    assert!(open(&disk, 5).is_ok());
    assert!(matches!(open(&disk, 0), Err(StoreError::Damaged { .. })));
}

#[test]
fn an_entry_at_an_old_index_replaces_what_followed() {
    let disk = SimDisk::default();
    let mut log = create(&disk);
    append(&mut log, 1..=5, 10);
    append(&mut log, 3..=3, 20);
    let (_, recovered) = open(&disk, 0).expect("opening");
    assert_eq!(indexes(&recovered), [1, 2, 3]);
    assert_eq!(recovered.entries[2].data.len(), 20);
}

#[test]
fn another_format_is_named() {
    let disk = SimDisk::default();
    create(&disk);
    // Version 3, with the checksum that goes with it.
    let mut header = disk.bytes("00000001.log")[..HEADER_BYTES].to_vec();
    header[8] = 3;
    let crc = crc32fast::hash(&header[..HEADER_BYTES - 4]).to_le_bytes();
    header[HEADER_BYTES - 4..].copy_from_slice(&crc);
    let file = disk.open("00000001.log").expect("the file");
    file.write_at(0, &header).expect("a write");
    let error = open(&disk, 0).map(drop).expect_err("an unknown format");
    assert!(error.to_string().contains("log format 3 is not known"), "{error}");
}

/// A kill in the middle of blanking leaves a header that is blank only in the
/// page cache; a power cut later on must not bring it back.
#[test]
fn a_segment_that_was_seen_blank_stays_blank() {
    let disk = SimDisk::default();
    let mut log = create(&disk);
    (1..=8).for_each(|index| append(&mut log, index..=index, 1500));
    let released = log.release(4);
    assert!(released.len() >= 2, "more than one segment to lose");
    let first = &released[0];
    first.file.write_at(0, &[0; HEADER_BYTES]).expect("a write");
    drop(log);
    let random = SeededRandom::new(1);
    disk.crash(Crash::Kill, &random);
    let (mut log, _) = open(&disk, 4).expect("opening after the kill");
    recycle(&mut log, &disk, 4);
    drop(log);
    for seed in 0..20 {
        disk.crash(Crash::PowerCut, &SeededRandom::new(seed));
        assert!(open(&disk, 4).is_ok(), "opening after the power cut");
    }
}

/// After a sync that failed nothing is written to that file any more, and what
/// was synced in it before is in the next one too.
#[test]
fn a_failed_sync_gives_the_segment_up() {
    let (disk, random) = (SimDisk::default(), SeededRandom::new(3));
    let mut log = create(&disk);
    append(&mut log, 1..=2, 100);
    disk.trouble(Trouble::Sync, 2);
    let batch = [entry(3, 100)];
    assert!(log.append(batch.iter(), None).is_err());
    assert!(
        log.append(batch.iter(), None).is_err(),
        "the second one failed too"
    );
    let given_up = disk.bytes("00000001.log");
    log.append(batch.iter(), None).expect("the third one");
    append(&mut log, 4..=4, 100);
    assert_eq!(disk.bytes("00000001.log"), given_up);
    // Even without anything of the old segment all is there.
    disk.flip("00000001.log", 0);
    disk.crash(Crash::PowerCut, &random);
    let (_, recovered) = open(&disk, 0).expect("opening after a power cut");
    assert_eq!(indexes(&recovered), [1, 2, 3, 4]);
}

/// Troubles, kills and power cuts in any order: what was appended is there.
#[test]
fn no_trouble_loses_what_was_appended() {
    for seed in 0..300 {
        let (disk, random) = (SimDisk::default(), SeededRandom::new(seed));
        let mut log = create(&disk);
        let mut last = 0;
        for _ in 0..30 {
            match random.below(6) {
                0 => disk.trouble(TROUBLES[random.below(4) as usize], 1 + random.below(3)),
                1 => {
                    let how = [Crash::Kill, Crash::PowerCut][random.below(2) as usize];
                    disk.crash(how, &random);
                    let (opened, recovered) = open(&disk, 0).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                    assert!(recovered.last_index >= last, "seed {seed}");
                    last = recovered.last_index;
                    log = opened;
                }
                _ => {
                    let batch = [entry(last + 1, random.below(900) as usize)];
                    if log.append(batch.iter(), None).is_ok() {
                        last += 1;
                    }
                }
            }
        }
    }
}

#[test]
fn what_follows_a_replaced_tail_is_read_back_after_a_restart() {
    let disk = SimDisk::default();
    let mut log = create(&disk);
    append(&mut log, 1..=4, 10);
    // Entry 4 goes, and comes again in the next segment.
    append(&mut log, 3..=3, 10);
    append(&mut log, 4..=8, 900);
    let has = |log: &Log| {
        (1..=8).all(|index| {
            let around = log.around(index).expect("a readable log").unwrap_or_default();
            around.iter().any(|entry| entry.index == index)
        })
    };
    assert!(has(&log), "before");
    drop(log);
    assert!(has(&open(&disk, 0).expect("the log").0), "after");
}

//! How RocksDB is told to go about it.

use rocksdb::statistics::StatsLevel;
use rocksdb::{BlockBasedOptions, Cache, DBCompactionStyle, LogLevel, Options, ReadOptions};

/// Flushes are triggered by the log's growth, which comes well before this.
const WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Memory is taken from the system in such pieces, per family.
const ARENA_BYTES: usize = 64 << 10;
/// Flushes and merges write in bites of this size.
const BITE_BYTES: u64 = 32 << 10;
/// After a bite they rest until this time has passed, in microseconds: on a machine with one processor to spare they
/// would keep it for a whole tick of the kernel, 4 ms, and whoever asks meanwhile waits.
const BITE_MICROSECONDS: i64 = 250;
/// What that comes to, a second: more than a node's disk is ever asked for.
const BITES_BYTES_PER_SECOND: i64 = BITE_BYTES as i64 * 1_000_000 / BITE_MICROSECONDS;
/// One in so many times it is the turn of those that are in less of a hurry (RocksDB's own figure).
const FAIRNESS: i32 = 10;
/// So many sorted files side by side are merged.
const RUNS_MAX: i32 = 16;

pub(super) fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(128);
    options.set_max_file_opening_threads(1);
    options.set_table_cache_num_shard_bits(2);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_writable_file_max_buffer_size(BITE_BYTES);
    options.set_ratelimiter(BITES_BYTES_PER_SECOND, BITE_MICROSECONDS, FAIRNESS);
    // Counters only: timers would cost time.
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    options.set_stats_persist_period_sec(0);
    // RocksDB's own log of doings, in the state folder: two short files.
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(256 << 10);
    options.set_max_manifest_file_size(4 << 20);
    // One thread writes; the concurrent variant would keep an arena per core.
    options.set_allow_concurrent_memtable_write(false);
    options
}

pub(super) fn family_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_arena_block_size(ARENA_BYTES);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    // Every version is written once and read hardly ever: merging files one by one as they come, level by
    // level, would write each of them three to five times more.
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_level_zero_file_num_compaction_trigger(RUNS_MAX);
    options
}

pub(super) fn scan_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    // Scans must not push out what point reads use.
    options.fill_cache(false);
    options
}

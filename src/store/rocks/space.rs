//! How much room a database takes, and giving room back.

use rocksdb::properties::PropName;
use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_LIVE_DATA_SIZE, TOTAL_SST_FILES_SIZE};
use rocksdb::statistics::Ticker;

use super::database::{Database, FAMILIES};
use crate::error::StoreError;
use crate::state::Usage;

impl Database {
    /// See [`State::usage`](crate::state::State::usage).
    pub fn usage(&self) -> Usage {
        let written = |ticker| self.options.get_ticker_count(ticker);
        Usage {
            bytes: self.sum(ESTIMATE_LIVE_DATA_SIZE) + self.sum(CUR_SIZE_ALL_MEM_TABLES),
            file_bytes: self.sum(TOTAL_SST_FILES_SIZE),
            written_bytes: written(Ticker::FlushWriteBytes) + written(Ticker::CompactWriteBytes),
        }
    }

    /// Merges all files into as few as can be, without what was deleted.
    pub fn defragment(&self) -> Result<(), StoreError> {
        self.flush()?;
        for name in FAMILIES {
            self.db
                .compact_range_cf(self.family(name)?, None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    /// A property of all families together.
    fn sum(&self, property: &PropName) -> u64 {
        let of = |name| {
            self.db
                .property_int_value_cf(self.family(name).ok()?, property)
                .ok()?
        };
        FAMILIES.into_iter().filter_map(of).sum()
    }
}

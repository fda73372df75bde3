//! What the threads beside the core do on a simulated machine: the log's writer, the upkeep, and what mends a disk that
//! takes nothing.

use std::time::Duration;

use base::Random;

use super::World;
use crate::driver;
use crate::plant::Plants;
use crate::raft::Job;
use crate::simulator::disk::TROUBLES;
use crate::simulator::tidy;

impl World {
    /// The disk below the log or the state takes nothing for a while.
    pub(super) fn trouble(&mut self) {
        let trouble = TROUBLES[self.random.below(4) as usize];
        match self.random.below(3) {
            0 => self.memory.refuse(1 + self.random.below(4)),
            _ => self.disk.trouble(trouble, 1 + self.random.below(4)),
        }
    }

    pub(super) fn chores(&mut self) {
        let (now_ms, before) = (self.now_ms, Duration::from_millis(self.now_ms));
        self.process()
            .core
            .chores(now_ms, before)
            .expect("chores over a simulated state");
        self.mend();
    }

    /// A turn of the upkeep thread.
    pub(super) fn upkeep(&mut self) {
        let (disk, plant) = (self.disk.clone(), self.plant);
        let process = self.process();
        let plants = Plants::one(plant);
        tidy(&*process.state, &process.cache, &process.log, &disk, plants);
    }

    /// The writer takes the jobs whose time has come as one group.
    pub(super) fn write_due(&mut self) {
        let step = self.step;
        let process = self.process();
        let due = process.jobs.iter().take_while(|(_, at)| *at <= step).count();
        let jobs: Vec<Job> = process.jobs.drain(..due).map(|(job, _)| job).collect();
        if !jobs.is_empty() {
            self.write(jobs);
        }
    }

    /// Writes jobs, or keeps them for another attempt.
    pub(super) fn write(&mut self, jobs: Vec<Job>) {
        let step = self.step;
        let process = self.process();
        match driver::write(&process.log, &jobs) {
            Ok(()) => {
                process.ailing = false;
                jobs.iter().for_each(|job| process.core.persisted(job.number));
            }
            Err(error) => {
                process.ailing = true;
                process.core.suspend(&error.to_string());
                let jobs = jobs.into_iter().rev();
                jobs.for_each(|job| process.jobs.push_front((job, step)));
                self.stats.suspended += 1;
            }
        }
        self.resume();
    }

    /// Tries once more what the state did not take.
    pub(super) fn mend(&mut self) {
        let process = self.process();
        if process.core.stuck() {
            let _ = process.state.renew();
            process.core.retry().expect("a simulated state");
        }
        self.resume();
    }

    fn resume(&mut self) {
        let process = self.process();
        if !process.ailing && !process.core.stuck() && process.core.suspended().is_some() {
            process.core.resume();
        }
    }
}

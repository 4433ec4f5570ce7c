//! What a worker keeps beside the entries of its connections, of services that ask for it: a number for each place in a
//! table. The control thread has it made before the first such service is published; until then it takes no memory.

use crate::arch::HugeSlice;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A director's tables, by which there is one of these: see [`Stats`](super::Stats).
pub const TABLES: usize = 3;

/// The numbers of one table. Only its worker reads and writes them.
#[derive(Default)]
pub struct Beside {
    numbers: OnceLock<HugeSlice<u64>>,
    asked: CachePadded<Mutex<Asked>>,
}

/// What has to be known before they are made.
#[derive(Default)]
struct Asked {
    /// Entries of the table; 0: there is none yet.
    entries: usize,
    is_wanted: bool,
    /// Where they are to be, if not in memory of the process.
    place: Option<HugeSlice<u64>>,
}

impl Beside {
    /// The bytes for each entry.
    pub const BYTES: usize = size_of::<AtomicU64>();

    /// There is a table with so many entries.
    pub fn set_entries(&self, entries: usize) {
        self.ask(|asked| asked.entries = entries);
    }

    /// A service is to be published that uses them.
    pub fn want(&self) {
        self.ask(|asked| asked.is_wanted = true);
    }

    /// As [`set_entries`](Self::set_entries), with memory for their numbers, all of them 0.
    pub(crate) fn set_place(&self, place: HugeSlice<u64>) {
        self.ask(|asked| (asked.entries, asked.place) = (place.len(), Some(place)));
    }

    fn ask(&self, what: impl FnOnce(&mut Asked)) {
        let mut asked = self.asked.lock();
        what(&mut asked);
        if !asked.is_wanted || asked.entries == 0 || self.numbers.get().is_some() {
            return;
        }
        let place = asked.place.take();
        let numbers = place.map_or_else(|| HugeSlice::new(0, asked.entries), Ok);
        // Without the memory they are not there, and connections that need them are not made.
        if let Ok(numbers) = numbers {
            let _ = self.numbers.set(numbers);
        }
    }

    /// The number of an entry; none while there are no numbers.
    #[inline]
    pub fn get(&self, entry: u32) -> Option<u64> {
        Some(self.cell(entry)?.load(Relaxed))
    }

    /// Sets the number of an entry, if there are numbers.
    #[inline]
    pub fn set(&self, entry: u32, number: u64) {
        if let Some(cell) = self.cell(entry) {
            cell.store(number, Relaxed);
        }
    }

    #[inline]
    fn cell(&self, entry: u32) -> Option<&AtomicU64> {
        self.numbers.get()?.atomics().get(entry as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_there_once_both_have_asked_in_either_order() {
        for table_first in [true, false] {
            let beside = Beside::default();
            let steps: [fn(&Beside); 2] = [|it| it.set_entries(3), |it| it.want()];
            let order = if table_first { [0, 1] } else { [1, 0] };
            for step in order {
                beside.set(0, 7);
                assert_eq!(beside.get(0), None);
                steps[step](&beside);
            }
            beside.set(2, 7);
            beside.set(3, 7);
            beside.want();
            let numbers = [0, 2, 3].map(|entry| beside.get(entry));
            assert_eq!(numbers, [Some(0), Some(7), None]);
        }
    }
}

//! The domain with real threads, and together with the map.

use super::domain;
use super::map::{Map, Snapshot};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Writes its number into a list when it is dropped.
struct Logged(u32, Arc<Mutex<Vec<u32>>>);

impl Drop for Logged {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

fn log() -> (Arc<Mutex<Vec<u32>>>, impl Fn(u32) -> Box<Logged>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    (Arc::clone(&log), move |number| {
        Box::new(Logged(number, Arc::clone(&log)))
    })
}

#[test]
fn a_reader_sees_a_new_value_at_its_next_quiescent_state() {
    let (mut publisher, mut readers) = domain(Box::new(1), 1);
    assert_eq!(publisher.generation().0, 1);
    assert_eq!(publisher.publish(Box::new(2)).0, 2);
    assert_eq!((*readers[0].read(), *publisher.current()), (1, 2));
    readers[0].quiescent();
    assert_eq!(*readers[0].read(), 2);
}

#[test]
fn old_values_are_freed_in_order_once_the_slowest_reader_has_left_them() {
    let (freed, value) = log();
    let (mut publisher, mut readers) = domain(value(1), 2);
    publisher.publish(value(2));
    publisher.publish(value(3));
    readers[0].quiescent();
    assert_eq!((publisher.reclaim(), publisher.pending()), (0, 2));
    assert_eq!(publisher.behind(), [1]);
    readers[1].quiescent();
    publisher.publish(value(4));
    assert_eq!((publisher.reclaim(), publisher.pending()), (2, 1));
    assert_eq!(*freed.lock().unwrap(), [1, 2]);
    drop(readers);
    assert_eq!(publisher.reclaim(), 1);
    drop(publisher);
    assert_eq!(*freed.lock().unwrap(), [1, 2, 3, 4]);
}

#[test]
fn without_readers_nothing_waits() {
    let (mut publisher, _) = domain(Box::new(1), 0);
    publisher.publish(Box::new(2));
    assert_eq!(publisher.reclaim(), 1);
}

#[test]
fn the_last_reader_frees_what_its_publisher_left() {
    let (freed, value) = log();
    let (mut publisher, mut readers) = domain(value(1), 2);
    publisher.publish(value(2));
    publisher.publish(value(3));
    drop(publisher);
    readers[1].quiescent();
    assert_eq!((readers[0].read().0, readers[1].read().0), (1, 3));
    assert!(freed.lock().unwrap().is_empty());
    drop(readers);
    assert_eq!(*freed.lock().unwrap(), [1, 2, 3]);
}

#[test]
fn an_offline_reader_holds_nobody_up_and_comes_back_to_the_current_value() {
    let (mut publisher, mut readers) = domain(Box::new(1), 1);
    let freed = readers[0].offline(|| {
        publisher.publish(Box::new(2));
        publisher.reclaim()
    });
    assert_eq!((freed, *readers[0].read()), (1, 2));
    publisher.publish(Box::new(3));
    assert_eq!(publisher.reclaim(), 0);
}

#[test]
fn a_panic_while_offline_brings_the_reader_back() {
    let (mut publisher, mut readers) = domain(Box::new(1), 1);
    publisher.publish(Box::new(2));
    let reader = std::panic::AssertUnwindSafe(|| {
        readers[0].offline(|| std::panic::resume_unwind(Box::new(())))
    });
    assert!(std::panic::catch_unwind(reader).is_err());
    assert_eq!(*readers[0].read(), 2);
    publisher.publish(Box::new(3));
    assert_eq!((publisher.reclaim(), publisher.pending()), (1, 1));
}

#[test]
fn readers_behind_are_named_until_each_has_passed_a_quiescent_state() {
    let (mut publisher, mut readers) = domain(Box::new(1), 3);
    publisher.publish(Box::new(2));
    readers[1].quiescent();
    assert_eq!(publisher.behind(), [0, 2]);
    assert_eq!(publisher.reclaim(), 0);
    readers[0].quiescent();
    readers[2].quiescent();
    assert!(publisher.behind().is_empty());
    assert_eq!((publisher.reclaim(), publisher.reclaim()), (1, 0));
}

/// The alive ones of these are counted.
struct Counted(u64, Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        // A reader that still held this would see it.
        self.0 = u64::MAX;
        self.1.fetch_sub(1, Relaxed);
    }
}

/// Every table ever published holds the keys 0..KEYS, all with values of one generation or the one before.
#[test]
fn readers_of_a_changing_map_see_whole_tables_only() {
    const KEYS: u64 = 40;
    const ROUNDS: u64 = 60;
    let alive = Arc::new(AtomicUsize::new(0));
    let counted = |number| {
        alive.fetch_add(1, Relaxed);
        Arc::new(Counted(number, Arc::clone(&alive)))
    };
    let mut map = Map::new(1);
    (0..KEYS).for_each(|key| assert!(map.insert(key, counted(0)).is_none()));
    let (mut publisher, readers) = domain(Box::new(map.freeze()), 3);
    std::thread::scope(|scope| {
        for (index, mut reader) in readers.into_iter().enumerate() {
            scope.spawn(move || {
                let mut last = 0;
                while last < ROUNDS {
                    let table: &Snapshot<u64, Arc<Counted>> = reader.read();
                    let newest = table.get(&0).unwrap().0;
                    let oldest = table.get(&(KEYS - 1)).unwrap().0;
                    assert!((last..=ROUNDS).contains(&newest) && (newest - oldest) <= 1);
                    assert_eq!(
                        table.iter().map(|(_, value)| value.0 - oldest).max(),
                        Some(newest - oldest)
                    );
                    assert_eq!(table.len() as u64, KEYS);
                    last = oldest;
                    if index == 0 {
                        reader.offline(std::thread::yield_now);
                    } else {
                        reader.quiescent();
                    }
                }
            });
        }
        for round in 1..=ROUNDS {
            for key in 0..KEYS {
                map.insert(key, counted(round));
                publisher.publish(Box::new(map.freeze()));
                publisher.reclaim();
            }
        }
    });
    // The readers are gone, and hold nothing.
    publisher.reclaim();
    assert_eq!(publisher.pending(), 0);
    assert_eq!(alive.load(Relaxed) as u64, KEYS);
    drop((map, publisher));
    assert_eq!(alive.load(Relaxed), 0);
}

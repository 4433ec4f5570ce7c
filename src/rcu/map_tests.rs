//! The map against `std`'s, with snapshots kept; and that everything is freed once, and not too early.

use super::map::{Key, Map, Snapshot, mix};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

/// A key of which many share a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Crowded(u64);

impl Key for Crowded {
    fn hash(&self, seed: u64) -> u64 {
        mix(self.0 % 5, seed) & 0x1_0041
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u64),
    Remove(u64),
    /// Keeps the snapshot.
    Freeze,
    /// Drops the snapshot that has been kept longest, or the newest.
    Forget {
        oldest: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..48_u64).prop_map(Step::Insert),
        4 => (0..48_u64).prop_map(Step::Remove),
        3 => Just(Step::Freeze),
        2 => any::<bool>().prop_map(|oldest| Step::Forget { oldest }),
    ];
    vec(step, 0..200)
}

/// How many of the values made from this are alive.
#[derive(Clone, Default)]
struct Alive(Arc<AtomicIsize>);

impl Alive {
    fn value(&self, number: usize) -> Value {
        self.0.fetch_add(1, Relaxed);
        Value(Box::new(number), self.clone())
    }

    fn count(&self) -> isize {
        self.0.load(Relaxed)
    }
}

/// Owns memory, so that a second drop, or a look after the first, does not pass unseen (under valgrind for certain).
struct Value(Box<usize>, Alive);

impl Clone for Value {
    fn clone(&self) -> Self {
        self.1.value(*self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.1.0.fetch_sub(1, Relaxed);
    }
}

type Model<K> = HashMap<K, usize>;

fn assert_holds<K: Key + std::hash::Hash + std::fmt::Debug>(
    snapshot: &Snapshot<K, Value>,
    model: &Model<K>,
    keys: impl Iterator<Item = K>,
) {
    assert_eq!(snapshot.len(), model.len());
    let found: Model<K> = snapshot
        .iter()
        .map(|(key, value)| (*key, *value.0))
        .collect();
    assert_eq!(found, *model);
    assert_eq!(snapshot.iter().count(), model.len());
    for key in keys {
        assert_eq!(
            snapshot.get(&key).map(|value| *value.0),
            model.get(&key).copied()
        );
    }
}

fn behaves_like_std<K>(steps: Vec<Step>, key: impl Fn(u64) -> K, map_first: bool)
where
    K: Key + std::hash::Hash + std::fmt::Debug,
{
    let alive = Alive::default();
    let keys = || (0..48).map(&key);
    let mut map = Map::new(7);
    let mut model = Model::new();
    let mut kept = VecDeque::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Insert(k) => {
                let former = map
                    .insert(key(k), alive.value(number))
                    .map(|value| *value.0);
                assert_eq!(former, model.insert(key(k), number));
            }
            Step::Remove(k) => {
                assert_eq!(
                    map.remove(&key(k)).map(|value| *value.0),
                    model.remove(&key(k))
                );
            }
            Step::Freeze => kept.push_back((map.freeze(), model.clone())),
            Step::Forget { oldest: true } => drop(kept.pop_front()),
            Step::Forget { oldest: false } => drop(kept.pop_back()),
        }
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
    }
    assert_holds(&map.freeze(), &model, keys());
    for (snapshot, model) in &kept {
        assert_holds(snapshot, model, keys());
    }
    if map_first {
        drop(map);
        while let Some((snapshot, model)) = kept.pop_back() {
            assert_holds(&snapshot, &model, keys());
        }
    } else {
        drop(kept);
        // The final freeze left nothing to free but what the map holds.
        assert_eq!(alive.count(), map.len() as isize);
        drop(map);
    }
    assert_eq!(alive.count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn snapshots_keep_their_contents(steps in steps(), map_first: bool) {
        behaves_like_std(steps, |key| key, map_first);
    }

    #[test]
    fn snapshots_keep_their_contents_with_many_keys_in_a_chain(steps in steps(), map_first: bool) {
        behaves_like_std(steps, Crowded, map_first);
    }
}

#[test]
fn a_replaced_value_goes_with_the_last_snapshot_that_shows_it() {
    let alive = Alive::default();
    let mut map = Map::new(0);
    map.insert(1_u32, alive.value(1));
    let (older, newer) = (map.freeze(), map.freeze());
    drop(map.insert(1, alive.value(2)));
    let newest = map.freeze();
    assert_eq!(alive.count(), 2);
    drop(older);
    assert_eq!((alive.count(), *newer.get(&1).unwrap().0), (2, 1));
    drop(newer);
    assert_eq!((alive.count(), *newest.get(&1).unwrap().0), (1, 2));
}

#[test]
fn a_snapshot_keeps_what_newer_ones_have_replaced_but_not_what_older_ones_had() {
    let alive = Alive::default();
    let mut map = Map::new(0);
    let mut freeze = |number| {
        drop(map.insert(1_u32, alive.value(number)));
        map.freeze()
    };
    let [first, second, third] = [1, 2, 3].map(&mut freeze);
    drop(second);
    assert_eq!(
        alive.count(),
        3,
        "the first still holds its era and all later ones"
    );
    drop(first);
    assert_eq!((alive.count(), *third.get(&1).unwrap().0), (1, 3));
}

#[test]
fn a_hundred_thousand_eras_end_at_once_without_recursion() {
    let alive = Alive::default();
    let mut map = Map::new(0);
    let oldest = map.freeze();
    for number in 0..100_000 {
        drop(map.insert(0_u32, alive.value(number)));
        drop(map.freeze());
    }
    assert_eq!(alive.count(), 100_000);
    drop(oldest);
    assert_eq!(alive.count(), 1);
}

#[test]
fn without_a_change_freeze_makes_nothing_new() {
    let mut map = Map::new(3);
    assert!(map.freeze().is_empty());
    map.insert(1_u64, 'a');
    let first = map.freeze();
    map.remove(&2);
    let second = map.freeze();
    let place = |snapshot: &Snapshot<_, _>| std::ptr::from_ref(snapshot.get(&1).unwrap());
    assert_eq!(place(&first), place(&second));
    map.remove(&1);
    assert_eq!(
        (first.len(), second.clone().len(), map.freeze().len()),
        (1, 1, 0)
    );
}

#[test]
fn a_large_map_finds_each_key_and_iterates_over_each_once() {
    let mut map = Map::new(9);
    (0..300_000_u32).for_each(|key| assert!(map.insert(key, !key).is_none()));
    let snapshot = map.freeze();
    assert!((0..300_000).all(|key| snapshot.get(&key) == Some(&!key)));
    assert!(snapshot.get(&300_000).is_none());
    let mut keys: Vec<_> = snapshot.iter().map(|(key, _)| *key).collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..300_000));
}

//! A persistent hash map: one writer changes it, and gives out immutable [`Snapshot`]s of what it held at a time.
//!
//! It is a trie over 18 bits of the key's hash: three levels of branches with 64 children, each of the last level's
//! children the head of a chain of entries. Depth and size never change, hence a change does the same work among 10
//! and among 100,000 entries, up to cache misses: it copies the three branches on the way (pointers only: no count
//! per child is touched), and an entry. A lookup is four dependent loads, and the chains stay short up to about a
//! million entries. Branches, once made, stay while the map does: at most 4,161 of 520 bytes.
//!
//! # Who frees what
//!
//! Entries never change once they are linked. A branch is changed in place only by the map that made it, and only
//! until the next [`Map::freeze`]; after that a change copies it, and the original is *replaced*. So all that a
//! snapshot reaches stays as it is, as long as nothing replaced is freed too early:
//!
//! - Time is cut into eras. `freeze` ends one and begins the next; a snapshot belongs to the era that it began.
//! - What the map replaces during an era was visible to snapshots of this era or older ones, never to newer ones.
//!   The list of it is hung on the era when it ends, together with a pointer to the next era.
//! - A snapshot holds its era, the era the next one, and so on, all by counted pointers. So an era lives as long as
//!   any snapshot of it or of an older one, and what was replaced in it is freed with it: after the last reader.
//!
//! Counting is by snapshot, not by child, so it costs a reader nothing: with [`super::domain()`], workers borrow the
//! one snapshot inside the published value. This is safe in any hands: a snapshot may be cloned, kept and dropped in
//! any order and on any thread, also after the map is gone.

use std::iter::successors;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

const BITS: u32 = 6;
const FANOUT: usize = 1 << BITS;

/// What a map can be keyed by.
pub trait Key: Copy + Eq {
    /// A hash with all its low bits well mixed, such as [`mix`] makes. Equal keys have equal hashes.
    fn hash(&self, seed: u64) -> u64;
}

/// What an entry is looked up by: its key, or what stands for one and is cheaper to make and to compare.
pub trait Query<K> {
    /// The hash of the key that it stands for.
    fn key_hash(&self, seed: u64) -> u64;
    /// Whether it stands for this key.
    fn is(&self, key: &K) -> bool;
}

impl<K: Key> Query<K> for K {
    #[inline(always)]
    fn key_hash(&self, seed: u64) -> u64 {
        self.hash(seed)
    }

    #[inline(always)]
    fn is(&self, key: &K) -> bool {
        self == key
    }
}

/// Mixes 64 bits into a seed, or into the hash of what went before (the finaliser of MurmurHash3).
#[inline]
pub fn mix(word: u64, seed: u64) -> u64 {
    let mut hash = word ^ seed;
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

impl Key for u32 {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        mix(u64::from(*self), seed)
    }
}

impl Key for u64 {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        mix(*self, seed)
    }
}

type Link<T> = Option<NonNull<T>>;

/// In as few cache lines as its size allows: up to 32 bytes in one.
#[repr(align(32))]
struct Entry<K, V> {
    key: K,
    value: V,
    next: Link<Entry<K, V>>,
}

struct Branch<C> {
    /// The era that made it.
    born: u64,
    children: [Link<C>; FANOUT],
}

type Leaf<K, V> = Branch<Entry<K, V>>;
type Middle<K, V> = Branch<Leaf<K, V>>;
type Top<K, V> = Branch<Middle<K, V>>;

/// Moves `value` to the heap, to be freed by [`free`].
fn leak<T>(value: T) -> NonNull<T> {
    NonNull::from(Box::leak(Box::new(value)))
}

/// # Safety
/// `pointer` came from [`leak`], and is no longer used.
unsafe fn free<T>(pointer: NonNull<T>) {
    // SAFETY: `leak` made it from a box, and it is used no more, says the caller.
    drop(unsafe { Box::from_raw(pointer.as_ptr()) });
}

/// The entries of a chain, from its head on. Reads an entry's link before it hands the entry out.
///
/// # Safety
/// An entry is alive when the iterator comes to it.
unsafe fn follow<K, V>(head: Link<Entry<K, V>>) -> impl Iterator<Item = NonNull<Entry<K, V>>> {
    // SAFETY: alive, says the caller.
    successors(head, |entry| unsafe { entry.as_ref() }.next)
}

/// Which child to take at each level.
#[inline]
fn path(hash: u64) -> [usize; 3] {
    [0, BITS, 2 * BITS].map(|shift| (hash >> shift) as usize % FANOUT)
}

/// The trie as of one moment. A plain pointer: [`Map`] and [`Snapshot`], which contain one, see to it that all that
/// it reaches is alive while they are borrowed.
struct Tree<K, V> {
    top: NonNull<Top<K, V>>,
    len: usize,
    seed: u64,
}

impl<K, V> Clone for Tree<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Tree<K, V> {}

// SAFETY: a tree gives out `&K` and `&V`, and its owner frees them, from whatever thread it is on.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Tree<K, V> {}
// SAFETY: as above; through a shared tree nothing is changed.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Tree<K, V> {}

impl<K, V> Tree<K, V> {
    fn empty(born: u64, seed: u64) -> Self {
        Tree {
            top: leak(Branch {
                born,
                children: [None; FANOUT],
            }),
            len: 0,
            seed,
        }
    }

    /// Where the chain for keys with this hash begins.
    #[inline]
    fn place(&self, hash: u64) -> Option<&Link<Entry<K, V>>> {
        let [top, middle, leaf] = path(hash);
        // SAFETY: what a tree reaches is alive while its owner is borrowed, and only `&mut Map` changes branches.
        unsafe {
            let leaves = self.top.as_ref().children[top]?.as_ref().children[middle]?;
            Some(&leaves.as_ref().children[leaf])
        }
    }

    /// The first entry of the chain for keys with this hash.
    #[inline]
    fn chain(&self, hash: u64) -> Link<Entry<K, V>> {
        *self.place(hash)?
    }

    fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        // SAFETY: as in `chain`.
        let middles = unsafe { self.top.as_ref() }.children.iter().flatten();
        // SAFETY: as in `chain`.
        let leaves =
            middles.flat_map(|middle| unsafe { middle.as_ref() }.children.iter().flatten());
        // SAFETY: as in `chain`.
        let heads = leaves.flat_map(|leaf| unsafe { leaf.as_ref() }.children);
        // SAFETY: as in `chain`; entries are alive like the branches that lead to them.
        let entries =
            heads.flat_map(|head| unsafe { follow(head) }.map(|entry| unsafe { entry.as_ref() }));
        entries.map(|entry| (&entry.key, &entry.value))
    }
}

impl<K: Key, V> Tree<K, V> {
    #[inline]
    fn find(&self, hash: u64, key: &impl Query<K>) -> Link<Entry<K, V>> {
        // SAFETY: as in `chain`; entries are alive like the branches that lead to them.
        unsafe { follow(self.chain(hash)).find(|entry| key.is(&entry.as_ref().key)) }
    }

    #[inline]
    fn get(&self, key: &impl Query<K>) -> Option<&V> {
        let entry = self.find(key.key_hash(self.seed), key)?;
        // SAFETY: alive while the tree's owner is borrowed, and entries are never changed.
        Some(unsafe { &entry.as_ref().value })
    }
}

/// A piece of the trie that the map has no more use for, but snapshots may have.
enum Replaced<K, V> {
    Top(NonNull<Top<K, V>>),
    Middle(NonNull<Middle<K, V>>),
    Leaf(NonNull<Leaf<K, V>>),
    Entry(NonNull<Entry<K, V>>),
    /// All that the map held when it was dropped.
    Whole(NonNull<Top<K, V>>),
}

// SAFETY: the pieces are owned; what frees them drops `K` and `V`, on whatever thread it is.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Replaced<K, V> {}
// SAFETY: nothing is done through a shared `Replaced`.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Replaced<K, V> {}

impl<K, V> Replaced<K, V> {
    /// # Safety
    /// The map no longer reaches this piece, and no snapshot does that is still there.
    unsafe fn free(self) {
        // SAFETY: every piece was made by `leak`, and is handed to `Replaced` once, when the map unlinks it.
        unsafe {
            match self {
                Replaced::Top(branch) => free(branch),
                Replaced::Middle(branch) => free(branch),
                Replaced::Leaf(branch) => free(branch),
                Replaced::Entry(entry) => free(entry),
                Replaced::Whole(top) => {
                    for &middle in top.as_ref().children.iter().flatten() {
                        for &leaf in middle.as_ref().children.iter().flatten() {
                            // `follow` has read an entry's link before it hands the entry out.
                            leaf.as_ref()
                                .children
                                .iter()
                                .for_each(|&head| follow(head).for_each(|entry| free(entry)));
                            free(leaf);
                        }
                        free(middle);
                    }
                    free(top);
                }
            }
        }
    }
}

/// The time between two calls of [`Map::freeze`].
struct Era<K, V> {
    end: OnceLock<End<K, V>>,
}

/// What is known of an era when it is over.
struct End<K, V> {
    replaced: Vec<Replaced<K, V>>,
    /// None: the map was dropped.
    next: Option<Arc<Era<K, V>>>,
}

impl<K, V> Era<K, V> {
    fn begin() -> Arc<Self> {
        Arc::new(Era {
            end: OnceLock::new(),
        })
    }

    /// Frees what was replaced in this era; the next one is then not needed on its account any more.
    fn free(&mut self) -> Option<Arc<Self>> {
        let End { replaced, next } = self.end.take()?;
        for piece in replaced {
            // SAFETY: the map unlinked it before the era ended, and only snapshots of this era and older ones reached
            // it; each of them held this era, directly or through the eras between.
            unsafe { piece.free() };
        }
        next
    }
}

impl<K, V> Drop for Era<K, V> {
    fn drop(&mut self) {
        // A loop, for a recursion could be as deep as there were calls of `freeze` since an old snapshot.
        let mut next = self.free();
        while let Some(mut era) = next.and_then(Arc::into_inner) {
            next = era.free();
        }
    }
}

/// The writer's side. Owned by the control thread. What it replaces is freed after the next [`freeze`](Self::freeze),
/// with the last snapshot that shows it.
pub struct Map<K, V> {
    tree: Tree<K, V>,
    /// The number of the current era. Branches born in it are reached by no snapshot.
    born: u64,
    era: Arc<Era<K, V>>,
    /// What was replaced in the current era.
    replaced: Vec<Replaced<K, V>>,
}

impl<K: Key, V: Clone> Map<K, V> {
    /// An empty map whose hashes begin with `seed`.
    pub fn new(seed: u64) -> Self {
        Map {
            tree: Tree::empty(0, seed),
            born: 0,
            era: Era::begin(),
            replaced: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.tree.len
    }

    pub fn is_empty(&self) -> bool {
        self.tree.len == 0
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.tree.get(key)
    }

    /// In no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.tree.iter()
    }

    /// Returns what was there for `key` before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let former = self.remove(&key);
        let head = self.head_mut(key.hash(self.tree.seed));
        *head = Some(leak(Entry {
            key,
            value,
            next: *head,
        }));
        self.tree.len += 1;
        former
    }

    /// Returns what was there for `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let hash = key.hash(self.tree.seed);
        let found = self.tree.find(hash, key)?;
        // SAFETY: the map reaches this chain until the end of this function, and its entries never change.
        let (Entry { value, next, .. }, ahead) = unsafe {
            (
                found.as_ref(),
                follow(self.tree.chain(hash)).take_while(|&entry| entry != found),
            )
        };
        let value = value.clone();
        // Entries behind the removed one are shared with the old chain, those ahead of it copied.
        let mut head = *next;
        let mut copied = vec![found];
        for entry in ahead {
            // SAFETY: as above.
            let Entry { key, value, .. } = unsafe { entry.as_ref() };
            head = Some(leak(Entry {
                key: *key,
                value: value.clone(),
                next: head,
            }));
            copied.push(entry);
        }
        *self.head_mut(hash) = head;
        self.replaced
            .extend(copied.into_iter().map(Replaced::Entry));
        self.tree.len -= 1;
        Some(value)
    }

    /// What the map holds now, for as long as one likes. Without a change since the last call, the same again.
    pub fn freeze(&mut self) -> Snapshot<K, V> {
        // SAFETY: the top is alive while the map is. Every change begins by making it one of this era.
        let changed = unsafe { self.tree.top.as_ref() }.born == self.born;
        if changed {
            let next = Era::begin();
            self.end_era(Some(Arc::clone(&next)));
            self.era = next;
            self.born += 1;
        }
        Snapshot {
            tree: self.tree,
            _era: Arc::clone(&self.era),
        }
    }

    /// The link to the first entry for this hash, in a leaf that no snapshot reaches.
    fn head_mut(&mut self, hash: u64) -> &mut Link<Entry<K, V>> {
        let [top, middle, leaf] = path(hash);
        let (born, replaced) = (self.born, &mut self.replaced);
        // SAFETY: the links are the map's own, and each of the lower ones lies in a branch that `own` has just made,
        // or found to be, of this era.
        unsafe {
            self.tree.top = own(Some(self.tree.top), born, |branch| {
                replaced.push(Replaced::Top(branch))
            });
            let link = &mut self.tree.top.as_mut().children[top];
            let mut branch = own(*link, born, |branch| {
                replaced.push(Replaced::Middle(branch))
            });
            *link = Some(branch);
            let link = &mut branch.as_mut().children[middle];
            let mut branch = own(*link, born, |branch| replaced.push(Replaced::Leaf(branch)));
            *link = Some(branch);
            &mut branch.as_mut().children[leaf]
        }
    }
}

impl<K, V> Map<K, V> {
    fn end_era(&mut self, next: Option<Arc<Era<K, V>>>) {
        let end = End {
            replaced: std::mem::take(&mut self.replaced),
            next,
        };
        assert!(self.era.end.set(end).is_ok(), "an era ends once");
    }
}

impl<K, V> Drop for Map<K, V> {
    fn drop(&mut self) {
        // What is still linked and what was replaced have no piece in common.
        self.replaced.push(Replaced::Whole(self.tree.top));
        self.end_era(None);
    }
}

/// What may stand in for `branch` and be changed, for no snapshot reaches it: itself, if it was born in this era, else
/// a copy, or for none an empty branch. Hands a branch that it copied to `retire`.
///
/// # Safety
/// `branch` is alive.
unsafe fn own<C>(
    branch: Link<Branch<C>>,
    born: u64,
    retire: impl FnOnce(NonNull<Branch<C>>),
) -> NonNull<Branch<C>> {
    let Some(branch) = branch else {
        return leak(Branch {
            born,
            children: [None; FANOUT],
        });
    };
    // SAFETY: alive, says the caller.
    let old = unsafe { branch.as_ref() };
    if old.born == born {
        return branch;
    }
    retire(branch);
    leak(Branch {
        born,
        children: old.children,
    })
}

/// An immutable [`Map`]: what it held when [`Map::freeze`] made this. Cheap to clone.
pub struct Snapshot<K, V> {
    tree: Tree<K, V>,
    /// Keeps all that `tree` reaches.
    _era: Arc<Era<K, V>>,
}

impl<K, V> Clone for Snapshot<K, V> {
    fn clone(&self) -> Self {
        Snapshot {
            tree: self.tree,
            _era: Arc::clone(&self._era),
        }
    }
}

impl<K: Key, V> Snapshot<K, V> {
    pub fn len(&self) -> usize {
        self.tree.len
    }

    pub fn is_empty(&self) -> bool {
        self.tree.len == 0
    }

    /// Starts to fetch what tells [`prefetch`](Self::prefetch) where the entry is.
    #[inline]
    pub fn prefetch_place(&self, key: &impl Query<K>) {
        if let Some(place) = self.tree.place(key.key_hash(self.tree.seed)) {
            crate::arch::prefetch(place);
        }
    }

    /// Starts to fetch the entry that [`get`](Self::get) looks at first.
    #[inline]
    pub fn prefetch(&self, key: &impl Query<K>) {
        if let Some(entry) = self.tree.chain(key.key_hash(self.tree.seed)) {
            // SAFETY: as in `chain`: the entry is alive while the snapshot is borrowed.
            crate::arch::prefetch(unsafe { entry.as_ref() });
        }
    }

    #[inline]
    pub fn get(&self, key: &impl Query<K>) -> Option<&V> {
        self.tree.get(key)
    }

    /// In no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.tree.iter()
    }
}

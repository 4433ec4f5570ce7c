//! The neighbour table: which MAC address, out of which port, a next hop has.
//!
//! One writer (the control thread, see `resolver/neighbours.rs`), any number of readers. A neighbour is one 64-bit word,
//! so learning or losing one is a single store that every worker sees, with nothing to publish. Slots are found by
//! (port, address) through an open-addressed index, and remembered by [`HopId`] afterwards. A slot is given to
//! another address only after every connection was told to forget its next hops
//! ([`crate::tables::Tables::route_generation`]) and every worker has passed a quiescent state.

use crate::net::{Mac, ethertype};
use crate::units::{HopId, PortId};
use crossbeam_utils::CachePadded;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The most neighbours.
pub const MAX_NEIGHBOURS: usize = 1 << 15;
const INDEX_SIZE: usize = MAX_NEIGHBOURS * 2;
/// How many places are searched for an address at most, however many others belong to the same ones. Of addresses that are spread
/// evenly over a full table the longest search is about half of it.
const PROBES: usize = 128;
const EMPTY: u32 = 0;
const DELETED: u32 = u32::MAX;

/// How far the resolution of a neighbour is (RFC 4861 section 7.3.2 has the same states for ND).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkState {
    /// Asked, no answer yet.
    Incomplete,
    /// Answered lately, or configured.
    Reachable,
    /// Answered once; a packet that uses it asks for a confirmation.
    Stale,
    /// Did not answer.
    Failed,
}

impl LinkState {
    pub const fn name(self) -> &'static str {
        match self {
            LinkState::Incomplete => "incomplete",
            LinkState::Reachable => "reachable",
            LinkState::Stale => "stale",
            LinkState::Failed => "failed",
        }
    }
}

/// What a worker needs to send to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub mac: Mac,
    pub port: PortId,
    pub state: LinkState,
}

impl Link {
    fn pack(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&self.mac.0);
        bytes[6] = self.port.0;
        bytes[7] = self.state as u8;
        u64::from_le_bytes(bytes)
    }

    #[inline]
    fn unpack(word: u64) -> Link {
        let [mac @ .., port, state] = word.to_le_bytes();
        let state = match state {
            0 => LinkState::Incomplete,
            1 => LinkState::Reachable,
            2 => LinkState::Stale,
            _ => LinkState::Failed,
        };
        Link {
            mac: Mac(mac),
            port: PortId(port),
            state,
        }
    }

    /// Whether frames can be sent to it.
    #[inline]
    pub fn is_usable(&self) -> bool {
        matches!(self.state, LinkState::Reachable | LinkState::Stale)
    }
}

/// All that a packet of a known connection needs of its next hop.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// A packed [`Link`]: MAC address, port, state, first byte lowest.
    link: u64,
    source: Source,
}

/// What frames to a next hop have of their port.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    /// Its own MAC address, and the Ethertype of the next hop's family, first byte lowest.
    header: u64,
    /// The longest IP packet, in bytes.
    mtu: u16,
}

impl Hop {
    #[inline(always)]
    pub fn is_reachable(self) -> bool {
        self.link >> 56 == LinkState::Reachable as u64
    }

    #[inline(always)]
    pub fn port(self) -> PortId {
        PortId((self.link >> 48) as u8)
    }

    /// The longest IP packet that its port takes, in bytes.
    #[inline(always)]
    pub fn mtu(self) -> u16 {
        self.source.mtu
    }

    /// The Ethernet header of a packet to it, of its own family: the first eight bytes, and eight from the seventh byte
    /// on; each with the first byte lowest.
    #[inline(always)]
    pub fn ethernet_header(self) -> (u64, u64) {
        (self.link, self.source.header)
    }
}

#[derive(Debug, Default)]
#[repr(align(32))]
struct Slot {
    link: AtomicU64,
    /// As in [`Source`].
    header: AtomicU64,
    mtu: AtomicU16,
}

/// A neighbour's IP address: two halves of an IPv6 address, an IPv4 one being mapped (RFC 4291 section 2.5.5.2). It
/// stays as it is from before the slot can be found until after a grace period, so no reader sees half of it.
#[derive(Debug, Default)]
struct Address([AtomicU64; 2]);

impl Address {
    #[inline(always)]
    fn halves(&self) -> [u64; 2] {
        let [high, low] = &self.0;
        [high.load(Ordering::Relaxed), low.load(Ordering::Relaxed)]
    }

    #[inline(always)]
    fn load(&self) -> IpAddr {
        match self.halves() {
            [0, low] if low >> 32 == 0xffff => IpAddr::V4(Ipv4Addr::from_bits(low as u32)),
            [high, low] => {
                let bits = u128::from(high) << 64 | u128::from(low);
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            }
        }
    }

    fn store(&self, address: IpAddr) {
        let [high, low] = halves(address);
        self.0[0].store(high, Ordering::Relaxed);
        self.0[1].store(low, Ordering::Relaxed);
    }
}

/// As [`Address`] has an address.
#[inline(always)]
fn halves(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [0, 0xffff << 32 | u64::from(address.to_bits())],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [(bits >> 64) as u64, bits as u64]
        }
    }
}

#[derive(Debug)]
pub struct NeighbourTable {
    /// Of each port.
    sources: Box<[Source]>,
    /// Whether each port's link is down.
    down: Box<[AtomicBool]>,
    slots: Box<[Slot]>,
    /// Of each slot. Apart from the slots, since no packet of a known connection needs it.
    addresses: Box<[Address]>,
    /// Slot number plus one, [`EMPTY`] or [`DELETED`].
    index: Box<[AtomicU32]>,
    /// See [`ways`](Self::ways). Apart from what workers read.
    ways: CachePadded<AtomicU64>,
    /// Makes the places of addresses, which an outsider must not foresee, different in every run.
    seed: u64,
}

impl NeighbourTable {
    /// `ports`: the MAC address and MTU of each port, in the order of their ids.
    pub fn new(ports: impl IntoIterator<Item = (Mac, u16)>) -> Self {
        let source = |(Mac([a, b, c, d, e, f]), mtu): (Mac, u16)| Source {
            header: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            mtu,
        };
        let sources: Box<[Source]> = ports.into_iter().map(source).collect();
        NeighbourTable {
            down: sources.iter().map(|_| AtomicBool::new(false)).collect(),
            sources,
            slots: (0..MAX_NEIGHBOURS).map(|_| Slot::default()).collect(),
            addresses: (0..MAX_NEIGHBOURS).map(|_| Address::default()).collect(),
            index: (0..INDEX_SIZE).map(|_| AtomicU32::new(EMPTY)).collect(),
            ways: CachePadded::default(),
            seed: RandomState::new().hash_one(0),
        }
    }

    /// Says whether a port's link is down, so that no next hop behind it can be reached. For the writer alone.
    pub fn set_link_down(&self, port: PortId, is_down: bool) {
        if let Some(down) = self.down.get(port.index())
            && down.swap(is_down, Ordering::Relaxed) != is_down
        {
            self.ways.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Changes whenever a next hop may have failed to answer, or answer again, and whenever a link goes or comes.
    pub fn ways(&self) -> u64 {
        self.ways.load(Ordering::Relaxed)
    }

    /// Whether a port's link is down.
    #[inline]
    pub fn is_link_down(&self, port: PortId) -> bool {
        let down = self.down.get(port.index());
        down.is_some_and(|down| down.load(Ordering::Relaxed))
    }

    /// How many ports there are.
    pub fn ports(&self) -> usize {
        self.sources.len()
    }

    /// What is known of a next hop; none of a number that is no neighbour's.
    #[inline(always)]
    pub fn hop(&self, hop: HopId) -> Option<Hop> {
        let slot = self.slots.get(hop.index())?;
        Some(Hop {
            link: slot.link.load(Ordering::Relaxed),
            source: Source {
                header: slot.header.load(Ordering::Relaxed),
                mtu: slot.mtu.load(Ordering::Relaxed),
            },
        })
    }

    #[inline]
    pub fn link(&self, hop: HopId) -> Link {
        Link::unpack(self.slots[hop.index()].link.load(Ordering::Relaxed))
    }

    /// The neighbour's IP address.
    #[inline]
    pub fn address(&self, hop: HopId) -> IpAddr {
        self.addresses[hop.index()].load()
    }

    /// The places of the index where a neighbour may be, nearest first.
    #[inline(always)]
    fn probe(&self, port: PortId, address: IpAddr) -> impl Iterator<Item = usize> + use<> {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let port = u64::from(port.0);
        let first = match address {
            // Neighbouring addresses come to places far apart: a subnet's hosts hardly ever meet.
            IpAddr::V4(address) => {
                let key = u64::from(address.to_bits()) << 8 | port;
                (key.wrapping_mul(FACTOR) >> 40) as usize
            }
            // In a /64 a sender finds any number of addresses for one place, unless it does not know the seed.
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                let high = (bits >> 64) as u64 ^ port ^ FACTOR;
                fold(fold(bits as u64 ^ self.seed, high), self.seed | 1) as usize
            }
        };
        (0..PROBES).map(move |step| first.wrapping_add(step) % INDEX_SIZE)
    }

    /// Compiled for each family, where that is known.
    #[inline]
    pub fn find(&self, port: PortId, address: impl Into<IpAddr>) -> Option<HopId> {
        let address = address.into();
        let wanted = halves(address);
        for place in self.probe(port, address) {
            match self.index[place].load(Ordering::Acquire) {
                EMPTY => return None,
                DELETED => {}
                number => {
                    let hop = HopId((number - 1) as u16);
                    if self.addresses[hop.index()].halves() == wanted && self.link(hop).port == port
                    {
                        return Some(hop);
                    }
                }
            }
        }
        None
    }

    /// Changes a neighbour. For the writer alone.
    pub fn set(&self, hop: HopId, link: Link) {
        let has_failed = |link: Link| link.state == LinkState::Failed;
        if has_failed(link) != has_failed(self.link(hop)) {
            self.ways.fetch_add(1, Ordering::Relaxed);
        }
        self.slots[hop.index()]
            .link
            .store(link.pack(), Ordering::Relaxed);
    }

    /// Makes a free slot findable. Returns false, and leaves it free, where other addresses have taken all of its places. For the
    /// writer alone.
    pub fn insert(&self, hop: HopId, address: IpAddr, link: Link) -> bool {
        let is_free =
            |place: &usize| matches!(self.index[*place].load(Ordering::Relaxed), EMPTY | DELETED);
        let Some(place) = self.probe(link.port, address).find(is_free) else {
            return false;
        };
        let slot = &self.slots[hop.index()];
        self.addresses[hop.index()].store(address);
        let source = self.sources.get(link.port.index());
        let Source { header, mtu } = source.copied().unwrap_or_default();
        let ethertype = match address {
            IpAddr::V4(_) => ethertype::IPV4,
            IpAddr::V6(_) => ethertype::IPV6,
        };
        let header = header | u64::from(ethertype.swap_bytes()) << 48;
        slot.header.store(header, Ordering::Relaxed);
        slot.mtu.store(mtu, Ordering::Relaxed);
        self.set(hop, link);
        // Release: a worker that finds the slot sees its address and link.
        self.index[place].store(u32::from(hop.0) + 1, Ordering::Release);
        true
    }

    /// Makes a slot unfindable. For the writer alone, who waits for a grace period before it reuses the slot.
    pub fn remove(&self, hop: HopId) {
        let number = u32::from(hop.0) + 1;
        if self.link(hop).state == LinkState::Failed {
            self.ways.fetch_add(1, Ordering::Relaxed);
        }
        for place in self.probe(self.link(hop).port, self.address(hop)) {
            match self.index[place].load(Ordering::Relaxed) {
                EMPTY => return,
                found if found == number => {
                    self.index[place].store(DELETED, Ordering::Release);
                    self.sweep_marks(place);
                    return;
                }
                _ => {}
            }
        }
    }

    /// Takes away the marks at `place` and before it where nothing follows them, since nothing is searched for beyond
    /// them. So searches stay short, however many neighbours come and go.
    fn sweep_marks(&self, place: usize) {
        let next = self.index[(place + 1) % INDEX_SIZE].load(Ordering::Relaxed);
        if next != EMPTY {
            return;
        }
        for step in 0..INDEX_SIZE {
            let mark = &self.index[(place + INDEX_SIZE - step) % INDEX_SIZE];
            if mark.load(Ordering::Relaxed) != DELETED {
                return;
            }
            mark.store(EMPTY, Ordering::Release);
        }
    }
}

/// The product of two numbers, its halves folded into one.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    fn link(port: u8, last: u8) -> Link {
        Link {
            mac: Mac([2, 0, 0, 0, 0, last]),
            port: PortId(port),
            state: LinkState::Reachable,
        }
    }

    #[test]
    fn a_neighbour_is_found_by_port_and_address() {
        let table = NeighbourTable::new([]);
        let addresses: [IpAddr; 5] = [
            [10, 0, 0, 1].into(),
            "fe80::1".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
            "2001:db8:0:1::1".parse().unwrap(),
            // Its last half is the one of the first address, mapped.
            "2001:db8::ffff:a00:1".parse().unwrap(),
        ];
        for (n, address) in (7..).zip(addresses) {
            table.insert(HopId(n), address, link(1, n as u8));
        }
        for (n, address) in (7..).zip(addresses) {
            assert_eq!(table.find(PortId(1), address), Some(HopId(n)), "{address}");
            assert_eq!(table.find(PortId(0), address), None, "another port");
            assert_eq!(table.link(HopId(n)), link(1, n as u8));
            assert_eq!(table.address(HopId(n)), address);
        }
        table.remove(HopId(8));
        assert_eq!(table.find(PortId(1), addresses[1]), None);
    }

    #[test]
    fn a_hop_has_the_whole_ethernet_header() {
        let port = |last, mtu| (Mac([2, 0, 0, 0, 1, last]), mtu);
        let table = NeighbourTable::new([port(1, 1500), port(2, 9000)]);
        let neighbours = [
            (7, "10.0.0.1", [0x08, 0x00]),
            (8, "2001:db8::1", [0x86, 0xdd]),
        ];
        for (n, address, ethertype) in neighbours {
            table.insert(HopId(n), address.parse().unwrap(), link(1, 9));
            let hop = table.hop(HopId(n)).unwrap();
            assert!(hop.is_reachable() && hop.port() == PortId(1) && hop.mtu() == 9000);
            let (low, high) = hop.ethernet_header();
            let mut header = [0; 14];
            header[..8].copy_from_slice(&low.to_le_bytes());
            header[6..].copy_from_slice(&high.to_le_bytes());
            assert_eq!(header[..12], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 1, 2]);
            assert_eq!(header[12..], ethertype);
        }
        let stale = Link {
            state: LinkState::Stale,
            ..link(1, 9)
        };
        table.set(HopId(7), stale);
        assert!(!table.hop(HopId(7)).unwrap().is_reachable());
        assert!(table.hop(HopId(u16::MAX)).is_none());
    }

    #[test]
    fn searches_stay_short_while_neighbours_come_and_go() {
        let table = NeighbourTable::new([]);
        let address = |n: u32| {
            IpAddr::V4(Ipv4Addr::from_bits(
                0x0a00_0000 + n.wrapping_mul(0x9e37_79b1) % (1 << 24),
            ))
        };
        let kept = MAX_NEIGHBOURS as u32 / 4 * 3;
        for n in 0..20 * kept {
            let hop = HopId((n % kept) as u16);
            if n >= kept {
                table.remove(hop);
            }
            table.insert(hop, address(n), link(0, 1));
        }
        let looks = |address| {
            let taken = |place: &usize| table.index[*place].load(Ordering::Relaxed) != EMPTY;
            table.probe(PortId(0), address).take_while(taken).count()
        };
        let absent =
            (0..10_000).map(|n| looks(IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n * 0x101))));
        let (sum, most) = absent.fold((0, 0), |(sum, most), looks| (sum + looks, looks.max(most)));
        assert!(
            sum / 10_000 < 10 && most <= PROBES,
            "{sum} in 10,000, at most {most}"
        );
    }

    /// IPv4 addresses that all belong to one place of the index: any host can make up as many.
    static COLLIDING: LazyLock<Vec<IpAddr>> = LazyLock::new(|| {
        let table = NeighbourTable::new([]);
        let place = |address| table.probe(PortId(0), address).next();
        let first = place(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001)));
        let all = (0x0a00_0001..).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
        let colliding = all.filter(|address| place(*address) == first);
        colliding.take(PROBES + 12).collect()
    });

    #[test]
    fn what_has_no_place_is_refused_and_hides_no_others() {
        let table = NeighbourTable::new([]);
        let addresses = &COLLIDING[..PROBES + 10];
        for (n, address) in (0..).zip(addresses) {
            let is_in = table.insert(HopId(n), *address, link(0, 1));
            assert_eq!(is_in, usize::from(n) < PROBES, "{address}");
        }
        let found = |n: usize| table.find(PortId(0), addresses[n]);
        assert!((0..PROBES).all(|n| found(n) == Some(HopId(n as u16))));
        assert!((PROBES..PROBES + 10).all(|n| found(n).is_none()));
        // A place that becomes free is taken.
        table.remove(HopId(5));
        assert!(table.insert(HopId(5), addresses[PROBES], link(0, 1)));
        assert_eq!((found(5), found(PROBES)), (None, Some(HopId(5))));
        assert!(found(PROBES - 1).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever addresses come and go: those that got in are found, those that did not are not, and no search is longer than
        /// the bound.
        #[test]
        fn whatever_comes_and_goes_is_found(
            steps in prop::collection::vec((any::<bool>(), 0usize..200), 0..600),
        ) {
            let table = NeighbourTable::new([]);
            // Half of them belong to one place.
            let even = (0..100).map(|n| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | n)));
            let addresses: Vec<_> = COLLIDING.iter().copied().chain(even).collect();
            let mut is_in = vec![false; addresses.len()];
            for (comes, n) in steps {
                let hop = HopId(n as u16);
                match comes {
                    true if !is_in[n] => is_in[n] = table.insert(hop, addresses[n], link(0, 1)),
                    false if is_in[n] => {
                        table.remove(hop);
                        is_in[n] = false;
                    }
                    _ => {}
                }
                let searched = table.probe(PortId(0), addresses[n]).count();
                prop_assert!(searched <= PROBES);
            }
            for (n, address) in addresses.iter().enumerate() {
                let expected = is_in[n].then_some(HopId(n as u16));
                prop_assert_eq!(table.find(PortId(0), *address), expected);
            }
        }
    }

    #[test]
    fn removing_neighbours_hides_no_others() {
        let table = NeighbourTable::new([]);
        let address = |n: u16| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n) * 0x101));
        for n in 0..5_000 {
            table.insert(HopId(n), address(n), link(0, 1));
        }
        for n in (0..5_000).step_by(2) {
            table.remove(HopId(n));
        }
        for n in 0..5_000 {
            let expected = (n % 2 == 1).then_some(HopId(n));
            assert_eq!(table.find(PortId(0), address(n)), expected);
        }
    }
}

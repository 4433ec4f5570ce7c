//! The order of lists, as ipvsadm has it (`ipvs_cmp_services`, `ipvs_cmp_dests` in libipvs, and glibc's `qsort`).

use super::list::at;
use crate::view::{MemberView, ServiceView};
use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Sorts services by family, protocol, address and port, and the real servers of each.
pub(super) fn sort(services: Vec<ServiceView>) -> Vec<ServiceView> {
    let protocol = |service: &ServiceView| PROTOCOLS.iter().position(|it| *it == service.protocol);
    let mut services = sorted(services, &|one: &ServiceView, other: &ServiceView| {
        let (here, there) = (at(one), at(other));
        let family = here.is_ipv6().cmp(&there.is_ipv6());
        family
            .then_with(|| protocol(one).cmp(&protocol(other)))
            .then_with(|| compare(here, there))
    });
    for service in &mut services {
        let reals = std::mem::take(&mut service.reals);
        service.reals = sorted(reals, &|one: &MemberView, other: &MemberView| {
            let (here, there) = (one.real, other.real);
            let family = here.is_ipv6().cmp(&there.is_ipv6());
            family.then_with(|| compare(here, there))
        });
    }
    services
}

/// By address and port. Of addresses the sign of a difference in 32 bits counts, as in libipvs: 192.0.2.1 comes before 10.0.0.1, which is
/// more than 2^31 below it.
fn compare(one: SocketAddr, other: SocketAddr) -> Ordering {
    let words = |address: IpAddr| match address {
        IpAddr::V4(address) => [address.to_bits(), 0, 0, 0],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    };
    let pairs = words(one.ip()).into_iter().zip(words(other.ip()));
    let signs = pairs.map(|(one, other)| (one.wrapping_sub(other) as i32).cmp(&0));
    let first = signs.into_iter().find(|sign| sign.is_ne());
    first.unwrap_or_else(|| one.port().cmp(&other.port()))
}

/// A merge sort as glibc's `qsort`: the comparison above goes round in circles (10 < 100 < 192 < 10), which `sort_by` may refuse, and then
/// the order is that of the algorithm.
fn sorted<T>(mut list: Vec<T>, compare: &impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if list.len() < 2 {
        return list;
    }
    let mut merged = Vec::with_capacity(list.len());
    let back = list.split_off(list.len() / 2);
    let mut front = sorted(list, compare).into_iter().peekable();
    let mut back = sorted(back, compare).into_iter().peekable();
    while let (Some(one), Some(other)) = (front.peek(), back.peek()) {
        let next = match compare(one, other) {
            Ordering::Greater => back.next(),
            _ => front.next(),
        };
        merged.extend(next);
    }
    merged.extend(front);
    merged.extend(back);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(mut places: Vec<&str>) -> Vec<&str> {
        let place = |text: &str| text.parse::<SocketAddr>().unwrap();
        places = sorted(places, &|one: &&str, other: &&str| {
            compare(place(one), place(other))
        });
        places
    }

    #[test]
    fn addresses_are_ordered_by_the_sign_of_their_difference() {
        for (given, expected) in [
            (
                vec!["192.0.2.2:80", "192.0.2.1:443", "192.0.2.1:80"],
                vec!["192.0.2.1:80", "192.0.2.1:443", "192.0.2.2:80"],
            ),
            (
                vec!["10.0.0.1:80", "192.0.2.1:80"],
                vec!["192.0.2.1:80", "10.0.0.1:80"],
            ),
            (
                vec!["127.0.0.1:80", "10.0.0.1:80"],
                vec!["10.0.0.1:80", "127.0.0.1:80"],
            ),
            (
                vec!["[2001:db8::2]:80", "[fd00::1]:80", "[2001:db8::1]:80"],
                vec!["[fd00::1]:80", "[2001:db8::1]:80", "[2001:db8::2]:80"],
            ),
            // A circle: each is before the next one, and the last before the first.
            (
                vec!["10.0.0.1:80", "100.0.0.1:80", "192.0.0.1:80"],
                vec!["10.0.0.1:80", "100.0.0.1:80", "192.0.0.1:80"],
            ),
            (
                vec!["10.0.0.1:80", "192.0.0.1:80", "100.0.0.1:80"],
                vec!["10.0.0.1:80", "100.0.0.1:80", "192.0.0.1:80"],
            ),
        ] {
            assert_eq!(order(given.clone()), expected, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn what_has_an_order_gets_it_and_nothing_is_lost(mut numbers in prop::collection::vec(any::<u32>(), 0..60)) {
            let merged = sorted(numbers.clone(), &|one: &u32, other: &u32| one.cmp(other));
            // And with a comparison that goes round in circles.
            let mut circles = sorted(numbers.clone(), &|one: &u32, other: &u32| (one.wrapping_sub(*other) as i32).cmp(&0));
            numbers.sort_unstable();
            prop_assert_eq!(&merged, &numbers);
            circles.sort_unstable();
            prop_assert_eq!(circles, numbers);
        }
    }
}

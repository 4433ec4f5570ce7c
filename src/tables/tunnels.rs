//! How packets get to the real servers of modes that wrap or mark them: found by the real server's id, with no hash.

use crate::forward::tunnel::Tunnel;
use crate::units::RealId;
use std::sync::Arc;

/// Real servers of a page: what one change copies.
const PAGE: usize = 64;

type Page = [Option<Tunnel>; PAGE];

/// By the real server's id. A clone shares all pages that neither of the two changes.
#[derive(Clone, Debug, Default)]
pub struct Tunnels {
    pages: Arc<Vec<Option<Arc<Page>>>>,
}

impl Tunnels {
    /// The tunnel to a real server. It stays as long as the real server has connections, whatever the service's mode has become.
    #[inline(always)]
    pub fn get(&self, real: RealId) -> Option<&Tunnel> {
        let page = self.pages.get(real.index() / PAGE)?.as_ref()?;
        page[real.index() % PAGE].as_ref()
    }

    /// Puts a tunnel in the place of the former one; none takes it away. Returns whether something is different now.
    pub fn set(&mut self, real: RealId, tunnel: Option<Tunnel>) -> bool {
        if self.get(real) == tunnel.as_ref() {
            return false;
        }
        let number = real.index() / PAGE;
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= number {
            pages.resize(number + 1, None);
        }
        let page = pages[number].get_or_insert_with(|| Arc::new([None; PAGE]));
        Arc::make_mut(page)[real.index() % PAGE] = tunnel;
        if page.iter().all(Option::is_none) {
            pages[number] = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tunnel::Via;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    proptest! {
        /// It is a map; what was cloned before a change is as it was.
        #[test]
        fn it_is_a_map(changes in prop::collection::vec((0u32..300, prop::option::of(1u8..64)), 0..200)) {
            let (mut tunnels, mut model) = (Tunnels::default(), HashMap::new());
            let tunnel = |dscp: u8| Tunnel::new(Via::Marked { dscp }, Ipv4Addr::LOCALHOST.into(), false);
            for (real, dscp) in changes {
                let before = (tunnels.clone(), model.clone());
                let differs = tunnels.set(RealId(real), dscp.map(tunnel));
                let former = match dscp {
                    Some(dscp) => model.insert(real, dscp),
                    None => model.remove(&real),
                };
                prop_assert_eq!(differs, former != dscp);
                for (tunnels, model) in [&before, &(tunnels.clone(), model.clone())] {
                    for real in 0..300 {
                        let expected = model.get(&real).copied().map(tunnel);
                        prop_assert_eq!(tunnels.get(RealId(real)), expected.as_ref());
                    }
                }
            }
        }
    }
}

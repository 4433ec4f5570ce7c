//! Checks by ICMP and ICMPv6: an echo request.

use super::Stage;
use super::way::To;
use super::words::{Checked, Failure, not_made};
use crate::via::Out;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};

/// The sockets that echo requests go by.
pub(super) struct Pings {
    v4: Opened,
    v6: Opened,
    /// Those that are bound to a companion.
    bound: RefCell<HashMap<(Out, bool), Opened>>,
    next: Cell<u16>,
}

type Opened = Rc<io::Result<Client>>;

impl Pings {
    /// Opens them: where not everyone may (`net.ipv4.ping_group_range`) that takes `CAP_NET_RAW`. In a runtime.
    pub(super) fn new() -> Pings {
        let open = |kind| Rc::new(Client::new(&Config::builder().kind(kind).build()));
        Pings {
            v4: open(ICMP::V4),
            v6: open(ICMP::V6),
            bound: RefCell::default(),
            next: Cell::new(0),
        }
    }

    /// The socket of that family that is bound to a companion. One that could not be opened is tried again.
    fn bound(&self, out: &Out, is_v6: bool) -> Opened {
        let mut bound = self.bound.borrow_mut();
        let key = (out.clone(), is_v6);
        if let Some(known) = bound.get(&key).filter(|known| known.is_ok()) {
            return known.clone();
        }
        let kind = if is_v6 { ICMP::V6 } else { ICMP::V4 };
        let config = Config::builder().kind(kind).interface(&out.device);
        let config = config.bind(SocketAddr::new(out.source, 0)).build();
        let opened = Rc::new(Client::new(&config));
        bound.insert(key, opened.clone());
        opened
    }

    pub(super) async fn check(&self, to: &To, stage: &Stage) -> Checked {
        stage.set("answer");
        let client = match (&to.out, to.at.ip()) {
            (Some(out), address) => self.bound(out, address.is_ipv6()),
            (None, IpAddr::V4(_)) => self.v4.clone(),
            (None, IpAddr::V6(_)) => self.v6.clone(),
        };
        let client = match &*client {
            Ok(client) => client,
            Err(why) => {
                let why = why.to_string();
                let why = why.lines().next().unwrap_or_default();
                return not_made(format!("no socket for ICMP: {why}"));
            }
        };
        let next = self.next.get().wrapping_add(1);
        self.next.set(next);
        let mut pinger = client.pinger(to.at.ip(), PingIdentifier(next)).await;
        // The check has its own end.
        pinger.timeout(Duration::from_secs(86_400));
        match pinger.ping(PingSequence(next), b"weir health check").await {
            Ok(_) => Ok("echo reply".to_owned()),
            Err(SurgeError::IOError(error)) => Err(Failure::at("send", &error)),
            Err(why) => not_made(why.to_string()),
        }
    }
}

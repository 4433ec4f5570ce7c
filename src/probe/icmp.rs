//! Checks by ICMP and ICMPv6: an echo request.

use super::Stage;
use super::words::{Checked, Failure, not_made};
use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};

/// The sockets that echo requests go by.
pub(super) struct Pings {
    v4: io::Result<Client>,
    v6: io::Result<Client>,
    next: Cell<u16>,
}

impl Pings {
    /// Opens them: where not everyone may (`net.ipv4.ping_group_range`) that takes `CAP_NET_RAW`. In a runtime.
    pub(super) fn new() -> Pings {
        let open = |kind| Client::new(&Config::builder().kind(kind).build());
        Pings {
            v4: open(ICMP::V4),
            v6: open(ICMP::V6),
            next: Cell::new(0),
        }
    }

    pub(super) async fn check(&self, to: IpAddr, stage: &Stage) -> Checked {
        stage.set("answer");
        let client = match to {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let client = match client {
            Ok(client) => client,
            Err(why) => {
                let why = why.to_string();
                let why = why.lines().next().unwrap_or_default();
                return not_made(format!("no socket for ICMP: {why}"));
            }
        };
        let next = self.next.get().wrapping_add(1);
        self.next.set(next);
        let mut pinger = client.pinger(to, PingIdentifier(next)).await;
        // The check has its own end.
        pinger.timeout(Duration::from_secs(86_400));
        match pinger.ping(PingSequence(next), b"weir health check").await {
            Ok(_) => Ok("echo reply".to_owned()),
            Err(SurgeError::IOError(error)) => Err(Failure::at("send", &error)),
            Err(why) => not_made(why.to_string()),
        }
    }
}

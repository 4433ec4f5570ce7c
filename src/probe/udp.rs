//! Checks of UDP: a datagram, and what comes back.

use super::Stage;
use super::way::{To, bind_device};
use super::words::{Checked, Failure, contains, excerpt, failed};
use crate::config::{Exchange, HealthConfig};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// As much of an answer is looked at.
pub(super) const MOST: usize = 4096;

/// A socket that hears from where the check goes only, and of ICMP errors.
pub(super) async fn open(to: &To) -> Result<UdpSocket, Failure> {
    let from: SocketAddr = match (&to.out, to.at) {
        (Some(out), _) => (out.source, 0).into(),
        (None, SocketAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        (None, SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let at_socket = |error| Failure::at("socket", &error);
    let socket = UdpSocket::bind(from).await.map_err(at_socket)?;
    if let Some(out) = &to.out {
        bind_device(&socket, out)?;
    }
    let connected = socket.connect(to.at).await;
    connected.map_err(|error| Failure::at("send", &error))?;
    // Else a host that is unreachable looks like one that is silent.
    let heard = match to.at {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
    };
    heard.map_err(|error| at_socket(error.into()))?;
    Ok(socket)
}

pub(super) async fn check(
    to: &To,
    exchange: &Exchange,
    config: &HealthConfig,
    stage: &Stage,
) -> Checked {
    let socket = open(to).await?;
    stage.set("send");
    let sent = socket.send(&[to.header(), &exchange.send].concat()).await;
    sent.map_err(|error| Failure::at("send", &error))?;
    stage.set("answer");
    let mut answer = vec![0; MOST];
    if exchange.expect.is_empty() {
        // Silence is no fault: only an ICMP error is. It ends a little before the check's own time does.
        let most = config.timeout.saturating_sub(Duration::from_millis(5));
        return match timeout(most, socket.recv(&mut answer)).await {
            Ok(Ok(_)) => Ok("answered".to_owned()),
            Ok(Err(error)) => Err(Failure::at("answer", &error)),
            Err(_) => Ok("nothing said against it".to_owned()),
        };
    }
    let length = socket.recv(&mut answer).await;
    let length = length.map_err(|error| Failure::at("answer", &error))?;
    match contains(&answer[..length], &exchange.expect) {
        true => Ok("answered as expected".to_owned()),
        false => failed(format!("unexpected answer {}", excerpt(&answer[..length]))),
    }
}

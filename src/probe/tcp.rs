//! Checks of TCP: a connection, and what is said on it.

use super::Stage;
use super::way::{To, bind_device};
use super::words::{Checked, Failure, contains, excerpt, failed};
use crate::config::Exchange;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// As much of an answer is looked at.
const MOST: usize = 64 << 10;

/// Connects, in the time that the check has.
pub(super) async fn connect(to: &To, stage: &Stage) -> Result<TcpStream, Failure> {
    stage.set("connect");
    let at_connect = |error| Failure::at("connect", &error);
    let socket = match to.at {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(at_connect)?;
    // Closed by a reset: many checks a second would use up the local ports while they are in TIME_WAIT.
    socket.set_zero_linger().map_err(at_connect)?;
    if let Some(out) = &to.out {
        bind_device(&socket, out)?;
        let source = SocketAddr::new(out.source, 0);
        socket.bind(source).map_err(at_connect)?;
    }
    let mut stream = socket.connect(to.at).await.map_err(at_connect)?;
    // Only a matter of delay.
    let _ = stream.set_nodelay(true);
    let sent = stream.write_all(to.header()).await;
    sent.map_err(|error| Failure::at("send", &error))?;
    Ok(stream)
}

pub(super) async fn check(to: &To, exchange: &Exchange, stage: &Stage) -> Checked {
    let mut stream = connect(to, stage).await?;
    if !exchange.send.is_empty() {
        stage.set("send");
        let sent = stream.write_all(&exchange.send).await;
        sent.map_err(|error| Failure::at("send", &error))?;
    }
    if exchange.expect.is_empty() {
        return Ok("connected".to_owned());
    }
    stage.set("answer");
    let mut answer = Vec::new();
    loop {
        let read = stream.read_buf(&mut answer).await;
        let read = read.map_err(|error| Failure::at("answer", &error))?;
        if contains(&answer, &exchange.expect) {
            return Ok("answered as expected".to_owned());
        }
        if read == 0 || answer.len() >= MOST {
            return match answer.is_empty() {
                true => failed("answer: connection closed"),
                false => failed(format!("unexpected answer {}", excerpt(&answer))),
            };
        }
    }
}

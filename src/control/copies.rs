//! Copies of workers' connection tables, chunk by chunk, for listings of connections.
//!
//! A worker answers its orders one by one, in their order, and spends some microseconds on each; so the next order
//! goes out when the last one is answered, and any number of listings take turns.

use crate::exchange::{ConnectionChunk, Mailbox, Order};
use std::collections::VecDeque;
use tokio::sync::oneshot;

type Chunk = Box<ConnectionChunk>;

#[derive(Debug, Default)]
pub(super) struct Copies {
    wanted: VecDeque<(Chunk, oneshot::Sender<Chunk>)>,
    /// Who waits for the worker's answer.
    asked: Option<oneshot::Sender<Chunk>>,
}

impl Copies {
    /// Has the worker fill a chunk. The answer comes with a later [`tick`](Self::tick).
    pub(super) fn copy(&mut self, chunk: Chunk) -> oneshot::Receiver<Chunk> {
        let (sender, receiver) = oneshot::channel();
        self.wanted.push_back((chunk, sender));
        receiver
    }

    pub(super) fn tick(&mut self, mailbox: &Mailbox) {
        while let Some(chunk) = mailbox.answers.pop() {
            if let Some(asker) = self.asked.take() {
                // The client of the listing may have hung up.
                let _ = asker.send(chunk);
            }
        }
        while self.asked.is_none()
            && let Some((chunk, asker)) = self.wanted.pop_front()
        {
            if asker.is_closed() {
                continue;
            }
            match mailbox.orders.push(Order::CopyConnections(chunk)) {
                Ok(()) => self.asked = Some(asker),
                Err(Order::CopyConnections(chunk)) => {
                    return self.wanted.push_front((chunk, asker));
                }
                Err(_) => return,
            }
        }
    }

    /// Whether a listing waits for a chunk.
    pub(super) fn is_busy(&self) -> bool {
        self.asked.is_some() || !self.wanted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_take_turns_and_get_their_own_chunks() {
        let (mut copies, mailbox) = (Copies::default(), Mailbox::default());
        let chunk = |next| {
            Box::new(ConnectionChunk {
                next,
                ..ConnectionChunk::new()
            })
        };
        let mut first = copies.copy(chunk(1));
        let gone = copies.copy(chunk(2));
        let mut third = copies.copy(chunk(3));
        drop(gone);
        copies.tick(&mailbox);
        assert_eq!(mailbox.orders.len(), 1, "one at a time");
        for (receiver, next) in [(&mut first, 1), (&mut third, 3)] {
            let Some(Order::CopyConnections(chunk)) = mailbox.orders.pop() else {
                panic!("no order")
            };
            mailbox.answers.push(chunk).unwrap();
            copies.tick(&mailbox);
            assert_eq!(receiver.try_recv().unwrap().next, next);
        }
        assert!(!copies.is_busy());
    }
}

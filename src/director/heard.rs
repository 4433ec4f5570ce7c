//! What a packet of ARP or neighbour discovery tells of its sender, for the control thread.

use super::Core;
use super::family::Family;
use crate::exchange::{Heard, Message, News};
use crate::packet::Packet;
use crate::tables::Tables;
use crate::units::PortId;

impl<F: Family, P: Packet> Core<F, P> {
    /// Tells the control thread what it does not know yet.
    pub(super) fn note(&self, port: PortId, heard: &Heard, tables: &Tables) {
        if let Some(news) = news_of(heard, port, tables) {
            self.mailbox.tell(port, *heard, news);
        }
    }
}

/// What is new of the sender, if anything is.
fn news_of(heard: &Heard, port: PortId, tables: &Tables) -> Option<News> {
    match (tables.neighbours.find(port, heard.sender), heard.message) {
        (Some(_), Message::Answers) => Some(News::Answer),
        (Some(hop), _) => {
            let link = tables.neighbours.link(hop);
            let mac = heard.mac?;
            (!link.is_usable() || link.mac != mac).then_some(News::Claim)
        }
        (None, Message::Asks { target }) => {
            let is_told = heard.mac.is_some() && tables.answers_for(port, target);
            is_told.then_some(News::Stranger)
        }
        (None, _) => None,
    }
}

//! ARP: answers for weir's own addresses, and what it tells of neighbours.

use super::family::V4;
use super::limit::AnswerKind;
use super::{Core, Outcome, Turn};
use crate::exchange::{Heard, News};
use crate::packet::{Packet, Sent, Sink};
use crate::tables::Tables;
use crate::verdict::{DropReason, LocalReason, PacketContext, ReplyReason, Verdict};
use crate::wire::{arp, build, ethernet};

impl<P: Packet> Core<V4, P> {
    pub(super) fn arp<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, now) = (turn.tables, turn.now);
        let port = packet.port();
        let table = tables.port(port);
        let repr = arp_of(packet.data());
        let verdict = match repr {
            None => Verdict::Drop(DropReason::BadArp),
            // A MAC address that no neighbour has is neither answered nor learned.
            Some(repr) if !repr.sender_mac.is_station() || tables.is_own_mac(repr.sender_mac) => {
                Verdict::Drop(DropReason::BadArp)
            }
            // Another host uses an address of weir's own (RFC 5227 section 2.4): the control thread defends it.
            Some(repr) if tables.addresses.get(&repr.sender_ip).is_some() => {
                self.mailbox
                    .tell(port, heard_of(&repr, tables), News::Claim);
                Verdict::Drop(DropReason::BadArp)
            }
            Some(repr) if repr.operation == arp::REQUEST => {
                let is_ours = tables.answers_for(port, repr.target_ip.into());
                // A request tells of its sender too; so does a gratuitous one, which is never answered.
                self.note(port, &heard_of(&repr, tables), tables);
                if !is_ours {
                    Verdict::Drop(DropReason::ArpIgnored)
                } else if !self.is_within_limit(AnswerKind::Arp, &packet, tables, now) {
                    Verdict::Drop(DropReason::RateLimited)
                } else {
                    match build::arp_reply_in_place(packet.data_mut(), table.mac) {
                        Some(_) => {
                            turn.sink.send(port, packet, Sent::Answered);
                            Verdict::Reply(port, ReplyReason::Arp)
                        }
                        None => Verdict::Drop(DropReason::BadArp),
                    }
                }
            }
            Some(repr) => {
                self.note(port, &heard_of(&repr, tables), tables);
                // The host may have asked.
                self.deliver(packet, port, LocalReason::Arp, turn)
            }
        };
        (verdict, PacketContext::default())
    }
}

/// What an ARP packet says of its sender.
fn heard_of(repr: &arp::Repr, tables: &Tables) -> Heard {
    let is_to_weir = tables.addresses.get(&repr.target_ip).is_some();
    Heard::by_arp(repr, is_to_weir)
}

/// The packet of an ARP frame.
pub(super) fn arp_of(frame: &[u8]) -> Option<arp::Repr> {
    arp::Repr::parse(frame.get(ethernet::HEADER_LEN..)?).ok()
}

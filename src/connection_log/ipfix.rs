//! Records as IPFIX (RFC 7011), with the events of RFC 8158 where addresses are translated. A message has the templates of its
//! records that its session has not seen yet, before them.

use super::writer::Named;
use super::{Event, Record};
use std::net::IpAddr;

const VERSION: u16 = 10;
const HEADER: usize = 16;
const SET_HEADER: usize = 4;
const TEMPLATE_SET: u16 = 2;
const FIRST_TEMPLATE: u16 = 256;
const VARIABLE: u16 = u16::MAX;
/// Bytes of a service's name: with one byte of length before them.
const LONGEST_NAME: usize = 254;

/// Information elements of IANA's registry.
mod element {
    pub(super) const PROTOCOL_IDENTIFIER: u16 = 4;
    pub(super) const SOURCE_TRANSPORT_PORT: u16 = 7;
    pub(super) const SOURCE_IPV4_ADDRESS: u16 = 8;
    pub(super) const DESTINATION_TRANSPORT_PORT: u16 = 11;
    pub(super) const DESTINATION_IPV4_ADDRESS: u16 = 12;
    pub(super) const IP_NEXT_HOP_IPV4_ADDRESS: u16 = 15;
    pub(super) const SOURCE_IPV6_ADDRESS: u16 = 27;
    pub(super) const DESTINATION_IPV6_ADDRESS: u16 = 28;
    pub(super) const IP_NEXT_HOP_IPV6_ADDRESS: u16 = 62;
    pub(super) const APPLICATION_NAME: u16 = 96;
    pub(super) const FLOW_END_REASON: u16 = 136;
    pub(super) const FLOW_ID: u16 = 148;
    pub(super) const FLOW_START_MILLISECONDS: u16 = 152;
    pub(super) const FLOW_END_MILLISECONDS: u16 = 153;
    pub(super) const POST_NAT_SOURCE_IPV4_ADDRESS: u16 = 225;
    pub(super) const POST_NAT_DESTINATION_IPV4_ADDRESS: u16 = 226;
    pub(super) const POST_NAPT_SOURCE_TRANSPORT_PORT: u16 = 227;
    pub(super) const POST_NAPT_DESTINATION_TRANSPORT_PORT: u16 = 228;
    pub(super) const NAT_EVENT: u16 = 230;
    pub(super) const FIREWALL_EVENT: u16 = 233;
    pub(super) const POST_NAT_SOURCE_IPV6_ADDRESS: u16 = 281;
    pub(super) const POST_NAT_DESTINATION_IPV6_ADDRESS: u16 = 282;
    pub(super) const OBSERVATION_TIME_MILLISECONDS: u16 = 323;
}

/// What a record has in a message: its template and its data are both made of these.
#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Byte(u16, u8),
    Port(u16, u16),
    Long(u16, u64),
    /// The element of IPv4, and that of IPv6.
    Address([u16; 2], IpAddr),
    Text(u16, &'a str),
}

impl Field<'_> {
    fn specifier(self) -> (u16, u16) {
        match self {
            Field::Byte(element, _) => (element, 1),
            Field::Port(element, _) => (element, 2),
            Field::Long(element, _) => (element, 8),
            Field::Address([element, _], IpAddr::V4(_)) => (element, 4),
            Field::Address([_, element], IpAddr::V6(_)) => (element, 16),
            Field::Text(element, _) => (element, VARIABLE),
        }
    }

    fn write(self, to: &mut Vec<u8>) {
        match self {
            Field::Byte(_, value) => to.push(value),
            Field::Port(_, value) => to.extend(value.to_be_bytes()),
            Field::Long(_, value) => to.extend(value.to_be_bytes()),
            Field::Address(_, IpAddr::V4(address)) => to.extend(address.octets()),
            Field::Address(_, IpAddr::V6(address)) => to.extend(address.octets()),
            Field::Text(_, text) => {
                let ends = text
                    .char_indices()
                    .map(|(at, letter)| at + letter.len_utf8());
                let length = ends
                    .take_while(|end| *end <= LONGEST_NAME)
                    .last()
                    .unwrap_or(0);
                to.push(length as u8);
                to.extend(&text.as_bytes()[..length]);
            }
        }
    }
}

/// The fields of a record, and the number of its template: records of one number have the same fields.
fn fields<'a>(record: &Record, named: &'a Named, origin: i64) -> (u16, Vec<Field<'a>>) {
    use Field::{Address, Byte, Long, Port, Text};
    let time = |at: u64| u64::try_from(origin.saturating_add_unsigned(at)).unwrap_or(0);
    let (client, destination) = (record.client, record.destination);
    let mut fields = Vec::with_capacity(20);
    fields.push(Long(
        element::OBSERVATION_TIME_MILLISECONDS,
        time(record.at),
    ));
    fields.push(Long(element::FLOW_ID, record.id));
    let kind = match (record.event, record.start) {
        (Event::Start, _) => 0,
        (Event::End(_), Some(_)) => 1,
        (Event::End(_), None) => 2,
    };
    if let Event::End(cause) = record.event {
        if let Some(start) = record.start {
            fields.push(Long(element::FLOW_START_MILLISECONDS, time(start)));
        }
        fields.push(Long(element::FLOW_END_MILLISECONDS, time(record.last)));
        fields.push(Byte(element::FLOW_END_REASON, cause.end_reason()));
    }
    let sources = [element::SOURCE_IPV4_ADDRESS, element::SOURCE_IPV6_ADDRESS];
    let destinations = [
        element::DESTINATION_IPV4_ADDRESS,
        element::DESTINATION_IPV6_ADDRESS,
    ];
    fields.extend([
        Address(sources, client.0),
        Address(destinations, destination.0),
        Port(element::SOURCE_TRANSPORT_PORT, client.1),
        Port(element::DESTINATION_TRANSPORT_PORT, destination.1),
        Byte(element::PROTOCOL_IDENTIFIER, record.protocol),
    ]);
    // What reaches the server: its family is the server's.
    let local = record.local.unwrap_or(client);
    let is_one_family = local.0.is_ipv6() == named.server.0.is_ipv6();
    let is_translated = record.is_translated && is_one_family;
    let is_end = record.event != Event::Start;
    if is_translated {
        let sources = [
            element::POST_NAT_SOURCE_IPV4_ADDRESS,
            element::POST_NAT_SOURCE_IPV6_ADDRESS,
        ];
        let destinations = [
            element::POST_NAT_DESTINATION_IPV4_ADDRESS,
            element::POST_NAT_DESTINATION_IPV6_ADDRESS,
        ];
        fields.extend([
            Address(sources, local.0),
            Address(destinations, named.server.0),
            Port(element::POST_NAPT_SOURCE_TRANSPORT_PORT, local.1),
            Port(
                element::POST_NAPT_DESTINATION_TRANSPORT_PORT,
                named.server.1,
            ),
        ]);
        // RFC 8158, section 4.3: sessions of NAT44 and of NAT64 are created and deleted. There are no events of others.
        let event = match (client.0.is_ipv6(), named.server.0.is_ipv6()) {
            (false, false) => Some(4),
            (true, false) => Some(6),
            (_, true) => None,
        };
        fields.extend(event.map(|event| Byte(element::NAT_EVENT, event + u8::from(is_end))));
    } else {
        let hops = [
            element::IP_NEXT_HOP_IPV4_ADDRESS,
            element::IP_NEXT_HOP_IPV6_ADDRESS,
        ];
        fields.push(Address(hops, named.server.0));
    }
    // 1: created, 2: deleted.
    fields.push(Byte(element::FIREWALL_EVENT, 1 + u8::from(is_end)));
    fields.push(Text(element::APPLICATION_NAME, &named.service));
    let kinds = [client.0.is_ipv6(), named.server.0.is_ipv6(), is_translated];
    let number = kinds
        .into_iter()
        .fold(kind, |number, it| number * 2 + u16::from(it));
    (number, fields)
}

/// Makes messages of records, within one session after the other.
#[derive(Debug)]
pub(super) struct Exporter {
    /// The longest message.
    most: usize,
    domain: u32,
    /// Records of this session so far.
    sequence: u32,
    /// A bit for each template that the session has.
    templates: u32,
    message: Vec<u8>,
    /// The records in it.
    records: u32,
    /// Where its last set begins, and which it is.
    set: (usize, u16),
    data: Vec<u8>,
}

impl Exporter {
    /// `domain`: the observation domain, which tells one weir from another at a collector.
    pub(super) fn new(most: usize, domain: u32) -> Self {
        Exporter {
            most,
            domain,
            sequence: 0,
            templates: 0,
            message: Vec::with_capacity(most),
            records: 0,
            set: (0, 0),
            data: Vec::new(),
        }
    }

    /// A new session begins: another file, another connection.
    pub(super) fn begin(&mut self) {
        (self.sequence, self.templates) = (0, 0);
        self.message.clear();
        self.records = 0;
    }

    /// Has the templates sent again, each before the next record that needs it (RFC 7011, section 8.4: what has lost one, or was
    /// started anew, learns it).
    pub(super) fn refresh(&mut self) {
        self.templates = 0;
    }

    /// Adds a record to the message. `out` takes a message that is full, with the number of its records, and returns whether it
    /// could; `now`: in seconds since 1970.
    pub(super) fn add(
        &mut self,
        record: &Record,
        named: &Named,
        origin: i64,
        now: u32,
        out: &mut dyn FnMut(&[u8], u64) -> bool,
    ) {
        let (number, fields) = fields(record, named, origin);
        self.data.clear();
        fields.iter().for_each(|field| field.write(&mut self.data));
        let template = 2 * SET_HEADER + 4 * fields.len();
        if !self.message.is_empty()
            && self.message.len() + template + SET_HEADER + self.data.len() > self.most
        {
            self.finish(now, out);
        }
        if self.message.is_empty() {
            self.message.resize(HEADER, 0);
            self.set = (0, 0);
        }
        let id = FIRST_TEMPLATE + number;
        if self.templates & 1 << number == 0 {
            self.templates |= 1 << number;
            self.begin_set(TEMPLATE_SET);
            self.message.extend(id.to_be_bytes());
            self.message.extend((fields.len() as u16).to_be_bytes());
            for field in &fields {
                let (element, length) = field.specifier();
                self.message.extend(element.to_be_bytes());
                self.message.extend(length.to_be_bytes());
            }
        }
        if self.set.1 != id {
            self.begin_set(id);
        }
        self.message.extend(&self.data);
        self.records += 1;
    }

    fn begin_set(&mut self, id: u16) {
        self.end_set();
        self.set = (self.message.len(), id);
        self.message.extend(id.to_be_bytes());
        self.message.extend([0; 2]);
    }

    fn end_set(&mut self) {
        let (at, id) = self.set;
        if id != 0 {
            let length = (self.message.len() - at) as u16;
            self.message[at + 2..at + 4].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Hands out the message so far, if it has records.
    pub(super) fn finish(&mut self, now: u32, out: &mut dyn FnMut(&[u8], u64) -> bool) {
        if self.message.is_empty() {
            return;
        }
        self.end_set();
        let length = self.message.len() as u16;
        let header = &mut self.message[..HEADER];
        header[..2].copy_from_slice(&VERSION.to_be_bytes());
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[4..8].copy_from_slice(&now.to_be_bytes());
        header[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        header[12..16].copy_from_slice(&self.domain.to_be_bytes());
        if !out(&self.message, self.records.into()) {
            // Templates of it are lost with it.
            self.refresh();
        }
        self.sequence = self.sequence.wrapping_add(self.records);
        self.message.clear();
        self.records = 0;
    }
}

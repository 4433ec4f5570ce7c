//! Checks of name servers: a query over UDP.

use super::Stage;
use super::udp;
use super::way::To;
use super::words::{Checked, Failure, failed, not_made};
use crate::config::{DnsProbe, Rcode, RecordType};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr;
use std::str::FromStr;

pub(super) async fn check(to: &To, probe: &DnsProbe, id: u16, stage: &Stage) -> Checked {
    let Ok(mut name) = rr::Name::from_str(&probe.name) else {
        return not_made(format!("{:?} is no name in DNS", probe.name));
    };
    name.set_fqdn(true);
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, record_type(probe.record)));
    let Ok(question) = query.to_vec() else {
        return not_made("the question cannot be written");
    };
    let socket = udp::open(to).await?;
    stage.set("send");
    let sent = socket.send(&[to.header(), &question].concat()).await;
    sent.map_err(|error| Failure::at("send", &error))?;
    stage.set("answer");
    // Without EDNS it has at most 512 bytes.
    let mut answer = vec![0; udp::MOST];
    loop {
        let length = socket.recv(&mut answer).await;
        let length = length.map_err(|error| Failure::at("answer", &error))?;
        let Ok(answer) = Message::from_vec(&answer[..length]) else {
            return failed("answer: no DNS message");
        };
        // One to an older question, or forged.
        if answer.metadata.id == id && answer.metadata.message_type == MessageType::Response {
            return judge(&answer, probe);
        }
    }
}

fn judge(answer: &Message, probe: &DnsProbe) -> Checked {
    let code = answer.metadata.response_code;
    let words = words(code);
    if probe
        .rcode
        .is_some_and(|wanted| response_code(wanted) != code)
    {
        return failed(format!("response code {words}"));
    }
    let Some(wanted) = &probe.answer else {
        return Ok(format!("response code {words}"));
    };
    let records = || answer.answers.iter().map(|record| record.data.to_string());
    let is_same = |found: &str, wanted: &str| {
        let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
        plain(found) == plain(wanted) || found.trim_matches('"') == wanted
    };
    if records().any(|found| is_same(&found, wanted)) {
        return Ok(format!("answered {wanted}"));
    }
    let found: Vec<_> = records().take(3).collect();
    match found.is_empty() {
        true => failed(format!("no record in the answer, expected {wanted}")),
        false => failed(format!("answered {}, expected {wanted}", found.join(", "))),
    }
}

fn words(code: ResponseCode) -> String {
    let known = [
        (Rcode::NoError, "noerror"),
        (Rcode::FormErr, "formerr"),
        (Rcode::ServFail, "servfail"),
        (Rcode::NxDomain, "nxdomain"),
        (Rcode::NotImp, "notimp"),
        (Rcode::Refused, "refused"),
    ];
    let mut known = known.into_iter();
    let known = known.find(|(own, _)| response_code(*own) == code);
    known.map_or_else(|| u16::from(code).to_string(), |(_, word)| word.to_owned())
}

fn response_code(code: Rcode) -> ResponseCode {
    match code {
        Rcode::NoError => ResponseCode::NoError,
        Rcode::FormErr => ResponseCode::FormErr,
        Rcode::ServFail => ResponseCode::ServFail,
        Rcode::NxDomain => ResponseCode::NXDomain,
        Rcode::NotImp => ResponseCode::NotImp,
        Rcode::Refused => ResponseCode::Refused,
    }
}

fn record_type(record: RecordType) -> rr::RecordType {
    match record {
        RecordType::A => rr::RecordType::A,
        RecordType::Aaaa => rr::RecordType::AAAA,
        RecordType::Ns => rr::RecordType::NS,
        RecordType::Soa => rr::RecordType::SOA,
        RecordType::Mx => rr::RecordType::MX,
        RecordType::Txt => rr::RecordType::TXT,
        RecordType::Cname => rr::RecordType::CNAME,
        RecordType::Ptr => rr::RecordType::PTR,
        RecordType::Srv => rr::RecordType::SRV,
    }
}

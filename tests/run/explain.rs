//! `weir explain --running`: with the daemon's connections.

use super::*;

/// A packet of a connection that the daemon has is explained as of that, from both sides.
#[test]
fn explain_sees_the_running_daemons_connections() {
    let lab = Lab::new();
    lab.receives("wan", &syns(200));
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    daemon.wait(|daemon| (daemon.show("workers")[0]["transmitted_packets"] == 200).then_some(()));
    let row = daemon.show("connections")[77].clone();
    let text = |key: &str| row[key].as_str().unwrap().to_owned();
    let (client, local, real) = (text("client"), text("local"), text("real"));
    for packet in [
        format!("tcp {client} > 192.0.2.80:80 ACK"),
        format!("tcp {real} > {local} SYN+ACK"),
    ] {
        let output = weir(&["explain", "--running", "--api", &lab.api(), &packet]);
        let said = String::from_utf8(output.stdout).unwrap();
        for line in [
            "of a known connection of web, in state syn_recv before it".to_owned(),
            format!("client {client}, VIP 192.0.2.80:80"),
            format!("real server {real}"),
            format!("local pair {local}"),
            "without another packet it ends in ".to_owned(),
        ] {
            assert!(said.contains(&line), "{line}: {said}");
        }
        assert!(
            said.contains(&match packet.contains("SYN") {
                true => format!("{real} > {local} becomes 192.0.2.80:80 > {client}"),
                false => format!("{client} > 192.0.2.80:80 becomes {local} > {real}"),
            }),
            "{said}"
        );
    }
    // The list that it asks for.
    let of = |query: &str| -> Vec<Value> {
        let rows = daemon.get(&format!("/v1/connections?{query}"));
        json(&rows).as_array().unwrap().clone()
    };
    let client = client.as_str();
    for (query, count) in [
        (format!("protocol=tcp&from={client}&to=192.0.2.80:80"), 1),
        (format!("from={real}&to={local}"), 1),
        (format!("from={real}&to={local}&service=web"), 1),
        (format!("protocol=udp&from={client}&to=192.0.2.80:80"), 0),
        (format!("from={client}&to=192.0.2.80:81"), 0),
        ("protocol=tcp".to_owned(), 200),
        (format!("from={client}"), 1),
        ("to=192.0.2.80:80".to_owned(), 200),
        ("from=192.0.2.80:80".to_owned(), 0),
        ("protocol=tcp&limit=7".to_owned(), 7),
        ("protocol=sctp".to_owned(), 0),
    ] {
        assert_eq!(of(&query).len(), count, "{query}");
    }
    for query in [
        "protocol=icmp",
        "from=192.0.2.1",
        "from=here&to=192.0.2.1:1",
    ] {
        let request = format!("GET /v1/connections?{query} HTTP/1.0\r\n\r\n");
        let (status, _) = daemon.request(&request);
        assert_eq!(status, 400, "{query}");
    }
    daemon.stop();
}

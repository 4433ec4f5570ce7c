use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<[(u32, u16); 2]>().prop_map(|ends| {
        ends.map(|(ip, port)| SocketAddr::new(Ipv4Addr::from_bits(ip).into(), port))
    });
    let v6 = any::<[(u128, u16); 2]>().prop_map(|ends| {
        ends.map(|(ip, port)| SocketAddr::new(Ipv6Addr::from_bits(ip).into(), port))
    });
    prop_oneof![v4, v6].prop_map(|[source, destination]| (source, destination))
}

fn upper() -> impl Strategy<Value = Upper> {
    // Without any flag it would be read as a SYN.
    let tcp = (1u8..64, any::<u32>(), any::<u32>(), any::<Option<u16>>()).prop_map(
        |(flags, sequence, acknowledged, mss)| Upper::Tcp {
            flags: Flags(flags),
            sequence,
            acknowledged,
            mss,
        },
    );
    let icmp = any::<(u8, u8)>().prop_map(|(kind, code)| Upper::Icmp { kind, code });
    let chunks = prop::sample::select(Chunk::all().collect::<Vec<_>>());
    let sctp = (chunks, any::<Option<u32>>()).prop_map(|(chunk, tag)| Upper::Sctp { chunk, tag });
    prop_oneof![tcp, Just(Upper::Udp), sctp, icmp]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        (source, destination) in ends(),
        upper in upper(),
        ttl: u8,
        length in 0..=LONGEST,
        dscp in 0u8..64,
        df: bool,
    ) {
        let portless = |end: SocketAddr| match upper {
            Upper::Icmp { .. } => SocketAddr::new(end.ip(), 0),
            _ => end,
        };
        let words = Words {
            source: portless(source),
            destination: portless(destination),
            upper,
            ttl,
            length,
            dscp,
            dont_fragment: df && source.is_ipv4(),
        };
        prop_assert_eq!(words.to_string().parse(), Ok(words));
    }

    /// Whatever is typed, the place of what is wrong is in it or right behind it.
    #[test]
    fn any_text_is_read_or_refused_with_a_place(
        text in "(tcp|udp|sctp|icmp|é)?[ ,\t]*([0-9a-f:.\\[\\]%]{0,20}[ >-]{0,3}){0,3}([A-Za-z=0-9+|é-]{0,9} ?){0,3}",
    ) {
        if let Err(wrong) = text.parse::<Words>() {
            prop_assert!(wrong.column <= text.chars().count(), "{wrong:?}");
            prop_assert!(!wrong.why.is_empty() && !wrong.help.is_empty());
            prop_assert!(wrong.show(&text).contains('^'));
        }
    }
}

#[test]
fn what_a_person_writes_is_read() {
    for (text, same) in [
        (
            "tcp 203.0.113.5:1234 > 192.0.2.80:80",
            "tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN",
        ),
        (
            "TCP 1.2.3.4:5->6.7.8.9:80 syn,ack",
            "tcp 1.2.3.4:5 > 6.7.8.9:80 SYN ACK",
        ),
        (
            "tcp 1.2.3.4:5 > 6.7.8.9:80 SYN-ACK mss=1460",
            "tcp 1.2.3.4:5 > 6.7.8.9:80 SYN ACK mss=1460",
        ),
        (
            "tcp 1.2.3.4:5>6.7.8.9:80 fin+ack ack=7",
            "tcp 1.2.3.4:5 > 6.7.8.9:80 FIN ACK ack=7",
        ),
        (
            "udp [2001:db8::5]:53 > [2001:db8::80]:53 len=100",
            "udp [2001:db8::5]:53 > [2001:db8::80]:53 len=100",
        ),
        (
            "sctp 1.2.3.4:5 > 6.7.8.9:80",
            "sctp 1.2.3.4:5 > 6.7.8.9:80 INIT",
        ),
        (
            "SCTP [2001:db8::5]:1 -> [2001:db8::80]:2 tag=7 init_ack",
            "sctp [2001:db8::5]:1 > [2001:db8::80]:2 INIT-ACK tag=7",
        ),
        (
            "sctp 1.2.3.4:5 > 6.7.8.9:80 tag=0 Cookie-Echo len=9 df",
            "sctp 1.2.3.4:5 > 6.7.8.9:80 COOKIE-ECHO tag=0 len=9 df",
        ),
        ("icmp 1.2.3.4 > 6.7.8.9 type=8", "icmp 1.2.3.4 > 6.7.8.9"),
        (
            "icmpv6 2001:db8::5 > [2001:db8::80] ttl=1",
            "icmp 2001:db8::5 > 2001:db8::80 ttl=1",
        ),
    ] {
        let words: Words = text
            .parse()
            .unwrap_or_else(|why: Wrong| panic!("{}", why.show(text)));
        assert_eq!(words.to_string(), same, "{text}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, column, width, why) in [
        ("", 0, 1, "the packet is missing"),
        (
            "dccp 1.2.3.4:5 > 6.7.8.9:80",
            0,
            4,
            "no protocol that can be described",
        ),
        (
            "sctp 1.2.3.4:5 > 6.7.8.9:80 INIT ACK",
            33,
            3,
            "`ACK` stands behind the chunk INIT",
        ),
        (
            "sctp 1.2.3.4:5 > 6.7.8.9:80 SYN",
            28,
            3,
            "neither a chunk of SCTP nor an option",
        ),
        (
            "sctp 1.2.3.4:5 > 6.7.8.9:80 INIT mss=1",
            33,
            5,
            "sctp has no `mss=`",
        ),
        (
            "sctp 1.2.3.4:5 > 6.7.8.9:80 tag=4294967296",
            28,
            14,
            "no number from 0 to 4294967295",
        ),
        ("sctp 1.2.3.4 > 6.7.8.9:80", 5, 7, "`1.2.3.4` has no port"),
        (
            "tcp 1.2.3.4:5 > 6.7.8.9:80 tag=1",
            27,
            5,
            "tcp has no `tag=`",
        ),
        ("tcp 1.2.3.4 > 6.7.8.9:80", 4, 7, "`1.2.3.4` has no port"),
        ("tcp 1.2.3.4:5", 13, 1, "`> DESTINATION` is missing"),
        ("tcp 1.2.3.4:5 6.7.8.9:80", 14, 10, "where `>` is expected"),
        (
            "tcp 1.2.3.4:5 > [2001:db8::1]:80",
            16,
            16,
            "the source is of IPv4",
        ),
        (
            "tcp 1.2.3.4:5 > 6.7.8.9:80 SIN",
            27,
            3,
            "neither a TCP flag nor an option",
        ),
        (
            "tcp 1.2.3.4:5 > 6.7.8.9:80 ttl=256",
            27,
            7,
            "no number from 0 to 255",
        ),
        (
            "tcp 1.2.3.4:5 > 6.7.8.9:80 ttl=1 ttl=2",
            33,
            5,
            "stands twice",
        ),
        ("udp 1.2.3.4:5 > 6.7.8.9:80 SYN", 27, 3, "no option of udp"),
        (
            "udp 1.2.3.4:5 > 6.7.8.9:80 mss=1",
            27,
            5,
            "udp has no `mss=`",
        ),
        ("icmp 1.2.3.4:5 > 6.7.8.9", 5, 9, "ICMP has none"),
        (
            "icmp6 1.2.3.4 > 6.7.8.9",
            0,
            5,
            "ICMPv6 has addresses of IPv6",
        ),
        ("udp [fe80::1%2]:5 > [fe80::2]:5", 4, 13, "has a scope"),
        ("udp [::1]:5 > [::2]:5 df", 22, 2, "no DF bit"),
        ("tcp é > 1.2.3.4:80", 4, 1, "no address with a port"),
    ] {
        let wrong = text.parse::<Words>().unwrap_err();
        assert!(wrong.why.contains(why), "{text}: {}", wrong.why);
        assert_eq!(
            (wrong.column, wrong.width),
            (column, width),
            "{text}: {wrong:?}"
        );
    }
}

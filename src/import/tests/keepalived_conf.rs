//! What becomes of a keepalived.conf.

use super::*;

const WEB: &str = "
global_defs { lvs_timeouts tcp 600 tcpfin 60 udp 15
}
! VRRP stays keepalived's
vrrp_instance VI { virtual_ipaddress { 192.0.2.80/24
 } }
virtual_server 192.0.2.80 443
{
    delay_loop 6   # seconds
    lvs_sched wlc
    lvs_method NAT
    persistence_timeout 1800
    persistence_granularity 255.255.255.0
    protocol TCP
    sorry_server 10.0.0.99 8443
    virtualhost shop.example
    quorum 2
    hysteresis 1
    real_server 10.0.0.11 8443 { weight 1
        SSL_GET { url { path /health
                        status_code 200-204 301
                      }
            connect_timeout 3
            nb_get_retry 2
            delay_before_retry 4
        }
    }
    real_server 10.0.0.12 8443 {
        inhibit_on_failure
        SSL_GET {
            url {
                path /health
                status_code 200-204 301
            }
            connect_timeout 3
            retry 2
            delay_before_retry 4
        }
    }
}
";

#[test]
fn a_virtual_server_of_keepalived_has_its_checks_and_its_sorry_server() {
    let imported = from_keepalived(WEB);
    assert_said(
        &imported,
        &[
            "5: vrrp_instance VI moves 192.0.2.80/24",
            "20: SSL_GET: certificates",
            "29: inhibit_on_failure",
            "30: SSL_GET: certificates",
        ],
    );
    let config = config(&imported);
    let service = &config.services[0];
    assert_eq!((service.reals.len(), service.fallback.len()), (2, 1));
    assert_eq!(service.on_down, config::OnDown::Keep);
    let text = &imported.text;
    for line in [
        "type          = \"https\"",
        "interval      = \"6s\"",
        "fast_interval = \"4s\"",
        "timeout       = \"3s\"",
        "rise          = 1",
        "fall          = 3",
        "request       = { path = \"/health\", host = \"shop.example\", status = \"200-204,301\", verify = false }",
        "min_healthy = 1",
        "hysteresis  = 2",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert_eq!(config.timeouts.tcp_established.as_secs(), 600);
    // The same again says the same.
    assert_eq!(from_keepalived(WEB).text, imported.text);
}

#[test]
fn groups_are_a_service_for_each_member() {
    let imported = from_keepalived(
        "virtual_server_group SITE {\n 192.0.2.90 80\n 192.0.2.90 8080\n 192.0.2.100-102 80\n fwmark 7\n}\n\
         virtual_server group SITE {\n lb_algo rr\n lb_kind TUN\n real_server 10.0.0.1 80 {\n weight 2\n }\n}\n\
         virtual_server group OTHER { lb_kind DR\n}\nvirtual_server_group NONE {\n}\n",
    );
    assert_said(
        &imported,
        &[
            "!5: a firewall mark",
            "10: port 80: with dr and tunnel",
            "!14: there is no virtual_server_group \"OTHER\"",
            "16: no virtual server uses",
        ],
    );
    let config = config(&imported);
    let services: Vec<_> = config
        .services
        .iter()
        .map(|it| format!("{}:{}", it.address, it.port))
        .collect();
    assert_eq!(
        services,
        [
            "192.0.2.90:80",
            "192.0.2.90:8080",
            "192.0.2.100:80",
            "192.0.2.101:80",
            "192.0.2.102:80"
        ]
    );
}

#[test]
fn what_of_keepalived_is_not_carried_over_is_told_with_its_line() {
    let body = |lines: &str| {
        format!(
            "virtual_server 192.0.2.80 80 {{\nlb_kind DR\n{lines}\nreal_server 10.0.0.1 80 {{\n}}\n}}\n"
        )
    };
    let real = |lines: &str| {
        format!(
            "virtual_server 192.0.2.80 80 {{\nlb_kind DR\nreal_server 10.0.0.1 80 {{\n{lines}\n}}\n}}\n"
        )
    };
    let check = |lines: &str| real(&format!("TCP_CHECK {{\n{lines}\n}}"));
    let after = |lines: &str| body("") + lines;
    let cases: &[(String, &[&str])] = &[
        (body("lb_algo roundrobin"), &["!1: there is no scheduler \"roundrobin\""]),
        (body("net_mask 255.255.255.0"), &["!3: keepalived has no keyword \"net_mask\" here, and passes over it; did you mean `nat_mask`?"]),
        (body("nat_mask 255.255.255.0"), &["3: nat_mask: means nothing"]),
        (body("lb_kind XNAT"), &["!3: there is no lb_kind \"XNAT\""]),
        (body("quorum 3"), &["!3: quorum: without a sorry server"]),
        (body("quorum_up /bin/true"), &["!3: quorum_up: weir runs no scripts"]),
        (body("persistence_granularity 255.0.255.0"), &["!3: \"255.0.255.0\" is no netmask"]),
        (body("delay_loop x"), &["!3: delay_loop x: a number of seconds"]),
        (body("protocol ICMP"), &["!3: there is no protocol"]),
        (body("sorry_server nowhere"), &["!3: \"nowhere\" is no address"]),
        (body("sorry_server 2001:db8::1 80"), &["!3: the sorry server: it is of another family"]),
        (body("laddr_group_name x"), &["!3: there is no local_address_group"]),
        (body("real_server here 80 {\n}"), &["!3: the real server: \"here\" is no address"]),
        (body("real_server 10.0.0.1 80 {\n}"), &["!5: the real server 10.0.0.1:80 a second time"]),
        (real("notify_down /bin/true"), &["!4: notify_down: weir runs no scripts"]),
        (real("weight 300000"), &["3: weight 300000: 65535"]),
        (real("weight many"), &["!4: \"many\" is no weight"]),
        (real("TCP_CHEK {\n}"), &["!4: keepalived has no keyword \"TCP_CHEK\" here, and passes over it; did you mean `TCP_CHECK`?"]),
        (real("TCP_CHECK {\n}\nPING_CHECK {\n}"), &["!6: a second check"]),
        (real("BFD_CHECK {\nname x\n}"), &["!4: BFD_CHECK: weir has no such check"]),
        (real("MISC_CHECK {\n}"), &["!4: MISC_CHECK without misc_path"]),
        (check("connetc_port 80"), &["!5: keepalived has no keyword \"connetc_port\" here, and passes over it; did you mean `connect_port`?"]),
        (check("bindto 10.0.0.9"), &["!5: bindto: the way of"]),
        (check("connect_timeout 99"), &["4: a timeout of \"99s\" is longer than the interval"]),
        (after("virtual_server 192.0.2.80 80 {\nlb_kind NAT\n}"), &["!7: tcp:192.0.2.80:80 a second time"]),
        (after("virtual_server fwmark 7 {\n}"), &["!7: a virtual server by firewall mark"]),
        (after("virtual_sever 192.0.2.81 80 {\n}"), &["!7: keepalived has no keyword \"virtual_sever\""]),
        (after("include more.conf"), &["!7: include more.conf: there is no such file"]),
        (after("@one virtual_server 192.0.2.81 80 {"), &["!7: a line for the host \"one\" alone"]),
        (after("global_defs {\nlvs_sync_daemon eth0 VI\n}"), &["!8: the synchronisation of connections"]),
        (
            "$VIP=192.0.2.80 # ours\nvirtual_server $VIP ${PORT} {\nlb_kind DR\n}\nvirtual_server ${VIP} 80 {\nlb_kind DR\n}\n".to_owned(),
            &["!2: $PORT is not defined", "!2: \"PORT\" is no port", "5: no real server says how"],
        ),
        (
            "virtual_server 192.0.2.80 {\nlb_kind DR\nreal_server 10.0.0.1 {\nTCP_CHECK {\n}\n}\n}\n".to_owned(),
            &["1: no port: the service is for every port", "!4: the check: a service of every port"],
        ),
    ];
    for (text, expected) in cases {
        let imported = from_keepalived(text);
        assert_said(&imported, expected);
        config(&imported);
    }
}

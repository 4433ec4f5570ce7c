//! `weir ipvsadm …` and `weir explain --running`, asked of a running daemon as scripts and operators do.

#[path = "run/daemon.rs"]
#[allow(dead_code)]
mod daemon;
#[path = "run/frames.rs"]
#[allow(dead_code)]
mod frames;

use daemon::{Daemon, Lab, weir};
use std::io::Write;
use std::process::{Command, Stdio};

/// What a line of ipvsadm's printed, said on stderr, and ended with.
fn ipvsadm(api: &str, line: &str) -> (String, String, i32) {
    let mut arguments = vec!["ipvsadm", "--api", api];
    arguments.extend(line.split_whitespace());
    let output = weir(&arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code().unwrap(),
    )
}

fn done(api: &str, line: &str) -> String {
    let (out, err, code) = ipvsadm(api, line);
    assert_eq!((err.as_str(), code), ("", 0), "{line}");
    out
}

#[test]
fn a_script_of_ipvsadm_lines_does_what_it_says() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let api = lab.api();
    for (line, err, code) in [
        ("-C", "", 0),
        ("-A -t 192.0.2.10:80 -s rr", "", 0),
        ("-A -t 192.0.2.10:80 -s rr", "Service already exists\n", 255),
        ("-a -t 192.0.2.10:80 -r 10.0.0.11 -m", "", 0),
        (
            "-a -t 192.0.2.10:80 -r 10.0.0.11 -m",
            "Destination already exists\n",
            255,
        ),
        ("-a -t 192.0.2.10:80 -r 10.0.0.12:8080 -m -w 7", "", 0),
        (
            "-a -t 192.0.2.10:81 -r 10.0.0.11 -m",
            "Service not defined\n",
            255,
        ),
        (
            "-e -t 192.0.2.10:80 -r 10.0.0.13 -m",
            "No such destination\n",
            255,
        ),
        (
            "-d -t 192.0.2.10:80 -r 10.0.0.13",
            "No such destination\n",
            255,
        ),
        ("-D -t 192.0.2.10:81", "No such service\n", 255),
        ("-E -t 192.0.2.10:81 -s rr", "No such service\n", 255),
        (
            "-A -t 192.0.2.10:82 -s nonsense",
            "Scheduler or persistence engine not found\n",
            255,
        ),
        ("-A -u 192.0.2.10:53 -s mh -b mh-port -o", "", 0),
        (
            "-a -u 192.0.2.10:53 -r 10.0.0.11 -i --tun-type gue --tun-port 7000 -w 2",
            "",
            0,
        ),
        ("-A -t 192.0.2.10:443 -s sh -p 60 -M 255.255.255.0", "", 0),
        ("-a -t 192.0.2.10:443 -r 10.0.0.11", "", 0),
        ("-e -t 192.0.2.10:443 -r 10.0.0.11 -w 5", "", 0),
        (
            "-A -f 7 -s rr",
            "weir: there are no firewall marks: name the address and port\n",
            255,
        ),
        ("-A --sctp-service 192.0.2.10:3868", "", 0),
        (
            "-a --sctp-service 192.0.2.10:3868 -r 10.0.0.11 -x 9 -y 4",
            "",
            0,
        ),
        (
            "-a -t 192.0.2.10:80 -r 10.0.0.14 -g",
            "weir: tcp:192.0.2.10:80 has real servers with another forwarding method, and a service has one\n",
            255,
        ),
        (
            "-a -t 192.0.2.10:80 -r 10.0.0.14 -m -x 5 -y 9",
            "Numerical result out of range\n",
            255,
        ),
        ("-Z", "weir: counters are never set back\n", 255),
        ("--set 0 0 0", "", 0),
        ("-Ln -t 192.0.2.10:9999", "No such service\n", 1),
        ("-L --daemon", "", 0),
    ] {
        let (out, said, ended) = ipvsadm(&api, line);
        assert_eq!((said.as_str(), ended), (err, code), "{line}");
        assert_eq!(out, "", "{line}");
    }
    let table = "\
        IP Virtual Server version 1.2.1 (size=10000)\n\
        Prot LocalAddress:Port Scheduler Flags\n\
        \x20 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
        TCP  192.0.2.10:80 rr\n\
        \x20 -> 10.0.0.11:80                 Masq    1      0          0         \n\
        \x20 -> 10.0.0.12:8080               Masq    7      0          0         \n\
        TCP  192.0.2.10:443 sh persistent 60 mask 255.255.255.0\n\
        \x20 -> 10.0.0.11:443                Route   5      0          0         \n\
        UDP  192.0.2.10:53 mh (mh-port) ops\n\
        \x20 -> 10.0.0.11:53                 Tunnel  2      0          0         \n\
        SCTP 192.0.2.10:3868 wlc\n\
        \x20 -> 10.0.0.11:3868               Route   1      0          0         \n";
    let listed = done(&api, "-Ln");
    // The size is what the workers have room for, which is rounded up.
    let (first, rest) = listed.split_once('\n').unwrap();
    assert!(
        first.starts_with("IP Virtual Server version 1.2.1 (size="),
        "{first}"
    );
    assert_eq!(rest, table.split_once('\n').unwrap().1);
    assert_eq!(
        done(&api, "-Ln -t 192.0.2.10:443"),
        "\
        Prot LocalAddress:Port Scheduler Flags\n\
        \x20 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
        TCP  192.0.2.10:443 sh persistent 60 mask 255.255.255.0\n\
        \x20 -> 10.0.0.11:443                Route   5      0          0         \n"
    );
    assert_eq!(
        done(&api, "-L --timeout"),
        "Timeout (tcp tcpfin udp): 900 120 300\n"
    );
    assert!(done(&api, "-Lnc").starts_with("IPVS connection entries\npro expire state"));
    assert!(done(&api, "-Ln --rate").contains("CPS"));

    let saved = done(&api, "-S -n");
    assert_eq!(
        saved,
        "\
        -A -t 192.0.2.10:80 -s rr\n\
        -a -t 192.0.2.10:80 -r 10.0.0.11:80 -m -w 1\n\
        -a -t 192.0.2.10:80 -r 10.0.0.12:8080 -m -w 7\n\
        -A -t 192.0.2.10:443 -s sh -p 60 -M 255.255.255.0\n\
        -a -t 192.0.2.10:443 -r 10.0.0.11:443 -g -w 5\n\
        -A -u 192.0.2.10:53 -s mh -o -b mh-port\n\
        -a -u 192.0.2.10:53 -r 10.0.0.11:53 -i -w 2 --tun-type gue --tun-port 7000 --tun-nocsum\n\
        -A --sctp-service 192.0.2.10:3868 -s wlc\n\
        -a --sctp-service 192.0.2.10:3868 -r 10.0.0.11:3868 -g -w 1 -x 9 -y 4\n"
    );
    done(&api, "-C");
    assert_eq!(done(&api, "-S -n"), "");
    let restored = restore(&api, &saved);
    assert_eq!(restored, (String::new(), 0));
    assert_eq!(done(&api, "-S -n"), saved, "what was saved is restored");
    let again = restore(&api, "-A -t 192.0.2.10:80 -s rr\n\n-L -t 192.0.2.10:443\n");
    assert_eq!(again, ("Service already exists\n".to_owned(), 0));
    let refused = restore(&api, "-D -t 192.0.2.10:443\n-A -t 192.0.2.10:80\n");
    assert_eq!(
        refused,
        ("Service already exists\n".to_owned(), 255),
        "the last line's status"
    );
    assert_eq!(restore(&api, "garbage\n").1, 255);

    done(&api, "-E -t 192.0.2.10:80 -s wlc -p 50");
    let edited = done(&api, "-Ln -t 192.0.2.10:80");
    assert!(
        edited.contains("TCP  192.0.2.10:80 wlc persistent 50\n"),
        "{edited}"
    );
    done(&api, "-E -t 192.0.2.10:80 -s rr");
    let edited = done(&api, "-Ln -t 192.0.2.10:80");
    assert!(edited.contains("TCP  192.0.2.10:80 rr\n"), "{edited}");
    done(&api, "-d -t 192.0.2.10:80 -r 10.0.0.12:8080");
    done(&api, "-D -u 192.0.2.10:53");
    done(&api, "-D --sctp-service 192.0.2.10:3868");
    assert_eq!(
        done(&api, "-S -n"),
        "-A -t 192.0.2.10:80 -s rr\n-a -t 192.0.2.10:80 -r 10.0.0.11:80 -m -w 1\n"
    );
    drop(daemon);
    let (_, said, code) = ipvsadm(&api, "-Ln");
    assert!(
        said.starts_with("weir: no weir answers at unix:") && code == 255,
        "{said}"
    );
}

/// Reads lines as `-R` does; what was said, and how it ended.
fn restore(api: &str, lines: &str) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["ipvsadm", "--api", api, "-R"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    command
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = command.wait_with_output().unwrap();
    (
        String::from_utf8(output.stderr).unwrap(),
        output.status.code().unwrap(),
    )
}

#[test]
fn explain_sees_the_running_daemons_real_servers() {
    let lab = Lab::new();
    let _daemon = Daemon::start(&lab, &lab.config("", 3));
    let api = lab.api();
    let explain = || {
        let output = weir(&[
            "explain",
            "--running",
            "--api",
            &api,
            "tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN",
        ]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let before = explain();
    assert!(
        before.contains("10.0.0.11:8080, weight 3, 0 active"),
        "{before}"
    );
    assert!(
        before.contains("its MAC address is 02:00:00:00:01:0"),
        "{before}"
    );
    assert!(
        weir(&["drain", "web", "10.0.0.11:8080", "--api", &api])
            .status
            .success()
    );
    let after = explain();
    assert!(after.contains("10.0.0.11:8080, weight 3, effective 0, 0 active and 0 inactive connections: not now, drained"), "{after}");
    assert!(after.contains("* 10.0.0.12:8080, weight 1"), "{after}");
    assert!(
        after.contains("verdict      forward by lan: new connection"),
        "{after}"
    );
}

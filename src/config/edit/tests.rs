use super::super::RealKeys;
use super::*;
use serde_json::json;

const MAIN: &str = r#"# The file of lb1.
include = ["more.toml"]

[api]
listen = "127.0.0.1:9900" # for Prometheus

# --- Services ---

# The shop.
[[service]]
name      = "web"
address   = "192.0.2.80"
port      = 80
protocol  = "tcp"
mode      = "nat"   # as ever
scheduler = "wrr"
persistence = { timeout = 300, prefix_v4 = 24 }

  # In rack 1.
  [[service.real]]
  address = "10.0.0.11"
  port    = 8080  # not 80
  weight  = 3     # the large one

  [[service.real]]
  address = "10.0.0.12"

[limits]
connections = 10000 # enough
# The end.
"#;

const MORE: &str = r#"[[service]]
address = "2001:db8::80"
port = 53
protocol = "udp"
mode = "dr"
real = [
  { address = "fd00:a::11", weight = 2 }, # first
  { address = "fd00:a::12" },
]
"#;

fn texts() -> Vec<Text> {
    let text = |name: &str, text: &str| Text {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    vec![text("lb.toml", MAIN), text("more.toml", MORE)]
}

fn real(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What becomes of the file by replacing these parts, and nothing else of it.
fn hold(change: &FileChange, file: usize, parts: &[(&str, &str)]) {
    let mut expected = texts()[file].text.clone();
    for (before, after) in parts {
        assert_eq!(expected.matches(before).count(), 1, "{before}");
        expected = expected.replacen(before, after, 1);
    }
    let edited = edit(&texts(), change).unwrap();
    assert_eq!(edited.file, file, "{change:?}");
    assert_eq!(edited.text, expected, "{change:?}");
    // Line ends stay as they are, too.
    let mut dos = texts();
    dos.iter_mut()
        .for_each(|it| it.text = it.text.replace('\n', "\r\n"));
    let edited = edit(&dos, change).unwrap();
    assert_eq!(edited.text, expected.replace('\n', "\r\n"), "{change:?}");
}

#[test]
fn a_weight_changes_and_every_comment_stays() {
    let put = ServiceChange::PutReal(real("10.0.0.11:8080"), RealKeys::weight(7));
    for service in ["web", "tcp:192.0.2.80:80"] {
        hold(
            &FileChange::Change(service, &put),
            0,
            &[("weight  = 3     # the", "weight  = 7     # the")],
        );
    }
    // The port is the service's where the table has none.
    let put = ServiceChange::PutReal(real("10.0.0.12:80"), RealKeys::weight(0));
    hold(
        &FileChange::Change("web", &put),
        0,
        &[("\"10.0.0.12\"\n", "\"10.0.0.12\"\n  weight = 0\n")],
    );
    // A key that comes stands as the others do.
    let set = ServiceChange::SetReal(
        real("10.0.0.11:8080"),
        RealKeys {
            max_connections: Some(1000),
            min_connections: Some(900),
            ..RealKeys::weight(7)
        },
    );
    hold(
        &FileChange::Change("web", &set),
        0,
        &[(
            "weight  = 3     # the large one\n",
            "weight  = 7     # the large one\n  max_connections = 1000\n  min_connections = 900\n",
        )],
    );
    let absent = ServiceChange::SetReal(real("10.0.0.19:80"), RealKeys::weight(1));
    let refused = edit(&texts(), &FileChange::Change("web", &absent)).unwrap_err();
    assert_eq!(
        refused,
        "no table of the service is the real server 10.0.0.19:80"
    );
    let put = ServiceChange::PutReal(real("[fd00:a::11]:53"), RealKeys::weight(9));
    hold(
        &FileChange::Change("udp:[2001:db8:0::80]:53", &put),
        1,
        &[("weight = 2 }", "weight = 9 }")],
    );
}

/// A list in one line stays one.
#[test]
fn real_servers_in_one_line_stay_there() {
    let list = "[{ address = \"10.0.0.11\" }, {address=\"10.0.0.12\", weight=2}]";
    let file = format!(
        "[[service]]\nname = \"a\"\naddress = \"192.0.2.1\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\nreal = {list} # two\n"
    );
    let texts = [Text {
        name: "lb.toml".to_owned(),
        text: file.clone(),
    }];
    let put = |real_server: &str, weight| {
        let keys = RealKeys {
            weight,
            ..RealKeys::default()
        };
        ServiceChange::PutReal(real(real_server), keys)
    };
    let first = "{ address = \"10.0.0.11\"";
    for (change, after) in [
        (
            put("10.0.0.11:80", Some(3)),
            list.replace(first, &format!("{first}, weight = 3")),
        ),
        (
            put("10.0.0.12:80", Some(3)),
            list.replace("weight=2", "weight=3"),
        ),
        (put("10.0.0.12:80", None), list.to_owned()),
        (
            ServiceChange::SetReal(
                real("10.0.0.12:80"),
                RealKeys {
                    max_connections: Some(100),
                    ..RealKeys::weight(4)
                },
            ),
            list.replace(
                "{address=\"10.0.0.12\", weight=2}",
                "{ address = \"10.0.0.12\", weight = 4, max_connections = 100 }",
            ),
        ),
        (
            put("10.0.0.13:81", Some(1)),
            list.replace(
                "2}]",
                "2}, { address = \"10.0.0.13\", port = 81, weight = 1 }]",
            ),
        ),
        (
            ServiceChange::RemoveReal(real("10.0.0.12:80")),
            format!("[{first} }}]"),
        ),
    ] {
        let edited = edit(&texts, &FileChange::Change("a", &change)).unwrap();
        assert_eq!(edited.text, file.replace(list, &after), "{change:?}");
    }
}

#[test]
fn real_servers_come_and_go_where_the_others_are() {
    let put = ServiceChange::PutReal(real("10.0.0.13:81"), RealKeys::weight(2));
    hold(
        &FileChange::Change("web", &put),
        0,
        &[(
            "  address = \"10.0.0.12\"\n",
            "  address = \"10.0.0.12\"\n\n  [[service.real]]\n  address = \"10.0.0.13\"\n  port = 81\n  weight = 2\n",
        )],
    );
    let remove = ServiceChange::RemoveReal(real("10.0.0.11:8080"));
    hold(
        &FileChange::Change("web", &remove),
        0,
        &[(
            "\n  # In rack 1.\n  [[service.real]]\n  address = \"10.0.0.11\"\n  port    = 8080  # not 80\n  weight  = 3     # the large one\n",
            "",
        )],
    );
    let put = ServiceChange::PutReal(real("[fd00:a::13]:53"), RealKeys::default());
    let edited = edit(&texts(), &FileChange::Change("udp:[2001:db8::80]:53", &put)).unwrap();
    assert!(
        edited
            .text
            .contains("\n  { address = \"fd00:a::12\" },\n  { address = \"fd00:a::13\" },\n]"),
        "{}",
        edited.text
    );
    assert!(edited.text.contains("}, # first\n"), "{}", edited.text);
    let gone = ServiceChange::RemoveReal(real("10.0.0.11:80"));
    let why = edit(&texts(), &FileChange::Change("web", &gone)).unwrap_err();
    assert_eq!(
        why,
        "no table of the service is the real server 10.0.0.11:80"
    );
}

#[test]
fn keys_come_change_and_go() {
    let set = |patch: serde_json::Value| match patch {
        serde_json::Value::Object(keys) => ServiceChange::Set(keys),
        other => panic!("{other}"),
    };
    let change = set(json!({
        "scheduler": "wlc", "persistence": { "timeout": "10m", "prefix_v4": null }, "slow_start": "30s"
    }));
    hold(
        &FileChange::Change("web", &change),
        0,
        &[
            ("scheduler = \"wrr\"", "scheduler = \"wlc\""),
            (
                "persistence = { timeout = 300, prefix_v4 = 24 }\n",
                "persistence = { timeout = \"10m\" }\nslow_start = \"30s\"\n",
            ),
        ],
    );
    hold(
        &FileChange::Change(
            "web",
            &set(json!({ "mode": "fullnat", "local_pool": "inside" })),
        ),
        0,
        &[
            (
                "mode      = \"nat\"   # as",
                "mode      = \"fullnat\"   # as",
            ),
            (
                "prefix_v4 = 24 }\n",
                "prefix_v4 = 24 }\nlocal_pool = \"inside\"\n",
            ),
        ],
    );
}

#[test]
fn services_come_go_and_are_replaced() {
    let service = "[[service]]\naddress = \"192.0.2.90\"\nport = 80\nprotocol = \"tcp\" # new\nmode = \"nat\"\n[[service.real]]\naddress = \"10.0.0.11\"\n";
    let edited = edit(&texts(), &FileChange::Put(service)).unwrap();
    assert_eq!(edited.file, 0);
    // Behind the last service, before what follows it.
    let expected = MAIN.replace("\n[limits]", &format!("\n{service}\n[limits]"));
    assert_eq!(
        edited.text,
        expected.replace("\n\n[[service]]\naddress", "\n[[service]]\naddress")
    );
    assert_eq!(edited.services.as_deref(), Some(service));

    let other = service.replace("192.0.2.90", "192.0.2.80");
    let edited = edit(&texts(), &FileChange::Put(&other)).unwrap();
    assert!(
        edited.text.contains("# The shop.\n[[service]]\naddress = \"192.0.2.80\"\nport = 80\nprotocol = \"tcp\" # new\n"),
        "{}",
        edited.text
    );
    assert!(edited.text.ends_with(
        "address = \"10.0.0.11\"\n\n[limits]\nconnections = 10000 # enough\n# The end.\n"
    ));

    // Its own comment goes, that of the whole part stays.
    let edited = edit(&texts(), &FileChange::Remove("web")).unwrap();
    let begin = MAIN.find("# The shop.").unwrap();
    let end = MAIN.find("\n[limits]").unwrap();
    assert_eq!(
        edited.text,
        format!("{}{}", &MAIN[..begin - 1], &MAIN[end..])
    );
    assert_eq!(edited.services, None);
    let edited = edit(&texts(), &FileChange::Remove("udp:[2001:db8::80]:53")).unwrap();
    assert_eq!((edited.file, edited.text.as_str()), (1, ""));
}

#[test]
fn what_is_not_in_the_files_is_said() {
    let why = edit(&texts(), &FileChange::Remove("wob")).unwrap_err();
    assert_eq!(why, "no [[service]] table in lb.toml, more.toml is \"wob\"");
    assert!(edit(&texts(), &FileChange::Put("[[port]]\n")).is_err());
    let both = format!(
        "{}{MORE}",
        &MAIN[MAIN.find("[[service]]").unwrap()..MAIN.find("[limits]").unwrap()]
    );
    let why = edit(&texts(), &FileChange::Put(&both)).unwrap_err();
    assert_eq!(
        why,
        "the services belong into several files: add them one by one"
    );
    let inline = vec![Text {
        name: "lb.toml".to_owned(),
        text: "service = []\n".to_owned(),
    }];
    let why = edit(&inline, &FileChange::Put(MORE)).unwrap_err();
    assert!(
        why.starts_with("lb.toml: its services are no [[service]] tables"),
        "{why}"
    );
}

/// Others use them as well.
#[test]
fn real_servers_of_a_pool_are_not_those_of_one_service() {
    let file = "[[pool]]\nname = \"farm\"\nreal = [{ address = \"10.0.0.11\" }]\n[[service]]\nname = \"a\"\n\
                address = \"192.0.2.1\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\npool = \"farm\"\n";
    let texts = [Text {
        name: "lb.toml".to_owned(),
        text: file.to_owned(),
    }];
    for change in [
        ServiceChange::PutReal(real("10.0.0.11:80"), RealKeys::weight(3)),
        ServiceChange::RemoveReal(real("10.0.0.11:80")),
    ] {
        let refused = edit(&texts, &FileChange::Change("a", &change)).unwrap_err();
        assert!(
            refused.contains("[[pool]] \"farm\": edit the pool"),
            "{refused}"
        );
    }
    let keys = serde_json::json!({ "scheduler": "rr" });
    let set = ServiceChange::Set(keys.as_object().unwrap().clone());
    let edited = edit(&texts, &FileChange::Change("a", &set)).unwrap();
    assert_eq!(edited.text, format!("{file}scheduler = \"rr\"\n"));
}

/// A table of several protocols is changed as a whole.
#[test]
fn one_of_the_protocols_of_a_table_is_not_changed_alone() {
    let file = |name: &str| {
        format!(
            "[[service]]\n{name}address = \"192.0.2.1\"\nport = 53\nprotocol = \"tcp+udp\"\nmode = \"nat\"\n"
        )
    };
    for (name, help) in [
        ("name = \"dns\"\n", "write \"dns\""),
        ("", "give it a name"),
    ] {
        let texts = [Text {
            name: "lb.toml".to_owned(),
            text: file(name),
        }];
        for one in ["tcp:192.0.2.1:53", "udp:192.0.2.1:53"] {
            let refused = edit(&texts, &FileChange::Remove(one)).unwrap_err();
            assert!(refused.contains(help), "{refused}");
        }
        let other = edit(&texts, &FileChange::Remove("udp:192.0.2.1:54")).unwrap_err();
        assert!(other.contains("no [[service]] table"), "{other}");
    }
    let texts = [Text {
        name: "lb.toml".to_owned(),
        text: file("name = \"dns\"\n"),
    }];
    assert_eq!(edit(&texts, &FileChange::Remove("dns")).unwrap().text, "");
}

#[test]
fn a_range_is_found_as_it_is_written_and_as_commands_write_it() {
    let text = "[[service]]\naddress = \"2001:db8::1\"\nport = \"8000 - 8099\"\nprotocol = \"tcp\"\nmode = \"nat\"\n";
    let texts = [Text {
        name: "lb.toml".to_owned(),
        text: text.to_owned(),
    }];
    let remove = |meant: &str| edit(&texts, &FileChange::Remove(meant));
    assert_eq!(remove("tcp:[2001:db8:0::1]:8000-8099").unwrap().text, "");
    for other in ["tcp:[2001:db8::1]:8000", "tcp:[2001:db8::1]:8000-8098"] {
        assert!(remove(other).is_err(), "{other}");
    }
    let put = ServiceChange::PutReal(real("[2001:db8::9]:0"), RealKeys::weight(3));
    let edited = edit(
        &texts,
        &FileChange::Change("tcp:[2001:db8::1]:8000-8099", &put),
    )
    .unwrap();
    assert!(!edited.text.contains("port = 0"), "{}", edited.text);
}

/// Those of a real server that goes go with it, all others stay with theirs.
#[test]
fn comments_in_lists_stay_with_what_they_are_about() {
    let file = |list: &str| {
        format!(
            "[[service]]\nname = \"a\"\naddress = \"192.0.2.1\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\nreal = {list} # all\n"
        )
    };
    const MANY: &str = "[ # these\n  # A's\n  { address = \"10.0.0.11\" }, # A\n  # of all\n\n  # B's\n  { address = \"10.0.0.12\" }, # B\n  { address = \"10.0.0.13\" }, # C\n  # the end\n]";
    const OPEN: &str =
        "[\n  { address = \"10.0.0.11\" }, # A\n  { address = \"10.0.0.12\" } # B\n]";
    for (list, last, expected) in [
        (
            MANY,
            11,
            "[ # these\n  # of all\n\n  # B's\n  { address = \"10.0.0.12\" }, # B\n  { address = \"10.0.0.13\" }, # C\n  # the end\n]",
        ),
        (
            MANY,
            12,
            "[ # these\n  # A's\n  { address = \"10.0.0.11\" }, # A\n  # of all\n\n  { address = \"10.0.0.13\" }, # C\n  # the end\n]",
        ),
        (
            MANY,
            13,
            "[ # these\n  # A's\n  { address = \"10.0.0.11\" }, # A\n  # of all\n\n  # B's\n  { address = \"10.0.0.12\" }, # B\n  # the end\n]",
        ),
        (OPEN, 11, "[\n  { address = \"10.0.0.12\" } # B\n]"),
        (OPEN, 12, "[\n  { address = \"10.0.0.11\" } # A\n]"),
        (
            "[{ address = \"10.0.0.11\" }, { address = \"10.0.0.12\" }]",
            11,
            "[{ address = \"10.0.0.12\" }]",
        ),
        (
            "[ { address = \"10.0.0.11\" }, { address = \"10.0.0.12\" } ]",
            12,
            "[ { address = \"10.0.0.11\" } ]",
        ),
        (
            "[{ address = \"10.0.0.11\" }, # A\n  { address = \"10.0.0.12\" }]",
            12,
            "[{ address = \"10.0.0.11\" } # A\n]",
        ),
    ] {
        let texts = [Text {
            name: "lb.toml".to_owned(),
            text: file(list),
        }];
        let change = ServiceChange::RemoveReal(real(&format!("10.0.0.{last}:80")));
        let edited = edit(&texts, &FileChange::Change("a", &change)).unwrap();
        assert_eq!(edited.text, file(expected), "{last} of {list}");
    }
}

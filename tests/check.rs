//! What the configuration accepts, what it refuses and where it says so, through the library and through `weir check`.

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use weir::config::{
    self, Config, Context, Diagnostics, Hugepages, Idle, Listen, Loaded, Mode, Persistence, Queues,
    Severity, Timeouts, WhenUnavailable,
};

const EXAMPLE: &str = include_str!("../config/example.toml");
const MINIMAL: &str = include_str!("../config/minimal.toml");
const CONTEXT: Context = Context {
    schedulers: &["rr", "wrr", "lc", "wlc", "sh", "mh"],
    cpus: Some(&[0, 1, 2, 3]),
};

fn parse(text: &str) -> Result<Loaded, Diagnostics> {
    config::parse(text, "lb.toml", &CONTEXT)
}

fn good(text: &str) -> Config {
    match parse(text) {
        Ok(loaded) if loaded.warnings.is_empty() => loaded.config,
        Ok(loaded) => panic!("{}", loaded.warnings),
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

/// Checks a file of cases. `### ` begins one with its name; ` #! 8 message` at the end of a line says that something is
/// found in column 8 of this line (`warning: ` before the message: not an error), and there may be several. Nothing
/// else may be found. `rest` is appended to every case.
fn hold(cases: &str, rest: &str) {
    for case in cases.split("### ").skip(1) {
        let (name, text) = case.split_once('\n').unwrap();
        let mut expected = Vec::new();
        for (line, written) in (1..).zip(text.lines()) {
            for finding in written.split("#! ").skip(1) {
                let (column, part) = finding.trim().split_once(' ').unwrap();
                let (severity, part) = match part.strip_prefix("warning: ") {
                    Some(part) => (Severity::Warning, part),
                    None => (Severity::Error, part),
                };
                expected.push((line, column.parse::<usize>().unwrap(), severity, part));
            }
        }
        let (found, refused) = match parse(&format!("{text}\n{rest}")) {
            Ok(loaded) => (loaded.warnings, false),
            Err(diagnostics) => (diagnostics, true),
        };
        assert_eq!(
            refused,
            found.iter().any(|it| it.severity == Severity::Error),
            "{name}"
        );
        assert_eq!(found.len(), expected.len(), "{name}: {found}");
        for (it, (line, column, severity, part)) in found.iter().zip(expected) {
            assert_eq!(
                (it.line, it.column, it.severity),
                (line, column, severity),
                "{name}: {found}"
            );
            assert!(
                it.message.contains(part),
                "{name}: `{}` lacks `{part}`",
                it.message
            );
            assert!(
                it.help.is_some(),
                "{name}: `{}` does not say what to do",
                it.message
            );
        }
    }
}

/// Two ports and a route, to be appended to a case.
const NETWORK: &str = r#"
[[port]]
name = "wan"
device = "net_tap0"
addresses = ["198.51.100.1/24"]
[[port]]
name = "lan"
device = "net_tap1"
addresses = ["10.0.0.1/24"]
[[route]]
to = "10.20.0.0/16"
via = "10.0.0.254"
"#;

#[test]
fn values_are_refused_where_they_stand() {
    hold(include_str!("check/values.txt"), NETWORK);
}

#[test]
fn workers_are_cpus_of_this_machine() {
    hold(include_str!("check/workers.txt"), NETWORK);
    let anywhere = Context {
        cpus: None,
        ..CONTEXT
    };
    let text = format!(
        r#"[dpdk]
workers = [77]
{NETWORK}"#
    );
    assert!(config::parse(&text, "lb.toml", &anywhere).is_ok());
    let many = format!(
        "[dpdk]\nworkers = {:?}\n{NETWORK}",
        (0..65).collect::<Vec<_>>()
    );
    let refused = config::parse(&many, "lb.toml", &anywhere)
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("error: lb.toml:2:11: 65 workers are too many"),
        "{refused}"
    );
}

#[test]
fn ports_are_checked() {
    hold(include_str!("check/ports.txt"), "");
    let seventeen: String = (0..17)
        .map(|i| {
            format!(
                "[[port]]\nname = \"p{i}\"\ndevice = \"d{i}\"\naddresses = [\"10.{i}.0.1/24\"]\n"
            )
        })
        .collect();
    let diagnostics = parse(&seventeen).unwrap_err();
    assert!(
        diagnostics
            .to_string()
            .starts_with("error: lb.toml:65:1: 17 ports are too many"),
        "{diagnostics}"
    );
}

#[test]
fn routes_and_neighbours_are_checked() {
    hold(include_str!("check/routes.txt"), NETWORK);
}

#[test]
fn pools_are_checked() {
    hold(include_str!("check/pools.txt"), NETWORK);
}

#[test]
fn services_are_checked() {
    hold(include_str!("check/services.txt"), NETWORK);
}

#[test]
fn real_servers_are_checked() {
    hold(include_str!("check/reals.txt"), NETWORK);
}

/// The file that interface.md prints is refused for its IPv6 address, and for nothing else.
#[test]
fn the_documented_file_is_accepted_but_for_ipv6() {
    let printed = r#"
[dpdk]
workers     = [1]
main_lcore  = 0
hugepages   = "auto"
idle        = "poll"
eal_args    = []
[[port]]
name        = "wan"
device      = "net_tap0,iface=weir0"
addresses   = ["198.51.100.1/24", "2001:db8:1::1/64"]
mac         = "02:00:00:00:00:01"
mtu         = 1500
queues      = "auto"
vlan        = 0
[[route]]
to  = "0.0.0.0/0"
via = "198.51.100.254"
[[neighbour]]
address = "10.0.0.11"
mac     = "02:00:00:00:01:11"
[[local_pool]]
name      = "inside"
addresses = ["10.0.0.200", "10.0.0.204-10.0.0.207"]
ports     = "1024-65535"
[timeouts]
tcp_established = 900
tcp_fin_wait    = 120
udp             = 300
[[service]]
name       = "web"
address    = "192.0.2.80"
port       = 80
protocol   = "tcp"
mode       = "fullnat"
tunnel     = "ipip"
local_pool = "inside"
scheduler  = "wrr"
persistence = { timeout = 300, prefix_v4 = 32, prefix_v6 = 128 }
  [[service.real]]
  address = "10.0.0.11"
  port    = 8080
  weight  = 3
"#;
    let refused = parse(printed).unwrap_err();
    let errors: Vec<_> = refused
        .iter()
        .filter(|it| it.severity == Severity::Error)
        .collect();
    assert_eq!(errors.len(), 1, "{refused}");
    assert_eq!(errors[0].text, "\"2001:db8:1::1/64\"");
    assert!(parse(&printed.replace(", \"2001:db8:1::1/64\"", "")).is_ok());
}

#[test]
fn the_example_says_what_its_comments_say() {
    let config = good(EXAMPLE);
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(
        (config.dpdk.hugepages, config.dpdk.idle),
        (Hugepages::Auto, Idle::Poll)
    );
    assert_eq!(config.ports[0].mac, Some([2, 0, 0, 0, 0, 1]));
    assert_eq!(config.ports[1].addresses, ["10.0.0.1/24".parse().unwrap()]);
    assert_eq!(config.routes[0].to.prefix_len(), 0);
    let pool: Vec<Ipv4Addr> = [200, 204, 205, 206, 207]
        .map(|last| Ipv4Addr::new(10, 0, 0, last))
        .to_vec();
    assert_eq!(config.pools[0].addresses, pool);
    assert_eq!(config.pools[0].ports, (1024, 65_535));
    let [web, dns, all] = &config.services[..] else {
        panic!("{:?}", config.services)
    };
    assert_eq!(
        web.mode,
        Mode::Fullnat {
            pool: "inside".to_owned()
        }
    );
    let persistence = Persistence {
        timeout: Duration::from_secs(300),
        prefix_v4: 32,
        prefix_v6: 128,
        through_drain: false,
    };
    assert_eq!(web.persistence, Some(persistence));
    assert_eq!(
        web.reals
            .iter()
            .map(|real| (real.port, real.weight))
            .collect::<Vec<_>>(),
        [(8080, 3), (8080, 1)]
    );
    assert_eq!((dns.scheduler.as_str(), dns.reals[0].port), ("sh", 53));
    assert_eq!(
        (all.scheduler.as_str(), all.port, all.reals[0].port),
        ("wlc", 0, 0)
    );
}

#[test]
fn every_default_is_filled_in() {
    let config = good(MINIMAL);
    assert_eq!(
        (config.dpdk.workers, config.dpdk.main_lcore),
        (vec![1, 2, 3], 0)
    );
    assert_eq!(
        config.api.listen,
        Listen::Tcp(([127, 0, 0, 1], 9900).into())
    );
    assert_eq!(
        (config.limits.connections, config.limits.answers_per_second),
        (1_048_576, 1000)
    );
    assert_eq!(config.limits.host_packets_per_second, 10_000);
    assert_eq!(config.limits.host_peer_packets_per_second, 10_000);
    assert_eq!(config.host_peers, []);
    assert_eq!(
        (
            config.ports[0].mtu,
            config.ports[0].queues,
            config.ports[0].mac
        ),
        (1500, Queues::Auto, None)
    );
    let service = &config.services[0];
    assert_eq!(
        (service.name.as_str(), service.scheduler.as_str()),
        ("tcp:10.0.0.80:80", "wlc")
    );
    assert_eq!(
        (service.persistence, service.when_unavailable),
        (None, WhenUnavailable::Refuse)
    );
    assert_eq!((service.reals[0].port, service.reals[0].weight), (80, 1));
}

#[test]
fn workers_default_to_all_cpus_but_the_first() {
    /// The machine's CPUs, the text, and the workers and the control thread's CPU that come of them.
    type Case<'a> = (Option<&'a [usize]>, &'a str, &'a [usize], usize);
    let cases: &[Case] = &[
        (Some(&[4]), "", &[4], 4),
        (Some(&[2, 5, 7]), "", &[5, 7], 2),
        (Some(&[0, 1, 2]), "[dpdk]\nworkers = [0]", &[0], 1),
        (Some(&[0, 1]), "[dpdk]\nworkers = [0, 1]", &[0, 1], 0),
        (None, "", &[0], 0),
    ];
    for &(cpus, text, workers, main) in cases {
        let context = Context { cpus, ..CONTEXT };
        let loaded = config::parse(&format!("{text}\n{NETWORK}"), "lb.toml", &context).unwrap();
        assert_eq!(
            (
                &loaded.config.dpdk.workers[..],
                loaded.config.dpdk.main_lcore
            ),
            (workers, main),
            "{cpus:?}"
        );
    }
}

#[test]
fn time_spans_are_seconds_or_words() {
    let text = "[timeouts]\nudp = 7\ntcp_established = \"1h 30m\"\ntcp_listen = \"20days\"";
    let timeouts = good(&format!("{text}\n{NETWORK}")).timeouts;
    let seconds =
        [timeouts.udp, timeouts.tcp_established, timeouts.tcp_listen].map(|span| span.as_secs());
    assert_eq!(seconds, [7, 5400, 20 * 86_400]);
}

/// Writes files into a new folder and loads the first.
fn load(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Loaded, Diagnostics>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let loaded = config::load(&folder.path().join(files[0].0), &CONTEXT);
    (folder, loaded)
}

const SERVICE: &str = "[[service]]\naddress = \"192.0.2.1\"\nport = 1\nprotocol = \"tcp\"\nmode = \"nat\"\n\
                       [[service.real]]\naddress = \"10.0.0.9\"\n";

#[test]
fn included_tables_are_appended_in_the_order_of_their_names() {
    let second = SERVICE.replace("port = 1", "port = 2");
    let main = format!("include = [\"conf.d/*.toml\"]\n{NETWORK}");
    let deeper = format!("include = [\"more/x\"]\n{second}");
    let third = SERVICE.replace("port = 1", "port = 3");
    let files = [
        ("lb.toml", &main[..]),
        ("conf.d/b.toml", SERVICE),
        ("conf.d/a.toml", &deeper),
        ("conf.d/more/x", &third),
    ];
    let (_folder, loaded) = load(&files);
    let ports: Vec<_> = loaded
        .unwrap()
        .config
        .services
        .iter()
        .map(|service| service.port)
        .collect();
    assert_eq!(ports, [2, 3, 1]);
}

#[test]
fn errors_name_the_included_file() {
    let main = format!("include = [\"conf.d/*.toml\"]\n[limits]\n[[prt]]\n{NETWORK}");
    let (folder, loaded) = load(&[
        ("lb.toml", &main),
        ("conf.d/a.toml", "[limits]\nconections = 3\n"),
        ("conf.d/b.toml", SERVICE),
    ]);
    let found = loaded.unwrap_err().to_string();
    let here = folder.path().display();
    for line in [
        format!("error: {here}/lb.toml:3:3: unknown key `prt` in the file; did you mean `port`?\n"),
        format!("error: {here}/conf.d/a.toml:1:1: [limits] is given twice\n"),
        format!("note: {here}/lb.toml:2:1: given here first\n"),
        format!(
            "error: {here}/conf.d/a.toml:2:1: unknown key `conections` in [limits]; did you mean `connections`?\n"
        ),
    ] {
        assert!(found.contains(&line), "{line} is not in\n{found}");
    }
    assert_eq!(found.matches("error: ").count(), 3, "{found}");
}

#[test]
fn a_file_is_included_once_and_never_by_itself() {
    /// What is included, the other files, and where what is wrong with that.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: &[Case] = &[
        ("\"*.toml\"", &[], "lb.toml:1:12", "includes itself"),
        (
            "\"a\", \"./a\"",
            &[("a", SERVICE)],
            "lb.toml:1:17",
            "is included twice",
        ),
        (
            "\"a\"",
            &[("a", "include = [\"b\"]"), ("b", "include = [\"a\"]")],
            "b:1:12",
            "includes itself",
        ),
        ("\"a\"", &[("a", "port = [")], "a:1:9", "not TOML"),
        ("\"a[\"", &[], "lb.toml:1:12", "`a[` is no pattern"),
    ];
    for (include, others, place, message) in cases {
        let main = format!("include = [{include}]\n{NETWORK}");
        let files: Vec<_> = [("lb.toml", &main[..])]
            .into_iter()
            .chain(others.iter().copied())
            .collect();
        let (folder, loaded) = load(&files);
        let found = loaded.unwrap_err();
        let [it] = &found.iter().collect::<Vec<_>>()[..] else {
            panic!("{include}: {found}")
        };
        let at = format!("{}:{}:{}", it.file, it.line, it.column);
        assert_eq!(
            at,
            format!("{}/{place}", folder.path().display()),
            "{include}"
        );
        assert!(it.message.contains(message), "{include}: {found}");
    }
}

/// The one error that a main file has, and where: at the path in the folder, line and column.
fn only_error(folder: &Path) -> (String, String, String) {
    let found = config::load(&folder.join("lb.toml"), &CONTEXT).unwrap_err();
    let [it] = &found.iter().collect::<Vec<_>>()[..] else {
        panic!("{found}")
    };
    let file = Path::new(&it.file).strip_prefix(folder).unwrap();
    (
        format!("{}:{}:{}", file.display(), it.line, it.column),
        it.message.clone(),
        it.help.clone().unwrap(),
    )
}

#[test]
fn a_file_is_read_up_to_its_bound_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let main = |include: &str| {
        let text = format!("include = [\"{include}\"]\n{NETWORK}");
        std::fs::write(at("lb.toml"), text).unwrap();
    };
    // A comment of 16 MiB is read, a byte more is not, and a file with holes tells its size before it is read.
    let mut text = vec![b'#'; 16 << 20];
    std::fs::write(at("whole"), &text).unwrap();
    main("whole");
    assert!(config::load(&at("lb.toml"), &CONTEXT).is_ok());
    text.push(b'#');
    std::fs::write(at("larger"), &text).unwrap();
    let holes = std::fs::File::create(at("holes")).unwrap();
    holes.set_len(1 << 40).unwrap();
    let made = Command::new("mkfifo").arg(at("fifo")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("zeros")).unwrap();
    let split = "split it into several files, and `include` them";
    let unreadable = "let weir read the file, as UTF-8 text";
    let most = "at most 16777216 (16 MiB) of a file are read";
    let cases = [
        ("larger", format!("has 16777217 bytes: {most}"), split),
        ("holes", format!("has 1099511627776 bytes: {most}"), split),
        (
            "fifo",
            "cannot read: it is a FIFO, not a file".to_owned(),
            unreadable,
        ),
        (
            "socket",
            "cannot read: it is a socket, not a file".to_owned(),
            unreadable,
        ),
        (
            "folder",
            "cannot read: it is a directory, not a file".to_owned(),
            unreadable,
        ),
        (
            "zeros",
            "cannot read: it is a device, not a file".to_owned(),
            unreadable,
        ),
    ];
    for (name, why, help) in cases {
        main(name);
        let path = at(name);
        let message = format!("`{}`: {why}", path.display());
        let expected = ("lb.toml:1:12".to_owned(), message, help.to_owned());
        assert_eq!(only_error(folder.path()), expected);
        // The same of a main file.
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("check")
            .arg(&path)
            .output()
            .unwrap();
        let (stdout, stderr) = streams(&output);
        assert_eq!((stdout, output.status.code()), ("", Some(1)));
        let first = format!("error: {}: {why}\n", path.display());
        assert!(stderr.starts_with(&first), "{stderr}");
    }
}

#[test]
fn includes_are_bounded_in_depth_and_number() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("lb.toml", &format!("include = [\"2\"]\n{NETWORK}"));
    for n in 2..16 {
        write(&n.to_string(), &format!("include = [\"{}\"]", n + 1));
    }
    write("16", "");
    let load = || config::load(&folder.path().join("lb.toml"), &CONTEXT);
    assert!(load().is_ok(), "16 in a row");
    write("16", "\ninclude = [\"17\"]");
    write("17", "");
    let (place, message, _) = only_error(folder.path());
    let path = folder.path().join("17");
    assert_eq!(place, "16:2:12");
    assert_eq!(
        message,
        format!(
            "`{}` would be number 17 in a row of files that include one another: at most 16 are read",
            path.display()
        )
    );

    let many = folder.path().join("many");
    std::fs::create_dir(&many).unwrap();
    for n in 0..4095 {
        std::fs::write(many.join(format!("{n:04}")), "").unwrap();
    }
    write("lb.toml", &format!("include = [\"many/*\"]\n{NETWORK}"));
    assert!(load().is_ok(), "4096 in all");
    for n in 4095..4100 {
        std::fs::write(many.join(format!("{n:04}")), "").unwrap();
    }
    let (place, message, _) = only_error(folder.path());
    assert_eq!(place, "lb.toml:1:12");
    let path = many.join("4095");
    assert_eq!(
        message,
        format!(
            "`{}` would be one file too many: at most 4096 are read",
            path.display()
        )
    );
}

#[test]
fn an_include_that_finds_nothing_is_a_warning() {
    let (_folder, loaded) = load(&[("lb.toml", &format!("include = [\"conf.d/*\"]\n{NETWORK}"))]);
    let warnings = loaded.unwrap().warnings;
    let found: Vec<_> = warnings
        .iter()
        .map(|it| (it.line, it.column, it.message.as_str()))
        .collect();
    assert_eq!(found, [(1, 12, "no file matches `conf.d/*`")]);
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let docs = include_str!("../docs/configuration.md");
    for (table, keys) in config::keys() {
        let section = docs
            .split("\n## ")
            .find(|section| {
                section
                    .lines()
                    .next()
                    .is_some_and(|title| title.contains(table))
            })
            .unwrap_or_else(|| panic!("{table} has no section"));
        let cell = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        let documented: BTreeSet<String> = section.lines().filter_map(cell).collect();
        let known: BTreeSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(documented, known, "{table}");
    }
}

proptest! {
    /// Whatever becomes of a file by editing, its check ends, and every place that it names is in the file.
    #[test]
    fn no_edit_makes_the_check_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, ".{0,6}|[\"\\[\\]{}=\\n,.0-9-]{0,6}"), 1..8)) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
            if text.is_empty() {
                text.push(' ');
            }
        }
        let text: String = text.into_iter().collect();
        let found = match parse(&text) {
            Ok(loaded) => loaded.warnings,
            Err(diagnostics) => diagnostics,
        };
        for it in found.iter() {
            prop_assert!((1..=text.split('\n').count()).contains(&it.line));
            prop_assert!(it.column >= 1);
            prop_assert!(!it.message.chars().any(char::is_control), "{:?}", it.message);
        }
        let shown = found.to_string();
        let titles = shown.lines().filter(|line| line.starts_with("error: ") || line.starts_with("warning: ")).count();
        prop_assert_eq!(titles, found.len());
    }

    #[test]
    fn no_text_makes_the_check_panic(text in "\\PC{0,200}") {
        let _ = parse(&text).map_err(|found| found.to_string());
    }
}

fn weir_check(folder: &Path, text: &str) -> Output {
    std::fs::write(folder.join("lb.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(["check", "lb.toml"])
        .current_dir(folder)
        .output()
        .unwrap()
}

fn streams(output: &Output) -> (&str, &str) {
    (
        std::str::from_utf8(&output.stdout).unwrap(),
        std::str::from_utf8(&output.stderr).unwrap(),
    )
}

#[test]
fn a_good_file_is_one_line_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let output = weir_check(folder.path(), EXAMPLE);
    let summary = "lb.toml: ok: 2 ports, 3 services, 5 real servers, 1 local pool, 2 routes\n";
    assert_eq!(streams(&output), (summary, ""));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_doubtful_file_is_still_good() {
    let folder = tempfile::tempdir().unwrap();
    let output = weir_check(folder.path(), &format!("include = [\"none/*\"]\n{NETWORK}"));
    let (stdout, stderr) = streams(&output);
    assert_eq!(
        stdout,
        "lb.toml: ok: 2 ports, 0 services, 0 real servers, 0 local pools, 1 route\n"
    );
    assert!(
        stderr.starts_with("warning: lb.toml:1:12: no file matches `none/*`\n"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_bad_file_has_all_its_errors_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let output = weir_check(
        folder.path(),
        &format!("[dpdk]\nidel = 1\n[limits]\nconnections = 0\n{NETWORK}"),
    );
    let expected = "error: lb.toml:2:1: unknown key `idel` in [dpdk]; did you mean `idle`?
  |
2 | idel = 1
  | ^^^^
  |
help: the keys of [dpdk] are: workers, main_lcore, hugepages, idle, rss_key, mbufs, eal_args
error: lb.toml:4:15: `0` is out of range for `connections`
  |
4 | connections = 0
  |               ^
  |
help: write a number from 1 to 268435456
";
    assert_eq!(streams(&output), ("", expected));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_missing_file_is_an_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["check", "/no/such/file"])
        .output()
        .unwrap();
    let (stdout, stderr) = streams(&output);
    assert_eq!(stdout, "");
    assert!(
        stderr.starts_with("error: /no/such/file: cannot read: "),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(1));
}

//! `weir check` from outside.

use super::{EXAMPLE, NETWORK};
use std::path::Path;
use std::process::{Command, Output};

fn weir_check(folder: &Path, text: &str) -> Output {
    std::fs::write(folder.join("lb.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(["check", "lb.toml"])
        .current_dir(folder)
        .output()
        .unwrap()
}

pub fn streams(output: &Output) -> (&str, &str) {
    (
        std::str::from_utf8(&output.stdout).unwrap(),
        std::str::from_utf8(&output.stderr).unwrap(),
    )
}

#[test]
fn a_good_file_is_one_line_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let output = weir_check(folder.path(), EXAMPLE);
    let summary = "lb.toml: ok: 2 ports, 5 services, 7 real servers, 1 local pool, 2 routes\n";
    assert_eq!(streams(&output), (summary, ""));
    assert_eq!(output.status.code(), Some(0));
}

/// A large file is read by several threads, as far as the system has them.
#[test]
fn a_large_file_is_read_without_further_threads_too() {
    let folder = tempfile::tempdir().unwrap();
    let service = |n| {
        format!(
            "[[service]]\naddress = \"192.0.{}.{}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n\
             [[service.real]]\naddress = \"10.0.0.11\"\n",
            n / 200,
            n % 200 + 1
        )
    };
    let text: String = [NETWORK.to_owned()]
        .into_iter()
        .chain((0..3000).map(service))
        .collect();
    std::fs::write(folder.path().join("lb.toml"), text).unwrap();
    // No thread gets a stack as large as that.
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["check", "lb.toml"])
        .current_dir(folder.path())
        .env("RUST_MIN_STACK", (1_u64 << 48).to_string())
        .output()
        .unwrap();
    let summary =
        "lb.toml: ok: 2 ports, 3000 services, 3000 real servers, 0 local pools, 1 route\n";
    assert_eq!(streams(&output).0, summary, "{output:?}");
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

/// A device that is not there is told where it is named, too few packet buffers with how many there may be.
#[test]
fn what_this_machine_lacks_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[dpdk]\nworkers = [0]\nmain_lcore = 0\nidle = \"adaptive\"\nmbufs = 1024\n[[port]]\nname = \"wan\"\n\
                device = \"0000:ff:1f.7\"\naddresses = [\"192.0.2.1/24\"]\n";
    let output = weir_check(folder.path(), text);
    let (stdout, stderr) = streams(&output);
    assert!(stdout.starts_with("lb.toml: ok: 1 port,"), "{stdout}");
    let place =
        "warning: lb.toml:8:10: on this machine, port \"wan\": there is no PCI device 0000:ff:1f.7";
    let short = "warning: [dpdk] mbufs = 1024: ports may run out of buffers, ";
    let lines: Vec<_> = stderr.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with(place)), "{stderr}");
    assert!(lines.iter().any(|line| line.starts_with(short)), "{stderr}");
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
help: the keys of [dpdk] are: workers, main_lcore, hugepages, idle, rss_key, mbufs, burst, eal_args
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

/// The files that `[api]` names, each in a way that is wrong or doubtful, are told at the lines that name them.
#[test]
fn files_of_the_api_are_looked_at() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let certificate = |from: i32, to: i32| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["lb1".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (good, key) = certificate(2020, 2099);
    let (expired, expired_key) = certificate(2020, 2021);
    let (future, future_key) = certificate(2098, 2099);
    write("good.crt", &good, 0o644);
    write("good.key", &key, 0o600);
    write("expired.crt", &expired, 0o644);
    write("expired.key", &expired_key, 0o600);
    write("future.crt", &future, 0o644);
    write("future.key", &future_key, 0o644);
    write("none.crt", "no certificate\n", 0o644);
    write("tokens", "a:read:0123456789abcdef\n", 0o600);
    write("open", "0123456789abcdef\n", 0o644);
    write("wrong", "# ours\na:read:short\n", 0o600);
    let at = |name: &str| format!("{:?}", folder.path().join(name).display().to_string());
    for (tokens, tls, is_valid, told) in [
        (
            "tokens",
            ["good.crt", "good.key", "good.crt"],
            true,
            &[][..],
        ),
        (
            "wrong",
            ["good.crt", "expired.key", "good.crt"],
            false,
            &[
                "error: lb.toml:3:14: `token_file`: line 2: a token has at least 16",
                "error: lb.toml:4:",
                "`key`: it is not the key of the certificate",
            ],
        ),
        (
            "none",
            ["missing.crt", "none.crt", "none.crt"],
            false,
            &[
                "`token_file`: cannot read: No such file",
                "`certificate`: cannot read: No such file",
                "`key`: there is no private key in it",
                "`client_ca`: there is no certificate in it",
            ],
        ),
        (
            "open",
            ["expired.crt", "expired.key", "good.crt"],
            true,
            &[
                "warning: lb.toml:3:14: `token_file`: every user of this machine may open it (mode 0644)",
                "warning: lb.toml:4:23: `certificate`: the certificate has expired: ",
            ],
        ),
        (
            "tokens",
            ["future.crt", "future.key", "good.crt"],
            true,
            &[
                "`key`: every user of this machine may open it",
                "`certificate`: the certificate is valid from ",
            ],
        ),
    ] {
        let [certificate, key, ca] = tls.map(at);
        let text = format!(
            "[api]\nlisten = \"0.0.0.0:9900\"\ntoken_file = {}\ntls = {{ certificate = {certificate}, key = {key}, \
             client_ca = {ca} }}\n{NETWORK}",
            at(tokens)
        );
        let output = weir_check(folder.path(), &text);
        let (_, stderr) = streams(&output);
        assert_eq!(output.status.success(), is_valid, "{stderr}");
        assert_eq!(stderr.is_empty(), told.is_empty(), "{stderr}");
        for part in told {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
        assert!(!stderr.contains("0123456789abcdef"), "{stderr}");
    }
}

//! `weir import` from outside.

use super::command::streams;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn weir(folder: &Path, arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).current_dir(folder);
    let pipe = Stdio::piped;
    let mut child = (command.stdin(pipe()).stdout(pipe()).stderr(pipe()))
        .spawn()
        .unwrap();
    // A command that reads no stdin has ended perhaps.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

const RULES: &str = "-A -t 192.0.2.80:80 -s rr\n-a -t 192.0.2.80:80 -r 10.0.0.11:80 -m\n";

#[test]
fn an_imported_file_is_one_that_check_takes() {
    let folder = tempfile::tempdir().unwrap();
    let imported = weir(folder.path(), &["import", "ipvs", "-"], RULES);
    let (text, said) = streams(&imported);
    assert_eq!((imported.status.code(), said), (Some(0), ""));
    std::fs::write(folder.path().join("lb.toml"), text).unwrap();
    let checked = weir(folder.path(), &["check", "lb.toml"], "");
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[test]
fn included_files_are_read_and_each_line_that_is_lost_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sites")).unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put(
        "keepalived.conf",
        "$DOMAIN=example.org\ninclude sites/*.conf\n",
    );
    let site = "virtual_server 192.0.2.80 80 {\n  lb_kind DR\n  lb_alog rr\n  virtualhost www.${DOMAIN}\n  \
                real_server 10.0.0.11 80 {\n    HTTP_GET {\n      url {\n        path /\n      }\n    }\n  }\n}\n";
    put("sites/a.conf", site);
    let arguments = ["import", "keepalived", "keepalived.conf"];
    let imported = weir(folder.path(), &arguments, "");
    let (text, said) = streams(&imported);
    assert_eq!(imported.status.code(), Some(0));
    assert!(text.contains("host = \"www.example.org\""), "{text}");
    let lost = "warning: not carried over: sites/a.conf:3: keepalived has no keyword \"lb_alog\" here, and passes over it; did you \
                mean `lb_algo`?\n";
    assert_eq!(said, lost);
    let strict = weir(folder.path(), &[&arguments[..], &["--strict"]].concat(), "");
    assert_eq!((strict.status.code(), streams(&strict).0), (Some(1), text));
}

#[test]
fn what_cannot_be_imported_ends_with_1_and_an_empty_stdout() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vrrp.conf"), "vrrp_instance A {\n}\n").unwrap();
    for (arguments, why) in [
        (
            &["keepalived", "vrrp.conf"][..],
            "vrrp.conf: no virtual_server found, only VRRP",
        ),
        (&["keepalived", "none.conf"], "none.conf: No such file"),
        (
            &["ipvs", "-", "--nat-as", "fullnat"],
            "--nat-as fullnat takes --local-pool",
        ),
    ] {
        let failed = weir(folder.path(), &[&["import"], arguments].concat(), RULES);
        let (text, said) = streams(&failed);
        assert_eq!((failed.status.code(), text), (Some(1), ""), "{arguments:?}");
        assert!(
            said.contains(&format!("error: {why}")),
            "{arguments:?}: {said}"
        );
    }
}

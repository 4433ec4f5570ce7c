//! The scripts: what they pack, wait for, and which Python they take.

mod skip;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TOP: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a command to its success; its stdout.
fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A machine without this tree: nothing of the environment but a short path.
fn elsewhere(program: &Path, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    command
}

#[test]
fn a_bundle_runs_in_another_folder_with_nothing_of_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("weir.tar.gz");
    succeed(
        Command::new(format!("{TOP}/scripts/bundle"))
            .args(["--weir", env!("CARGO_BIN_EXE_weir")])
            .arg(&archive),
    );
    let there = folder.path().join("another place");
    std::fs::create_dir(&there).unwrap();
    succeed(
        elsewhere(Path::new("/usr/bin/tar"), &["xf", "../weir.tar.gz"], &there)
            .arg("--no-same-owner"),
    );
    let bundle = there.join("weir-bundle");
    for file in [
        "config/example.toml",
        "config/minimal.toml",
        "config/weir.service",
        "docs/configuration.md",
        "docs/server-kit.md",
        "server-kit/Makefile",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "licenses/crates.txt",
        "licenses/debian/libc6",
    ] {
        let length = bundle.join(file).metadata().map_or(0, |about| about.len());
        assert!(length > 0, "{file} is missing");
    }
    let crates = std::fs::read_to_string(bundle.join("licenses/crates.txt")).unwrap();
    assert!(
        crates
            .lines()
            .any(|line| line.starts_with("tokio v") && line.ends_with(": MIT")),
        "{crates}"
    );

    // By a link, as from /usr/local/bin.
    let weir = folder.path().join("weir");
    std::os::unix::fs::symlink(bundle.join("weir"), &weir).unwrap();
    let version = succeed(&mut elsewhere(&weir, &["--version"], &there));
    assert!(version.starts_with("weir "), "{version}");
    let checked = succeed(&mut elsewhere(
        &weir,
        &["check", "weir-bundle/config/minimal.toml"],
        &there,
    ));
    assert!(checked.contains(": ok: "), "{checked}");
    let measured = succeed(&mut elsewhere(
        &weir,
        &["bench", "--quick", "--case", "sizes"],
        &there,
    ));
    assert!(measured.contains("100 % forwarded"), "{measured}");
    // Imports all that it needs; it would measure the bundle's own binary.
    let help = succeed(&mut elsewhere(
        &bundle.join("scripts/bench"),
        &["--help"],
        &there,
    ));
    assert!(help.contains("--stages"), "{help}");
}

#[test]
fn the_bundle_script_tells_its_options_and_refuses_others() {
    let bundle = |arguments: &[&str]| -> Output {
        Command::new(format!("{TOP}/scripts/bundle"))
            .args(arguments)
            .output()
            .unwrap()
    };
    let help = bundle(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(
        help.status.success() && text.contains("--weir BINARY"),
        "{text}"
    );
    for arguments in [&["--nope"][..], &["--weir", "/no/such/file"], &["a", "b"]] {
        let refused = bundle(arguments);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && text.starts_with("error: "),
            "{arguments:?}: {text}"
        );
    }
}

/// Under a real systemd. The package's own checks are those of tests/package-inside.sh.
#[test]
#[ignore = "minutes: it installs cargo-deb and makes a Debian of its own; scripts/test --full runs it"]
fn a_package_is_installed_started_upgraded_and_purged() {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("a Debian of its own takes root");
    }
    let status = Command::new(format!("{TOP}/tests/package.sh"))
        .arg(env!("CARGO_BIN_EXE_weir"))
        .status()
        .expect("tests/package.sh starts");
    assert!(status.success(), "see the lines above");
}

/// By QEMU's BIOS and by OVMF, with a configuration drive and by a person's answers; it forwards through PCI devices.
#[test]
#[ignore = "minutes: it makes a Debian with a kernel and boots it three times; scripts/test --full runs it"]
fn an_image_boots_is_set_up_and_forwards() {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("a Debian of its own takes root");
    }
    let binary = env!("CARGO_BIN_EXE_weir");
    let place = tempfile::tempdir_in(format!("{TOP}/target")).unwrap();
    let [package, image] = ["weir.deb", "weir.img"].map(|name| place.path().join(name));
    let run = |script: &str, arguments: &[&std::ffi::OsStr]| {
        let status = Command::new(format!("{TOP}/{script}"))
            .args(arguments)
            .env("WEIR", binary)
            .env("LAB_SECONDS", "1800")
            .status()
            .expect("it starts");
        assert!(status.success(), "{script}: see the lines above");
    };
    let scenario = format!("{TOP}/tests/lab/image.sh");
    run(
        "scripts/package",
        &["--weir".as_ref(), binary.as_ref(), package.as_ref()],
    );
    run(
        "scripts/image",
        &["--package".as_ref(), package.as_ref(), image.as_ref()],
    );
    run("scripts/lab", &[scenario.as_ref(), image.as_ref()]);
}

#[test]
fn the_package_names_files_that_are_there() {
    let manifest = std::fs::read_to_string(format!("{TOP}/Cargo.toml")).unwrap();
    let script = std::fs::read_to_string(format!("{TOP}/scripts/package")).unwrap();
    let assets = manifest.split("[\"target/package/").skip(1);
    let names: Vec<_> = assets.map(|it| it.split('"').next().unwrap()).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let first = name.split('/').next().unwrap();
        assert!(script.contains(first), "scripts/package stages no {name}");
    }
    for file in std::fs::read_dir(format!("{TOP}/packaging")).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap();
        let is_staged = manifest.contains(&format!("target/package/{name}\""));
        assert!(
            is_staged || name.starts_with("post"),
            "nothing takes packaging/{name}"
        );
    }
}

/// The machine's own `python3` may be pyenv's or conda's, which lacks Debian's packages: what the tests run is named whole.
/// `scripts/bench` needs no package and runs from a bundle with any.
#[test]
fn tests_and_scripts_take_debians_python() {
    let mut files = Vec::new();
    let mut folders = vec![
        PathBuf::from(TOP).join("scripts"),
        PathBuf::from(TOP).join("tests"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    assert!(files.len() > 50);
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        if file.ends_with("scripts/bench") || file.ends_with("tests/scripts.rs") {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            let bare = line.contains("env python") || line.contains("new(\"python");
            // A command of a shell script: at its beginning, after a host's name, in a pipe or a substitution.
            let words: Vec<_> = line.split([' ', '(', '|', '"']).collect();
            let called = words.windows(2).any(|pair| {
                ["python", "python3"].contains(&pair[0])
                    && (pair[1].starts_with('-') || pair[1].is_empty())
            });
            let is_shell = file.extension().is_none_or(|end| end != "rs");
            assert!(
                !(bare || called && is_shell),
                "{}:{number}: {line}",
                file.display()
            );
        }
    }
}

/// `scripts/setup` with an apt that finds another at work, the first time.
#[test]
fn setup_waits_for_another_apt() {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("it installs as root only");
    }
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    put("dpkg-query", "echo not-installed");
    put(
        "apt-get",
        r#"here=$(dirname "$0")
echo "$@" >>"$here/calls"
if [[ ! -e $here/locked ]]; then
    touch "$here/locked"
    echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)" >&2
    exit 100
fi"#,
    );
    put("sleep", "true");
    let setup = || {
        Command::new(format!("{TOP}/scripts/setup"))
            .arg("build")
            .env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.path().display()),
            )
            .output()
            .unwrap()
    };
    let done = setup();
    assert!(done.status.success(), "{done:?}");
    let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
    let lines: Vec<_> = calls.lines().collect();
    assert_eq!(lines.len(), 3, "{calls}");
    assert!(
        lines
            .iter()
            .all(|line| line.contains("DPkg::Lock::Timeout=")),
        "{calls}"
    );
    assert!(
        lines[0].contains("update")
            && lines[2].contains("install")
            && lines[2].contains("libdpdk-dev"),
        "{calls}"
    );

    // Whatever else goes wrong is told at once.
    put(
        "apt-get",
        "echo 'E: Unable to locate package libdpdk-dev' >&2; exit 100",
    );
    let done = setup();
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(
        !done.status.success()
            && text.contains("Unable to locate package")
            && text.contains("error: "),
        "{text}"
    );
}

/// systemd's own judgement of each unit: 40 of 100 or less (`systemd-analyze security`).
#[test]
fn the_units_expose_little() {
    for unit in ["config/weir.service", "server-kit/weir-server-kit.service"] {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=40"])
            .arg(PathBuf::from(TOP).join(unit))
            .output()
            .expect("systemd-analyze, of the Debian package systemd");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("Overall exposure level"),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn the_unit_reloads_by_the_file_that_it_starts_with() {
    let unit = std::fs::read_to_string(format!("{TOP}/config/weir.service")).unwrap();
    let file = |key: &str| {
        let line = unit.lines().find(|line| line.starts_with(key));
        let line = line.unwrap_or_else(|| panic!("{key} is missing"));
        let (_, file) = line
            .split_once(" --config ")
            .unwrap_or_else(|| panic!("{line}"));
        file.to_owned()
    };
    assert_eq!(file("ExecReload="), file("ExecStart="));
}

/// What a test writes that is skipped while it runs; libtest takes it for passed.
#[test]
fn skipped_tests_are_counted_as_skipped() {
    const ALONE: &str = "WEIR_TEST_SKIPS";
    if std::env::var_os(ALONE).is_some() {
        return skip::skip("it is the test's own");
    }
    let folder = tempfile::tempdir().unwrap();
    let (log, skipped) = (folder.path().join("log"), folder.path().join("skipped"));
    let itself = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "skipped_tests_are_counted_as_skipped"])
        .env(ALONE, "1")
        .env("WEIR_SKIPPED", &skipped)
        .output()
        .unwrap();
    assert!(itself.status.success(), "{itself:?}");
    let mut told = String::from_utf8(itself.stdout).unwrap();
    told += "test result: FAILED. 7 passed; 2 failed; 3 ignored; 0 measured; 0 filtered out\n";
    std::fs::write(&log, told).unwrap();
    let line = std::fs::read_to_string(&skipped).unwrap();
    assert!(line.ends_with(": it is the test's own\n"), "{line}");

    let told = succeed(
        Command::new("bash")
            .args(["-c", ". scripts/lib/summary.sh; summary \"$@\"", "bash"])
            .args([&log, &skipped])
            .current_dir(TOP),
    );
    assert_eq!(
        told,
        format!("skipped: {line}7 passed, 2 failed, 4 skipped\n")
    );
}

/// A test that fails beside others and passes alone is named; one that fails alone has failed, and so has what ends otherwise.
#[test]
fn a_test_that_passes_alone_is_told_apart() {
    const FAILED: &str = "test a::one ... FAILED\ntest b ... ok\n\
        test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n\
        error: test failed, to rerun pass `--test a`\n";
    let ended = format!("{FAILED}error: test failed, to rerun pass `--test b`\nsignal: 11\n");
    let alone = "passed only when it was alone: a::one\n";
    let cases = [
        (
            FAILED,
            "test a::one ... ok\n",
            format!("{alone}5 passed, 0 failed, 0 skipped\n"),
        ),
        (
            FAILED,
            "test a::one ... FAILED\n",
            "4 passed, 1 failed, 0 skipped\n".into(),
        ),
        (
            FAILED,
            "test b ... ok\n",
            "4 passed, 1 failed, 0 skipped\n".into(),
        ),
        (
            &ended,
            "test a::one ... ok\n",
            "4 passed, 1 failed, 0 skipped\n".into(),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let at = |name| folder.path().join(name);
    std::fs::write(at("skipped"), "").unwrap();
    for (log, again, told) in cases {
        std::fs::write(at("log"), log).unwrap();
        std::fs::write(at("again"), again).unwrap();
        let summary = succeed(
            Command::new("bash")
                .args(["-euo", "pipefail", "-c"])
                .args([". scripts/lib/summary.sh; summary \"$@\"", "bash"])
                .args([at("log"), at("skipped"), at("again")])
                .current_dir(TOP),
        );
        assert_eq!(summary, told, "{log}{again}");
    }
}

/// What the repository says of its toolchain agrees with itself.
#[test]
fn contributors_are_told_of_every_script_and_the_oldest_toolchain() {
    let read = |name: &str| std::fs::read_to_string(format!("{TOP}/{name}")).unwrap();
    let told = read("CONTRIBUTING.md");
    for entry in std::fs::read_dir(format!("{TOP}/scripts")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_told = name == "lib" || told.contains(&format!("scripts/{name}"));
        assert!(is_told, "CONTRIBUTING.md lacks scripts/{name}");
    }
    for entry in std::fs::read_dir(format!("{TOP}/tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_binary =
            path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").exists();
        let is_told = !is_binary || told.contains(&format!("`{name}`"));
        assert!(is_told, "CONTRIBUTING.md lacks the tests of {name}");
    }
    let oldest = read("Cargo.toml");
    let oldest = oldest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'))
        .unwrap();
    assert!(told.contains(&format!("Rust {oldest}")), "{oldest}");
}

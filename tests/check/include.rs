//! Files: how they include one another, and what of them is read.

use super::command::streams;
use super::{CONTEXT, NETWORK};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use weir::config::{self, Diagnostics, Loaded};

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
fn a_pattern_has_no_hidden_files() {
    let main = format!("include = [\"conf.d/*\", \"extra/.named\"]\n{NETWORK}");
    let other = SERVICE.replace("port = 1", "port = 2");
    let files = [
        ("lb.toml", &main[..]),
        ("conf.d/a.toml", SERVICE),
        // As one that is just being written, or was left behind.
        ("conf.d/.a.toml.weir-7", SERVICE),
        ("extra/.named", &other),
    ];
    let (_folder, loaded) = load(&files);
    assert_eq!(loaded.unwrap().config.services.len(), 2);
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

/// Lists are read with every load; what is wrong in one is told at its own place, once however many services name it.
#[test]
fn lists_of_clients_are_files_that_services_share() {
    let folder = tempfile::tempdir().unwrap();
    // Only of what every user may read is there more than a line's number.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let (main, list) = (folder.path().join("lb.toml"), folder.path().join("list"));
    let service = |port: u16| {
        let keys = format!(
            "port = {port}\ndeny = [\"192.168.0.0/16\", \"file:{}\"]",
            list.display()
        );
        SERVICE.replace("port = 1", &keys)
    };
    let text = [NETWORK, &service(1), &service(2)].concat();
    std::fs::write(&main, text).unwrap();
    let load = |content: &str| {
        std::fs::write(&list, content).unwrap();
        config::load_after(&main, &CONTEXT, &config::Known::default())
    };
    let files = |loaded: &Loaded| -> Vec<_> {
        let services = loaded.config.services.iter();
        services
            .map(|service| service.deny.as_ref().unwrap().files[0].clone())
            .collect()
    };
    let first = load("203.0.113.0/24\n# none\n").unwrap();
    let [one, two] = &files(&first)[..] else {
        panic!()
    };
    assert!(Arc::ptr_eq(one, two) && one.entries == 1);

    // After the same text of the main file, another one of the list.
    std::fs::write(&list, "203.0.113.0/24\n2001:db8::/32\n").unwrap();
    let second = config::load_after(&main, &CONTEXT, &first.known).unwrap();
    assert_eq!(files(&second)[1].entries, 2);
    assert!(first.config != second.config);
    let same = config::load_after(&main, &CONTEXT, &second.known).unwrap();
    assert!(Arc::ptr_eq(&files(&same)[0], &files(&second)[0]));

    let wrong = load("203.0.113.0/24\n  203.0.113.5/24\n").unwrap_err();
    let said: Vec<_> = wrong.iter().collect();
    let [said] = &said[..] else { panic!("{wrong}") };
    assert_eq!(
        (said.file.as_str(), said.line, said.column),
        (list.to_str().unwrap(), 2, 3)
    );
    std::fs::remove_file(&list).unwrap();
    let gone = config::load(&main, &CONTEXT).unwrap_err();
    assert!(gone.to_string().contains("cannot read"), "{gone}");
}

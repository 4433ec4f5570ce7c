//! The status page in a browser, over a running daemon.

use super::browser::Browser;
use super::*;
use std::net::{SocketAddr, TcpListener};

const TOKEN: &str = "correct-horse-battery";
const ROWS: &str = "document.querySelectorAll('main tbody tr').length";
/// A name that is a script where it is taken for HTML.
const HOSTILE: &str = "<img/src=x/onerror=document.title=1>";

/// A daemon that listens on TCP beside its control socket, with many services.
fn start(lab: &Lab, services: usize, more: &str) -> (Daemon, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let listen = format!("listen = \"{at}\"\n{more}");
    let mut config = lab.config("", 1).replace("listen = \"\"", &listen);
    for n in 0..services {
        let name = if n == 0 {
            HOSTILE.to_owned()
        } else {
            format!("many-{n:03}")
        };
        config += &format!(
            "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.{}\"\nport = {}\nprotocol = \"tcp\"\nmode = \"nat\"\n\
             [[service.real]]\naddress = \"10.0.0.11\"\nport = 9000\nweight = {}\n",
            100 + n % 50,
            1000 + n,
            n % 3,
        );
    }
    (Daemon::start(lab, &config), format!("http://{at}"))
}

/// The browser with the page of a daemon; none: this machine has no browser.
fn look(address: &str) -> Option<Browser> {
    if !Browser::is_there() {
        skip::skip("no /usr/bin/chromium: scripts/setup browser");
        return None;
    }
    let mut browser = Browser::start();
    browser.set_screen(1280, 800, false);
    browser.open(address);
    Some(browser)
}

#[test]
fn the_page_shows_what_there_is_and_asks_no_one_else() {
    let lab = Lab::new();
    let stray = tcp((CLIENT, 20_000), ([203, 0, 113, 9], 80), SYN, 64);
    lab.receives("wan", &[&syns(40)[..], &[stray]].concat());
    let (daemon, address) = start(&lab, 120, "");
    let Some(mut browser) = look(&address) else {
        return;
    };
    daemon.wait(|daemon| (daemon.show("workers")[0]["transmitted_packets"] == 40).then_some(()));
    browser.wait(&format!("{ROWS} === 50"));
    browser.wait("document.body.innerText.includes('1–50 of 122')");
    // The numbers of the one service that has connections, first once they are sorted by.
    browser.press("Connections");
    browser.wait("document.querySelector('main tbody tr').innerText.startsWith('web')");
    let row = browser
        .value("[...document.querySelector('main tbody tr').cells].map((it) => it.innerText)");
    let row: Vec<_> = row
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(
        row[..6],
        [
            "web",
            "tcp:192.0.2.80:80",
            "fullnat, wrr",
            "served",
            "2 / 2",
            "40"
        ]
    );
    browser.wait(
        "document.querySelector('th[aria-sort=descending]').innerText.startsWith('Connections')",
    );
    // The lines of rates come with the third answer.
    browser.wait("document.querySelector('main svg.spark path')");
    browser.picture("services");
    browser.press("Next page");
    browser.wait("document.body.innerText.includes('51–100 of 122')");

    // By keys alone: the search, and a service.
    browser.key("/", 191);
    browser.wait("document.activeElement.id === 'search'");
    browser.write("many-07");
    browser.wait(&format!(
        "{ROWS} === 10 && document.body.innerText.includes('1–10 of 10')"
    ));
    browser.value("document.querySelector('main tbody a').focus()");
    browser.key("Enter", 13);
    browser.wait("document.querySelector('h2').innerText && location.hash.startsWith('#service/')");
    browser.wait(&format!(
        "{ROWS} === 1 && document.title.startsWith('Service')"
    ));

    // A name stays a name.
    browser.open(&format!("{address}/#services?search=onerror"));
    browser.wait(&format!(
        "{ROWS} === 1 && document.querySelector('main tbody').innerText.includes('onerror')"
    ));
    assert_eq!(
        browser.value("document.querySelector('main tbody a').textContent"),
        HOSTILE
    );
    assert_eq!(browser.value("document.images.length"), 0);

    // A third of the many has weight 0, and one service a real server that does not answer.
    browser.open(&format!("{address}/#services?impaired=true"));
    browser.wait(
        "document.body.innerText.includes('of 41') && document.body.innerText.includes('refused')",
    );

    for (view, expected) in [
        ("reals", "10.0.0.12:8080"),
        ("drops", "not_for_us"),
        ("workers", "wan/0"),
        ("ports", "198.51.100.1/24"),
        ("pools", "inside"),
        ("network", "0.0.0.0/0"),
        ("events", "daemon"),
    ] {
        browser.open(&format!("{address}/#{view}"));
        browser.wait(&format!(
            "document.querySelector('nav [aria-current]').hash === '#{view}' && document.querySelector('main').innerText.includes({expected:?})"
        ));
        browser.wait(&format!("{ROWS} > 0"));
        assert_eq!(
            browser.value("document.getElementById('notice').hidden"),
            true
        );
        is_usable(&mut browser, view);
        browser.picture(view);
    }
    // An event that happens is shown, without the page asking again.
    let drained = daemon.tool(&["drain", "web", "10.0.0.11:8080"]);
    assert!(drained.status.success(), "{drained:?}");
    browser.wait("document.querySelector('main tbody').innerText.includes('10.0.0.11:8080')");

    assert_eq!(browser.complaints(), Vec::<Value>::new());
    let asked = browser.requests();
    assert!(asked.len() > 20, "{asked:?}");
    let own = |it: &&String| {
        it.starts_with(&format!("{address}/")) || it.starts_with("data:image/svg+xml,")
    };
    let others: Vec<_> = asked.iter().filter(|it| !own(it)).collect();
    assert!(others.is_empty(), "{others:?}");
    drop(browser);
    daemon.stop();
}

/// What can be used has a name, and the tables are tables.
fn is_usable(browser: &mut Browser, view: &str) {
    let told = browser.told();
    let used = [
        "button",
        "link",
        "searchbox",
        "textbox",
        "checkbox",
        "combobox",
        "table",
        "meter",
        "columnheader",
        "rowheader",
        "region",
    ];
    for role in [
        "button",
        "link",
        "table",
        "columnheader",
        "heading",
        "navigation",
        "main",
    ] {
        assert!(
            told.iter().any(|(found, _)| found == role),
            "{view}: no {role}: {told:?}"
        );
    }
    for (role, name) in &told {
        assert!(
            !used.contains(&&**role) || !name.is_empty(),
            "{view}: a {role} without a name: {told:?}"
        );
    }
}

#[test]
fn the_page_is_for_every_screen() {
    let lab = Lab::new();
    let (daemon, address) = start(&lab, 60, "");
    let Some(mut browser) = look(&address) else {
        return;
    };
    let paper = "getComputedStyle(document.body).backgroundColor";
    let mut papers = Vec::new();
    for (width, is_dark) in [(1280, false), (1280, true), (400, false), (400, true)] {
        browser.set_screen(width, 800, is_dark);
        for view in [
            "services",
            "service/tcp%3A192.0.2.81%3A80",
            "reals",
            "drops",
            "workers",
            "ports",
            "pools",
            "network",
            "events",
        ] {
            browser.open(&format!("{address}/#{view}"));
            let main = "document.querySelector('main')";
            browser.wait(&format!(
                "{main}.dataset.view === '#{view}' && !{main}.hasAttribute('aria-busy')"
            ));
            browser.wait("document.getElementById('totals').children.length > 5");
            // Tables that are wider than the screen scroll by themselves.
            let wide = browser.value("document.documentElement.scrollWidth");
            assert!(
                wide.as_u64() <= Some(width.into()),
                "{view}: {wide} at {width}"
            );
            let scheme = if is_dark { "dark" } else { "light" };
            let name = view.split('/').next().unwrap();
            browser.picture(&format!("{name}-{width}-{scheme}"));
        }
        papers.push(browser.value(paper));
    }
    assert_eq!(papers[0], papers[2]);
    assert_ne!(papers[0], papers[1]);
    // The switch goes before the system, and is remembered.
    browser.set_screen(1280, 800, false);
    browser.press("Theme: auto");
    browser.press("Theme: light");
    assert_eq!(browser.value(paper), papers[1]);
    browser.call("Page.reload", serde_json::json!({}));
    browser.wait("document.getElementById('totals').children.length > 5");
    assert_eq!(browser.value(paper), papers[1]);
    assert_eq!(browser.complaints(), Vec::<Value>::new());
    drop(browser);
    daemon.stop();
}

#[test]
fn with_a_token_the_page_changes_real_servers_after_a_confirmation() {
    let lab = Lab::new();
    let token = lab.write(
        "token",
        &format!(
            "ops:write:{TOKEN}\ngrafana:read:{}\n",
            TOKEN.replace("horse", "zebra")
        ),
    );
    let (daemon, address) = start(&lab, 0, &format!("token_file = \"{}\"", token.display()));
    let Some(mut browser) = look(&format!("{address}/#service/tcp%3A192.0.2.80%3A80")) else {
        return;
    };
    let real = |daemon: &Daemon| {
        daemon
            .show("reals")
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["real"] == "10.0.0.11:8080")
            .unwrap()
            .clone()
    };
    let drain = "Drain 10.0.0.11:8080 of web";
    let has = |name: &str| format!("document.querySelector('[aria-label={name:?}]')");
    browser.wait(&format!("{ROWS} === 2"));
    assert_eq!(browser.value(&format!("{} === null", has(drain))), true);

    // One that is wrong is not kept.
    browser.press("Enter a token");
    browser.wait(
        "document.querySelector('dialog[open]') && document.activeElement.type === 'password'",
    );
    browser.write("correct-horse-batterx");
    browser.key("Enter", 13);
    browser.wait("document.querySelector('dialog .wrong').textContent.includes('no token')");
    assert_eq!(browser.value("sessionStorage.length"), 0);
    browser.complaints();
    browser.press("Cancel");
    // One for reading changes nothing.
    let enter = |browser: &mut Browser, token: &str| {
        browser.press("Enter a token");
        browser.wait("document.activeElement.type === 'password'");
        browser.write(token);
        browser.press("Use it");
        browser.wait("!document.querySelector('dialog')");
    };
    enter(&mut browser, &TOKEN.replace("horse", "zebra"));
    browser.wait("document.getElementById('said').textContent.includes('for reading')");
    assert_eq!(browser.value(&format!("{} === null", has(drain))), true);
    browser.press("Forget the token");
    enter(&mut browser, TOKEN);
    browser.wait(&has(drain));
    assert_eq!(browser.value("sessionStorage.length"), 1);
    assert_eq!(
        browser.value(&format!("JSON.stringify(localStorage).includes({TOKEN:?})")),
        false
    );
    browser.picture("token");

    // Nothing happens before it is confirmed.
    browser.press(drain);
    browser.wait("document.querySelector('dialog[open]')");
    browser.picture("drain");
    browser.press("Cancel");
    browser.wait("!document.querySelector('dialog')");
    assert_eq!(real(&daemon)["admin"], "enabled");
    browser.press(drain);
    browser.wait("document.querySelector('dialog[open]')");
    browser.write("half an hour");
    browser.press("Drain");
    browser.wait("document.querySelector('dialog .wrong').textContent.includes('no time span')");
    // The browser notes each request that is refused.
    browser.complaints();
    assert_eq!(real(&daemon)["admin"], "enabled");
    browser.value("document.querySelector('dialog input').value = '30m'");
    browser.press("Drain");
    browser.wait("document.querySelector('main tbody').innerText.includes('drained')");
    assert_eq!(real(&daemon)["admin"], "drained");
    assert!(daemon.get("/v1/events").contains("token ops, 127.0.0.1"));
    browser.press("Enable 10.0.0.11:8080 of web");
    browser.press("Enable");
    browser.wait("!document.querySelector('main tbody').innerText.includes('drained')");
    assert_eq!(real(&daemon)["admin"], "enabled");
    browser.press("Weight 10.0.0.11:8080 of web");
    browser.wait("document.activeElement.name === 'weight'");
    browser.value("document.activeElement.value = '7'");
    browser.press("Set the weight");
    browser.wait(
        "document.querySelector('main tbody').innerText.includes(\"an operator's weight 7\")",
    );
    assert_eq!(real(&daemon)["runtime_weight"], 7);

    // A reload that waits for a confirmation is kept.
    let loaded = daemon.tool(&[
        "reload",
        "--confirm",
        "10m",
        lab.path("lb.toml").to_str().unwrap(),
    ]);
    assert!(loaded.status.success(), "{loaded:?}");
    browser.wait("!document.getElementById('awaited').hidden");
    browser.picture("awaited");
    browser.value("document.querySelector('#awaited button').click()");
    browser.wait("document.querySelector('dialog[open]')");
    browser.value("document.querySelector('dialog button.main').click()");
    browser.wait("document.getElementById('awaited').hidden");
    let (status, said) = daemon.request("POST /v1/confirm HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
    assert_eq!(status, 409, "{said}");

    // What is forgotten is forgotten, here and after a reload.
    browser.press("Forget the token");
    browser.wait(&format!("{} === null", has(drain)));
    assert_eq!(browser.value("sessionStorage.length"), 0);
    assert_eq!(browser.complaints(), Vec::<Value>::new());
    drop(browser);
    daemon.stop();
}

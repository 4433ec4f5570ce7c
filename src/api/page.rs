//! `GET /`: the status page. One document that brings all that it needs, and reads the rest from the API it came from.
//!
//! It names its style and its script by their hashes, so that a browser runs nothing else in it, whatever a configuration or a
//! real server has in its texts; and it may ask no other host for anything.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use std::sync::LazyLock;

pub(super) const HTML: &str = "text/html; charset=utf-8";

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// One script, in the order of what uses what.
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n",
    include_str!("page/dom.js"),
    include_str!("page/api.js"),
    include_str!("page/rates.js"),
    include_str!("page/table.js"),
    include_str!("page/change.js"),
    include_str!("page/services.js"),
    include_str!("page/machine.js"),
    include_str!("page/main.js"),
    "})();\n",
);

struct Page {
    text: Bytes,
    policy: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| Page {
    text: text().into(),
    // Hashes and words of ASCII: it cannot fail.
    policy: HeaderValue::from_str(&policy())
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")),
});

fn text() -> String {
    FRAME
        .replace("/* page.css */", STYLE)
        .replace("/* page.js */", SCRIPT)
}

/// The content security policy (CSP level 3).
fn policy() -> String {
    let hash = |text: &str| {
        format!(
            "'sha256-{}'",
            STANDARD.encode(digest(&SHA256, text.as_bytes()))
        )
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

pub(super) async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(HTML)),
        (header::CONTENT_SECURITY_POLICY, PAGE.policy.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    (headers, PAGE.text.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is between a tag and its end.
    fn between<'a>(text: &'a str, tag: &str, end: &str) -> &'a str {
        let mut parts = text.split(tag);
        let found = parts.nth(1).expect(tag);
        assert_eq!(parts.next(), None, "{tag} is there once");
        found.split(end).next().unwrap()
    }

    #[test]
    fn what_the_policy_allows_is_what_is_there() {
        let text = text();
        assert_eq!(between(&text, "<style>", "</style>"), STYLE);
        assert_eq!(between(&text, "<script>", "</script>"), SCRIPT);
    }

    #[test]
    fn the_page_asks_no_other_host_and_makes_no_html_of_texts() {
        for banned in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "srcdoc",
            "localStorage.setItem(TOKEN",
            "https://",
            "@import",
            "url(",
        ] {
            assert!(!text().contains(banned), "{banned}");
        }
        // The one address is a name: that of SVG.
        let addresses: Vec<_> = SCRIPT.split("http://").skip(1).collect();
        assert!(
            addresses
                .iter()
                .all(|it| it.starts_with("www.w3.org/2000/svg"))
        );
        for handler in [" onclick=", " onload=", " style="] {
            assert!(!FRAME.contains(handler), "{handler}");
        }
    }
}

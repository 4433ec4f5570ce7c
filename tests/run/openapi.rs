//! The OpenAPI document against the daemon: every route of it answers as it says, and refuses everything else.

use super::*;
use serde_json::json as object;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub const JSON: &str = "application/json";
pub const TOML: &str = "application/toml";
pub const PROBLEM: &str = "application/problem+json";
const VERBS: [&str; 7] = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"];

pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends a request whose body has this type, if any.
pub fn ask(lab: &Lab, line: &str, content_type: Option<&str>, body: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(lab.path("weir.sock")).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let length = body.len();
    let mut request = format!("{line} HTTP/1.0\r\nContent-Length: {length}\r\n");
    if let Some(content_type) = content_type {
        request += &format!("Content-Type: {content_type}\r\n");
    }
    // It may be refused, and the connection closed, before all of it is read.
    let _ = stream.write_all(&[request.as_bytes(), b"\r\n", body].concat());
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// A method of an address.
pub struct Operation<'a> {
    pub verb: String,
    pub path: &'a str,
    pub says: &'a Value,
}

impl Operation<'_> {
    fn line(&self) -> String {
        format!("{} {}", self.verb, self.path)
    }
}

pub struct Document(Value);

impl Document {
    pub fn of(daemon: &Daemon) -> Document {
        Document(json(&daemon.get("/v1/openapi.json")))
    }

    pub fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (verb, says) in item.as_object().unwrap() {
                let verb = verb.to_uppercase();
                assert!(VERBS.contains(&&*verb), "{path}: {verb}");
                operations.push(Operation { verb, path, says });
            }
        }
        assert!(operations.len() > 20);
        operations
    }

    /// Follows references.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(to) => self.resolved(self.0.pointer(&to[1..]).expect(to)),
            None => value,
        }
    }

    /// The members of an object, and which of them have to be there.
    fn members<'a>(
        &'a self,
        schema: &'a Value,
        properties: &mut BTreeMap<&'a str, &'a Value>,
        required: &mut HashSet<&'a str>,
    ) {
        let schema = self.resolved(schema);
        let list = |name: &str| schema[name].as_array().into_iter().flatten();
        for part in list("allOf") {
            self.members(part, properties, required);
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            properties.insert(name, property);
        }
        required.extend(list("required").map(|name| name.as_str().unwrap()));
    }

    /// What of a value is not as its schema says.
    fn fault(&self, schema: &Value, value: &Value) -> Option<String> {
        let schema = self.resolved(schema);
        for either in ["anyOf", "oneOf"] {
            if let Some(schemas) = schema[either].as_array() {
                let faults = schemas.iter().map(|schema| self.fault(schema, value));
                let faults: Option<Vec<_>> = faults.collect();
                return faults.map(|faults| faults.join("; or "));
            }
        }
        if let Some(values) = schema["enum"].as_array()
            && !values.contains(value)
        {
            return Some(format!("{value} is none of {values:?}"));
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(some) => some.iter().map(|one| one.as_str().unwrap()).collect(),
            _ if schema["allOf"].is_array() => vec!["object"],
            _ => return None,
        };
        let is_of = |kind: &&str| match *kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => panic!("{kind}"),
        };
        if !types.iter().any(is_of) {
            return Some(format!("{value} is none of {types:?}"));
        }
        if let Some(rows) = value.as_array() {
            return rows
                .iter()
                .find_map(|row| self.fault(&schema["items"], row));
        }
        let members = value.as_object()?;
        let (mut properties, mut required) = (BTreeMap::new(), HashSet::new());
        self.members(schema, &mut properties, &mut required);
        if let Some(missing) = required.iter().find(|name| !members.contains_key(**name)) {
            return Some(format!("{missing:?} is missing in {value}"));
        }
        let is_open = properties.is_empty();
        members
            .iter()
            .find_map(|(name, value)| match properties.get(&**name) {
                Some(property) => self
                    .fault(property, value)
                    .map(|why| format!("{name}: {why}")),
                None if schema["additionalProperties"].is_object() => {
                    self.fault(&schema["additionalProperties"], value)
                }
                None => (!is_open).then(|| format!("{name:?} is not documented")),
            })
    }

    /// Checks an answer against what the document says of this status.
    pub fn check(&self, operation: &Operation, asked: &str, answer: &Answer) {
        let Answer { status, body, .. } = answer;
        let answers = &operation.says["responses"];
        let says = match &answers[status.to_string()] {
            Value::Null => &answers["default"],
            says => says,
        };
        let contents = &self.resolved(says)["content"];
        let told = answer.header("content-type").unwrap_or_default();
        let content = &contents[told];
        assert!(content.is_object(), "{asked}: {told} is none of {contents}");
        if told.ends_with("json") {
            let value = json(body);
            assert_eq!(
                self.fault(&content["schema"], &value),
                None,
                "{asked}: {body}"
            );
            if told == PROBLEM {
                assert_eq!(value["status"], *status, "{asked}: {body}");
                assert_eq!(value["detail"], value["error"], "{asked}: {body}");
            }
        }
    }
}

/// A service with a check that cannot be made.
const CHECKED: &str = "[[service]]\nname = \"checked\"\naddress = \"192.0.2.82\"\nport = 80\nprotocol = \"tcp\"\n\
    mode = \"nat\"\n[service.health]\ntype = \"exec\"\nrequest = { command = [\"none\"] }\n\
    [[service.real]]\naddress = \"10.0.0.11\"\n";

/// A rule for outward connections.
const OUTWARD: &str = "[[local_pool]]\nname = \"outside\"\naddresses = [\"198.51.100.200\"]\n\
    [[snat]]\nfrom = \"10.0.0.0/24\"\npool = \"outside\"\n";

pub const ADDED: &str = "[[service]]\naddress = \"192.0.2.90\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n\
    [[service.real]]\naddress = \"10.0.0.11\"\n";

#[test]
fn every_documented_get_answers_as_documented() {
    let lab = Lab::new();
    lab.receives("wan", &syns(8));
    let config = lab.config("", 3).replace(
        "name = \"web\"",
        "name = \"web\"\nlimits = { per_client_connections = 1000 }",
    );
    let daemon = Daemon::start(&lab, &(config + CHECKED + OUTWARD));
    daemon.wait(|daemon| (daemon.show("workers")[0]["transmitted_packets"] == 8).then_some(()));
    let document = Document::of(&daemon);
    for operation in document.operations() {
        if operation.verb != "GET" {
            continue;
        }
        let (line, path) = (operation.line(), operation.path);
        let granted = |line: &str| {
            let answer = ask(&lab, line, None, b"");
            assert_eq!(answer.status, 200, "{line}: {}", answer.body);
            document.check(&operation, line, &answer);
            answer.body
        };
        let all = granted(&line);
        assert!(
            !matches!(&*all, "" | "[]\n"),
            "{path} has something to check"
        );
        let parameters = operation.says["parameters"].as_array();
        for parameter in parameters.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            assert_eq!(parameter["in"], "query", "{path}: {name}");
            let value = match name {
                "service" => "web",
                "limit" => "1",
                "brief" | "summary" | "impaired" => "true",
                "search" => "web",
                "sort" => "-name",
                "offset" => "1",
                "names" => "ipvs",
                "after" => "1",
                "kind" => "change",
                "protocol" => "tcp",
                "from" => "198.51.100.7:20000",
                "to" => "192.0.2.80:80",
                "follow" => "false",
                _ => panic!("{path}: what is an example of {name}?"),
            };
            let body = granted(&format!("{line}?{name}={value}"));
            if name == "limit" {
                assert_eq!(json(&body).as_array().unwrap().len(), 1, "{path}: {body}");
            }
            let twice = ask(
                &lab,
                &format!("{line}?{name}={value}&{name}={value}"),
                None,
                b"",
            );
            assert_eq!(twice.status, 400, "{path}: {name}");
            document.check(&operation, path, &twice);
        }
        if path.starts_with("/v1/") {
            let unknown = ask(&lab, &format!("{line}?nothing=1"), None, b"");
            assert_eq!(unknown.status, 400, "{path}");
            document.check(&operation, path, &unknown);
        }
    }
    // An answer without an end.
    let mut stream = UnixStream::connect(lab.path("weir.sock")).unwrap();
    let request = "GET /v1/events?follow=true HTTP/1.0\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 512];
    let length = stream.read(&mut head).unwrap();
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    assert!(
        head.contains("content-type: text/event-stream\r\n"),
        "{head}"
    );
    let content = "/paths/~1v1~1events/get/responses/200/content/text~1event-stream";
    assert!(document.0.pointer(content).is_some());
    daemon.stop();
}

#[test]
fn every_documented_change_answers_as_documented() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let document = Document::of(&daemon);
    lab.write("lb.toml", &lab.config("", 5));
    let web = object!({ "service": "web", "real": "10.0.0.11:8080" }).to_string();
    let weight = object!({ "service": "web", "real": "10.0.0.11:8080", "weight": 2, "for": "30m" });
    let files = object!({ "files": [{ "name": "lb.toml", "text": lab.config("", 5) }] });
    let wrong =
        object!({ "files": [{ "name": "lb.toml", "text": lab.config("colour = 1\n", 5) }] });
    let restart = lab
        .config("", 5)
        .replace("connections = 10000", "connections = 20000");
    let restart = object!({ "files": [{ "name": "lb.toml", "text": restart }] });
    let unknown = object!({ "service": "wob", "real": "10.0.0.11:8080", "weight": 1 });
    let [weight, files, wrong, restart, unknown] =
        [weight, files, wrong, restart, unknown].map(|it| it.to_string());
    let new_real = weight.replace("10.0.0.11", "10.0.0.13");
    let new_real = new_real
        .replace(",\"for\":\"30m\"", "")
        .replace("\"for\":\"30m\",", "");
    let no_service = new_real.replace("\"web\"", "\"wob\"");
    let thresholds = object!({
        "service": "web", "real": "10.0.0.13:8080", "max_connections": 100, "min_connections": 90
    });
    let thresholds = thresholds.to_string();
    let unknown_real = unknown.replace("wob", "web").replace(":8080", ":1");
    let mut asked = HashSet::new();
    for (line, body, status, kind) in [
        ("POST /v1/plan", "", 200, ""),
        (
            "POST /v1/plan",
            &wrong,
            422,
            "urn:weir:invalid-configuration",
        ),
        ("POST /v1/plan", &restart, 409, "urn:weir:needs-restart"),
        (
            "POST /v1/rollback",
            "",
            409,
            "urn:weir:nothing-to-roll-back",
        ),
        ("POST /v1/reload?confirm_s=60", &files, 200, ""),
        (
            "POST /v1/reload",
            &wrong,
            422,
            "urn:weir:invalid-configuration",
        ),
        ("POST /v1/reload", &restart, 409, "urn:weir:needs-restart"),
        ("POST /v1/confirm", "{}", 200, ""),
        ("POST /v1/confirm", "{}", 409, "urn:weir:nothing-to-confirm"),
        ("POST /v1/weight", &weight, 200, ""),
        ("POST /v1/weight", &unknown, 404, "urn:weir:unknown-service"),
        (
            "POST /v1/weight",
            &unknown_real,
            404,
            "urn:weir:unknown-real",
        ),
        ("POST /v1/drain", &web, 200, ""),
        ("POST /v1/disable", &web, 200, ""),
        ("POST /v1/enable", &web, 200, ""),
        ("PUT /v1/services?name=x", ADDED, 200, ""),
        (
            "PUT /v1/services",
            "[[service]]\n",
            422,
            "urn:weir:invalid-configuration",
        ),
        ("DELETE /v1/services?service=tcp:192.0.2.90:80", "", 200, ""),
        ("PUT /v1/reals", &new_real, 200, ""),
        (
            "PUT /v1/reals",
            &no_service,
            404,
            "urn:weir:unknown-service",
        ),
        (
            "PUT /v1/reals",
            &new_real.replace("10.0.0.13", "192.0.2.80"),
            422,
            "urn:weir:invalid-configuration",
        ),
        ("PATCH /v1/reals", &thresholds, 200, ""),
        (
            "PATCH /v1/reals",
            &thresholds.replace(":90", ":101"),
            422,
            "urn:weir:invalid-configuration",
        ),
        (
            "PATCH /v1/reals",
            &thresholds.replace("10.0.0.13", "10.0.0.14"),
            404,
            "urn:weir:unknown-real",
        ),
        (
            "PATCH /v1/reals",
            &no_service,
            404,
            "urn:weir:unknown-service",
        ),
        (
            "DELETE /v1/reals?service=web&real=10.0.0.13:8080",
            "",
            200,
            "",
        ),
        (
            "DELETE /v1/reals?service=web&real=10.0.0.13:8080",
            "",
            404,
            "urn:weir:unknown-real",
        ),
        (
            "PATCH /v1/services?service=web",
            "{\"scheduler\": \"wlc\", \"slow_start\": \"30s\"}",
            200,
            "",
        ),
        (
            "PATCH /v1/services?service=web",
            "{\"scheduler\": \"wlx\"}",
            422,
            "urn:weir:invalid-configuration",
        ),
        (
            "PATCH /v1/services?service=wob",
            "{\"scheduler\": \"wlc\"}",
            404,
            "urn:weir:unknown-service",
        ),
        (
            "DELETE /v1/services?service=wob",
            "",
            404,
            "urn:weir:unknown-service",
        ),
        ("POST /v1/capture", "{\"seconds\": 1}", 200, ""),
        ("DELETE /v1/capture", "", 200, ""),
        ("POST /v1/rollback", "{}", 200, ""),
    ] {
        let is_toml = line.starts_with("PUT /v1/services");
        let content_type = if is_toml { TOML } else { JSON };
        let answer = ask(&lab, line, Some(content_type), body.as_bytes());
        assert_eq!(answer.status, status, "{line}: {}", answer.body);
        let operations = document.operations();
        let of = line.split('?').next().unwrap();
        let operation = operations.iter().find(|it| it.line() == of).expect(line);
        document.check(operation, line, &answer);
        if status == 200 {
            asked.insert(of);
        } else {
            assert_eq!(json(&answer.body)["type"], kind, "{line}");
            let documented = &operation.says["responses"][status.to_string()]["description"];
            assert!(
                documented.as_str().unwrap().contains(kind),
                "{line}: {documented}"
            );
        }
    }
    for operation in document.operations() {
        let line = operation.line();
        assert!(
            operation.verb == "GET" || asked.contains(&*line),
            "{line} was not asked"
        );
    }
    daemon.stop();
}

#[test]
fn methods_that_are_not_documented_are_refused() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let document = Document::of(&daemon);
    let operations = document.operations();
    let documented: HashSet<String> = operations.iter().map(Operation::line).collect();
    for operation in &operations {
        for verb in VERBS {
            let line = format!("{verb} {}", operation.path);
            if documented.contains(&line) {
                continue;
            }
            let answer = ask(&lab, &line, Some(JSON), b"{}");
            assert_eq!(answer.status, 405, "{line}: {}", answer.body);
            document.check(operation, &line, &answer);
            let allowed: HashSet<_> = answer.header("allow").unwrap().split(',').collect();
            for verb in VERBS {
                let line = format!("{verb} {}", operation.path);
                assert_eq!(allowed.contains(verb), documented.contains(&line), "{line}");
            }
        }
    }
    daemon.stop();
}

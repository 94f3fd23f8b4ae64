//! The API against its OpenAPI file: by a validator of our own, and by schemathesis.

use std::{fmt::Write as _, io::Write as _, process::Command};

use serde_json::Value;

use crate::support::{
    backend::{Backend, always},
    client::Client,
    frontgate::{Frontgate, LISTENERS},
    python, servers_of,
};

/// With something of everything that answers can tell of.
fn config(backend: &Backend) -> String {
    let proxied = "  - { name: behind, address: \"127.0.0.3:0\", \
                   proxy_protocol: { from: [10.0.0.11] } }\ncertificates:\n";
    let listeners = LISTENERS.replace("certificates:\n", proxied);
    let mut text = format!(
        "{listeners}farms:\n  a: {{ servers: [{}], bridge: http }}\n",
        servers_of(&[("fe01", backend.port()), ("fe02", backend.port())])
    );
    text += "  s:
    servers: [{ name: fe01, address: 127.0.0.1, ports: { https: 9 } }]
    tls: { verify: off }
    affinity: { cookie: ARRAffinity }
    deny_paths: [/private]
    hide_headers: [Server]
publish:
  - { host: meet.*, farm: a, schemes: [https, http] }
  - host: rich.contoso.com
    farm: s
    body_size: 10MiB
    when: [{ method: [GET, HEAD] }]
    rewrite: { path: \"/app/{R:1}\" }
    request_headers: { set: { X-App: \"{HTTP_HOST}\" }, add: { X-B: b }, remove: [X-C] }
    response_headers: { remove: [X-Powered-By] }
  - { host: rich.contoso.com, farm: a }
  - { host: rich.contoso.com, path: /old, redirect: \"https://new.contoso.com/\" }
  - { host: rich.contoso.com, path: /page, respond: { status: 503 } }
  - { host: \"*.contoso.com\", deny: true }
";
    text
}

fn token(frontgate: &Frontgate) -> String {
    std::fs::read_to_string(frontgate.path().join("state/admin.token")).unwrap().trim().to_owned()
}

/// Faults of a value by the part of JSON Schema that the file uses. A key that the schema does not
/// name is one, too: an answer and its file grow together.
fn faults(root: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let to = root.pointer(reference.trim_start_matches('#')).expect(reference);
        return faults(root, to, value, at, out);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = |one: &&Value| {
            let mut inner = Vec::new();
            faults(root, one, value, at, &mut inner);
            inner.is_empty()
        };
        if !any.iter().any(|one| fits(&one)) {
            out.push(format!("{at}: {value} fits nothing of {schema}"));
        }
        return;
    }
    let open = schema["additionalProperties"] == true;
    if schema["type"] == "object" && !schema["properties"].is_object() && !open {
        out.push(format!("{at}: the file does not say what is in it"));
    }
    let right = match schema["type"].as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    };
    let listed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    let constant = schema.get("const").is_none_or(|it| it == value);
    if !right || !listed || !constant {
        out.push(format!("{at}: {value} is not {schema}"));
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        faults(root, &schema["items"], item, &format!("{at}/{n}"), out);
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        if value.get(key.as_str().unwrap()).is_none() {
            out.push(format!("{at}: no {key}"));
        }
    }
    if let Some(known) = schema["properties"].as_object() {
        for (key, value) in value.as_object().into_iter().flatten() {
            match known.get(key) {
                Some(schema) => faults(root, schema, value, &format!("{at}/{key}"), out),
                None => out.push(format!("{at}: the file does not know {key}")),
            }
        }
    }
}

#[test]
fn answers_are_what_the_file_says() {
    let backend = Backend::plain(always("ok"));
    let before = config(&backend);
    let frontgate = Frontgate::with(&before);
    let ask = |request: String| Client::plain(frontgate.address("admin")).ask(request);
    let get = |path: &str| ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let post = |path: &str, body: &str| {
        ask(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            token(&frontgate),
            body.len()
        ))
    };
    let file = get("/api/v1/openapi.json").json();
    let mut seen = 0;
    for (path, methods) in file["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let answer = match (method.as_str(), path.rsplit('/').next().unwrap()) {
                ("get", "explain") => get(&format!("{path}?url=https://meet.contoso.com/x")),
                ("get", _) => get(path),
                (_, "reload") => post(path, "{\"who\":\"jo\"}"),
                _ => post(path, "{\"server\":\"a/fe01\",\"who\":\"jo\",\"why\":\"x\"}"),
            };
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            let mut wrong = Vec::new();
            faults(&file, schema, &answer.json(), path, &mut wrong);
            assert!(wrong.is_empty(), "{wrong:#?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 11);
    let site = get("/api/v1/site").json();
    let proxied: Vec<_> = (0..3).map(|at| &site["listeners"][at]["proxy_protocol"]).collect();
    let behind = serde_json::json!({ "from": ["10.0.0.11/32"], "required": true });
    assert_eq!(proxied, [&Value::Null, &Value::Null, &behind], "{site}");
    explained(&file, &|path| get(path));
    // A reload that is refused has findings, with other places that belong to them.
    let twice = before.replace("publish:\n", "publish:\n  - { host: meet.*, farm: a }\n");
    frontgate.rewrite(
        &twice.replace("host: rich.contoso.com, farm: a", "host: rich.contoso.com, farm: b"),
    );
    let refused = post("/api/v1/reload", "{\"who\":\"jo\"}").json();
    let findings = refused["findings"]["findings"].as_array().unwrap();
    assert!(refused["result"] == "refused" && findings.len() >= 2, "{refused}");
    assert!(findings.iter().any(|it| it["related"][0].is_object()), "{refused}");
    for (schema, told) in [("Reloaded", refused), ("Site", get("/api/v1/site").json())] {
        let mut wrong = Vec::new();
        faults(&file, &file["components"]["schemas"][schema], &told, schema, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    let problem = post("/api/v1/drain", "{}");
    let mut wrong = Vec::new();
    faults(&file, &file["components"]["schemas"]["Problem"], &problem.json(), "400", &mut wrong);
    assert!(problem.status == 400 && wrong.is_empty(), "{wrong:?}");
    // The validator does find faults.
    faults(&file, &file["components"]["schemas"]["Servers"], &problem.json(), "", &mut wrong);
    assert!(wrong.len() >= 3, "{wrong:?}");
}

/// Explanations of every kind, each as the file says; together they have every part.
fn explained(file: &Value, get: &dyn Fn(&str) -> crate::support::client::Answer) {
    let mut told = Vec::new();
    for url in [
        "https://meet.contoso.com/x",
        "https://rich.contoso.com/a/b?c=d",
        "https://rich.contoso.com/old/x",
        "https://rich.contoso.com/page",
        "https://rich.contoso.com/x/..%252fold",
        "https://rich.contoso.com/private",
        "http://rich.contoso.com/",
        "https://else.contoso.com/",
        "https://meet.example.com/",
        "https://nowhere.example/",
    ] {
        let mut path = "/api/v1/explain?url=".to_owned();
        for byte in url.bytes() {
            write!(path, "%{byte:02x}").unwrap();
        }
        let answer = get(&path);
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        let mut wrong = Vec::new();
        let schema = &file["components"]["schemas"]["Explanation"];
        faults(file, schema, &answer.json(), url, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
        told.push(answer.json());
    }
    for part in [
        "/rule/when/0",
        "/rivals/0/why",
        "/host_rivals/0/why",
        "/readings/1/outcome",
        "/verdict/location",
        "/verdict/status",
        "/toward/tls/verify",
        "/toward/body_size",
        "/toward/request_headers/2/value",
        "/toward/response_headers/0/name",
        "/toward/hidden_headers/0",
        "/toward/servers/0/tls_name",
        "/live/choice",
        "/notes/0",
    ] {
        let is_there = |it: &Value| it.pointer(part).is_some_and(|part| !part.is_null());
        assert!(told.iter().any(is_there), "no {part} in {told:#?}");
    }
}

/// The same schema, for which a key that it does not name is a fault. In the file it is none: keys
/// may be added.
fn closed(schema: &mut Value) {
    if schema["type"] == "object"
        && schema["properties"].is_object()
        && schema["additionalProperties"].is_null()
    {
        schema["additionalProperties"] = false.into();
    }
    match schema {
        Value::Object(parts) => parts.values_mut().for_each(closed),
        Value::Array(parts) => parts.iter_mut().for_each(closed),
        _ => {}
    }
}

#[test]
fn schemathesis_finds_no_fault() {
    let python = python::with(&["schemathesis==4.32.5"], "schemathesis");
    let schemathesis = python.with_file_name("schemathesis");
    if Command::new(&schemathesis).arg("--version").output().is_err() {
        // Past the harness, which shows what a test prints only if it fails.
        let told = "SKIPPED: schemathesis is not there and cannot be installed from PyPI\n";
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        return;
    }
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config(&backend));
    let admin = frontgate.address("admin");
    let mut file = Client::plain(admin).get("localhost", "/api/v1/openapi.json").json();
    closed(&mut file["components"]["schemas"]);
    assert_eq!(file["components"]["schemas"]["Toward"]["additionalProperties"], false);
    // One that explains as it should: what it makes up is published nowhere.
    file["paths"]["/api/v1/explain"]["get"]["parameters"][0]["example"] =
        "https://rich.contoso.com/a".into();
    std::fs::write(frontgate.path().join("strict.json"), file.to_string()).unwrap();
    let out = Command::new(schemathesis)
        .current_dir(frontgate.path())
        .args(["run", "--seed", "1", "--max-examples", "15", "--phases", "examples,coverage,fuzzing"])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"])
        .args(["--header", &format!("Authorization: Bearer {}", token(&frontgate))])
        .args(["--url", &format!("http://{admin}")])
        .arg("strict.json")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
}

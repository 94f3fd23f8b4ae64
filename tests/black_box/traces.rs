//! Traces over OTLP: a collector of the test's own reads what the real binary sends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;

use crate::support::{
    SOON,
    backend::{Backend, Wire, always, field, read_body, read_head, reply},
    certificates::{Certificates, authority, ec, issue, save},
    client::Client,
    closed::Closed,
    frontgate::{Frontgate, LISTENERS, run},
    servers_of, until,
};

/// Longer than a batch waits for its last span, and than a dead collector is tried.
const PATIENCE: Duration = Duration::from_secs(60);

const SAID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What was posted: the header and the message.
type Posted = Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>;

fn collector() -> (Posted, impl Fn(&mut dyn Wire, usize) + Send + Sync + 'static) {
    let posted = Posted::default();
    let all = posted.clone();
    let script = move |wire: &mut dyn Wire, _: usize| {
        let Some(head) = read_head(wire) else { return };
        let body = read_body(wire, &head);
        let message = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        all.lock().unwrap().push((head, message));
        let _ = reply(wire, "");
    };
    (posted, script)
}

/// Every span so far.
fn spans(posted: &Posted) -> Vec<Span> {
    let posted = posted.lock().unwrap();
    let all = posted.iter().flat_map(|(_, message)| &message.resource_spans);
    all.flat_map(|of| &of.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
}

/// Waits for the spans of one request, the server span first.
fn request(posted: &Posted, path: &str) -> Vec<Span> {
    until(&format!("spans of {path}"), PATIENCE, || {
        let all = spans(posted);
        let server = all
            .iter()
            .find(|span| told(&span.attributes).get("url.path") == Some(&path.to_owned()))?;
        let mut of: Vec<_> =
            all.iter().filter(|s| s.trace_id == server.trace_id).cloned().collect();
        of.sort_by_key(|span| (span.kind() != SpanKind::Server, span.start_time_unix_nano));
        Some(of)
    })
}

fn told(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server that tells which trace it was told of.
fn mirror() -> Backend {
    Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            let said = |name| field(&head, name).unwrap_or("none");
            let text = format!("{} {}", said("traceparent"), said("tracestate"));
            if reply(wire, &text).is_err() {
                return;
            }
        }
    })
}

fn config(top: &str, servers: &[(&str, u16)]) -> String {
    format!(
        "{LISTENERS}{top}\nfarms:\n  web: {{ servers: [{}], bridge: http }}\npublish:\n  \
         - {{ name: meet, host: meet.*, farm: web, schemes: [https, http] }}\n  \
         - {{ name: gone, host: gone.*, deny: true, schemes: [http] }}\n",
        servers_of(servers)
    )
}

fn traces(port: u16, more: &str) -> String {
    format!("traces: {{ endpoint: \"http://127.0.0.1:{port}/v1/traces\"{more} }}")
}

fn ask(client: &mut Client, path: &str, more: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: meet.contoso.com\r\n{more}\r\n");
    let answer = client.ask(request);
    assert_eq!(answer.status, 200);
    answer.text()
}

/// The value of a metric.
fn metric(frontgate: &Frontgate, name: &str) -> u64 {
    let page = Client::plain(frontgate.address("admin")).get("localhost", "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[test]
fn a_request_is_told_with_its_attempt_at_a_server() {
    let (posted, script) = collector();
    let (collector, server) = (Backend::plain(script), mirror());
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    let more = ", headers: { Authorization: \"Bearer ${OTEL_TOKEN}\" }, service_name: edge";
    let top = traces(collector.port(), more);
    let config = config(&top, &[("fe01", server.port())]);
    std::fs::write(dir.path().join("frontgate.yaml"), config).unwrap();
    let secret = [("OTEL_TOKEN", "sentinel-4711")];
    let mut frontgate = Frontgate::in_dir_with(dir, certificates, &secret);
    let path = "/meet/bob/1?sl=1&ticket=secret";
    let agent = "User-Agent: UCCAPI\r\n";
    let heard = ask(&mut frontgate.tls("meet.contoso.com"), path, agent);
    let gone = Client::plain(frontgate.address("plain")).get("gone.contoso.com", "/denied");
    assert_eq!(gone.status, 404);

    let of = request(&posted, "/meet/bob/1");
    let [server_span, client] = of.as_slice() else { panic!("{of:#?}") };
    assert_eq!((server_span.kind(), client.kind()), (SpanKind::Server, SpanKind::Client));
    assert_eq!((&*server_span.name, &*client.name), ("GET meet", "GET"));
    assert!(server_span.parent_span_id.is_empty());
    assert_eq!(client.parent_span_id, server_span.span_id);
    let parent = format!("00-{}-{}-01 none", hex(&client.trace_id), hex(&client.span_id));
    assert_eq!(heard, parent, "the server is told of the attempt");
    let attributes = told(&server_span.attributes);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "meet"),
        ("url.scheme", "https"),
        ("url.path", "/meet/bob/1"),
        ("url.query", "sl=*&ticket=*"),
        ("server.address", "meet.contoso.com"),
        ("server.port", "443"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "UCCAPI"),
        ("frontgate.farm", "web"),
        ("frontgate.server", "fe01"),
        ("frontgate.rule", "meet"),
    ] {
        assert_eq!(attributes.get(name).map(String::as_str), Some(value), "{name}");
    }
    let attributes = told(&client.attributes);
    let url = format!("http://127.0.0.1:{}/meet/bob/1?sl=*&ticket=*", server.port());
    assert_eq!(attributes["url.full"], url);
    assert_eq!(attributes["http.response.status_code"], "200");
    assert!(server_span.start_time_unix_nano <= client.start_time_unix_nano);
    assert!(client.start_time_unix_nano < client.end_time_unix_nano);
    assert!(client.end_time_unix_nano <= server_span.end_time_unix_nano);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ended = Duration::from_nanos(server_span.end_time_unix_nano);
    assert!(now.abs_diff(ended) < Duration::from_secs(300), "{ended:?}");

    // What Frontgate answers itself has a span, too.
    let of = request(&posted, "/denied");
    assert_eq!(of.len(), 1);
    assert_eq!(told(&of[0].attributes)["frontgate.reason"], "denied");

    {
        let posted = posted.lock().unwrap();
        let (head, message) = &posted[0];
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert_eq!(field(head, "content-type"), Some("application/x-protobuf"));
        assert_eq!(field(head, "authorization"), Some("Bearer sentinel-4711"));
        let resource = message.resource_spans[0].resource.as_ref().unwrap();
        assert_eq!(told(&resource.attributes)["service.name"], "edge");
        assert!(!format!("{message:?}").contains("secret"));
    }

    // The secret is the collector's alone.
    let admin =
        |path: &str| Client::plain(frontgate.address("admin")).get("localhost", path).text();
    let file = frontgate.config_path();
    let check = run(&["check", "--print", "--config", file.to_str().unwrap()]);
    let mut seen = vec![admin("/"), admin("/api/v1/site"), admin("/metrics"), check.1, check.2];
    let (_, out, _) = frontgate.command(&["explain", "https://meet.contoso.com/x", "--json"]);
    seen.extend([out, frontgate.logged().join("\n")]);
    assert!(seen.iter().all(|text| !text.contains("sentinel-4711")), "{seen:#?}");

    // The last ones are sent before the end.
    ask(&mut frontgate.plain(), "/last", "");
    frontgate.access_line("the last", |line| line["path"] == "/last");
    frontgate.signal(libc::SIGTERM);
    assert_eq!(frontgate.exit_code(SOON), 0);
    let last = told(&spans(&posted).last().unwrap().attributes);
    assert!(last["url.full"].ends_with("/last"), "{last:?}");
}

#[test]
fn a_stranger_is_not_believed_and_a_trusted_proxy_is() {
    let (posted, script) = collector();
    let (collector, server) = (Backend::plain(script), mirror());
    let top = traces(collector.port(), ", sample: 0%");
    let top = format!("trusted_proxies: [127.0.0.9]\n{top}");
    let frontgate = Frontgate::with(&config(&top, &[("fe01", server.port())]));
    let says = format!("traceparent: {SAID}\r\ntracestate: a=1,b=2\r\n");
    let heard = ask(&mut frontgate.plain(), "/stranger", &says);
    frontgate.access_line("the stranger's", |line| line["path"] == "/stranger");
    let (parent, state) = heard.split_once(' ').unwrap();
    assert!(parent.len() == 55 && parent.ends_with("-00"), "{parent}");
    assert!(!parent.contains(&SAID[3..35]) && !parent.contains(&SAID[36..52]), "{parent}");
    assert_eq!(state, "none");

    let mut proxy = Client::plain_from("127.0.0.9", frontgate.address("plain"));
    let off = says.replace("-01\r\n", "-00\r\n");
    let heard = ask(&mut proxy, "/off", &off);
    let (start, end) = (&SAID[..36], "-00 a=1,b=2");
    assert!(heard.starts_with(start) && heard.ends_with(end), "{heard}");
    let heard = ask(&mut proxy, "/trusted", &says);
    assert!(heard.starts_with(start) && heard.ends_with("-01 a=1,b=2"), "{heard}");
    let of = request(&posted, "/trusted");
    let [server, client] = of.as_slice() else { panic!("{of:#?}") };
    assert_eq!(hex(&server.trace_id), SAID[3..35]);
    assert_eq!(hex(&server.parent_span_id), SAID[36..52]);
    assert_eq!((&*server.trace_state, &*client.trace_state), ("a=1,b=2", "a=1,b=2"));
    assert!(heard.contains(&hex(&client.span_id)));
    assert_eq!(spans(&posted).len(), 2, "nothing else was recorded: {:#?}", spans(&posted));
}

#[test]
fn a_dead_collector_holds_nothing_up_and_another_one_gets_what_follows() {
    let dead = Closed::new();
    let server = mirror();
    let servers = [("fe01", server.port())];
    let frontgate = Frontgate::with(&config(&traces(dead.port(), ""), &servers));
    let mut client = frontgate.plain();
    let begun = Instant::now();
    for _ in 0..20 {
        ask(&mut client, "/", "");
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    until("drops are counted", PATIENCE, || {
        (metric(&frontgate, "frontgate_traces_dropped_spans_total") == 40).then_some(())
    });
    frontgate.log_line("spans are dropped until that works");
    assert_eq!(metric(&frontgate, "frontgate_traces_sent_spans_total"), 0);

    let (posted, script) = collector();
    let collector = Backend::plain(script);
    frontgate.rewrite(&config(&traces(collector.port(), ""), &servers));
    frontgate.log_line(" reloaded (");
    ask(&mut client, "/after", "");
    assert_eq!(request(&posted, "/after").len(), 2);
    frontgate.log_line("takes spans again, 40 were dropped");
    frontgate.logged_times("spans are dropped", 1);
    until("what was sent is counted", SOON, || {
        (metric(&frontgate, "frontgate_traces_sent_spans_total") == 2).then_some(())
    });
}

#[test]
fn off_nothing_is_sent_and_headers_pass_untouched() {
    let (posted, script) = collector();
    let (collector, server) = (Backend::plain(script), mirror());
    let servers = [("fe01", server.port())];
    let off = config("", &servers);
    let mut frontgate = Frontgate::with(&off);
    let says = format!("traceparent: {SAID}\r\ntracestate: a=1\r\n");
    let passes = |path| {
        let heard = ask(&mut frontgate.plain(), path, &says);
        assert_eq!(heard, format!("{SAID} a=1"));
        assert_eq!(ask(&mut frontgate.plain(), path, ""), "none none");
        frontgate.access_line(path, |line| line["path"] == path);
    };
    let reloaded = |text: &str| {
        let before = frontgate.log_count(" reloaded (");
        frontgate.rewrite(text);
        until("reload", SOON, || (frontgate.log_count(" reloaded (") > before).then_some(()));
    };
    passes("/before");
    reloaded(&config(&traces(collector.port(), ""), &servers));
    ask(&mut frontgate.plain(), "/traced", &says);
    request(&posted, "/traced");
    reloaded(&off);
    passes("/after");
    frontgate.signal(libc::SIGTERM);
    assert_eq!(frontgate.exit_code(SOON), 0);
    assert_eq!(spans(&posted).len(), 2, "{:#?}", spans(&posted));
}

#[test]
fn a_collector_nobody_vouches_for_gets_nothing() {
    let (posted, script) = collector();
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    let inside = authority("Inside");
    save(dir.path(), "otel-ca", &inside);
    let identity = issue(&inside, &["localhost"], ec());
    let mut acceptor =
        boring::ssl::SslAcceptor::mozilla_intermediate_v5(boring::ssl::SslMethod::tls()).unwrap();
    acceptor.set_certificate(&identity.certificate).unwrap();
    acceptor.set_private_key(&identity.key).unwrap();
    let collector = Backend::listen("127.0.0.1", Some(acceptor.build()), script);
    let server = mirror();
    let top = format!("traces: {{ endpoint: \"https://localhost:{}\" }}", collector.port());
    let text = config(&top, &[("fe01", server.port())]);

    let stranger = Frontgate::with(&text);
    ask(&mut stranger.plain(), "/", "");
    until("it is given up", PATIENCE, || {
        (metric(&stranger, "frontgate_traces_dropped_spans_total") == 2).then_some(())
    });
    assert!(collector.connections() > 0);
    assert!(posted.lock().unwrap().is_empty(), "sent to somebody who cannot be verified");
    drop(stranger);

    std::fs::write(dir.path().join("frontgate.yaml"), text).unwrap();
    let ca = dir.path().join("otel-ca.pem");
    let trusted = [("SSL_CERT_FILE", ca.to_str().unwrap())];
    let frontgate = Frontgate::in_dir_with(dir, certificates, &trusted);
    ask(&mut frontgate.plain(), "/verified", "");
    request(&posted, "/verified");
    assert!(posted.lock().unwrap()[0].0.starts_with("POST /v1/traces HTTP/1.1\r\n"));
}

#[test]
fn each_attempt_has_a_span_of_its_own() {
    let dead = Closed::new();
    let (posted, script) = collector();
    let (collector, server) = (Backend::plain(script), Backend::plain(always("ok")));
    let servers = [("dead", dead.port()), ("live", server.port())];
    let frontgate = Frontgate::with(&config(&traces(collector.port(), ""), &servers));
    // By turns: of several, some meet the dead one first.
    for number in 0..4 {
        assert_eq!(frontgate.plain().get("meet.contoso.com", &format!("/{number}")).status, 200);
    }
    let all = (0..4).map(|number| request(&posted, &format!("/{number}")));
    let retried = all.into_iter().find(|of| of.len() > 2).unwrap();
    let [server, first, second] = retried.as_slice() else { panic!("{retried:#?}") };
    let failed = |span: &Span| span.status.as_ref().is_some_and(|s| s.code() == StatusCode::Error);
    assert!(!failed(server) && failed(first) && !failed(second));
    assert!(first.parent_span_id == server.span_id && second.parent_span_id == server.span_id);
    let (first, second) = (told(&first.attributes), told(&second.attributes));
    assert_eq!((&*first["frontgate.server"], &*second["frontgate.server"]), ("dead", "live"));
    assert_eq!(first["error.type"], "connect_failed");
    assert_eq!(second["http.request.resend_count"], "1");
}

/// The header of version 2 of 192.0.2.7, whose TLS the balancer has ended.
fn header_with_tls() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14".to_vec();
    header.extend([192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 1, 187]);
    // PP2_TYPE_SSL with PP2_CLIENT_SSL alone.
    header.extend([0x20, 0, 5, 1, 0, 0, 0, 0]);
    header
}

#[test]
fn what_never_became_a_request_is_told_as_it_was() {
    let (posted, script) = collector();
    let (collector, server) = (Backend::plain(script), mirror());
    let text = config(&traces(collector.port(), ""), &[("fe01", server.port())]);
    let listener = "listeners:\n  - { name: behind, address: \"127.0.0.3:0\", \
                    proxy_protocol: { from: [127.0.0.9] } }\n";
    let frontgate = Frontgate::with(&text.replacen("listeners:\n", listener, 1));
    let address = frontgate.address("behind");

    // TLS with its client ends at the balancer.
    let mut client = Client::plain_from("127.0.0.9", address);
    client.send(header_with_tls());
    client.send("GET /two HTTP/1.1\r\nHost: meet.contoso.com\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer(false).status, 400);
    let of = request(&posted, "/two");
    assert_eq!(of.len(), 1);
    let attributes = told(&of[0].attributes);
    assert_eq!(attributes["url.scheme"], "https");
    assert_eq!(attributes["client.address"], "192.0.2.7");
    assert_eq!(attributes["http.response.status_code"], "400");

    // Closed without a word: nobody was told a status.
    let mut silent = Client::plain_from("127.0.0.9", address);
    silent.send("GET / HTTP/1.1\r\n\r\n");
    assert!(silent.closed());
    let attributes = until("the span of the missing header", PATIENCE, || {
        let mut all = spans(&posted).into_iter().map(|span| told(&span.attributes));
        all.find(|of| of.get("frontgate.reason").is_some_and(|why| why == "proxy_header_missing"))
    });
    assert_eq!(attributes["client.address"], "127.0.0.9");
    assert_eq!(attributes.get("http.response.status_code"), None);
}

use std::{collections::BTreeMap, time::Duration};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    trace::v1::status::StatusCode,
};
use prost::Message;

use super::*;
use crate::{
    observe::{
        testing::{access, all_of},
        traces::Target,
    },
    reason,
};

/// Attributes as text, by name.
fn told(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let all: BTreeMap<_, _> =
        span.attributes.iter().map(|pair| (pair.key.as_str(), text(&pair.value))).collect();
    assert_eq!(all.len(), span.attributes.len(), "one twice: {:?}", span.attributes);
    all
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == i32::from(StatusCode::Error))
}

fn seen<'a>(access: &'a Access<'a>) -> Seen<'a> {
    let (query, https) = (LogQuery::Masked, true);
    let answered = !matches!(access.status, 0 | 499);
    Seen { access, answered, query, https, rewritten: None, reason: None }
}

fn trace() -> Trace {
    Trace::begin(100, None, Instant::now()).unwrap()
}

fn target() -> Target {
    let (server, address) = ("fe01".into(), "10.0.0.1:4443".parse().unwrap());
    Target { server, host: Some("fe01.contoso.local".into()), address, https: true }
}

/// The server span alone.
fn server_span(change: impl FnOnce(&mut Access<'_>, &mut Option<Reason>)) -> Span {
    let (mut access, mut reason) = (access(), None);
    change(&mut access, &mut reason);
    access.reason = reason.map(|reason| reason.code);
    spans(&trace(), &Seen { reason, ..seen(&access) }).remove(0)
}

#[test]
fn a_request_is_told_as_the_conventions_have_it() {
    let mut trace = trace();
    let begun = trace.started + Duration::from_micros(500);
    trace.attempt(target(), begun);
    trace.answered(200);
    let access = Access {
        query: Some("sl=1&user=jo"),
        host: Some("meet.contoso.com:8443"),
        log_id: Some("4711"),
        ..access()
    };
    let all = spans(&trace, &seen(&access));
    let [server, client] = all.as_slice() else { panic!("{all:?}") };
    let expected = [
        ("client.address", "192.0.2.7"),
        ("client.port", "5061"),
        ("frontgate.farm", "lyncweb"),
        ("frontgate.listener", "public"),
        ("frontgate.log_id", "4711"),
        ("frontgate.rule", "meet.*"),
        ("frontgate.server", "fe01"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "meet.*"),
        ("network.protocol.version", "1.1"),
        ("server.address", "meet.contoso.com"),
        ("server.port", "8443"),
        ("url.path", "/meet/bob/1"),
        ("url.query", "sl=*&user=*"),
        ("url.scheme", "https"),
        ("user_agent.original", "UCCAPI"),
    ];
    assert_eq!(told(server), expected.map(|(key, text)| (key, text.to_owned())).into());
    let expected = [
        ("frontgate.farm", "lyncweb"),
        ("frontgate.server", "fe01"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("network.peer.address", "10.0.0.1"),
        ("network.peer.port", "4443"),
        ("network.protocol.version", "1.1"),
        ("server.address", "fe01.contoso.local"),
        ("server.port", "4443"),
        ("url.full", "https://fe01.contoso.local:4443/meet/bob/1?sl=*&user=*"),
    ];
    assert_eq!(told(client), expected.map(|(key, text)| (key, text.to_owned())).into());
    assert_eq!((&*server.name, server.kind()), ("GET meet.*", SpanKind::Server));
    assert_eq!((&*client.name, client.kind()), ("GET", SpanKind::Client));
    assert!(!failed(server) && !failed(client));
    assert_eq!((server.trace_id.len(), server.span_id.len()), (16, 8));
    assert_eq!((&client.trace_id, &client.parent_span_id), (&server.trace_id, &server.span_id));
    assert!(server.parent_span_id.is_empty() && client.span_id != server.span_id);
    let day = 86_400_000_000_000;
    assert_eq!((server.start_time_unix_nano, server.end_time_unix_nano), (day, day + 1_500_000));
    let lasted = (client.start_time_unix_nano, client.end_time_unix_nano);
    assert_eq!(lasted, (day + 500_000, day + 1_500_000));
}

#[test]
fn only_what_a_server_or_frontgate_did_is_an_error() {
    for (status, reason, failure) in [
        (200, None, None),
        (302, Some(reason::REDIRECTED), None),
        (404, Some(reason::DENIED), None),
        (401, None, None),
        (499, Some(reason::CLIENT_LEFT), None),
        (500, None, Some("500")),
        (503, Some(reason::NO_SERVER), Some("no_server")),
        // It broke after the status was sent.
        (200, Some(reason::SERVER_CLOSED), Some("server_closed")),
        (0, Some(reason::SERVER_CLOSED), Some("server_closed")),
    ] {
        let span = server_span(|access, why| (access.status, *why) = (status, reason));
        let told = told(&span);
        let kind = told.get("error.type").map(String::as_str);
        assert_eq!((failed(&span), kind), (failure.is_some(), failure), "{status}");
        let why = told.get("frontgate.reason").map(String::as_str);
        assert_eq!(why, reason.map(|reason| reason.code));
        let sent = told.contains_key("http.response.status_code");
        assert_eq!(sent, !matches!(status, 0 | 499), "{status}");
    }
}

#[test]
fn a_status_that_nobody_was_told_is_none() {
    let reason = Some(reason::PROXY_HEADER_MISSING);
    let access = Access { status: 400, ..access() };
    let silent = spans(&trace(), &Seen { answered: false, reason, ..seen(&access) });
    assert!(!told(&silent[0]).contains_key("http.response.status_code"));
    let answered = spans(&trace(), &Seen { reason, ..seen(&access) });
    assert_eq!(told(&answered[0])["http.response.status_code"], "400");
}

#[test]
fn attempts_fail_on_their_own() {
    let mut trace = trace();
    let at = |ms| trace.started + Duration::from_millis(ms);
    let (first, broke, second) = (at(1), at(3), at(4));
    trace.attempt(Target { host: None, https: false, ..target() }, first);
    trace.broke(reason::CONNECT_TIMEOUT, broke);
    trace.attempt(target(), second);
    trace.answered(404);
    let access = Access { duration: Duration::from_millis(9), status: 404, ..access() };
    let rewritten = Some("/new?user=jo");
    let all = spans(&trace, &Seen { rewritten, ..seen(&access) });
    let [server, one, two] = all.as_slice() else { panic!("{all:?}") };
    let lasted = |span: &Span| (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000_000;
    assert_eq!((lasted(server), lasted(one), lasted(two)), (9, 2, 5));
    assert!(!failed(server) && failed(one) && failed(two));
    let (one, two) = (told(one), told(two));
    assert_eq!((&*one["error.type"], &*two["error.type"]), ("connect_timeout", "404"));
    assert_eq!(one["url.full"], "http://10.0.0.1:4443/new?user=*");
    assert_eq!(two["http.request.resend_count"], "1");
    assert!(!one.contains_key("http.request.resend_count"));
    // How a sign-in begins.
    let mut trace = self::trace();
    trace.attempt(target(), trace.started);
    trace.answered(401);
    let access = Access { status: 401, ..access };
    assert!(!spans(&trace, &seen(&access)).iter().any(failed));
}

#[test]
fn what_a_span_tells_is_masked_as_the_access_log_is() {
    let path = "/app/(S(secret))/x";
    let access = Access { path: Some(path), query: Some("ticket=secret"), ..access() };
    for query in [LogQuery::Masked, LogQuery::Off] {
        let mut trace = trace();
        trace.attempt(target(), trace.started);
        let all = spans(&trace, &Seen { query, ..seen(&access) });
        assert!(!format!("{all:?}").contains("secret"), "{all:?}");
        assert_eq!(told(&all[0]).contains_key("url.query"), query == LogQuery::Masked);
    }
    let full = spans(&trace(), &Seen { query: LogQuery::Full, ..seen(&access) });
    assert_eq!(told(&full[0])["url.query"], "ticket=secret");
}

#[test]
fn names_do_not_grow_with_what_clients_invent() {
    let span = server_span(|access, _| access.method = Some("X-4711"));
    assert_eq!(span.name, "HTTP meet.*");
    let told_of = told(&span);
    assert_eq!(told_of["http.request.method"], "_OTHER");
    assert_eq!(told_of["http.request.method_original"], "X-4711");
    let span = server_span(|access, _| (access.method, access.rule) = (Some("RPC_IN_DATA"), None));
    assert_eq!(span.name, "RPC_IN_DATA");
    let span = server_span(|access, _| access.method = None);
    assert_eq!((&*span.name, &*told(&span)["http.request.method"]), ("HTTP meet.*", "_OTHER"));
}

#[test]
fn nothing_a_client_sends_makes_a_span_large() {
    let long = "ä".repeat(60_000);
    let access = all_of(&long);
    let mut trace = trace();
    trace.attempt(target(), trace.started);
    let all = spans(&trace, &Seen { query: LogQuery::Full, ..seen(&access) });
    let size: usize = all.iter().map(Message::encoded_len).sum();
    assert!(size < 9_000, "{size}");
    assert_eq!(told(&all[0])["url.path"].len(), 1024);
}

#[test]
fn hosts_and_versions_are_taken_apart() {
    assert_eq!(split("meet.contoso.com", 443), ("meet.contoso.com", 443));
    assert_eq!(split("meet.contoso.com:8443", 443), ("meet.contoso.com", 8443));
    assert_eq!(split("meet.contoso.com:x", 443), ("meet.contoso.com", 443));
    assert_eq!(split("[2001:db8::7]", 443), ("2001:db8::7", 443));
    assert_eq!(split("[2001:db8::7]:80", 443), ("2001:db8::7", 80));
    assert_eq!(version("HTTP/2.0"), Some("2"));
    assert_eq!(version("HTTP/1.0"), Some("1.0"));
    assert_eq!(version("RTSP/1.0"), None);
}

#[test]
fn a_parent_in_another_process_is_said_to_be_one() {
    let mut headers = http::HeaderMap::new();
    let said = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    headers.insert("traceparent", said.parse().unwrap());
    headers.insert("tracestate", "a=1".parse().unwrap());
    let trace = Trace::begin(0, Some(&headers), Instant::now()).unwrap();
    let access = access();
    let span = spans(&trace, &seen(&access)).remove(0);
    assert_eq!(span.parent_span_id, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert_eq!((span.trace_id[0], &*span.trace_state, span.flags), (0x4b, "a=1", 0x301));
}

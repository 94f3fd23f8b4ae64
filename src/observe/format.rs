//! How a line of the access log looks.

use std::{borrow::Cow, cell::RefCell, fmt::Write as _, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Access, mask, w3c};
use crate::site::{LogFormat, LogQuery};

/// Formats one line, newline included. Nothing a client sends can break out of its field, and
/// credentials are masked.
pub fn line(access: &Access<'_>, format: LogFormat, query: LogQuery) -> String {
    match format {
        LogFormat::Json => json_line(access, query),
        LogFormat::Combined => combined_line(access, query),
        LogFormat::W3c => w3c::line(access, query),
    }
}

/// The fields in the order of the documentation.
#[derive(Serialize)]
struct Json<'a> {
    time: String,
    client: std::net::IpAddr,
    client_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<std::net::SocketAddr>,
    listener: &'a str,
    sni: Option<&'a str>,
    host: Option<Cow<'a, str>>,
    method: Option<&'a str>,
    path: Option<Cow<'a, str>>,
    query: Option<Cow<'a, str>>,
    protocol: Option<&'a str>,
    status: u16,
    bytes_received: u64,
    bytes_sent: u64,
    duration_ms: f64,
    first_byte_ms: Option<f64>,
    rule: Option<&'a str>,
    farm: Option<&'a str>,
    server: Option<&'a str>,
    server_connection: Option<&'a str>,
    reason: Option<&'a str>,
    tls: Option<&'a str>,
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_id: Option<&'a str>,
}

fn json_line(a: &Access<'_>, query: LogQuery) -> String {
    let fields = Json {
        time: timestamp(a).to_string(),
        client: a.client,
        client_port: a.client_port,
        peer: a.peer,
        listener: a.listener,
        sni: a.sni,
        host: a.host.map(mask::authority),
        method: a.method,
        path: a.path.map(mask::path),
        query: a.query.and_then(|q| mask::query(q, query)),
        protocol: a.protocol,
        status: a.status,
        bytes_received: a.received,
        bytes_sent: a.sent,
        duration_ms: millis(a.duration),
        first_byte_ms: a.first_byte.map(millis),
        rule: a.rule,
        farm: a.farm,
        server: a.server,
        server_connection: a.server_connection,
        reason: a.reason,
        tls: a.tls,
        user_agent: a.user_agent,
        log_id: a.log_id,
    };
    // Strings and numbers always serialise.
    let mut line = serde_json::to_string(&fields).unwrap_or_default();
    line.push('\n');
    line
}

/// Apache's combined format, then our fields as `name=value`.
fn combined_line(a: &Access<'_>, query: LogQuery) -> String {
    let mut line = String::with_capacity(512);
    let _ = write!(line, "{} - - [", a.client);
    apache_time(&mut line, timestamp(a));
    line.push_str("] \"");
    escape(&mut line, a.method.unwrap_or("-"));
    line.push(' ');
    escape(&mut line, &a.path.map_or(Cow::Borrowed("-"), mask::path));
    if let Some(query) = a.query.and_then(|q| mask::query(q, query)) {
        line.push('?');
        escape(&mut line, &query);
    }
    let _ = write!(line, " {}\" {} {} \"", a.protocol.unwrap_or("-"), a.status, a.sent);
    let referer = a.referer.map(|r| mask::referer(r, query));
    escape(&mut line, referer.as_deref().unwrap_or("-"));
    line.push_str("\" \"");
    escape(&mut line, a.user_agent.unwrap_or("-"));
    line.push('"');
    let host = a.host.map(mask::authority);
    let fields = [
        (" listener=\"", Some(a.listener)),
        (" sni=\"", a.sni),
        (" host=\"", host.as_deref()),
        (" rule=\"", a.rule),
        (" farm=\"", a.farm),
        (" server=\"", a.server),
        (" server_connection=\"", a.server_connection),
        (" reason=\"", a.reason),
        (" tls=\"", a.tls),
    ];
    for (name, value) in fields {
        line.push_str(name);
        escape(&mut line, value.unwrap_or("-"));
        line.push('"');
    }
    let _ = write!(line, " received={} duration_ms=", a.received);
    millis_digits(&mut line, a.duration);
    if let Some(first) = a.first_byte {
        line.push_str(" first_byte_ms=");
        millis_digits(&mut line, first);
    }
    // Both are of our own making: nothing to escape.
    if let Some(peer) = a.peer {
        let _ = write!(line, " peer=\"{peer}\"");
    }
    if let Some(id) = a.log_id {
        let _ = write!(line, " log_id=\"{id}\"");
    }
    line.push('\n');
    line
}

/// The time as Apache writes it. Most lines of a busy second have the same.
fn apache_time(line: &mut String, time: Timestamp) {
    thread_local! {
        static LAST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    LAST.with_borrow_mut(|(second, text)| {
        if *second != time.as_second() {
            *second = time.as_second();
            let zoned = time.to_zoned(TimeZone::UTC);
            *text = zoned.strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
        }
        line.push_str(text);
    });
}

fn timestamp(a: &Access<'_>) -> Timestamp {
    Timestamp::try_from(a.time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Milliseconds with microsecond digits.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// The same in digits, no more than are needed.
fn millis_digits(line: &mut String, duration: Duration) {
    let micros = duration.as_micros();
    let _ = match (micros / 1000, micros % 1000) {
        (whole, 0) => write!(line, "{whole}"),
        (whole, part) => write!(line, "{whole}.{part:03}"),
    };
    if micros % 1000 != 0 {
        line.truncate(line.trim_end_matches('0').len());
    }
}

/// SECURITY: quotes, backslashes and control characters are written as `\xHH` (log injection).
/// Test: a_client_cannot_forge_a_line.
fn escape(line: &mut String, text: &str) {
    let harmless = |b: u8| matches!(b, b' '..=b'~') & (b != b'"') & (b != b'\\');
    // Without a way out in the middle, so that many bytes are looked at at once.
    if text.bytes().fold(true, |all, b| all & harmless(b)) {
        line.push_str(text);
        return;
    }
    for c in text.chars() {
        if c == '"' || c == '\\' || c.is_control() {
            let _ = write!(line, "\\x{:02x}", c as u32);
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::access;

    #[test]
    fn json_has_every_field_of_the_contract() {
        let text = line(&access(), LogFormat::Json, LogQuery::Masked);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["time"], "1970-01-02T00:00:00Z");
        assert_eq!(value["client"], "192.0.2.7");
        assert_eq!(value["duration_ms"], 1.5);
        assert_eq!(value["first_byte_ms"], 1.25);
        assert_eq!(value["farm"], "lyncweb");
        assert_eq!(value["server_connection"], "reused");
        assert!(value["reason"].is_null());
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn combined_starts_as_apache_writes_it() {
        let text = line(&access(), LogFormat::Combined, LogQuery::Masked);
        let head = "192.0.2.7 - - [02/Jan/1970:00:00:00 +0000] \"GET /meet/bob/1 HTTP/1.1\" 200 42 \
                    \"-\" \"UCCAPI\" listener=\"public\"";
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains(" server=\"fe01\" "));
        assert!(text.ends_with(" received=0 duration_ms=1.5 first_byte_ms=1.25\n"), "{text}");
    }

    #[test]
    fn times_have_no_more_digits_than_they_need() {
        let digits = |micros| {
            let mut line = String::from("100");
            millis_digits(&mut line, Duration::from_micros(micros));
            line.split_off(3)
        };
        let micros = [0, 1, 10, 1000, 1500, 1050, 10_000, 1_234_567];
        let wanted = ["0", "0.001", "0.01", "1", "1.5", "1.05", "10", "1234.567"];
        assert_eq!(micros.map(digits), wanted);
        let mut line = String::new();
        for second in [86_400, 86_400, 86_399] {
            apache_time(&mut line, Timestamp::from_second(second).unwrap());
        }
        let two = "02/Jan/1970:00:00:00 +0000";
        assert_eq!(line, format!("{two}{two}01/Jan/1970:23:59:59 +0000"));
    }

    #[test]
    fn what_is_seldom_there_is_written_only_then() {
        for (format, peer, id) in [
            (LogFormat::Json, "\"peer\":\"10.0.0.1:4711\"", "\"log_id\":\"83df8fbe\""),
            (LogFormat::Combined, " peer=\"10.0.0.1:4711\"", " log_id=\"83df8fbe\""),
        ] {
            let plain = line(&access(), format, LogQuery::Masked);
            assert!(!plain.contains("peer") && !plain.contains("log_id"), "{plain}");
            let peer_address = "10.0.0.1:4711".parse().ok();
            let full = Access { peer: peer_address, log_id: Some("83df8fbe"), ..access() };
            let full = line(&full, format, LogQuery::Masked);
            assert!(full.contains(peer) && full.contains(id), "{full}");
        }
        let unknown =
            line(&Access { client_port: None, ..access() }, LogFormat::Json, LogQuery::Off);
        assert!(unknown.contains("\"client_port\":null"), "{unknown}");
    }

    #[test]
    fn every_format_masks_what_is_secret() {
        let sent = Access {
            path: Some("http://jo:secret@a/(S(secret))/x"),
            query: Some("sl=secret"),
            host: Some("jo:secret@a"),
            referer: Some("https://jo:secret@b/y?t=secret#secret"),
            ..access()
        };
        for format in [LogFormat::Json, LogFormat::Combined, LogFormat::W3c] {
            let text = line(&sent, format, LogQuery::Masked);
            assert!(!text.contains("secret") && text.contains("sl=*"), "{text}");
            assert!(text.contains("http://*@a/(*)/x"), "{text}");
            assert_eq!(text.matches("*@a").count(), 2, "{text}");
            let text = line(&sent, format, LogQuery::Off);
            assert!(!text.contains("sl=") && !text.contains("?"), "{text}");
            let text = line(&sent, format, LogQuery::Full);
            assert!(text.contains("sl=secret") && !text.contains("jo:"), "{text}");
        }
        let text = line(&sent, LogFormat::Combined, LogQuery::Masked);
        assert!(text.contains("\"GET http://*@a/(*)/x?sl=* HTTP/1.1\" 200"), "{text}");
        assert!(text.contains("\"https://*@b/y?t=*\""), "{text}");
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        let mut forged = access();
        let text = Some("x\" 200\n10.0.0.1 - - \u{7f}");
        (forged.user_agent, forged.referer, forged.path) = (text, text, text);
        (forged.query, forged.host, forged.sni, forged.method) = (text, text, text, text);
        for format in [LogFormat::Json, LogFormat::Combined, LogFormat::W3c] {
            let text = line(&forged, format, LogQuery::Full);
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert!(!text.contains("x\" 200"));
        }
    }
}

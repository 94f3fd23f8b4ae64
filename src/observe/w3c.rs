//! The W3C extended format with the fields of IIS.

use std::{
    fmt::{Display, Write as _},
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, tz::TimeZone};

use super::{Access, mask};
use crate::{reason, site::LogQuery};

/// What IIS writes to `sc-win32-status` when the client has gone (ERROR_NETNAME_DELETED).
const CLIENT_GONE: u32 = 64;

/// The fields of a line: those of IIS under their names and in their order, then our own with
/// the prefix `x-` that the format sets aside for them.
pub const FIELDS: &str = "date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username \
     c-ip cs(User-Agent) cs(Referer) sc-status sc-substatus sc-win32-status sc-bytes cs-bytes \
     time-taken cs-version cs-host c-port x-listener x-sni x-tls x-rule x-farm x-server \
     x-server-connection x-first-byte x-reason x-peer x-log-id";

/// What stands in front of the first line of a file, and wherever lines begin to be of this
/// format.
pub(super) fn header(now: SystemTime) -> Vec<u8> {
    let (date, time) = date_and_time(now);
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "#Software: Frontgate {version}\n#Version: 1.0\n#Date: {date} {time}\n#Fields: {FIELDS}\n"
    )
    .into_bytes()
}

/// One line, newline included.
pub(super) fn line(a: &Access<'_>, query: LogQuery) -> String {
    let mut row = Row(String::with_capacity(512));
    let (date, time) = date_and_time(a.time);
    let gone = a.reason == Some(reason::CLIENT_LEFT.code);
    row.plain(date);
    row.plain(time);
    row.plain(a.local);
    row.text(a.method);
    row.text(a.path.map(mask::path).as_deref());
    row.text(a.query.and_then(|q| mask::query(q, query)).as_deref());
    row.plain(a.port);
    // Whoever signs in does so with the server; nothing here reads the name.
    row.text(None);
    row.plain(a.client);
    row.text(a.user_agent);
    row.text(a.referer.map(|r| mask::referer(r, query)).as_deref());
    row.plain(a.status);
    row.plain(0);
    row.plain(if gone { CLIENT_GONE } else { 0 });
    row.plain(a.sent);
    row.plain(a.received);
    row.plain(millis(a.duration));
    row.text(a.protocol);
    row.text(a.host.map(mask::authority).as_deref());
    row.some(a.client_port);
    row.text(Some(a.listener));
    row.text(a.sni);
    row.text(a.tls);
    row.text(a.rule);
    row.text(a.farm);
    row.text(a.server);
    row.text(a.server_connection);
    row.some(a.first_byte.map(millis));
    row.text(a.reason);
    row.some(a.peer);
    row.text(a.log_id);
    row.0.push('\n');
    row.0
}

struct Row(String);

impl Row {
    /// A value of our own making.
    fn plain(&mut self, value: impl Display) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        let _ = write!(self.0, "{value}");
    }

    fn some(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.plain(value),
            None => self.text(None),
        }
    }

    /// A value of anybody's making.
    ///
    /// SECURITY: a space becomes `+` as IIS writes it; whatever else could end a field or a line
    /// for any reader (controls, quotes, spaces beyond ASCII) is percent-encoded (log injection).
    /// Test: no_value_breaks_its_field
    fn text(&mut self, value: Option<&str>) {
        self.plain("");
        let value = value.filter(|v| !v.is_empty()).unwrap_or("-");
        for byte in value.bytes() {
            match byte {
                b' ' => self.0.push('+'),
                b'!' | b'#'..=b'~' => self.0.push(char::from(byte)),
                _ => {
                    let _ = write!(self.0, "%{byte:02X}");
                }
            }
        }
    }
}

fn date_and_time(time: SystemTime) -> (impl Display, impl Display) {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC);
    (time.strftime("%Y-%m-%d").to_string(), time.strftime("%H:%M:%S").to_string())
}

fn millis(duration: Duration) -> u128 {
    duration.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::access;

    fn value<'a>(line: &'a str, field: &str) -> &'a str {
        let at = FIELDS.split(' ').position(|name| name == field).unwrap();
        line.trim_end().split(' ').nth(at).unwrap()
    }

    #[test]
    fn the_header_is_that_of_iis() {
        let header = header(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
        let header = String::from_utf8(header).unwrap();
        let lines: Vec<_> = header.lines().collect();
        assert!(lines[0].starts_with("#Software: Frontgate "), "{header}");
        assert_eq!(lines[1..3], ["#Version: 1.0", "#Date: 1970-01-02 00:00:00"]);
        // What IIS 7 and later write with every field selected that a proxy can fill.
        let iis = "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username \
                   c-ip cs(User-Agent) cs(Referer) sc-status sc-substatus sc-win32-status \
                   sc-bytes cs-bytes time-taken ";
        assert!(lines[3].starts_with(iis), "{header}");
        assert_eq!((lines.len(), header.ends_with('\n')), (4, true));
    }

    /// The names that Log Parser's input format IISW3C knows; others would be misspelt.
    #[test]
    fn fields_are_those_of_iis_or_marked_as_our_own() {
        let known = [
            "date",
            "time",
            "c-ip",
            "cs-username",
            "s-sitename",
            "s-computername",
            "s-ip",
            "s-port",
            "cs-method",
            "cs-uri-stem",
            "cs-uri-query",
            "sc-status",
            "sc-substatus",
            "sc-win32-status",
            "sc-bytes",
            "cs-bytes",
            "time-taken",
            "cs-version",
            "cs-host",
            "cs(User-Agent)",
            "cs(Cookie)",
            "cs(Referer)",
        ];
        // As in the error log of HTTP.sys.
        let port = "c-port";
        let mut seen = std::collections::HashSet::new();
        for name in FIELDS.split(' ') {
            assert!(known.contains(&name) || name == port || name.starts_with("x-"), "{name}");
            assert!(seen.insert(name), "{name} stands there twice");
        }
    }

    #[test]
    fn a_line_has_the_values_of_its_fields() {
        let sent = Access { query: Some("sl=1&t=secret"), user_agent: Some("UC CAPI"), ..access() };
        let line = line(&sent, LogQuery::Masked);
        assert_eq!(line.trim_end().split(' ').count(), FIELDS.split(' ').count());
        for (field, told) in [
            ("date", "1970-01-02"),
            ("time", "00:00:00"),
            ("s-ip", "203.0.113.5"),
            ("cs-method", "GET"),
            ("cs-uri-stem", "/meet/bob/1"),
            ("cs-uri-query", "sl=*&t=*"),
            ("s-port", "443"),
            ("cs-username", "-"),
            ("c-ip", "192.0.2.7"),
            ("cs(User-Agent)", "UC+CAPI"),
            ("cs(Referer)", "-"),
            ("sc-status", "200"),
            ("sc-substatus", "0"),
            ("sc-win32-status", "0"),
            ("sc-bytes", "42"),
            ("cs-bytes", "0"),
            ("time-taken", "1"),
            ("cs-version", "HTTP/1.1"),
            ("cs-host", "meet.contoso.com"),
            ("c-port", "5061"),
            ("x-listener", "public"),
            ("x-tls", "TLSv1.3"),
            ("x-rule", "meet.*"),
            ("x-farm", "lyncweb"),
            ("x-server", "fe01"),
            ("x-server-connection", "reused"),
            ("x-first-byte", "1"),
            ("x-reason", "-"),
            ("x-peer", "-"),
            ("x-log-id", "-"),
        ] {
            assert_eq!(value(&line, field), told, "{field}");
        }
    }

    #[test]
    fn a_client_that_left_has_the_status_of_windows() {
        let left = Access { status: 499, reason: Some("client_left"), ..access() };
        assert_eq!(value(&line(&left, LogQuery::Masked), "sc-win32-status"), "64");
    }

    #[test]
    fn no_value_breaks_its_field() {
        let forged = "x\" y\r\n1970-01-02 00:00:00\t\u{a0}\u{2028}\u{85}\u{3000}\u{0}\u{7f}é";
        let every = Access {
            host: Some(forged),
            method: Some(forged),
            path: Some(forged),
            query: Some(forged),
            referer: Some(forged),
            user_agent: Some(forged),
            sni: Some(forged),
            ..access()
        };
        let line = line(&every, LogQuery::Full);
        assert!(line.trim_end().bytes().all(|b| (0x20..0x7f).contains(&b)), "{line}");
        assert_eq!(line.split_whitespace().count(), FIELDS.split(' ').count(), "{line}");
        let told = "x%22+y%0D%0A1970-01-02+00:00:00%09%C2%A0%E2%80%A8%C2%85%E3%80%80%00%7F%C3%A9";
        assert_eq!(value(&line, "cs(User-Agent)"), told);
    }
}

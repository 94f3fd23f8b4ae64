//! The access log: its formats, where it goes, what it does not tell, and that it never holds
//! anybody up.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    net::UdpSocket,
    os::unix::net::UnixDatagram,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    SOON,
    backend::{Backend, always},
    client::Client,
    frontgate::{Frontgate, LISTENERS},
    servers_of, until, w3c,
};

/// A configuration whose access log has these settings.
fn config(log: &str, backend: &Backend) -> String {
    let top = LISTENERS.replace("{ format: json, path: access.log }", log);
    let servers = servers_of(&[("fe01", backend.port())]);
    format!(
        "{top}\nfarms:\n  a: {{ servers: [{servers}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n"
    )
}

fn ok() -> Backend {
    Backend::plain(always("ok"))
}

/// GET with these header lines.
fn get(client: &mut Client, target: &str, lines: &[&str]) -> u16 {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    client.ask(format!("GET {target} HTTP/1.1\r\nHost: meet.contoso.com\r\n{lines}\r\n")).status
}

/// Waits until the file has this many lines with `needle`, and returns it whole.
fn file_with(path: &Path, count: usize, needle: &str) -> String {
    until(&format!("{count} lines with {needle:?} in {}", path.display()), SOON, || {
        let text = fs::read_to_string(path).ok()?;
        (text.ends_with('\n') && text.lines().filter(|l| l.contains(needle)).count() >= count)
            .then_some(text)
    })
}

const W3C: &str = "{ format: w3c, path: access.log }";

#[test]
fn w3c_lines_are_read_by_what_reads_iis() {
    let backend = ok();
    let frontgate = Frontgate::with(&config(W3C, &backend));
    let file = frontgate.path().join("access.log");
    let agent = "User-Agent: UCCAPI/16.0 OC/16.0 (Skype for Business)";
    let referer = "Referer: https://jo:pw@meet.contoso.com/x?t=1";
    let mut client = frontgate.tls("meet.contoso.com");
    assert_eq!(get(&mut client, "/meet/bob/1?sl=1&user=jo", &[agent, referer]), 200);
    let other = "GET / HTTP/1.1\r\nHost: unknown.contoso.com\r\n\r\n";
    assert_eq!(frontgate.plain().ask(other).status, 404);
    assert_eq!(frontgate.plain().ask("GET /a b HTTP/1.1\r\n\r\n").status, 400);
    file_with(&file, 3, " - 127.0.0.1 ");

    let rows = w3c::rows(&file);
    let row = |stem: &str| rows.iter().find(|row| row["cs-uri-stem"] == stem).unwrap().clone();
    let served = row("/meet/bob/1");
    for (field, value) in [
        ("s-ip", json!("127.0.0.1")),
        ("s-port", json!(443)),
        ("cs-method", json!("GET")),
        ("cs-uri-query", json!("sl=*&user=*")),
        ("cs-username", Value::Null),
        ("c-ip", json!("127.0.0.1")),
        ("sc-status", json!(200)),
        ("sc-substatus", json!(0)),
        ("sc-win32-status", json!(0)),
        ("sc-bytes", json!(2)),
        ("cs-bytes", json!(0)),
        ("cs-host", json!("meet.contoso.com")),
        ("x-listener", json!("public")),
        ("x-farm", json!("a")),
        ("x-server", json!("fe01")),
        ("x-reason", Value::Null),
    ] {
        assert_eq!(served[field], value, "{field} of {served}");
    }
    // Readers turn `+` back into spaces, or leave it.
    let agent = served["cs(User-Agent)"].as_str().unwrap().replace('+', " ");
    assert_eq!(agent, "UCCAPI/16.0 OC/16.0 (Skype for Business)");
    assert_eq!(served["cs(Referer)"], "https://*@meet.contoso.com/x?t=*");
    assert_eq!(row("/")["x-reason"], "host_not_published");
    assert_eq!((&row("/a")["sc-status"], &row("/a")["x-server"]), (&json!(400), &Value::Null));

    // A query that was written for IIS.
    let found = w3c::query(
        &file,
        "SELECT \"cs-uri-stem\", COUNT(*) AS hits, MAX(\"time-taken\") < 60000, \
         SUM(\"sc-bytes\" + \"cs-bytes\") FROM log \
         WHERE \"sc-status\" < 400 AND \"cs-method\" = 'GET' AND \"s-port\" = 443 \
         AND \"sc-win32-status\" = 0 AND \"cs(User-Agent)\" LIKE 'UCCAPI%' \
         AND \"date\" > '2020-01-01' AND \"time\" IS NOT NULL \
         GROUP BY \"cs-uri-stem\" ORDER BY hits DESC LIMIT 10",
    );
    assert_eq!(found, json!([["/meet/bob/1", 1, 1, 2]]));
}

/// Log injection: whatever a client sends stays in its field, for a reader of somebody else's too.
#[test]
fn no_client_breaks_a_w3c_line() {
    let backend = ok();
    let frontgate = Frontgate::with(&config(W3C, &backend));
    let file = frontgate.path().join("access.log");
    let agents = [
        "User-Agent: a\tb \"c\" 'd' - #Fields: date",
        "User-Agent: \"",
        "User-Agent: #Version: 2.0",
        "User-Agent: \u{2028}\u{85}\u{a0}\u{3000} \u{e9}",
        "User-Agent: a%0d%0a2026-01-01 00:00:00",
        "User-Agent: -",
    ];
    let mut client = frontgate.tls("meet.contoso.com");
    for agent in agents {
        assert_eq!(
            get(&mut client, "/x%0d%0a%20y?a=%0d%0a&%22=1&-", &[agent, "Referer: \" \t"]),
            200
        );
    }
    let mut bytes = b"GET /latin HTTP/1.1\r\nHost: meet.contoso.com\r\nUser-Agent: caf".to_vec();
    bytes.extend_from_slice(b"\xe9\xa0x\r\n\r\n");
    assert_eq!(client.ask(bytes).status, 200);
    let text = file_with(&file, 7, " 200 0 0 ");
    assert!(text.bytes().all(|b| b == b'\n' || (0x20..0x7f).contains(&b)), "{text}");
    assert_eq!(text.lines().count(), 4 + 7, "{text}");
    let rows = w3c::rows(&file);
    assert_eq!(rows.len(), 7);
    assert!(rows.iter().all(|row| row["sc-status"] == 200 && row["x-server"] == "fe01"));
    assert!(rows[6]["cs(User-Agent)"].as_str().unwrap().starts_with("caf"), "{}", rows[6]);
}

#[test]
fn each_file_has_a_header_of_its_own() {
    let backend = ok();
    let frontgate = Frontgate::with(&config(W3C, &backend));
    let (file, old) = (frontgate.path().join("access.log"), frontgate.path().join("old.log"));
    let mut client = frontgate.tls("meet.contoso.com");
    assert_eq!(get(&mut client, "/first", &[]), 200);
    file_with(&file, 1, " /first ");
    fs::rename(&file, &old).unwrap();
    frontgate.signal(libc::SIGUSR1);
    frontgate.log_line("access log opened anew");
    assert_eq!(get(&mut client, "/second", &[]), 200);
    file_with(&file, 1, " /second ");
    for (path, stem) in [(&old, "/first"), (&file, "/second")] {
        let rows = w3c::rows(path);
        assert_eq!((rows.len(), &rows[0]["cs-uri-stem"]), (1, &json!(stem)));
    }
    // A reload to another format and back, in the same file.
    let reload = |log: &str| {
        let seen = frontgate.log_count(" reloaded (");
        frontgate.rewrite(&config(log, &backend));
        until("reload", SOON, || (frontgate.log_count(" reloaded (") > seen).then_some(()));
    };
    reload("{ format: json, path: access.log, query: full }");
    assert_eq!(get(&mut client, "/third?a=b", &[]), 200);
    reload(W3C);
    assert_eq!(get(&mut client, "/fourth?a=b", &[]), 200);
    let text = file_with(&file, 1, " /fourth a=* ");
    let lines: Vec<_> = text.lines().skip(4).collect();
    assert!(lines[0].contains(" /second ") && lines[6].contains(" /fourth "), "{text}");
    let third: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!((&third["path"], &third["query"]), (&json!("/third"), &json!("a=b")));
    assert!(lines[2].starts_with("#Software: Frontgate ") && lines[5].starts_with("#Fields: date"));
}

#[test]
fn secrets_are_in_no_format() {
    for (format, query) in [("json", "masked"), ("combined", "masked"), ("w3c", "off")] {
        let backend = ok();
        let log = format!("{{ format: {format}, path: access.log, query: {query} }}");
        let frontgate = Frontgate::with(&config(&log, &backend));
        let mut client = frontgate.tls("meet.contoso.com");
        let lines = [
            "Authorization: Basic am86c2VjcmV0",
            "Cookie: a=secret; b=c2VjcmV0",
            "Proxy-Authorization: Basic am86c2VjcmV0",
            "Referer: https://jo:secret@meet.contoso.com/x?ticket=secret#secret",
        ];
        assert_eq!(get(&mut client, "/x?ticket=secret&c2VjcmV0c2VjcmV0==", &lines), 200);
        let refused = "GET http://jo:secret@meet.contoso.com/y?ticket=secret HTTP/1.1\r\nA: b c:\r\n\
                       Host: other\r\nTransfer-Encoding: secret\r\n\r\n";
        assert!(frontgate.plain().ask(refused).status >= 400);
        let text = file_with(&frontgate.path().join("access.log"), 1, "/x");
        let text = if text.contains("/y") {
            text
        } else {
            file_with(&frontgate.path().join("access.log"), 1, "/y")
        };
        for secret in ["secret", "c2VjcmV0", "am86", "jo:"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert_eq!(text.contains("ticket=*"), query == "masked", "{text}");
    }
}

/// One message: what stands in front of the line, and the line.
fn message(text: &str) -> (Vec<&str>, Value) {
    let mut parts: Vec<_> = text.splitn(8, ' ').collect();
    let line = serde_json::from_str(parts.pop().unwrap()).unwrap();
    (parts, line)
}

#[test]
fn syslog_gets_every_line_as_a_message() {
    let backend = ok();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let unix = UnixDatagram::bind(&path).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    unix.set_read_timeout(Some(SOON)).unwrap();
    udp.set_read_timeout(Some(SOON)).unwrap();
    let mut buffer = vec![0; 65_536];

    let log = format!("{{ path: \"syslog:{}\" }}", path.display());
    let frontgate = Frontgate::with(&config(&log, &backend));
    let pid = frontgate.pid().to_string();
    let mut client = frontgate.tls("meet.contoso.com");
    assert_eq!(get(&mut client, "/unix?a=b", &[]), 200);
    let n = unix.recv(&mut buffer).unwrap();
    let (head, line) = message(std::str::from_utf8(&buffer[..n]).unwrap());
    assert_eq!((head[0], &head[3..]), ("<134>1", &["frontgate", &pid, "access", "-"][..]));
    assert_eq!((&line["path"], &line["query"]), (&json!("/unix"), &json!("a=*")));

    // The receiver is started anew: nothing has to be done.
    drop(unix);
    fs::remove_file(&path).unwrap();
    let unix = UnixDatagram::bind(&path).unwrap();
    unix.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(get(&mut client, "/again", &[]), 200);
    let n = unix.recv(&mut buffer).unwrap();
    assert_eq!(message(std::str::from_utf8(&buffer[..n]).unwrap()).1["path"], "/again");

    let log = format!("{{ path: \"syslog:udp:{}\" }}", udp.local_addr().unwrap());
    frontgate.rewrite(&config(&log, &backend));
    frontgate.log_line(" reloaded (");
    assert_eq!(get(&mut client, "/udp", &[]), 200);
    let n = udp.recv(&mut buffer).unwrap();
    assert_eq!(message(std::str::from_utf8(&buffer[..n]).unwrap()).1["path"], "/udp");
}

/// Sends this many requests with long lines; each must be answered at once.
fn many(frontgate: &Frontgate, count: usize) {
    let agent = format!("User-Agent: {}", "x".repeat(60_000));
    let mut client = frontgate.tls("meet.contoso.com");
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..count {
        let sent = Instant::now();
        assert_eq!(get(&mut client, "/many", &[&agent]), 200);
        slowest = slowest.max(sent.elapsed());
    }
    // A receiver is waited for, for a second a line at least, or for ever.
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
}

/// More lines of `many` than the queue of 8 MiB holds.
const TOO_MANY: usize = 200;

#[test]
fn a_pipe_that_nobody_empties_holds_no_request_up() {
    let backend = ok();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let pipe = File::options().read(true).write(true).open(&path).unwrap();
    let log = format!("{{ format: w3c, path: {} }}", path.display());
    let frontgate = Frontgate::with(&config(&log, &backend));
    many(&frontgate, TOO_MANY);
    frontgate.log_line("takes lines too slowly or not at all");
    assert_eq!(frontgate.log_count("access log: "), 1, "one warning a minute");
    // Somebody reads: the header, what was kept, and that something is missing.
    let reader = std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe).lines().map(Result::unwrap);
        assert!(lines.next().unwrap().starts_with("#Software"));
        lines.find(|line| line.contains(" /after ")).unwrap();
    });
    frontgate.log_line("takes lines again");
    let mut client = frontgate.tls("meet.contoso.com");
    assert_eq!(get(&mut client, "/after", &[]), 200);
    reader.join().unwrap();
}

#[test]
fn a_syslog_that_reads_nothing_holds_no_request_up() {
    let backend = ok();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let log = format!("{{ path: \"syslog:{}\" }}", path.display());
    let frontgate = Frontgate::with(&config(&log, &backend));
    many(&frontgate, TOO_MANY);
    frontgate.log_line("cannot write to syslog ");
    assert_eq!(frontgate.log_count("access log: "), 1, "one warning a minute");
    // It is there again, and so is the log.
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        receiver.set_read_timeout(Some(SOON)).unwrap();
        while !String::from_utf8_lossy(&buffer).contains("\"path\":\"/after\"") {
            buffer.fill(0);
            receiver.recv(&mut buffer).unwrap();
        }
    });
    let mut client = frontgate.tls("meet.contoso.com");
    until("a line arrives again", SOON, || {
        assert_eq!(get(&mut client, "/after", &[]), 200);
        reader.is_finished().then_some(())
    });
    reader.join().unwrap();
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let backend = ok();
    let frontgate = Frontgate::with(&config("{ format: w3c, path: /dev/full }", &backend));
    many(&frontgate, TOO_MANY);
    frontgate.log_line("cannot write to /dev/full: No space left");
    assert_eq!(frontgate.log_count("access log: "), 1, "one warning a minute");
    // Another file mends it, with a header.
    frontgate.rewrite(&config(W3C, &backend));
    frontgate.log_line(" reloaded (");
    frontgate.log_line("takes lines again");
    let mut client = frontgate.tls("meet.contoso.com");
    assert_eq!(get(&mut client, "/kept", &[]), 200);
    let mut text = String::new();
    file_with(&frontgate.path().join("access.log"), 1, " /kept ");
    File::open(frontgate.path().join("access.log")).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.starts_with("#Software"), "{text}");
}

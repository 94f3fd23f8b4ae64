//! `frontgate lab` as a user runs it, asked with curl: the whole way through Frontgate to the
//! simulated Front Ends and back.

use std::time::Instant;

use serde_json::Value;

use crate::support::{
    SOON,
    client::Client,
    lab::{Lab, shared},
    load::Load,
    until,
};

#[test]
fn the_pages_of_a_front_end_arrive() {
    let lab = shared();
    let meet = lab.get("https", "meet.contoso.com", "/meet/alice/X7K2", &[]);
    assert!(meet.starts_with("HTTP/1.1 200") && meet.contains("<script"), "{meet}");
    assert!(lab.get("https", "dialin.contoso.com", "/", &[]).starts_with("HTTP/1.1 200"));
    let scheduler = lab.body("lyncweb.contoso.com", "/scheduler/", &[]);
    assert!(scheduler.contains("Web Scheduler Version"), "{scheduler}");
    let discovery = lab.body("wac.contoso.com", "/hosting/discovery", &[]);
    assert!(discovery.contains("wopi-discovery") && discovery.contains("https://wac.contoso.com"));
    // Inside names stay inside, and the administration pages do not exist.
    for name in ["server:", "x-powered-by:", "x-ms-server-fqdn:", "x-aspnet-version:"] {
        assert!(!meet.to_lowercase().contains(name), "{meet}");
    }
    for path in ["/cscp/", "/OcsPowerShell", "/macp", "/Admin", "/%63scp", "/x/../cscp/"] {
        let answer = lab.get("https", "lyncweb.contoso.com", path, &["--path-as-is"]);
        assert!(
            answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"),
            "{answer}"
        );
    }
}

#[test]
fn autodiscover_names_external_hosts_only() {
    let lab = shared();
    let root = "/Autodiscover/AutodiscoverService.svc/root";
    let formats = [
        ("application/json", "\"_links\""),
        ("application/vnd.microsoft.rtc.autodiscover+json;v=1", "\"AccessLocation\":\"External\""),
        ("application/vnd.microsoft.rtc.autodiscover+xml;v=1", "AccessLocation=\"External\""),
    ];
    for (accept, shape) in formats {
        for host in ["lyncdiscover.contoso.com", "lyncweb.contoso.com", "lyncweb2.contoso.com"] {
            let body = lab.body(host, root, &["-H", &format!("Accept: {accept}")]);
            assert!(body.contains(shape), "{accept}: {body}");
            assert!(!body.contains("contoso.local") && !body.contains(":4443"), "{accept}: {body}");
            assert!(body.contains("https://lyncweb"), "{accept}: {body}");
        }
    }
    assert!(
        lab.get("https", "lyncweb.contoso.com", &format!("{root}/domain"), &[]).contains(" 200 ")
    );
    let bare = lab.get("https", "lyncdiscover.contoso.com", "/", &["-H", "Accept:"]);
    assert!(bare.starts_with("HTTP/1.1 200"), "{bare}");
}

#[test]
fn port_80_gives_the_redirect_document_and_nothing_else() {
    let lab = shared();
    let answer = lab.get("http", "lyncdiscover.contoso.com", "/?sipuri=alice@contoso.com", &[]);
    assert!(answer.starts_with("HTTP/1.1 200"), "a 30x would be a failure for clients: {answer}");
    assert!(answer.to_lowercase().contains("redirect") && answer.contains("https://lyncweb"));
    let other = lab.get("http", "lyncdiscover.contoso.com", "/WebTicket/x", &[]);
    assert!(other.starts_with("HTTP/1.1 301"), "{other}");
    let meet = lab.get("http", "meet.contoso.com", "/meet/alice/1", &[]);
    let port = lab.address("/frontgate/https").port();
    assert!(meet.contains(&format!("https://meet.contoso.com:{port}/meet/alice/1")), "{meet}");
}

#[test]
fn sign_in_headers_stay_several_and_in_order() {
    let lab = shared();
    let root = "/Autodiscover/AutodiscoverService.svc/root";
    let answer = lab.get("https", "lyncweb.contoso.com", &format!("{root}/oauth/user"), &[]);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let lines: Vec<_> = answer
        .lines()
        .filter(|l| l.to_ascii_lowercase().starts_with("www-authenticate:"))
        .collect();
    assert_eq!(lines.len(), 2, "{answer}");
    assert!(lines[0].contains("Bearer") && lines[1].contains("MsRtcOAuth"), "{lines:?}");
    let user = lab.get("https", "lyncweb.contoso.com", &format!("{root}/user"), &[]);
    assert!(user.contains("X-MS-WebTicketURL: https://lyncweb.contoso.com/"), "{user}");
}

/// Signs in, makes a UCWA application, and holds its event channel for 200 seconds: longer than
/// ARR's 30 s, its 120 s and the 180 s a client asks for at least.
#[test]
fn a_ucwa_poll_of_200_seconds_stays_open() {
    let lab = shared();
    let form = "grant_type=password&username=alice@contoso.com&password=Passw0rd!";
    let token = lab.body("lyncweb.contoso.com", "/WebTicket/oauthtoken", &["-d", form]);
    let token: Value = serde_json::from_str(&token).unwrap();
    let bearer = format!("Authorization: Bearer {}", token["access_token"].as_str().unwrap());
    let made = lab.get(
        "https",
        "lyncweb.contoso.com",
        "/ucwa/oauth/v1/applications",
        &[
            "-H",
            &bearer,
            "-H",
            "Content-Type: application/json",
            "-d",
            r#"{"UserAgent":"test","EndpointId":"e1","Culture":"en-US"}"#,
        ],
    );
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let events = made
        .split('"')
        .find(|part| part.contains("/events?"))
        .unwrap_or_else(|| panic!("no events link: {made}"))
        .replace("\\/", "/");
    let path = events.split_once("contoso.com").map_or(&*events, |(_, path)| path);
    let path = format!("{path}&timeout=200");
    let begun = Instant::now();
    let answer = lab.get("https", "lyncweb.contoso.com", &path, &["-H", &bearer]);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("next"), "{answer}");
    let held = begun.elapsed();
    assert!((199..230).contains(&held.as_secs()), "{held:?}");
}

/// A wrong port shows the way it does in the field: internal names reach the client.
#[test]
fn the_internal_site_behind_a_wrong_port_is_recognised() {
    let lab = Lab::start();
    let config = std::fs::read_to_string(lab.path("frontgate.yaml")).unwrap();
    let right = lab.address("/servers/0/external/https").port();
    let wrong = lab.address("/servers/0/internal/https").port();
    assert!(config.contains(&right.to_string()), "{config}");
    // The other servers keep their ports; only fe01 answers for the pool then.
    std::fs::write(
        lab.path("frontgate.yaml"),
        config.replace(&right.to_string(), &wrong.to_string()),
    )
    .unwrap();
    lab.log_line(" reloaded (");
    lab.control("/stop/fe02");
    let rtc = "Accept: application/vnd.microsoft.rtc.autodiscover+json;v=1";
    until("the internal document", SOON, || {
        let body = lab.body(
            "lyncweb.contoso.com",
            "/autodiscover/autodiscoverservice.svc/root",
            &["-H", rtc],
        );
        body.contains("\"AccessLocation\":\"Internal\"").then_some(())
    });
}

#[test]
fn killing_a_simulated_front_end_moves_its_clients() {
    let lab = Lab::start();
    let https = lab.address("/frontgate/https");
    let certificates =
        crate::support::certificates::Certificates { dir: lab.dir.path().to_owned() };
    let connect = move || Client::tls(https, Some("lyncweb.contoso.com"), &certificates);
    let request = "GET /lab/echo HTTP/1.1\r\nHost: lyncweb.contoso.com\r\n\r\n";
    let both = Load::start(2, connect.clone(), request, |a| {
        a.status == 200 || a.reason() == "server_closed"
    });
    until("load", SOON, || (both.answered() > 50).then_some(()));
    lab.control("/stop/fe01");
    lab.log_line("server fe01 is down: connect refused");
    both.finish();
    let rest = Load::start(2, connect, request, |a| a.status == 200 && a.text().contains("fe02"));
    until("load", SOON, || (rest.answered() > 100).then_some(()));
    rest.finish();
    lab.control("/start/fe01");
    lab.log_line("server fe01 is up again");
}

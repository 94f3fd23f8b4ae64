//! Editing the file changes everything, and costs nobody a request.

use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{
    SOON,
    backend::{Backend, always, held},
    certificates::{authority, ec, issue, save},
    client::Client,
    frontgate::{Frontgate, LISTENERS},
    load::Load,
    until,
};

fn config(extra: &str, host: &str, port: u16) -> String {
    format!(
        "{LISTENERS}farms:\n  a: {{ servers: [{{ name: fe01, address: 127.0.0.1, ports: {{ http: {port} }} }}], bridge: http{extra} }}\n\
         publish:\n  - {{ host: {host}, farm: a, schemes: [https, http] }}\n"
    )
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";

#[test]
fn two_hundred_reloads_under_load_fail_no_request() {
    let (one, two) = (Backend::plain(always("one")), Backend::plain(always("two")));
    let frontgate = Frontgate::with(&config("", "meet.*", one.port()));
    let (plain, https) = (frontgate.address("plain"), frontgate.address("public"));
    let certificates = frontgate.certificates.clone();
    let good = |a: &crate::support::client::Answer| {
        a.status == 200 && ["one", "two"].contains(&&*a.text())
    };
    let loads = [
        Load::start(4, move || Client::plain(plain), GET, good),
        Load::start(
            4,
            move || Client::tls(https, Some("meet.contoso.com"), &certificates),
            GET,
            good,
        ),
    ];
    for n in 0..200 {
        // Another server, another timeout, and a new host come and go.
        let port = if n % 2 == 0 { two.port() } else { one.port() };
        let text = config(&format!(", timeout: {}s", 100 + n), "meet.*", port);
        let seen = frontgate.log_count(" reloaded (");
        frontgate.rewrite(&text);
        frontgate.signal(libc::SIGHUP);
        until(&format!("reload {n}"), SOON, || {
            (frontgate.log_count(" reloaded (") > seen).then_some(())
        });
    }
    let answered: usize = loads.into_iter().map(Load::finish).sum();
    assert!(answered > 400, "only {answered} requests");
    assert_eq!(frontgate.log_count("refused ("), 0);
}

#[test]
fn a_broken_file_changes_nothing_and_says_why() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config("", "meet.*", backend.port()));
    for broken in ["farms: [", "farms:\n  a:\n    servrs: []\n", ""] {
        let seen = frontgate.log_count("reload refused");
        frontgate.rewrite(broken);
        until("refusal", SOON, || (frontgate.log_count("reload refused") > seen).then_some(()));
        assert_eq!(frontgate.plain().ask(GET).text(), "ok");
    }
    frontgate.log_line("servrs");
    frontgate.rewrite(&config("", "dialin.*", backend.port()));
    frontgate.log_line(" reloaded (");
    assert_eq!(frontgate.plain().ask(GET).status, 404);
    assert_eq!(frontgate.plain().get("dialin.contoso.com", "/").text(), "ok");
}

#[test]
fn a_long_poll_outlives_reloads_and_even_its_own_rule() {
    let (go, backend) = held("at last");
    let frontgate = Frontgate::with(&config("", "meet.*", backend.port()));
    let mut poll = frontgate.tls("meet.contoso.com");
    poll.send(GET);
    until("the poll arrives", SOON, || (backend.connections() == 1).then_some(()));
    frontgate.rewrite(&config(", timeout: 77s", "dialin.*", backend.port()));
    frontgate.log_line(" reloaded (");
    go.send(()).unwrap();
    assert_eq!(poll.answer(false).text(), "at last");
    // The next request on the same connection meets the new site.
    assert_eq!(poll.get("meet.contoso.com", "/").status, 421);
}

#[test]
fn listeners_come_and_go() {
    let backend = Backend::plain(always("ok"));
    let text = config("", "meet.*", backend.port());
    let frontgate = Frontgate::with(&text);
    let mut stays = frontgate.plain();
    assert_eq!(stays.ask(GET).text(), "ok");
    let extra = "  - { name: extra, address: \"127.0.0.3:0\" }\n";
    frontgate.rewrite(&text.replace("certificates:", &format!("{extra}certificates:")));
    let line = frontgate.log_line("listener extra: ");
    let address = line.rsplit(" on ").next().unwrap().parse().unwrap();
    let mut client = Client::plain(address);
    assert_eq!(client.ask(GET).text(), "ok");
    assert_eq!(stays.ask(GET).text(), "ok");
    // Gone again: its idle connection closes, nobody can connect, the others do not notice.
    let seen = frontgate.log_count(" reloaded (");
    frontgate.rewrite(&text);
    until("reload", SOON, || (frontgate.log_count(" reloaded (") > seen).then_some(()));
    assert!(std::net::TcpStream::connect(address).is_err(), "reloaded, and still there");
    assert!(client.closed());
    assert_eq!(stays.ask(GET).text(), "ok");

    // An address that cannot be bound refuses the whole reload.
    let taken = std::net::TcpListener::bind("127.0.0.4:0").unwrap();
    let extra = format!("  - {{ name: taken, address: \"{}\" }}\n", taken.local_addr().unwrap());
    frontgate.rewrite(
        &config("", "dialin.*", backend.port())
            .replace("certificates:", &format!("{extra}certificates:")),
    );
    frontgate.log_line("cannot bind");
    assert_eq!(stays.ask(GET).text(), "ok");
}

#[test]
fn a_renewed_certificate_is_served_to_the_next_handshake() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config("", "meet.*", backend.port()));
    let serial = || {
        let client = frontgate.tls("meet.contoso.com");
        client.ssl().peer_certificate().unwrap().serial_number().to_bn().unwrap().to_string()
    };
    let old = serial();
    let new = authority("Renewed CA");
    save(frontgate.path(), "public", &issue(&new, &["meet.contoso.com"], ec()));
    std::fs::write(frontgate.path().join("public-ca.pem"), new.certificate.to_pem().unwrap())
        .unwrap();
    let begun = Instant::now();
    frontgate.log_line(" reloaded (");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_ne!(serial(), old);
}

#[test]
fn an_address_can_widen_and_narrow_and_the_admin_side_can_move() {
    let backend = Backend::plain(always("ok"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = |ip: &str| {
        config("", "meet.*", backend.port()).replace("127.0.0.2:0", &format!("{ip}:{free}"))
    };
    let frontgate = Frontgate::with(&text("0.0.0.0"));
    let elsewhere: std::net::SocketAddr = format!("127.0.0.9:{free}").parse().unwrap();
    let here: std::net::SocketAddr = format!("127.0.0.1:{free}").parse().unwrap();
    assert_eq!(Client::plain(elsewhere).ask(GET).text(), "ok");
    frontgate.rewrite(&text("127.0.0.1"));
    frontgate.log_line(" reloaded (");
    assert_eq!(Client::plain(here).ask(GET).text(), "ok");
    assert!(std::net::TcpStream::connect(elsewhere).is_err());
    let seen = frontgate.log_count(" reloaded (");
    frontgate.rewrite(
        &text("0.0.0.0")
            .replace("admin: { listen: 127.0.0.1:0 }", "admin: { listen: 127.0.0.8:0 }"),
    );
    until("reload", SOON, || (frontgate.log_count(" reloaded (") > seen).then_some(()));
    assert_eq!(Client::plain(elsewhere).ask(GET).text(), "ok");
    let line = frontgate.log_line("admin: http on 127.0.0.8:");
    let admin = line.rsplit(" on ").next().unwrap().parse().unwrap();
    assert_eq!(Client::plain(admin).get("127.0.0.8", "/readyz").status, 200);
}

/// Whatever a refused reload had to close first is back, the admin side included.
#[test]
fn a_refused_reload_leaves_every_listener_as_it_was() {
    let backend = Backend::plain(always("ok"));
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (free, admin) = (port(), port());
    let taken = std::net::TcpListener::bind("127.0.0.5:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let text = |ip: &str, more: &str, health: &str| {
        config("", "meet.*", backend.port())
            .replace("127.0.0.2:0", &format!("{ip}:{free}"))
            .replace(
                "admin: { listen: 127.0.0.1:0 }",
                &format!("admin: {{ listen: 127.0.0.1:{admin} }}\n{health}"),
            )
            .replace("certificates:", &format!("{more}certificates:"))
    };
    let frontgate = Frontgate::with(&text("0.0.0.0", "", ""));
    let elsewhere: std::net::SocketAddr = format!("127.0.0.9:{free}").parse().unwrap();
    let admin: std::net::SocketAddr = format!("127.0.0.1:{admin}").parse().unwrap();
    let extra = format!("  - {{ name: taken, address: \"{taken}\" }}\n");
    let bad_health = format!("health: {{ listen: \"{taken}\" }}\n");
    let bad_log = |text: String| text.replace("path: access.log", "path: /dev/null/x/access.log");
    for bad in [
        text("127.0.0.1", &extra, ""),
        text("127.0.0.1", "", &bad_health),
        bad_log(text("127.0.0.1", "", "")),
    ] {
        let seen = frontgate.log_count("refused (");
        frontgate.rewrite(&bad);
        until("refusal", SOON, || (frontgate.log_count("refused (") > seen).then_some(()));
        assert_eq!(Client::plain(elsewhere).ask(GET).text(), "ok");
        assert_eq!(Client::plain(admin).get("localhost", "/readyz").status, 200);
    }
    // Two that go for one that comes.
    let two = format!("  - {{ name: two, address: \"127.0.0.9:{free}\" }}\n");
    for good in [text("127.0.0.1", &two, ""), text("0.0.0.0", "", "")] {
        let seen = frontgate.log_count(" reloaded (");
        frontgate.rewrite(&good);
        until("reload", SOON, || (frontgate.log_count(" reloaded (") > seen).then_some(()));
        assert_eq!(Client::plain(elsewhere).ask(GET).text(), "ok");
    }
}

/// A socket that lets Frontgate bind beside it, until it is told not to reuse its address.
fn stranger(address: &str) -> (Socket, u16) {
    let stranger = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stranger.set_reuse_address(true).unwrap();
    let address: std::net::SocketAddr = address.parse().unwrap();
    stranger.bind(&address.into()).unwrap();
    let port = stranger.local_addr().unwrap().as_socket().unwrap().port();
    (stranger, port)
}

/// A refused reload had closed it, and somebody else is on its address when it comes back.
#[test]
fn a_lost_listener_is_found_again_by_the_next_reload() {
    let backend = Backend::plain(always("ok"));
    let (stranger, port) = stranger("127.0.0.7:0");
    let taken = std::net::TcpListener::bind("127.0.0.5:0").unwrap();
    let extra = format!("  - {{ name: taken, address: \"{}\" }}\n", taken.local_addr().unwrap());
    let text = |ip: &str, more: &str| {
        config("", "meet.*", backend.port())
            .replace("127.0.0.2:0", &format!("{ip}:{port}"))
            .replace("certificates:", &format!("{more}certificates:"))
    };
    let frontgate = Frontgate::with(&text("0.0.0.0", ""));
    let admin = frontgate.address("admin");
    let readyz = || Client::plain(admin).get("localhost", "/readyz").status;
    assert_eq!(readyz(), 200);
    stranger.set_reuse_address(false).unwrap();
    frontgate.rewrite(&text("127.0.0.1", &extra));
    frontgate.log_line("listener plain is lost: ");
    until("not ready", SOON, || (readyz() == 503).then_some(()));
    // The old configuration, of which nothing changes, is refused while the stranger is there.
    let reload = || frontgate.command(&["reload"]);
    frontgate.rewrite(&text("0.0.0.0", ""));
    let (code, out, err) = reload();
    assert!(code != 0 && err.contains("cannot bind"), "{code} {out}{err}");
    assert_eq!(readyz(), 503);
    drop(stranger);
    let (code, out, err) = reload();
    assert_eq!((code, out.as_str()), (0, "reloaded\n"), "{err}");
    assert_eq!(readyz(), 200);
    let here: std::net::SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    assert_eq!(Client::plain(here).ask(GET).text(), "ok");
    let (_, out, _) = reload();
    assert_eq!(out, "nothing has changed\n");
}

#[test]
fn a_lost_admin_side_is_found_again_by_the_next_reload() {
    let backend = Backend::plain(always("ok"));
    let (stranger, port) = stranger("127.0.0.1:0");
    let taken = std::net::TcpListener::bind("127.0.0.5:0").unwrap();
    let text = |health: &str| {
        let admin = format!("admin: {{ listen: 127.0.0.1:{port} }}\n{health}");
        config("", "meet.*", backend.port()).replace("admin: { listen: 127.0.0.1:0 }", &admin)
    };
    let frontgate = Frontgate::with(&text(""));
    let admin = frontgate.address("admin");
    stranger.set_reuse_address(false).unwrap();
    frontgate
        .rewrite(&text(&format!("health: {{ listen: \"{}\" }}\n", taken.local_addr().unwrap())));
    frontgate.log_line("the admin side is lost: ");
    assert_eq!(frontgate.plain().ask(GET).text(), "ok");
    drop(stranger);
    let opened = frontgate.log_count("admin: http on ");
    frontgate.rewrite(&text(""));
    until("the admin side", SOON, || {
        (frontgate.log_count("admin: http on ") > opened).then_some(())
    });
    assert_eq!(Client::plain(admin).get("localhost", "/readyz").status, 200);
}

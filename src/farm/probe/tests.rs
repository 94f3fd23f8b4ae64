//! Probes against real sockets: plain ones and TLS ones, kind and broken.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use pingora::connectors::TransportConnector;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{super::testing::*, *};
use crate::site::{Bridge, Farm, Ports, ServerTls, Verify};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn page(status: (u16, u16), body: Option<&str>) -> site::Probe {
    probe(Check::Http {
        path: "/autodiscover/autodiscoverservice.svc/root?a=b".into(),
        host: None,
        status: vec![status],
        body: body.map(Arc::from),
    })
}

/// A farm of one server on this port for both protocols.
fn farm_on(port: u16, bridge: Bridge) -> Farm {
    let mut farm = Farm { bridge, ..farm("lyncweb", &["lyncweb.contoso.com"]) };
    farm.servers[0].ports = Ports { https: port, http: port };
    farm
}

fn trusting(farm: Farm, authority: &Authority, verify: Verify) -> Farm {
    let ca = Some(Arc::new(vec![authority.certificate.clone()].into_boxed_slice()));
    Farm { tls: ServerTls { verify, ca, digest: 1 }, ..farm }
}

async fn ask_at(farm: Farm, probe: site::Probe, addresses: &[IpAddr]) -> Result<(), String> {
    let server = Arc::new(farm.servers[0].clone());
    let plan = Plan { farm: Arc::new(farm), server, probe };
    let probe = Probe::new(plan, Arc::new(TransportConnector::new(None)));
    probe.ask(addresses).await.map_err(|reason| reason.to_string())
}

async fn ask(farm: Farm, probe: site::Probe) -> Result<(), String> {
    ask_at(farm, probe, &[LOOPBACK]).await
}

fn because(reason: &str) -> Result<(), String> {
    Err(reason.into())
}

/// A port on which nobody listens: bound, but never listening, so nobody else gets it.
fn closed_port() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((LOOPBACK, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn tcp_connects_or_is_refused() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let open = listener.local_addr().unwrap().port();
    assert_eq!(ask(farm("f", &["fe01"]), tcp(open)).await, Ok(()));
    let (_held, closed) = closed_port();
    assert_eq!(ask(farm("f", &["fe01"]), tcp(closed)).await, because("connect refused"));
}

#[tokio::test]
async fn tcp_to_a_full_backlog_times_out() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((LOOPBACK, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // The kernel queues a little more than asked; what does not fit is not answered at all.
    let mut queued = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
    {
        queued.push(stream);
    }
    let farm = Farm { connect_timeout: Duration::from_millis(200), ..farm("f", &["fe01"]) };
    assert_eq!(ask(farm, tcp(address.port())).await, because("connect timeout"));
}

#[tokio::test]
async fn a_second_address_is_tried_when_the_first_cannot_be_reached() {
    let first = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = first.local_addr().unwrap().port();
    let dead = IpAddr::from([127, 0, 0, 77]);
    assert_eq!(ask_at(farm("f", &["fe01"]), tcp(port), &[dead, LOOPBACK]).await, Ok(()));
    let outcome = ask_at(farm("f", &["fe01"]), tcp(port), &[dead]).await;
    assert_eq!(outcome, because("connect refused"));
    let outcome = ask_at(farm("f", &["fe01"]), tcp(port), &[]).await;
    assert_eq!(outcome, because("name does not resolve"));
}

#[tokio::test]
async fn a_good_page_is_asked_for_politely() {
    let server = Answering::plain("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nRunning").await;
    let farm = farm_on(server.port, Bridge::Http);
    assert_eq!(ask(farm, page((200, 399), Some("unni"))).await, Ok(()));
    assert_eq!(
        server.request().await,
        "GET /autodiscover/autodiscoverservice.svc/root?a=b HTTP/1.1\r\n\
         Host: lyncweb.contoso.com\r\nUser-Agent: frontgate-probe\r\nConnection: close\r\n\r\n"
    );
}

#[tokio::test]
async fn the_probes_own_host_is_sent() {
    let server = Answering::plain("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
    let check = Check::Http {
        path: "/".into(),
        host: Some("meet.contoso.com".into()),
        status: vec![(200, 200), (401, 401)],
        body: None,
    };
    assert_eq!(ask(farm_on(server.port, Bridge::Http), probe(check)).await, Ok(()));
    assert!(server.request().await.contains("\r\nHost: meet.contoso.com\r\n"));
}

#[tokio::test]
async fn a_status_outside_the_ranges_fails_and_redirects_are_not_followed() {
    let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let server = Answering::plain(answer).await;
    let outcome = ask(farm_on(server.port, Bridge::Http), page((200, 399), None)).await;
    assert_eq!(outcome, because("status 503"));

    let answer = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    let server = Answering::plain(answer).await;
    let outcome = ask(farm_on(server.port, Bridge::Http), page((200, 299), None)).await;
    assert_eq!(outcome, because("status 302"));
    server.request().await;
    assert!(server.no_more_requests(), "a redirect was followed");
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let server = Answering::plain(answer).await;
    assert_eq!(ask(farm_on(server.port, Bridge::Http), page((200, 200), None)).await, Ok(()));
}

#[tokio::test]
async fn a_body_has_to_match_as_written() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nrunning";
    let server = Answering::plain(answer).await;
    let outcome = ask(farm_on(server.port, Bridge::Http), page((200, 200), Some("Running"))).await;
    assert_eq!(outcome, because("body did not match"));
}

#[tokio::test]
async fn a_body_is_read_to_the_limit_and_no_further() {
    let wanted = "<ok/>";
    for (before, outcome) in [
        (200 * 1024, Ok(())),
        (256 * 1024 - wanted.len(), Ok(())),
        (256 * 1024 - wanted.len() + 1, because("body did not match")),
    ] {
        let body = format!("{}{wanted}", "x".repeat(before));
        let server = Answering::plain(&format!("HTTP/1.1 200 OK\r\n\r\n{body}")).await;
        let probe = page((200, 200), Some(wanted));
        assert_eq!(ask(farm_on(server.port, Bridge::Http), probe).await, outcome, "{before}");
    }
}

#[tokio::test]
async fn a_page_that_breaks_off_fails() {
    let server = Answering::plain("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    let outcome = ask(farm_on(server.port, Bridge::Http), page((200, 200), None)).await;
    assert_eq!(outcome, because("answer broke off"));
}

#[tokio::test]
async fn what_is_no_answer_fails() {
    let server = Answering::plain("").await;
    let outcome = ask(farm_on(server.port, Bridge::Http), page((200, 200), None)).await;
    assert_eq!(outcome, because("connection closed without an answer"));
    let server = Answering::plain("220 smtp.contoso.com ESMTP\r\n\r\n").await;
    let outcome = ask(farm_on(server.port, Bridge::Http), page((200, 200), None)).await;
    assert_eq!(outcome, because("answer is not understood"));
}

#[tokio::test]
async fn silence_ends_at_the_deadline_of_the_whole_probe() {
    let silent = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let probe = site::Probe { timeout: Duration::from_millis(300), ..page((200, 200), None) };
    let started = Instant::now();
    let outcome = ask(farm_on(port, Bridge::Http), probe.clone()).await;
    assert_eq!(outcome, because("timeout after 300ms"));
    // In TLS too, when connecting may take longer than the probe.
    let outcome = ask(farm_on(port, Bridge::Same), probe.clone()).await;
    assert_eq!(outcome, because("timeout after 300ms"));
    // A body that stops half way counts the same.
    let stopping = Answering::stopping("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    let outcome = ask(farm_on(stopping.port, Bridge::Http), probe).await;
    assert_eq!(outcome, because("timeout after 300ms"));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn tls_that_hangs_is_not_called_a_connect_timeout() {
    let silent = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let farm = Farm { connect_timeout: Duration::from_millis(200), ..farm_on(port, Bridge::Same) };
    assert_eq!(ask(farm, page((200, 200), None)).await, because("TLS: handshake timeout"));
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn tls_with_the_right_name_and_authority_works() {
    let ours = Authority::new();
    let server = Answering::tls(GOOD, ours.issue("lyncweb.contoso.com", Valid::Now)).await;
    for bridge in [Bridge::Same, Bridge::Https] {
        let farm = trusting(farm_on(server.port, bridge), &ours, Verify::Full);
        assert_eq!(ask(farm, page((200, 200), None)).await, Ok(()));
    }
}

#[tokio::test]
async fn a_wrong_name_fails_unless_only_the_chain_is_verified() {
    let ours = Authority::new();
    let server = Answering::tls(GOOD, ours.issue("fe01.labs.local", Valid::Now)).await;
    let farm = trusting(farm_on(server.port, Bridge::Same), &ours, Verify::Full);
    let outcome = ask(farm.clone(), page((200, 200), None)).await;
    let reason = "TLS: certificate name does not match lyncweb.contoso.com";
    assert_eq!(outcome, because(reason));
    let farm = trusting(farm, &ours, Verify::Chain);
    assert_eq!(ask(farm, page((200, 200), None)).await, Ok(()));
}

#[tokio::test]
async fn a_foreign_authority_fails_unless_nothing_is_verified() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Answering::tls(GOOD, theirs.issue("lyncweb.contoso.com", Valid::Now)).await;
    let unknown = "TLS: certificate not trusted (unable to get local issuer certificate)";
    let farm = trusting(farm_on(server.port, Bridge::Same), &ours, Verify::Full);
    assert_eq!(ask(farm.clone(), page((200, 200), None)).await, because(unknown));
    let farm = trusting(farm, &ours, Verify::Chain);
    assert_eq!(ask(farm.clone(), page((200, 200), None)).await, because(unknown));
    let farm = trusting(farm, &ours, Verify::Off);
    assert_eq!(ask(farm, page((200, 200), None)).await, Ok(()));
    // Nor does the system know it.
    let farm = farm_on(server.port, Bridge::Same);
    assert_eq!(ask(farm, page((200, 200), None)).await, because(unknown));
}

#[tokio::test]
async fn dates_are_named() {
    let ours = Authority::new();
    for (valid, reason) in [
        (Valid::Before, "TLS: certificate expired"),
        (Valid::Later, "TLS: certificate not yet valid"),
    ] {
        let server = Answering::tls(GOOD, ours.issue("lyncweb.contoso.com", valid)).await;
        let farm = trusting(farm_on(server.port, Bridge::Same), &ours, Verify::Full);
        assert_eq!(ask(farm, page((200, 200), None)).await, because(reason));
    }
}

/// Listens, reads something from everyone, answers with this and hangs up.
async fn blurting(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer).await;
        }
    });
    port
}

#[tokio::test]
async fn handshakes_that_fail_are_named() {
    for (answer, reason) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..],
            "TLS: handshake failed (the port does not speak TLS)",
        ),
        (&b"\x15\x03\x01\x00\x02\x02\x28"[..], "TLS: handshake failed (handshake failure)"),
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], "TLS: handshake failed (protocol version)"),
        (&b""[..], "TLS: handshake failed (unexpected eof)"),
    ] {
        let port = blurting(answer).await;
        let outcome = ask(farm_on(port, Bridge::Same), page((200, 200), None)).await;
        assert_eq!(outcome, because(reason));
    }
}

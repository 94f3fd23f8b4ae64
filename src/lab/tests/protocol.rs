//! What the simulated servers say on the wire.

use super::{client::Client, external, lab, server, tls};

const WEB: &str = "lyncweb.contoso.com";

#[tokio::test(flavor = "multi_thread")]
async fn pages_come_with_the_headers_of_a_front_end() {
    let (_dir, lab) = lab().await;
    for (name, fqdn) in [("fe01", "fe01.contoso.local"), ("fe02", "fe02.contoso.local")] {
        let mut client = external(&lab, name).await;
        let reply = client.get("meet.contoso.com", "/Meet/alice/X7K2", "").await;
        assert_eq!(reply.status, 200);
        assert!(reply.body.contains(fqdn), "{}", reply.body);
        assert!(reply.head.contains("\r\nX-MS-Server-Fqdn: "), "{}", reply.head);
        assert_eq!(reply.all("X-MS-Server-Fqdn"), [fqdn]);
        assert_eq!(reply.all("Server"), ["Microsoft-IIS/8.5"]);
        assert_eq!(reply.all("Cache-Control"), ["no-cache"]);
        assert_eq!(reply.all("X-Powered-By"), ["ASP.NET"]);
        // The same connection serves the next request.
        let reply = client.get(WEB, "/scheduler/", "").await;
        assert!(reply.body.contains("<!-- Web Scheduler Version"), "{}", reply.body);
    }
    let mut client = tls(&lab, server(&lab, "fe03").external.https, "lyncweb2.contoso.com").await;
    let reply = client.get("dialin.contoso.com", "/", "").await;
    assert_eq!(reply.all("X-MS-Server-Fqdn"), ["fe03.contoso.local"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_port_shows_internal_names() {
    let (_dir, lab) = lab().await;
    let internal = server(&lab, "fe01").internal.unwrap();
    let target = "/autodiscover/autodiscoverservice.svc/root";
    let mut client = tls(&lab, internal.https, WEB).await;
    let reply = client.get(WEB, target, "").await;
    assert_eq!(reply.json()["AccessLocation"], "Internal");
    assert!(reply.body.contains("webint-a.contoso.local"), "{}", reply.body);
    assert_eq!(client.get(WEB, "/cscp/", "").await.status, 200);

    let mut client = external(&lab, "fe01").await;
    let reply = client.get(WEB, target, "").await;
    assert_eq!(reply.json()["AccessLocation"], "External");
    assert!(!reply.body.contains(".local"), "{}", reply.body);
    assert_eq!(client.get(WEB, "/cscp/", "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn lyncdiscover_on_the_plain_port_is_200_with_a_redirect_link() {
    let (_dir, lab) = lab().await;
    let mut client = Client::plain(server(&lab, "fe01").external.http).await;
    let reply = client
        .get(
            "lyncdiscover.contoso.com",
            "/?sipuri=alice@contoso.com",
            "Accept: application/vnd.microsoft.rtc.autodiscover+xml;v=1\r\n",
        )
        .await;
    assert_eq!(reply.status, 200);
    let link = "<Root><Link token=\"Redirect\" href=\"https://lyncweb.contoso.com/";
    assert!(reply.body.contains(link), "{}", reply.body);
    assert_eq!(reply.all("Content-Type"), ["application/vnd.microsoft.rtc.autodiscover+xml;v=1"]);
    assert_eq!(client.get("meet.contoso.com", "/meet/a/b", "").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_and_follows_the_links() {
    let (_dir, lab) = lab().await;
    let mut client = external(&lab, "fe01").await;
    let user = "/Autodiscover/AutodiscoverService.svc/root/oauth/user";
    let reply = client.get(WEB, user, "").await;
    assert_eq!(reply.status, 401);
    let challenges = reply.all("WWW-Authenticate");
    assert_eq!(challenges.len(), 2, "{}", reply.head);
    assert!(challenges[0].starts_with("Bearer trusted_issuers="));
    let href = "MsRtcOAuth href=\"https://lyncweb.contoso.com/WebTicket/oauthtoken\"";
    assert!(challenges[1].starts_with(href), "{}", challenges[1]);

    let form = "grant_type=password&username=alice@contoso.com&password=";
    let reply = client.post(WEB, "/WebTicket/oauthtoken", "", &format!("{form}wrong")).await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (400, Some("invalid_grant")));
    let reply = client.post(WEB, "/WebTicket/oauthtoken", "", &format!("{form}Passw0rd!")).await;
    let token = reply.json()["access_token"].as_str().unwrap().to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\nAccept: application/json\r\n");

    let reply = client.get(WEB, user, &bearer).await;
    let applications = "https://lyncweb.contoso.com/ucwa/oauth/v1/applications";
    assert_eq!(reply.json()["_links"]["applications"]["href"], applications);
    let reply = client.post(WEB, "/ucwa/oauth/v1/applications", &bearer, "{}").await;
    assert_eq!(reply.status, 201);
    let application = reply.all("Location")[0].to_owned();
    let cookie = reply.all("Set-Cookie")[0].to_owned();
    assert!(cookie.starts_with("cwt_ucwa="), "{cookie}");
    assert!(cookie.ends_with(&format!("path={application}/photos; secure; HttpOnly")), "{cookie}");

    let target = format!("{application}/events?ack=1&timeout=0");
    let reply = client.get(WEB, &target, &bearer).await;
    assert_eq!(reply.status, 200);
    let next = format!("{application}/events?ack=2");
    assert_eq!(reply.json()["_links"]["next"]["href"], next.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_poll_through_another_front_end_ends_the_first_with_409() {
    let (_dir, lab) = lab().await;
    let mut seen = lab.seen();
    let bearer = format!("Authorization: Bearer {}\r\n", crate::lab::tickets::token("alice"));
    let mut first = external(&lab, "fe01").await;
    let reply = first.post(WEB, "/ucwa/oauth/v1/applications", &bearer, "").await;
    let target = format!("{}/events?ack=1&timeout=900", reply.all("Location")[0]);
    let request = format!("GET {target} HTTP/1.1\r\nHost: {WEB}\r\n{bearer}\r\n");
    first.send(&request).await;
    super::client::soon("the first poll", async {
        while seen.recv().await.unwrap().outcome != crate::lab::Outcome::Held {}
    })
    .await;

    let mut second = external(&lab, "fe02").await;
    second.send(&request).await;
    let reply = first.reply().await;
    assert_eq!(reply.status, 409);
    assert_eq!(reply.json()["subcode"], "PGetReplaced");

    // The second goes on until the application is deleted.
    let delete = format!(
        "DELETE {} HTTP/1.1\r\nHost: {WEB}\r\n{bearer}\r\n",
        target.split("/events").next().unwrap()
    );
    super::client::soon("the second poll", async {
        while seen.recv().await.unwrap().server != "fe02" {}
    })
    .await;
    first.send(&delete).await;
    assert_eq!(first.reply().await.status, 204);
    assert_eq!(second.reply().await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_leaves_the_connection_open_with_and_without_expect() {
    let (_dir, lab) = lab().await;
    let mut client = external(&lab, "fe01").await;
    let reply = client.post(WEB, "/GroupExpansion/service.svc", "", "<soap/>").await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.all("WWW-Authenticate"), ["Negotiate", "NTLM"]);

    let expect = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    client.send(&format!("POST /abs/ HTTP/1.1\r\nHost: {WEB}\r\n{expect}\r\n")).await;
    assert_eq!(client.reply().await.status, 401);
    client.send("hello").await;
    assert_eq!(client.get(WEB, "/dialin/", "").await.status, 200);

    let body = "grant_type=x";
    let expect = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
    client
        .send(&format!("POST /WebTicket/oauthtoken HTTP/1.1\r\nHost: {WEB}\r\n{expect}\r\n"))
        .await;
    assert_eq!(client.reply().await.status, 100);
    client.send(body).await;
    assert_eq!(client.reply().await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn office_web_apps_answers_under_its_external_name() {
    let (_dir, lab) = lab().await;
    let owas = server(&lab, "owas01");
    assert!(owas.internal.is_none());
    let mut client = tls(&lab, owas.external.https, "wac.contoso.com").await;
    let reply = client.get("wac.contoso.com", "/hosting/discovery", "").await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("<wopi-discovery>"), "{}", reply.body);
    assert!(reply.body.contains("https://wac.contoso.com/"), "{}", reply.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_400_and_closed() {
    let (_dir, lab) = lab().await;
    let address = server(&lab, "fe01").external.http;
    let mut client = Client::plain(address).await;
    client.send("GET\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 400);
    client.closed().await;
    let mut client = Client::plain(address).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 400);
}

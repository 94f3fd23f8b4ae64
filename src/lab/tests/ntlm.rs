//! Windows authentication over real connections: with curl, and message by message.

use std::{net::SocketAddr, path::Path, process::Stdio};

use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    client::{Client, Reply, soon},
    external, lab, server, tls,
};
use crate::lab::{
    Lab,
    ntlm::{Client as Person, Wrapping},
};

const WEB: &str = "lyncweb.contoso.com";
const MAIL: &str = "mail.contoso.com";

/// curl to `address`, which `URL` in `arguments` stands for, as `host`; its standard output.
async fn curl(lab: &Lab, address: SocketAddr, host: &str, arguments: &[&str]) -> String {
    curl_with(lab, address, host, arguments, &[]).await
}

async fn curl_with(
    lab: &Lab,
    address: SocketAddr,
    host: &str,
    arguments: &[&str],
    environment: &[(&str, &Path)],
) -> String {
    let port = address.port();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "15", "--noproxy", "*"])
        .arg("--cacert")
        .arg(lab.dir().join("internal-ca.pem"))
        .args(["--resolve", &format!("{host}:{port}:{}", address.ip())])
        .args(arguments.iter().map(|it| it.replace("URL", &format!("https://{host}:{port}"))))
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let out = soon("curl", curl.output()).await.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn json(text: &str) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn alice() -> Person {
    Person::new("alice", "CONTOSO", "Passw0rd!")
}

/// A request for `target` with this `Authorization`.
async fn ask(client: &mut Client, target: &str, authorization: &str) -> Reply {
    client.get(WEB, target, &format!("Authorization: {authorization}\r\n")).await
}

/// The first leg; the challenge.
async fn challenge(client: &mut Client, person: &Person, wrapping: Wrapping) -> String {
    let reply = ask(client, "/abs/", &person.first(wrapping)).await;
    assert_eq!(reply.status, 401);
    let [challenge] = reply.all("WWW-Authenticate")[..] else { panic!("{}", reply.head) };
    challenge.to_owned()
}

async fn whoami(client: &mut Client) -> Value {
    client.get(WEB, "/lab/whoami", "").await.json()["user"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_signs_in_with_the_right_password_and_stays_signed_in() {
    let (_dir, lab) = lab().await;
    let address = server(&lab, "fe01").external.https;
    let urls = ["--ntlm", "-u", "alice:Passw0rd!", "URL/abs/", "URL/GroupExpansion/x", "URL/abs/"];
    let answers = json(&curl(&lab, address, WEB, &urls).await);
    assert_eq!(answers.len(), 3);
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer["user"], "CONTOSO\\alice");
        assert_eq!(answer["server"], "fe01");
        assert_eq!(answer["method"], "GET");
        assert_eq!(answer["connection"], answers[0]["connection"]);
        // Two legs of the handshake, then one request each.
        assert_eq!(answer["request"], 2 + index);
    }

    for user in ["alice:passw0rd!", "mallory:Passw0rd!", "FABRIKAM\\alice:Passw0rd!"] {
        let status = ["--ntlm", "-u", user, "-o", "/dev/null", "-w", "%{http_code}", "URL/abs/"];
        assert_eq!(curl(&lab, address, WEB, &status).await, "401", "{user}");
    }
    let user = ["--ntlm", "-u", "contoso\\USER007:Passw0rd!007", "-i", "URL/abs/"];
    let answer = curl(&lab, address, WEB, &user).await;
    assert!(answer.contains("X-Lab-User: CONTOSO\\user007\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_sends_bodies_and_other_methods_to_exchange() {
    let (dir, lab) = lab().await;
    let address = server(&lab, "exch01").external.https;
    let body = dir.path().join("body");
    std::fs::write(&body, "x".repeat(3_000_000)).unwrap();
    let data = format!("@{}", body.display());
    let user = ["--ntlm", "-u", "bob:Passw0rd!"];
    let expect = ["-H", "Expect: 100-continue"];
    for (arguments, method, length) in [
        (&["--data-binary", "<soap/>", "URL/EWS/Exchange.asmx"][..], "POST", 7),
        (&["--data-binary", &data, expect[0], expect[1], "URL/EWS/"], "POST", 3_000_000),
        (
            &["--data-binary", &data, "-H", "Transfer-Encoding: chunked", "URL/mapi/emsmdb/"],
            "POST",
            3_000_000,
        ),
        (&["-X", "RPC_IN_DATA", "-d", "pdu", "URL/rpc/rpcproxy.dll?a:6001"], "RPC_IN_DATA", 3),
        (&["-X", "RPC_OUT_DATA", "-d", "pdu!", "URL/rpc/rpcproxy.dll?a:6001"], "RPC_OUT_DATA", 4),
    ] {
        let arguments = [&user[..], arguments].concat();
        let answers = json(&curl(&lab, address, MAIL, &arguments).await);
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(answer["user"], "CONTOSO\\bob", "{arguments:?}");
        assert_eq!(answer["method"], method);
        assert_eq!(answer["bytes"], length, "{arguments:?}");
        assert_eq!(answer["server"], "exch01");
    }
    let head = curl(&lab, address, MAIL, &[&user[..], &["-I", "URL/EWS/"]].concat()).await;
    assert!(head.contains("HTTP/1.1 200") && head.contains("X-Lab-User: CONTOSO\\bob"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_at_once_is_themselves() {
    let (_dir, lab) = lab().await;
    let address = server(&lab, "fe02").external.https;
    let lab = std::sync::Arc::new(lab);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=40 {
        let lab = lab.clone();
        tasks.spawn(async move {
            let mut client = tls(&lab, address, WEB).await;
            let name = format!("user{number:03}");
            let person = Person::new(&name, "CONTOSO", &format!("Passw0rd!{number:03}"));
            let challenge = challenge(&mut client, &person, Wrapping::Ntlm).await;
            let third = person.second(Wrapping::Ntlm, &challenge).unwrap();
            let user = ask(&mut client, "/abs/", &third).await.json()["user"].clone();
            assert_eq!(user, format!("CONTOSO\\{name}"));
            for _ in 0..3 {
                assert_eq!(client.get(WEB, "/abs/", "").await.json()["user"], user);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrapping_signs_a_connection_in_until_a_new_type_1() {
    let (_dir, lab) = lab().await;
    for wrapping in [Wrapping::Ntlm, Wrapping::Negotiate, Wrapping::Spnego] {
        let mut client = external(&lab, "fe01").await;
        let reply = client.get(WEB, "/WebTicket/WebTicketService.svc", "").await;
        assert_eq!(reply.all("WWW-Authenticate"), ["Negotiate", "NTLM"]);
        assert_eq!(whoami(&mut client).await, Value::Null);
        let first = challenge(&mut client, &alice(), wrapping).await;
        assert_eq!(whoami(&mut client).await, Value::Null);
        let third = alice().second(wrapping, &first).unwrap();
        let reply = ask(&mut client, "/abs/", &third).await;
        assert_eq!(reply.all("X-Lab-User"), ["CONTOSO\\alice"], "{wrapping:?}");
        let last = if wrapping == Wrapping::Spnego { &["Negotiate oQcwBaADCgEA"][..] } else { &[] };
        assert_eq!(reply.all("WWW-Authenticate"), last);
        // The connection is Alice's, also for pages without a lock.
        assert_eq!(whoami(&mut client).await, "CONTOSO\\alice");
        assert_eq!(client.get(WEB, "/abs/", "").await.status, 200);
        assert_eq!(whoami(&mut external(&lab, "fe01").await).await, Value::Null);
        challenge(&mut client, &alice(), wrapping).await;
        assert_eq!(whoami(&mut client).await, Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_over_two_connections_and_a_replay_are_refused() {
    let (_dir, lab) = lab().await;
    let mut one = external(&lab, "fe01").await;
    let mut two = external(&lab, "fe01").await;
    let first = challenge(&mut one, &alice(), Wrapping::Ntlm).await;
    let third = alice().second(Wrapping::Ntlm, &first).unwrap();
    // On a connection without a challenge, and on one with another challenge.
    for _ in 0..2 {
        let reply = ask(&mut two, "/abs/", &third).await;
        assert_eq!(reply.status, 401);
        assert_eq!(reply.all("WWW-Authenticate"), ["Negotiate", "NTLM"]);
        assert_eq!(whoami(&mut two).await, Value::Null);
        challenge(&mut two, &alice(), Wrapping::Ntlm).await;
    }
    assert_eq!(ask(&mut one, "/abs/", &third).await.status, 200);
    assert_eq!(ask(&mut one, "/abs/", &third).await.status, 401);
    assert_eq!(whoami(&mut one).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_comes_before_the_body_and_the_connection_goes_on() {
    let (_dir, lab) = lab().await;
    let address = server(&lab, "exch01").external.http;
    let mut client = Client::plain(address).await;
    let head = |authorization: &str| {
        format!(
            "POST /EWS/Exchange.asmx HTTP/1.1\r\nHost: {MAIL}\r\n{authorization}\
             Content-Length: 5\r\n\r\n"
        )
    };
    client.send(&head("")).await;
    assert_eq!(client.reply().await.status, 401);
    client.send("hello").await;
    client.send(&head(&format!("Authorization: {}\r\n", alice().first(Wrapping::Ntlm)))).await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 401);
    client.send("hello").await;
    let challenge = reply.all("WWW-Authenticate")[0];
    let third = alice().second(Wrapping::Ntlm, challenge).unwrap();
    client.send(&head(&format!("Authorization: {third}\r\n"))).await;
    client.send("hello").await;
    let answer = client.reply().await.json();
    assert_eq!(answer["user"], "CONTOSO\\alice");
    assert_eq!((&answer["bytes"], &answer["request"]), (&json!(5), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_negotiates_where_its_gssapi_has_ntlm() {
    let (dir, lab) = lab().await;
    let address = server(&lab, "fe01").external.https;
    let credentials = dir.path().join("credentials");
    std::fs::write(&credentials, "CONTOSO:user042:Passw0rd!042\n").unwrap();
    // For gss-ntlmssp, which need not be installed: MIT Kerberos alone has no NTLM to offer.
    let environment = [("NTLM_USER_FILE", credentials.as_path())];
    let installed = Path::new("/etc/gss/mech.d/mech.ntlmssp.conf").exists();
    let arguments = ["--negotiate", "-u", ":", "-i", "URL/abs/"];
    let answer = curl_with(&lab, address, WEB, &arguments, &environment).await;
    if installed {
        assert!(answer.contains("X-Lab-User: CONTOSO\\user042\r\n"), "{answer}");
    } else {
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        let offers = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n";
        assert!(answer.contains(offers), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_kerberos_token_is_refused_and_the_connection_goes_on() {
    let (_dir, lab) = lab().await;
    let mut client = external(&lab, "fe01").await;
    let token = format!("Negotiate {}", "YII/".repeat(16 * 1024));
    let reply = ask(&mut client, "/abs/", &token).await;
    assert_eq!(reply.all("WWW-Authenticate"), ["Negotiate", "NTLM"]);
    assert_eq!(whoami(&mut client).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_file_is_for_the_owner_and_an_edited_one_counts() {
    let (dir, lab) = lab().await;
    let file = dir.path().join(&lab.manifest().files.users);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains(':')).count(), 252);
    lab.shutdown().await;
    std::fs::write(&file, "carol:s3cret\n").unwrap();
    let options = || crate::lab::Options {
        dir: Some(dir.path().into()),
        ..crate::lab::Options::free_ports()
    };
    let lab = crate::lab::start(options()).await.unwrap();
    let address = server(&lab, "fe01").external.https;
    let carol = ["--ntlm", "-u", "carol:s3cret", "URL/abs/"];
    assert_eq!(json(&curl(&lab, address, WEB, &carol).await)[0]["user"], "CONTOSO\\carol");
    lab.shutdown().await;
    std::fs::write(&file, "carol\n").unwrap();
    let Err(error) = crate::lab::start(options()).await else { panic!("a line without password") };
    assert_eq!(format!("{error:#}"), "users.txt: line 1: name:password is needed");
}

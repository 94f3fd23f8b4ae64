//! Real Windows sign-ins: curl with NTLM, and with Negotiate through GSSAPI, against the lab's
//! servers, which check the proofs and bind them to the TCP connection.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::lab::{Lab, shared};

/// The answers of one curl run, each one JSON object on its own.
fn ask(curl: &mut Command) -> Vec<Value> {
    let out = curl.output().unwrap();
    answers(&String::from_utf8_lossy(&out.stdout), &out.stderr)
}

fn answers(text: &str, errors: &[u8]) -> Vec<Value> {
    let errors = String::from_utf8_lossy(errors);
    let answers = serde_json::Deserializer::from_str(text).into_iter();
    answers.map(|answer| answer.unwrap_or_else(|e| panic!("{e}: {text} {errors}"))).collect()
}

/// curl to Frontgate for these URLs (`host/path`), over one connection, bodies only.
fn curl(lab: &Lab, urls: &[&str]) -> Command {
    let address = lab.address("/frontgate/https");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "100", "--noproxy", "*"])
        .arg("--cacert")
        .arg(lab.path("public-ca.pem"));
    for url in urls {
        let (host, path) = url.split_once('/').unwrap();
        curl.args(["--resolve", &format!("{host}:{}:{}", address.port(), address.ip())])
            .arg(format!("https://{host}:{}/{path}", address.port()));
    }
    curl
}

const EWS: &str = "mail.contoso.com/EWS/Exchange.asmx";

#[test]
fn curl_signs_in_with_ntlm_and_stays_signed_in() {
    let lab = shared();
    let answers = ask(curl(lab, &[EWS, EWS, EWS]).args(["--ntlm", "-u", "alice:Passw0rd!"]));
    assert_eq!(answers.len(), 3);
    for answer in &answers {
        assert_eq!(answer["user"], "CONTOSO\\alice");
        assert_eq!(answer["connection"], answers[0]["connection"], "one server connection");
    }
    let pages = ["lyncweb.contoso.com/abs", "lyncweb.contoso.com/WebTicket/WebTicketService.svc"];
    for page in pages {
        let answers = ask(curl(lab, &[page]).args(["--ntlm", "-u", "bob:Passw0rd!"]));
        assert_eq!(answers[0]["user"], "CONTOSO\\bob", "{page}");
    }
    let wrong = curl(lab, &[EWS])
        .args(["--ntlm", "-u", "alice:wrong", "-o", "/dev/null", "-w", "%{http_code}"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&wrong.stdout), "401");
}

/// SPNEGO around NTLM, made by MIT Kerberos' GSSAPI with the gss-ntlmssp plug-in.
#[test]
fn curl_signs_in_with_negotiate() {
    let lab = shared();
    let mut users = tempfile::NamedTempFile::new().unwrap();
    users.write_all(b"CONTOSO:alice:Passw0rd!\n").unwrap();
    let mut run = curl(lab, &[EWS, EWS]);
    run.args(["--negotiate", "-u", ":"]).env("NTLM_USER_FILE", users.path());
    let answers = ask(&mut run);
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|a| a["user"] == "CONTOSO\\alice"), "{answers:?}");
    assert_eq!(answers[0]["connection"], answers[1]["connection"]);
}

#[test]
fn signed_in_uploads_wait_for_100_continue() {
    let lab = shared();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![b'x'; 5_000_000]).unwrap();
    let body = format!("@{}", file.path().display());
    for path in ["mail.contoso.com/mapi/emsmdb", "mail.contoso.com/rpc/rpcproxy.dll"] {
        let mut run = curl(lab, &[path, path]);
        run.args(["--ntlm", "-u", "CONTOSO\\alice:Passw0rd!", "-H", "Expect: 100-continue"]);
        run.args(["--expect100-timeout", "30", "--data-binary", &body]);
        let answers = ask(&mut run);
        assert_eq!(answers.len(), 2, "{path}");
        for answer in &answers {
            assert_eq!(answer["user"], "CONTOSO\\alice", "{path}");
            assert_eq!(answer["bytes"], 5_000_000, "{path}");
        }
    }
}

/// Two hundred people at once, each with a password of their own: every answer names its own.
#[test]
fn two_hundred_users_at_once_are_each_themselves() {
    let lab = shared();
    let running: Vec<_> = (1..=200)
        .map(|n| {
            let mut run = curl(lab, &[EWS, EWS, EWS, EWS]);
            run.args(["--ntlm", "-u", &format!("user{n:03}:Passw0rd!{n:03}")]);
            (n, run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        })
        .collect();
    for (n, child) in running {
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        let answers = answers(&text, &out.stderr);
        assert_eq!(answers.len(), 4, "user{n:03}: {}", String::from_utf8_lossy(&out.stderr));
        for answer in &answers {
            assert_eq!(answer["user"], format!("CONTOSO\\user{n:03}"));
            assert_eq!(answer["connection"], answers[0]["connection"]);
        }
    }
}

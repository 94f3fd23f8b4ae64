//! Clients that keep their server: by cookie, by address, and after a move from ARR.

use std::process::Command;

use crate::support::{
    SOON,
    backend::{Backend, always},
    certificates::Certificates,
    client::{Answer, Client},
    frontgate::{Frontgate, LISTENERS},
    until,
};

const NAMES: [&str; 4] = ["fe01", "fe02", "fe03", "fe04"];

fn four() -> Vec<Backend> {
    NAMES.iter().map(|name| Backend::plain(always(name))).collect()
}

/// Servers whose addresses are names of this machine, as the cookie of ARR is made of the name.
fn config(backends: &[Backend], more: &str) -> String {
    let servers: Vec<_> = NAMES
        .iter()
        .zip(backends)
        .map(|(name, backend)| {
            format!(
                "{{ name: {name}.contoso.local, address: 127.0.0.1, ports: {{ http: {} }} }}",
                backend.port()
            )
        })
        .collect();
    format!(
        "{LISTENERS}farms:\n  a:\n    servers: [{}]\n    bridge: http\n{more}\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        servers.join(", ")
    )
}

fn ask(client: &mut Client, cookie: &str) -> Answer {
    let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
    client.ask(format!("GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n{cookie}\r\n"))
}

/// `name=value` of the cookie that an answer sets.
fn pair(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

/// The same configuration and certificate in two processes, as behind one virtual address.
#[test]
fn two_frontgates_agree_on_cookies_and_say_nothing_about_names() {
    let backends = four();
    let text = config(&backends, "    affinity: { cookie: ARRAffinity }\n");
    let one = Frontgate::with(&text);
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(one.path()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "pem" || e == "key" || e == "yaml") {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let two = Frontgate::in_dir(dir, one.certificates.clone());
    let (mut here, mut there) = (one.tls("meet.contoso.com"), two.tls("meet.contoso.com"));
    let mut pairs = Vec::new();
    for _ in 0..8 {
        let fresh = ask(&mut here, "");
        let line = fresh.header("set-cookie").unwrap();
        assert!(line.ends_with("; Path=/; HttpOnly; Secure; SameSite=None"), "{line}");
        assert!(!line.contains("fe0") && !line.contains("contoso") && !line.contains("127"));
        let cookie = pair(&fresh);
        for _ in 0..3 {
            for client in [&mut here, &mut there] {
                let back = ask(client, &format!("a=b; {cookie}; c=d"));
                assert_eq!(back.text(), fresh.text());
                assert_eq!(back.header("set-cookie"), None, "told once");
            }
        }
        pairs.push(cookie);
    }
    pairs.sort();
    pairs.dedup();
    assert_eq!(pairs.len(), 4, "one for each server");
    // Without TLS nothing says that it came over TLS.
    let plain = ask(&mut one.plain(), "");
    assert!(plain.header("set-cookie").unwrap().ends_with("; Path=/; HttpOnly"));
}

/// The value as another program makes it, by its definition.
#[test]
fn a_cookie_that_arr_issued_keeps_its_server() {
    let backends = four();
    let frontgate = Frontgate::with(&config(&backends, "    affinity: { cookie: ARRAffinity }\n"));
    let mut client = frontgate.tls("meet.contoso.com");
    for name in NAMES {
        let script = "import hashlib,sys\n\
                      print(hashlib.sha256(sys.argv[1].lower().encode('utf-16-le')).hexdigest().upper())";
        let out = Command::new("python3")
            .args(["-c", script, &format!("{}.contoso.local", name.to_uppercase())])
            .output()
            .unwrap();
        let value = String::from_utf8(out.stdout).unwrap().trim().to_owned();
        assert_eq!(value.len(), 64);
        let answer = ask(&mut client, &format!("ARRAffinity={value}"));
        assert_eq!(answer.text(), name);
        // From then on with a value that nobody can guess names from.
        let ours = pair(&answer);
        assert_ne!(ours, format!("ARRAffinity={value}"));
        assert_eq!(ask(&mut client, &ours).text(), name);
    }
}

#[test]
fn forged_and_stale_cookies_are_ignored_and_replaced() {
    let backends = four();
    let text = config(&backends, "    affinity: { cookie: sticky }\n");
    let frontgate = Frontgate::with(&text);
    let mut client = frontgate.tls("meet.contoso.com");
    let first = ask(&mut client, "");
    let cookie = pair(&first);
    for forged in ["sticky=fe01", "sticky=", "sticky=00112233445566778899aabbccddeeff", "Sticky=x"]
    {
        let mut seen = Vec::new();
        for _ in 0..8 {
            let answer = ask(&mut client, forged);
            assert_eq!(answer.status, 200);
            assert!(answer.header("set-cookie").is_some(), "{forged}");
            seen.push(answer.text());
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 4, "{forged} leads nowhere in particular");
    }
    // Its server is gone: another one, and a new cookie.
    let gone = NAMES.iter().position(|name| *name == first.text()).unwrap();
    let (rest, names): (Vec<_>, Vec<_>) =
        backends.iter().zip(NAMES).enumerate().filter(|(n, _)| *n != gone).map(|(_, p)| p).unzip();
    let servers: Vec<_> = rest
        .iter()
        .zip(names)
        .map(|(b, n)| {
            let port = b.port();
            format!("{{ name: {n}.contoso.local, address: 127.0.0.1, ports: {{ http: {port} }} }}")
        })
        .collect();
    let start = text.find("servers: [").unwrap();
    let end = text[start..].find("]\n").unwrap() + start;
    let changed = format!("{}servers: [{}{}", &text[..start], servers.join(", "), &text[end..]);
    frontgate.rewrite(&changed);
    frontgate.log_line(" reloaded (");
    let moved = ask(&mut client, &cookie);
    assert_ne!(moved.text(), first.text());
    assert_eq!(ask(&mut client, &pair(&moved)).text(), moved.text());
}

/// What Lync 2010 pools ask of a load balancer: a session cookie, not HttpOnly.
#[test]
fn lync_2010_pools_get_their_cookie() {
    let backends = four();
    let frontgate = Frontgate::with(&config(&backends, "    affinity: { cookie: MS-WSMAN }\n"));
    let mut client = frontgate.tls("meet.contoso.com");
    let answer = ask(&mut client, "");
    let line = answer.header("set-cookie").unwrap();
    assert!(line.starts_with("MS-WSMAN=") && line.contains("Secure"), "{line}");
    assert!(!line.contains("HttpOnly") && !line.contains("Expires") && !line.contains("Max-Age"));
    assert_eq!(ask(&mut client, &pair(&answer)).text(), answer.text());
}

/// A renewed certificate changes the key of the cookies; those that are out stay good.
#[test]
fn a_renewed_certificate_moves_no_client() {
    let backends = four();
    let frontgate = Frontgate::with(&config(&backends, "    affinity: { cookie: ARRAffinity }\n"));
    let first = ask(&mut frontgate.tls("meet.contoso.com"), "");
    let renewed = tempfile::tempdir().unwrap();
    Certificates::write(renewed.path());
    for file in ["public.key", "public.pem", "public-ca.pem"] {
        let new = frontgate.path().join(".new");
        std::fs::copy(renewed.path().join(file), &new).unwrap();
        std::fs::rename(&new, frontgate.path().join(file)).unwrap();
    }
    until("the new certificate", SOON, || {
        let client = Client::tls_with(
            frontgate.address("public"),
            Some("meet.contoso.com"),
            &frontgate.certificates,
            |_| (),
        );
        client.ok()
    });
    let mut client = frontgate.tls("meet.contoso.com");
    for _ in 0..4 {
        assert_eq!(ask(&mut client, &pair(&first)).text(), first.text());
    }
    let told = pair(&ask(&mut client, &pair(&first)));
    assert_ne!(told, pair(&first));
    assert_eq!(ask(&mut client, &told).text(), first.text());
}

#[test]
fn sources_keep_their_server_on_every_frontgate() {
    let backends = four();
    let text = config(&backends, "    affinity: source\n");
    let (one, two) = (Frontgate::with(&text), Frontgate::with(&text));
    let mut homes = Vec::new();
    for n in 1..=24 {
        let source = format!("127.0.1.{n}");
        let at = |frontgate: &Frontgate| {
            let answer = ask(&mut Client::plain_from(&source, frontgate.address("plain")), "");
            assert_eq!(answer.header("set-cookie"), None);
            answer.text()
        };
        let home = at(&one);
        assert_eq!((at(&one), at(&two)), (home.clone(), home.clone()));
        homes.push((n, home));
    }
    let used: std::collections::HashSet<_> = homes.iter().map(|(_, home)| home).collect();
    assert_eq!(used.len(), 4);
    // No new clients for fe01, but those it has stay.
    let seen = one.log_count(" reloaded (");
    one.rewrite(&text.replacen("fe01.contoso.local,", "fe01.contoso.local, weight: 0,", 1));
    until("reload", SOON, || (one.log_count(" reloaded (") > seen).then_some(()));
    for (n, home) in &homes {
        let mut client = Client::plain_from(&format!("127.0.1.{n}"), one.address("plain"));
        assert_eq!(&ask(&mut client, "").text(), home);
    }
    for n in 100..130 {
        let mut client = Client::plain_from(&format!("127.0.1.{n}"), one.address("plain"));
        assert_ne!(ask(&mut client, "").text(), "fe01");
    }
}

/// A signed-in connection has a server of its own; it does not rewrite its client's affinity.
#[test]
fn a_pin_leaves_its_clients_affinity_alone() {
    let backends = four();
    let frontgate = Frontgate::with(&config(&backends, "    affinity: { cookie: ARRAffinity }\n"));
    let first = ask(&mut frontgate.tls("meet.contoso.com"), "");
    let sign_in = |client: &mut Client, cookie: &str| {
        client.ask(format!(
            "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\nAuthorization: NTLM TlRM\r\n{cookie}\r\n"
        ))
    };
    let known = format!("Cookie: {}\r\n", pair(&first));
    // Pinned before it had a cookie, somewhere; then told of another server by its browser.
    let mut clients: Vec<_> = (0..4).map(|_| frontgate.tls("meet.contoso.com")).collect();
    let pinned: Vec<_> = clients.iter_mut().map(|client| sign_in(client, "")).collect();
    assert!(pinned.iter().all(|answer| answer.header("set-cookie").is_some()));
    for (client, answer) in clients.iter_mut().zip(&pinned) {
        let again = sign_in(client, &known);
        assert_eq!((again.text(), again.header("set-cookie")), (answer.text(), None));
    }
    // And a new connection that signs in goes to the server that its cookie names.
    let mut fresh = frontgate.tls("meet.contoso.com");
    let answer = sign_in(&mut fresh, &known);
    assert_eq!((answer.text(), answer.header("set-cookie")), (first.text(), None));
}

/// Drained: its own clients stay, by cookie; nobody new. Maintenance: they move, with a new cookie.
#[test]
fn a_drained_server_keeps_its_clients_until_maintenance() {
    let backends = four();
    let frontgate = Frontgate::with(&config(&backends, "    affinity: { cookie: ARRAffinity }\n"));
    let mut client = frontgate.tls("meet.contoso.com");
    let first = ask(&mut client, "");
    let (cookie, home) = (pair(&first), first.text());
    let order = |word: &str| {
        let name = format!("{home}.contoso.local");
        let (code, _, err) = frontgate.command(&[word, &name]);
        assert_eq!(code, 0, "{err}");
    };
    order("drain");
    for _ in 0..8 {
        assert_ne!(ask(&mut client, "").text(), home);
        let back = ask(&mut client, &cookie);
        assert_eq!((back.text(), back.header("set-cookie")), (home.clone(), None));
    }
    order("maintain");
    let moved = ask(&mut client, &cookie);
    assert_ne!(moved.text(), home);
    assert_eq!(ask(&mut client, &pair(&moved)).text(), moved.text());
    order("ready");
    assert_eq!(ask(&mut client, &cookie).text(), home);
}

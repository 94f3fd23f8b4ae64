//! TLS towards clients: which certificate, which version, which ciphers.

use std::process::Command;

use boring::ssl::{SslSession, SslVersion};

use crate::support::{
    backend::{Backend, always},
    certificates::{authority, ec, issue, rsa, save},
    client::Client,
    frontgate::{Frontgate, LISTENERS},
};

fn rest(port: u16) -> String {
    format!(
        "farms:\n  a: {{ servers: [{{ address: 127.0.0.1, ports: {{ http: {port} }} }}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n  - {{ host: \"*.wild.contoso.com\", farm: a }}\n"
    )
}

fn served(client: &Client) -> String {
    let certificate = client.ssl().peer_certificate().unwrap();
    let name = certificate.subject_name().entries().next().unwrap();
    String::from_utf8(name.data().as_slice().to_vec()).unwrap()
}

#[test]
fn certificates_are_chosen_by_name_with_wildcards_and_a_default() {
    let backend = Backend::plain(always("ok"));
    let dir = tempfile::tempdir().unwrap();
    let certificates = crate::support::certificates::Certificates::write(dir.path());
    let public = authority("Names CA");
    save(dir.path(), "public-ca", &public);
    save(dir.path(), "one", &issue(&public, &["one.contoso.com"], rsa()));
    save(dir.path(), "meet", &issue(&public, &["meet.contoso.com"], ec()));
    save(dir.path(), "wild", &issue(&public, &["*.wild.contoso.com"], ec()));
    let listed = "certificates:\n  - { cert: one.pem, key: one.key }\n  - { cert: meet.pem, key: meet.key, default: true }\n  - { cert: wild.pem, key: wild.key }\n";
    let config =
        LISTENERS.replace("certificates:\n  - { cert: public.pem, key: public.key }\n", listed);
    std::fs::write(dir.path().join("frontgate.yaml"), format!("{config}{}", rest(backend.port())))
        .unwrap();
    let frontgate = Frontgate::in_dir(dir, certificates);
    let by = |sni: &str| served(&frontgate.tls(sni));
    assert_eq!(by("meet.contoso.com"), "meet.contoso.com");
    assert_eq!(by("MEET.contoso.com"), "meet.contoso.com");
    assert_eq!(by("a.wild.contoso.com"), "*.wild.contoso.com");
    assert_eq!(by("one.contoso.com"), "one.contoso.com");
    let nameless = Client::tls(frontgate.address("public"), None, &frontgate.certificates);
    assert_eq!(served(&nameless), "meet.contoso.com", "the one marked as default");
    assert_eq!(frontgate.tls("a.wild.contoso.com").get("a.wild.contoso.com", "/").text(), "ok");
}

#[test]
fn pfx_files_of_every_kind_that_windows_exports_serve() {
    let backend = Backend::plain(always("ok"));
    let kinds: [(&str, &[&str]); 3] = [
        ("rc2", &["-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES"]),
        ("3des", &["-legacy", "-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES"]),
        ("aes", &["-certpbe", "AES-256-CBC", "-keypbe", "AES-256-CBC", "-macalg", "sha256"]),
    ];
    for (kind, arguments) in kinds {
        let dir = tempfile::tempdir().unwrap();
        let certificates = crate::support::certificates::Certificates::write(dir.path());
        std::fs::write(dir.path().join("pass"), "s3cret\n").unwrap();
        let out = Command::new("openssl")
            .current_dir(dir.path())
            .args(["pkcs12", "-export", "-in", "public.pem", "-inkey", "public.key"])
            .args(["-out", "owas.pfx", "-passout", "pass:s3cret"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(out.status.success(), "{kind}: {}", String::from_utf8_lossy(&out.stderr));
        let config = LISTENERS.replace(
            "{ cert: public.pem, key: public.key }",
            "{ pfx: owas.pfx, password_file: pass }",
        );
        std::fs::write(
            dir.path().join("frontgate.yaml"),
            format!("{config}{}", rest(backend.port())),
        )
        .unwrap();
        let frontgate = Frontgate::in_dir(dir, certificates);
        assert_eq!(
            frontgate.tls("meet.contoso.com").get("meet.contoso.com", "/").text(),
            "ok",
            "{kind}"
        );
    }
}

#[test]
fn old_versions_are_refused_unless_the_listener_says_so() {
    let backend = Backend::plain(always("ok"));
    let attempt = |frontgate: &Frontgate, version: SslVersion| {
        Client::tls_with(
            frontgate.address("public"),
            Some("meet.contoso.com"),
            &frontgate.certificates,
            |b| {
                b.set_min_proto_version(Some(version)).unwrap();
                b.set_max_proto_version(Some(version)).unwrap();
            },
        )
        .is_ok_and(|mut c| c.get("meet.contoso.com", "/").status == 200)
    };
    let versions = [SslVersion::TLS1, SslVersion::TLS1_1, SslVersion::TLS1_2, SslVersion::TLS1_3];
    let modern = Frontgate::start(&rest(backend.port()));
    assert_eq!(versions.map(|v| attempt(&modern, v)), [false, false, true, true]);
    let old = LISTENERS.replace("tls: true", "tls: { min_version: \"1.0\" }");
    let old = Frontgate::with(&format!("{old}{}", rest(backend.port())));
    assert_eq!(versions.map(|v| attempt(&old, v)), [true, true, true, true]);
}

#[test]
fn windows_client_cipher_list_is_accepted() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&rest(backend.port()));
    for cipher in ["ECDHE-RSA-AES256-SHA", "ECDHE-RSA-AES128-SHA", "AES256-SHA", "AES128-SHA"] {
        let mut client = Client::tls_with(
            frontgate.address("public"),
            Some("meet.contoso.com"),
            &frontgate.certificates,
            |b| {
                b.set_cipher_list(cipher).unwrap();
                b.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
            },
        )
        .unwrap();
        assert_eq!(client.ssl().current_cipher().unwrap().name(), cipher);
        assert_eq!(client.get("meet.contoso.com", "/").text(), "ok");
    }
}

/// The cheap suite is taken from those who name a dear one first, but ChaCha20 is left to those who
/// have no AES.
#[test]
fn ciphers_are_chosen_in_our_order() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&rest(backend.port()));
    let [cheap, dear] = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"];
    let soft = "ECDHE-RSA-CHACHA20-POLY1305";
    for (offered, chosen) in
        [([dear, soft, cheap], soft), ([dear, cheap, soft], cheap), ([soft, dear, cheap], soft)]
    {
        let client = Client::tls_with(
            frontgate.address("public"),
            Some("meet.contoso.com"),
            &frontgate.certificates,
            |b| {
                b.set_cipher_list(&offered.join(":")).unwrap();
                b.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
            },
        )
        .unwrap();
        assert_eq!(client.ssl().current_cipher().unwrap().name(), chosen, "{offered:?}");
    }
}

#[test]
fn one_name_is_served_with_ecdsa_to_whom_it_suits_and_rsa_to_the_others() {
    let backend = Backend::plain(always("ok"));
    let both = LISTENERS.replace(
        "  - { cert: public.pem, key: public.key }\n",
        "  - { cert: public.pem, key: public.key }\n  - { cert: public-ecdsa.pem, key: public-ecdsa.key }\n",
    );
    let frontgate = Frontgate::with(&format!("{both}{}", rest(backend.port())));
    let kind = |algorithms: &str| {
        let client = Client::tls_with(
            frontgate.address("public"),
            Some("meet.contoso.com"),
            &frontgate.certificates,
            |b| b.set_sigalgs_list(algorithms).unwrap(),
        )
        .unwrap();
        client.ssl().peer_certificate().unwrap().public_key().unwrap().id()
    };
    assert_eq!(kind("ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256"), boring::pkey::Id::EC);
    assert_eq!(kind("rsa_pss_rsae_sha256:rsa_pkcs1_sha256"), boring::pkey::Id::RSA);
}

/// The stock client resumes with both versions, also after a reload.
#[test]
fn sessions_are_resumed_also_after_a_reload() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&rest(backend.port()));
    let address = frontgate.address("public").to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let session = frontgate.path().join(format!("session{version}"));
        let connect = |how: &str| {
            let request =
                "GET / HTTP/1.1\\r\\nHost: meet.contoso.com\\r\\nConnection: close\\r\\n\\r\\n";
            let script = format!(
                "printf '{request}' | openssl s_client -connect {address} -servername meet.contoso.com \
                 {version} {how} {} -ign_eof 2>/dev/null",
                session.display()
            );
            let out = Command::new("sh").args(["-c", &script]).output().unwrap();
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        let first = connect("-sess_out");
        assert!(first.contains("New, TLSv1"), "{first}");
        let again = connect("-sess_in");
        assert!(again.contains("Reused, TLSv1"), "{version}: {again}");
        let seen = frontgate.log_count(" reloaded (");
        let text = std::fs::read_to_string(frontgate.config_path()).unwrap();
        frontgate.rewrite(&format!("{text}# {version}\n"));
        crate::support::until("reload", crate::support::SOON, || {
            (frontgate.log_count(" reloaded (") > seen).then_some(())
        });
        let after = connect("-sess_in");
        assert!(after.contains("Reused, TLSv1") && after.contains("200 OK"), "{version}: {after}");
    }
    let _: Option<SslSession> = None;
}

#[test]
fn ipv6_listeners_serve_beside_ipv4() {
    let backend = Backend::plain(always("ok"));
    let six = "  - { name: six, address: \"[::1]:0\", public_port: 443, tls: true }\n";
    let listeners = LISTENERS.replace("certificates:\n", &format!("{six}certificates:\n"));
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED ipv6_listeners_serve_beside_ipv4: this machine has no IPv6 loopback");
        return;
    }
    let frontgate = Frontgate::with(&format!("{listeners}{}", rest(backend.port())));
    let address = frontgate.address("six");
    assert!(address.is_ipv6());
    let mut client = Client::tls(address, Some("meet.contoso.com"), &frontgate.certificates);
    assert_eq!(client.get("meet.contoso.com", "/").text(), "ok");
    let line = frontgate.access_line("v6", |l| l["listener"] == "six");
    assert_eq!(line["client"], "::1");
}

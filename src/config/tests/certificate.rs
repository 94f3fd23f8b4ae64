//! PFX files as Windows exports them, made by the `openssl` command.

use std::{fs, path::Path, process::Command};

use crate::{
    config::{
        certificate,
        diagnostic::Findings,
        files::Files,
        model::{listener::Certificate, net::FilePath},
        read::At,
        record::Record,
        source::{Mark, Source},
        tests::make,
    },
    site,
};

fn load(dir: &Path, pfx: &str, password: &str) -> (Option<site::Certificate>, Vec<&'static str>) {
    let mark = Mark::start(&Source::new(&dir.join("main.yaml"), String::new()));
    let file =
        |name: &str| Some(At::implied(FilePath::absolute(dir.join(name).to_str().unwrap()), &mark));
    let entry = Certificate {
        pfx: file(pfx),
        password_file: file(password),
        ..Certificate::defaults(&mark)
    };
    let mut findings = Findings::default();
    let entry = At::implied(entry, &mark);
    let loaded = certificate::load(&entry, &mut Files::default(), &mut findings);
    (loaded, findings.iter().map(|f| f.code.id).collect())
}

fn openssl(dir: &Path, args: &str) {
    let output =
        Command::new("openssl").current_dir(dir).args(args.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
}

fn has_openssl() -> bool {
    let there = Command::new("openssl").arg("version").output().is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("SKIPPED: the openssl command is not installed, PFX exports are not tested");
    }
    there
}

/// A root, an intermediate and a server certificate with an RSA key, and a PFX with all three.
fn export(dir: &Path, kind: &str) {
    fs::write(dir.join("ca.ext"), "basicConstraints=critical,CA:TRUE\n").unwrap();
    fs::write(dir.join("leaf.ext"), "subjectAltName=DNS:WAC.contoso.com,DNS:*.fabrikam.com\n")
        .unwrap();
    let request = "req -newkey rsa:2048 -nodes -sha256";
    openssl(dir, &format!("{request} -x509 -days 9 -subj /CN=root -keyout r.key -out r.pem"));
    openssl(dir, &format!("{request} -subj /CN=middle -keyout m.key -out m.csr"));
    openssl(dir, &format!("{request} -subj /CN=leaf -keyout l.key -out l.csr"));
    let sign = "x509 -req -days 9 -CAcreateserial";
    openssl(dir, &format!("{sign} -in m.csr -CA r.pem -CAkey r.key -extfile ca.ext -out m.pem"));
    openssl(dir, &format!("{sign} -in l.csr -CA m.pem -CAkey m.key -extfile leaf.ext -out l.pem"));
    // The root first: the order in the file must not matter.
    let chain = [fs::read(dir.join("r.pem")).unwrap(), fs::read(dir.join("m.pem")).unwrap()];
    fs::write(dir.join("chain.pem"), chain.concat()).unwrap();
    fs::write(dir.join("pass"), "p\u{e4}ss wort\r\nsecond line\n").unwrap();
    fs::write(dir.join("wrong"), "nope\n").unwrap();
    let pfx = Command::new("openssl")
        .current_dir(dir)
        .args("pkcs12 -export -inkey l.key -in l.pem -certfile chain.pem -out x.pfx".split(' '))
        .args(kind.split_whitespace())
        .args(["-passout", "pass:p\u{e4}ss wort"])
        .output()
        .unwrap();
    assert!(pfx.status.success(), "{}", String::from_utf8_lossy(&pfx.stderr));
}

fn opens(kind: &str) {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    export(dir.path(), kind);
    let (loaded, codes) = load(dir.path(), "x.pfx", "pass");
    assert!(codes.is_empty(), "{kind}: {codes:?}");
    let loaded = loaded.unwrap();
    assert_eq!(loaded.names, ["wac.contoso.com", "*.fabrikam.com"]);
    assert!(loaded.covers("a.fabrikam.com") && !loaded.ecdsa);
    // Leaf, then intermediate; the root stays out.
    assert_eq!(loaded.chain.len(), 2);
    assert!(loaded.chain[1].issued(&loaded.chain[0]).is_ok());
    let (loaded, codes) = load(dir.path(), "x.pfx", "wrong");
    assert!(loaded.is_none());
    assert_eq!(codes, ["E041"], "{kind}");
}

#[test]
fn rc2_40_exports_open() {
    opens("-legacy -certpbe PBE-SHA1-RC2-40 -keypbe PBE-SHA1-3DES -macalg sha1");
}

#[test]
fn triple_des_exports_open() {
    opens("-legacy -certpbe PBE-SHA1-3DES -keypbe PBE-SHA1-3DES -macalg sha1");
}

#[test]
fn aes_256_exports_open() {
    opens("-certpbe AES-256-CBC -keypbe AES-256-CBC -macalg sha256");
}

#[test]
fn password_files_of_windows_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    make::test_files(dir.path());
    let wide: Vec<u8> = "right\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(dir.path().join("wide"), [b"\xff\xfe", wide.as_slice()].concat()).unwrap();
    let wide: Vec<u8> = "right\r\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    fs::write(dir.path().join("big"), [b"\xfe\xff", wide.as_slice()].concat()).unwrap();
    fs::write(dir.path().join("bom"), b"\xef\xbb\xbfright").unwrap();
    for password in ["wide", "big", "bom", "right.pass"] {
        let (loaded, codes) = load(dir.path(), "a.pfx", password);
        assert!(loaded.is_some(), "{password}: {codes:?}");
    }
}

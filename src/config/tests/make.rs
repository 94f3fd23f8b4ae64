//! Certificates for tests.

use std::{fs, path::Path, process::Command};

use boring::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkcs12::Pkcs12,
    pkey::{PKey, Private},
    symm::Cipher,
    x509::{X509, X509Name, extension::SubjectAlternativeName},
};

const DAY: i64 = 24 * 3600;

/// A self-signed certificate for `names`, valid from and to so many days from now.
pub(super) fn certificate(names: &[&str], from: i64, to: i64) -> (X509, PKey<Private>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("O", "Test").unwrap();
    let subject = subject.build();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(now + from * DAY).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + to * DAY).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    if !names.is_empty() {
        let mut alternative = SubjectAlternativeName::new();
        names.iter().for_each(|name| {
            alternative.dns(name);
        });
        let extension = alternative.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(&extension).unwrap();
    }
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}

/// Writes a PEM pair for `names`.
pub(super) fn pem_pair(cert: &Path, key: &Path, names: &[&str], from: i64, to: i64) {
    let (certificate, private) = certificate(names, from, to);
    fs::create_dir_all(cert.parent().unwrap()).unwrap();
    fs::write(cert, certificate.to_pem().unwrap()).unwrap();
    fs::write(key, private.private_key_to_pem_pkcs8().unwrap()).unwrap();
}

/// Writes a PFX file for `names`, and its password.
pub(super) fn pfx(file: &Path, password: &Path, names: &[&str]) {
    let (certificate, key) = certificate(names, -1, 90);
    let pfx = Pkcs12::builder().build("right", "names", &key, &certificate).unwrap();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, pfx.to_der().unwrap()).unwrap();
    fs::write(password, "right\r\n").unwrap();
}

/// Everything that the golden files name.
pub(super) fn test_files(dir: &Path) {
    let pair = |name: &str, names: &[&str], from, to| {
        let cert = dir.join(format!("{name}.pem"));
        pem_pair(&cert, &dir.join(format!("{name}.key")), names, from, to);
    };
    pair("a", &["A.contoso.com"], -1, 90);
    pair("b", &["b.contoso.com"], -1, 90);
    pair("expired", &["expired.contoso.com"], -20, -10);
    pair("future", &["future.contoso.com"], 10, 20);
    pair("nameless", &[], -1, 90);
    let (certificate, key) = certificate(&["a.contoso.com"], -1, 90);
    fs::write(dir.join("a.der"), certificate.to_der().unwrap()).unwrap();
    let pfx = Pkcs12::builder().build("right", "a", &key, &certificate).unwrap();
    fs::write(dir.join("a.pfx"), pfx.to_der().unwrap()).unwrap();
    let a = fs::read(dir.join("a.key")).unwrap();
    let a = PKey::private_key_from_pem(&a).unwrap();
    let encrypted = a.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"right").unwrap();
    fs::write(dir.join("encrypted.key"), encrypted).unwrap();
    fs::write(dir.join("right.pass"), "right\r\n").unwrap();
    fs::write(dir.join("wrong.pass"), "wrong\n").unwrap();
    fs::write(dir.join("a.keyder"), a.private_key_to_der().unwrap()).unwrap();
    let wide: Vec<u8> = "workers: 4\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(dir.join("utf16.yaml"), [b"\xff\xfe", wide.as_slice()].concat()).unwrap();
    fs::File::create(dir.join("large.yaml")).unwrap().set_len((16 << 20) + 1).unwrap();
    let made = Command::new("mkfifo").arg(dir.join("fifo.yaml")).status().unwrap();
    assert!(made.success());
    fs::write(dir.join("latin1.yaml"), b"# fine\n# K\xf6ln\n").unwrap();
}

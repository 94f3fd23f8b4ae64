//! Certificates for tests, made with BoringSSL.

use std::path::{Path, PathBuf};

use boring::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

/// External names on the public certificate.
pub const PUBLIC_NAMES: &[&str] = &[
    "meet.contoso.com",
    "dialin.contoso.com",
    "lyncdiscover.contoso.com",
    "lyncweb.contoso.com",
    "lyncweb2.contoso.com",
    "wac.contoso.com",
    "*.wild.contoso.com",
];

/// A directory with `public-ca.pem`, `public.pem`/`.key` and the same for `internal`, whose
/// certificate is for `fe.contoso.local` and `lyncweb.contoso.com`.
#[derive(Clone)]
pub struct Certificates {
    pub dir: PathBuf,
}

/// A certificate with its key.
pub struct Identity {
    pub certificate: X509,
    pub key: PKey<Private>,
}

impl Certificates {
    pub fn write(dir: &Path) -> Self {
        let public = authority("Test Public CA");
        let internal = authority("Test Internal CA");
        let names = ["fe.contoso.local", "lyncweb.contoso.com"];
        save(dir, "public-ca", &public);
        save(dir, "public", &issue(&public, PUBLIC_NAMES, rsa()));
        save(dir, "public-ecdsa", &issue(&public, PUBLIC_NAMES, ec()));
        save(dir, "internal-ca", &internal);
        save(dir, "internal", &issue(&internal, &names, ec()));
        Self { dir: dir.to_owned() }
    }
}

pub fn rsa() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

pub fn ec() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// Writes `NAME.pem` and `NAME.key`.
pub fn save(dir: &Path, name: &str, identity: &Identity) {
    std::fs::write(dir.join(format!("{name}.pem")), identity.certificate.to_pem().unwrap())
        .unwrap();
    let key = identity.key.private_key_to_pem_pkcs8().unwrap();
    std::fs::write(dir.join(format!("{name}.key")), key).unwrap();
}

pub fn authority(name: &str) -> Identity {
    build(name, ec(), None, 30, |builder| {
        builder
            .append_extension(&BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
    })
}

pub fn issue(authority: &Identity, names: &[&str], key: PKey<Private>) -> Identity {
    lasting(authority, names, key, 30)
}

/// A certificate for so many days.
pub fn lasting(authority: &Identity, names: &[&str], key: PKey<Private>, days: u32) -> Identity {
    build(names[0], key, Some(authority), days, |builder| {
        let mut san = SubjectAlternativeName::new();
        for name in names {
            san.dns(name);
        }
        let san = san.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(&san).unwrap();
    })
}

fn build(
    name: &str,
    key: PKey<Private>,
    issuer: Option<&Identity>,
    days: u32,
    extend: impl FnOnce(&mut X509Builder),
) -> Identity {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(127, MsbOption::MAYBE_ZERO, false).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(issuer.map_or(&subject, |i| i.certificate.subject_name())).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(days).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    extend(&mut builder);
    builder.sign(issuer.map_or(&key, |i| &i.key), MessageDigest::sha256()).unwrap();
    Identity { certificate: builder.build(), key }
}

//! The lab's certificate authorities and what they issue.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use boring::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    hash::MessageDigest,
    nid::Nid,
    pkcs12::Pkcs12,
    pkey::{PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509Builder, X509Name,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage,
            SubjectAlternativeName, SubjectKeyIdentifier,
        },
    },
};

const HOUR: i64 = 3600;
const LIFETIME: i64 = 365 * 24 * HOUR;

/// A certificate and its key.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) cert: X509,
    pub(super) key: PKey<Private>,
}

impl Identity {
    /// What [`Self::cert_pem`] and [`Self::key_pem`] made.
    pub(super) fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self> {
        Ok(Self { cert: X509::from_pem(cert)?, key: PKey::private_key_from_pem(key)? })
    }

    pub(super) fn cert_pem(&self) -> Result<Vec<u8>> {
        Ok(self.cert.to_pem()?)
    }

    pub(super) fn key_pem(&self) -> Result<Vec<u8>> {
        Ok(self.key.private_key_to_pem_pkcs8()?)
    }

    /// The same as a PFX file, as Windows exports one: with the issuer's certificate inside.
    pub(super) fn pfx(&self, password: &str, issuer: &Identity) -> Result<Vec<u8>> {
        let mut chain = boring::stack::Stack::new()?;
        chain.push(issuer.cert.clone())?;
        let mut builder = Pkcs12::builder();
        // COMPAT: 3DES is what Windows Server 2012 R2 exports; BoringSSL would take AES.
        builder.key_algorithm(Nid::PBE_WITHSHA1AND3_KEY_TRIPLEDES_CBC);
        builder.cert_algorithm(Nid::PBE_WITHSHA1AND3_KEY_TRIPLEDES_CBC);
        builder.ca(chain);
        Ok(builder.build(password, "Frontgate lab", &self.key, &self.cert)?.to_der()?)
    }
}

/// A new root authority.
pub(super) fn authority(common_name: &str) -> Result<Identity> {
    let key = rsa_key()?;
    let name = subject(common_name)?;
    let mut builder = builder(&name, &name, &key)?;
    builder.append_extension(&*BasicConstraints::new().critical().ca().build()?)?;
    builder.append_extension(&*KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    let key_id = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(&key_id)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok(Identity { cert: builder.build(), key })
}

/// A server certificate for `names`, the first of which is also the common name. RSA, because
/// that is what the Windows servers of the field have.
pub(super) fn issue(authority: &Identity, names: &[String]) -> Result<Identity> {
    let key = rsa_key()?;
    let common_name = names.first().map_or("", String::as_str);
    let name = subject(common_name)?;
    let mut builder = builder(&name, authority.cert.subject_name(), &key)?;
    builder.append_extension(&*BasicConstraints::new().build()?)?;
    builder.append_extension(
        &*KeyUsage::new().critical().digital_signature().key_encipherment().build()?,
    )?;
    builder.append_extension(&*ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
    let (alt_names, key_id, authority_id) = {
        let context = builder.x509v3_context(Some(&authority.cert), None);
        let mut alt_names = SubjectAlternativeName::new();
        for name in names {
            alt_names.dns(name);
        }
        (
            alt_names.build(&context)?,
            SubjectKeyIdentifier::new().build(&context)?,
            AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
        )
    };
    for extension in [&alt_names, &key_id, &authority_id] {
        builder.append_extension(extension)?;
    }
    builder.sign(&authority.key, MessageDigest::sha256())?;
    Ok(Identity { cert: builder.build(), key })
}

fn rsa_key() -> Result<PKey<Private>> {
    Ok(PKey::from_rsa(Rsa::generate(2048)?)?)
}

fn subject(common_name: &str) -> Result<X509Name> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, "Frontgate lab")?;
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)?;
    Ok(name.build())
}

fn builder(
    subject: &boring::x509::X509NameRef,
    issuer: &boring::x509::X509NameRef,
    key: &PKey<Private>,
) -> Result<X509Builder> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let mut serial = BigNum::new()?;
    serial.rand(126, MsbOption::ONE, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    // An hour back: a clock that runs a little behind must not refuse a fresh certificate.
    builder.set_not_before(&*Asn1Time::from_unix(now - HOUR)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(now + LIFETIME)?)?;
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issued_certificate_chains_to_its_authority_and_covers_its_names() {
        let ca = authority("Test CA").unwrap();
        let names = ["fe01.contoso.local".to_string(), "lyncweb.contoso.com".to_string()];
        let leaf = issue(&ca, &names).unwrap();
        assert!(leaf.cert.verify(&ca.cert.public_key().unwrap()).unwrap());
        assert!(ca.cert.issued(&leaf.cert).is_ok());
        for name in &names {
            assert!(leaf.cert.check_host(name).unwrap(), "{name}");
        }
        assert!(!leaf.cert.check_host("meet.contoso.com").unwrap());
        let (cert, key) = (leaf.cert_pem().unwrap(), leaf.key_pem().unwrap());
        let read = Identity::from_pem(&cert, &key).unwrap();
        assert_eq!(read.cert.to_der().unwrap(), leaf.cert.to_der().unwrap());
        assert!(read.key.public_eq(&leaf.key));
    }

    #[test]
    fn the_pfx_holds_the_same_certificate_key_and_the_issuer() {
        let ca = authority("Test CA").unwrap();
        let leaf = issue(&ca, &["meet.contoso.com".to_string()]).unwrap();
        let der = leaf.pfx("secret", &ca).unwrap();
        let pfx = Pkcs12::from_der(&der).unwrap();
        assert!(pfx.parse("wrong").is_err());
        let parsed = pfx.parse("secret").unwrap();
        assert_eq!(parsed.cert.to_der().unwrap(), leaf.cert.to_der().unwrap());
        assert!(parsed.pkey.public_eq(&leaf.key));
        assert_eq!(parsed.chain.map(|chain| chain.len()), Some(1));
    }
}

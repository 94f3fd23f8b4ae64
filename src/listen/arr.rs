//! What servers are told about a client connection in the style of ARR.

use std::{fmt::Write as _, net::SocketAddr};

use boring::x509::{X509NameEntryRef, X509NameRef};
use http::HeaderValue;

use super::ConnectionTls;

/// Values of a connection; made once, by the first request that needs them.
#[derive(Debug)]
pub struct Arr {
    /// The peer as `address:port`, IPv6 in brackets (ARR `includePortInXForwardedFor`).
    pub client: HeaderValue,
    /// `X-ARR-SSL`, on TLS: bits of the certificate's key, bits of the cipher, issuer and subject
    /// of the certificate that was served, with `|` in between.
    pub ssl: Option<HeaderValue>,
}

impl Arr {
    pub(super) fn new(client: SocketAddr, tls: Option<&ConnectionTls>) -> Self {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        Self {
            // An address is always a good value.
            client: HeaderValue::from_str(&client.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            ssl: tls.and_then(ssl).and_then(|text| HeaderValue::from_str(&text).ok()),
        }
    }
}

fn ssl(tls: &ConnectionTls) -> Option<String> {
    let leaf = tls.certificate.as_ref()?.chain.first()?;
    let key = leaf.public_key().map_or(0, |key| key.bits());
    let (issuer, subject) = (name(leaf.issuer_name()), name(leaf.subject_name()));
    Some(format!("{key}|{}|{issuer}|{subject}", tls.cipher_bits))
}

/// A distinguished name as Windows writes it (`CertNameToStr`): in the order of the certificate,
/// with `S` for the state and `E` for the mail address.
fn name(name: &X509NameRef) -> String {
    let mut out = String::new();
    for entry in name.entries() {
        let separator = if out.is_empty() { "" } else { ", " };
        let _ = write!(out, "{separator}{}=", attribute(entry));
        let text = entry.data().as_utf8();
        push(&mut out, text.as_ref().map_or("", |text| text));
    }
    out
}

fn attribute(entry: &X509NameEntryRef) -> String {
    let object = entry.object();
    match object.nid().short_name() {
        Ok("ST") => "S".to_owned(),
        Ok("emailAddress") => "E".to_owned(),
        Ok("street") => "STREET".to_owned(),
        Ok("title") => "T".to_owned(),
        Ok("GN") => "G".to_owned(),
        Ok("serialNumber") => "SERIALNUMBER".to_owned(),
        Ok("UNDEF") | Err(_) => format!("OID.{object}"),
        Ok(known) => known.to_owned(),
    }
}

/// COMPAT: http.sys answers 400 to a header with a letter outside ASCII, which was how one such
/// certificate took ARR down; those letters become `?`. Test: names_are_written_as_windows_does
fn push(out: &mut String, text: &str) {
    let special = |c: char| matches!(c, ',' | '+' | '=' | '"' | '\n' | '<' | '>' | '#' | ';');
    let quoted = text.contains(special) || text.starts_with(' ') || text.ends_with(' ');
    if quoted {
        out.push('"');
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\"\""),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    if quoted {
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use boring::{nid::Nid, x509::X509NameBuilder};

    use super::*;

    #[test]
    fn names_are_written_as_windows_does() {
        let mut builder = X509NameBuilder::new().unwrap();
        for (nid, value) in [
            (Nid::COUNTRYNAME, "US"),
            (Nid::STATEORPROVINCENAME, "Arizona"),
            (Nid::LOCALITYNAME, "Scottsdale"),
            (Nid::ORGANIZATIONNAME, "GoDaddy.com, Inc."),
            (Nid::ORGANIZATIONALUNITNAME, "say \"x\""),
            (Nid::COMMONNAME, "Sørvik CA"),
            (Nid::PKCS9_EMAILADDRESS, "ca@contoso.com"),
            (Nid::DOMAINCOMPONENT, "contoso"),
        ] {
            builder.append_entry_by_nid(nid, value).unwrap();
        }
        let written = name(&builder.build());
        assert_eq!(
            written,
            "C=US, S=Arizona, L=Scottsdale, O=\"GoDaddy.com, Inc.\", OU=\"say \"\"x\"\"\", \
             CN=S?rvik CA, E=ca@contoso.com, DC=contoso"
        );
        assert_eq!(name(&X509NameBuilder::new().unwrap().build()), "");
    }

    #[test]
    fn clients_have_ports() {
        let client = |text: &str| Arr::new(text.parse().unwrap(), None);
        assert_eq!(client("192.0.2.7:5061").client, "192.0.2.7:5061");
        assert_eq!(client("[2001:db8::7]:443").client, "[2001:db8::7]:443");
        assert_eq!(client("[::ffff:192.0.2.7]:1").client, "192.0.2.7:1");
        assert_eq!(client("192.0.2.7:1").ssl, None);
    }
}

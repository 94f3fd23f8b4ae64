//! Certificates and authorities from files.

use std::{io, path::Path};

use boring::{
    asn1::Asn1Time,
    error::ErrorStack,
    nid::Nid,
    pkcs12::Pkcs12,
    pkey::{Id, PKey, Private},
    x509::{X509, X509Ref},
};

use crate::{
    config::{
        code,
        diagnostic::Findings,
        files::{Files, reason},
        model::{listener, net::FilePath},
        read::At,
        source::Mark,
    },
    site::Certificate,
};

/// Loads one entry of `certificates`; `None` after findings.
pub fn load(
    entry: &At<listener::Certificate>,
    files: &mut Files,
    findings: &mut Findings,
) -> Option<Certificate> {
    if password_is_misplaced(entry, findings) {
        return None;
    }
    let (mark, chain, key) = match (&entry.cert, &entry.key, &entry.pfx) {
        (Some(cert), Some(key), None) => {
            let password = entry.key_password_file.as_ref();
            let chain = pem_certificates(cert, files, findings);
            let key = pem_key(key, password, files, findings);
            (&cert.mark, chain?, key?)
        }
        (None, None, Some(pfx)) => {
            let (chain, key) = open_pfx(pfx, entry.password_file.as_ref(), files, findings)?;
            (&pfx.mark, chain, key)
        }
        (Some(_), None, None) | (None, Some(_), None) => {
            if !entry.broken {
                let missing = if entry.cert.is_some() { "key" } else { "cert" };
                findings
                    .add(code::MISSING_KEY, &entry.mark, format!("`{missing}` is missing"))
                    .help(format!("add `{missing}: FILE` (PEM), or use one PFX file: `pfx: FILE`"));
            }
            return None;
        }
        (None, None, None) if entry.broken => return None,
        _ => {
            findings
                .add(code::EXCLUSIVE, &entry.mark, "a certificate is `cert` and `key`, or `pfx`")
                .help("keep either the PEM pair or the PFX file".to_string());
            return None;
        }
    };
    let leaf = chain.first()?;
    if !leaf.public_key().is_ok_and(|public| public.public_eq(&key)) {
        findings
            .add(code::CERTIFICATE_KEY, mark, "the key does not belong to the first certificate")
            .help("the server's own certificate comes first in the file".to_string());
        return None;
    }
    let names = names(leaf);
    warn(leaf, &names, mark, findings);
    let ecdsa = key.id() == Id::EC;
    Some(Certificate { names, ecdsa, chain, key, place: entry.place() })
}

/// Whether a password stands under the key for the other kind of file, which is a finding.
fn password_is_misplaced(entry: &listener::Certificate, findings: &mut Findings) -> bool {
    let pem = entry.cert.is_some() || entry.key.is_some();
    let (wrong, right, file) = match (pem, &entry.pfx) {
        (true, None) => (("password_file", &entry.password_file), "key_password_file", "key"),
        (false, Some(_)) => {
            (("key_password_file", &entry.key_password_file), "password_file", "pfx")
        }
        _ => return false,
    };
    let (key, Some(wrong)) = wrong else { return false };
    findings
        .add(code::EXCLUSIVE, &wrong.mark, format!("`{key}` is not for this kind of certificate"))
        .help(format!("the password of `{file}` stands under `{right}`"));
    true
}

/// Loads a bundle of authorities; `None` after a finding.
pub fn authorities(
    file: &At<FilePath>,
    files: &mut Files,
    findings: &mut Findings,
) -> Option<Vec<X509>> {
    pem_certificates(file, files, findings)
}

/// DNS names of a certificate, lower case: the alternative names, or without any the common name.
fn names(leaf: &X509Ref) -> Vec<String> {
    let alternative = leaf.subject_alt_names();
    let alternative = alternative.iter().flatten().filter_map(|name| name.dnsname());
    let mut names: Vec<String> = alternative.map(str::to_ascii_lowercase).collect();
    if names.is_empty() {
        let common = leaf.subject_name().entries_by_nid(Nid::COMMONNAME);
        let text = common.filter_map(|entry| entry.data().as_utf8().ok());
        names.extend(text.map(|name| name.to_ascii_lowercase()));
    }
    names
}

fn warn(leaf: &X509Ref, names: &[String], mark: &Mark, findings: &mut Findings) {
    let subject = names.first().map_or("the certificate", String::as_str);
    if names.is_empty() {
        findings
            .add(code::NAMELESS_CERTIFICATE, mark, "the certificate has no DNS name")
            .help("issue it again with the published names as alternative names".to_string());
    }
    let Ok(now) = Asn1Time::days_from_now(0) else { return };
    if leaf.not_after() < now {
        let message = format!("{subject} has expired on {}", leaf.not_after());
        findings.add(code::EXPIRED, mark, message).help("renew it".to_string());
    }
    if leaf.not_before() > now {
        let message = format!("{subject} is not valid before {}", leaf.not_before());
        findings
            .add(code::NOT_YET_VALID, mark, message)
            .help("check the clock of this machine".to_string());
    }
}

/// The bytes of a file; `None` after a finding.
fn read(
    file: &At<FilePath>,
    files: &mut Files,
    findings: &mut Findings,
) -> Option<std::sync::Arc<[u8]>> {
    files
        .read(&file.path)
        .map_err(|error| {
            let message = format!("cannot read `{}`: {}", file.written, reason(&error));
            let help = unread_help(file, &error);
            findings.add(code::CERTIFICATE_FILE, &file.mark, message).help(help);
        })
        .ok()
}

fn unread_help(file: &At<FilePath>, error: &io::Error) -> String {
    let missing = error.kind() == io::ErrorKind::NotFound;
    if Path::new(&file.written).is_relative() && file.raw.is_none() {
        "relative paths start at the directory of this file".to_string()
    } else if missing {
        "check its spelling; absolute paths start at the root of this machine".to_string()
    } else {
        "the user that Frontgate runs as must be able to read it".to_string()
    }
}

fn pem_certificates(
    file: &At<FilePath>,
    files: &mut Files,
    findings: &mut Findings,
) -> Option<Vec<X509>> {
    let bytes = read(file, files, findings)?;
    match X509::stack_from_pem(without_bom(&bytes)) {
        Ok(chain) if !chain.is_empty() => Some(chain),
        _ => {
            let written = &file.written;
            let help = if bytes.first() == Some(&0x30) {
                format!("it looks binary: `openssl x509 -inform der -in {written}` makes PEM of it")
            } else {
                "PEM text has lines with BEGIN CERTIFICATE and END CERTIFICATE".to_string()
            };
            let message = format!("`{written}` holds no certificate in PEM form");
            findings.add(code::CERTIFICATE_FILE, &file.mark, message).help(help);
            None
        }
    }
}

fn pem_key(
    file: &At<FilePath>,
    password_file: Option<&At<FilePath>>,
    files: &mut Files,
    findings: &mut Findings,
) -> Option<PKey<Private>> {
    let bytes = read(file, files, findings)?;
    let password = password(password_file, files, findings)?;
    let error = match PKey::private_key_from_pem_passphrase(without_bom(&bytes), &password) {
        Ok(key) => return Some(key),
        Err(error) => error,
    };
    let written = &file.written;
    let encrypted = String::from_utf8_lossy(&bytes).contains("ENCRYPTED");
    if encrypted && password_file.is_none() {
        findings
            .add(code::CERTIFICATE_PASSWORD, &file.mark, format!("`{written}` is encrypted"))
            .help("name the file with its password: `key_password_file: …`".to_string());
    } else if encrypted {
        let message = format!("the password does not open `{written}`");
        let mark = password_file.map_or(&file.mark, |p| &p.mark);
        findings
            .add(code::CERTIFICATE_PASSWORD, mark, message)
            .help(format!("what the first line of the file says was tried ({})", detail(&error)));
    } else {
        let message = format!("`{written}` holds no private key in PEM form");
        let help = if bytes.first() == Some(&0x30) {
            format!("it looks binary: `openssl pkey -inform der -in {written}` makes PEM of it")
        } else {
            "PEM text has lines with BEGIN PRIVATE KEY and END PRIVATE KEY".to_string()
        };
        findings.add(code::CERTIFICATE_FILE, &file.mark, message).help(help);
    }
    None
}

fn open_pfx(
    file: &At<FilePath>,
    password_file: Option<&At<FilePath>>,
    files: &mut Files,
    findings: &mut Findings,
) -> Option<(Vec<X509>, PKey<Private>)> {
    let bytes = read(file, files, findings)?;
    let password = password(password_file, files, findings)?;
    let password = String::from_utf8_lossy(&password);
    let written = &file.written;
    let parsed = Pkcs12::from_der(&bytes).and_then(|pfx| pfx.parse2(&password));
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) if is_wrong_password(&error) => {
            let (mark, help) = match password_file {
                Some(given) => (&given.mark, "the first line of the password file counts"),
                None => (&file.mark, "name the file with its password: `password_file: …`"),
            };
            let message = format!("the password does not open `{written}`");
            findings.add(code::CERTIFICATE_PASSWORD, mark, message).help(help.to_string());
            return None;
        }
        Err(error) => {
            let message = format!("`{written}` is not a PFX file: {}", detail(&error));
            findings
                .add(code::CERTIFICATE_FILE, &file.mark, message)
                .help("PEM text goes under `cert` and `key`".to_string());
            return None;
        }
    };
    let (Some(leaf), Some(key)) = (parsed.cert, parsed.pkey) else {
        let message = format!("`{written}` holds no certificate with its key");
        findings
            .add(code::CERTIFICATE_FILE, &file.mark, message)
            .help("export it again with the private key".to_string());
        return None;
    };
    let others = parsed.ca.iter().flatten().map(ToOwned::to_owned).collect();
    Some((ordered(leaf, others), key))
}

/// Leaf, its issuer, and so on: a PFX file has no order. Authorities that sign themselves stay
/// out; a client has them or does not trust them.
fn ordered(leaf: X509, mut others: Vec<X509>) -> Vec<X509> {
    let mut chain = vec![leaf];
    while let Some(last) = chain.last()
        && let Some(at) = others.iter().position(|other| other.issued(last).is_ok())
    {
        let issuer = others.swap_remove(at);
        if issuer.issued(&issuer).is_ok() {
            break;
        }
        chain.push(issuer);
    }
    chain
}

/// The first line of a password file, empty without a file; `None` after a finding.
fn password(
    file: Option<&At<FilePath>>,
    files: &mut Files,
    findings: &mut Findings,
) -> Option<Vec<u8>> {
    let Some(file) = file else { return Some(Vec::new()) };
    let bytes = read(file, files, findings)?;
    // COMPAT: PowerShell's `>` writes UTF-16. Test: `password_files_of_windows_are_understood`.
    let little = bytes.strip_prefix(b"\xff\xfe").map(|wide| (wide, true));
    let big = || bytes.strip_prefix(b"\xfe\xff").map(|wide| (wide, false));
    if let Some((wide, little)) = little.or_else(big) {
        let units = wide.chunks_exact(2).map(|pair| match pair {
            [a, b] if little => u16::from_le_bytes([*a, *b]),
            [a, b] => u16::from_be_bytes([*a, *b]),
            _ => 0,
        });
        let text: String = char::decode_utf16(units).filter_map(Result::ok).collect();
        return Some(text.lines().next().unwrap_or_default().as_bytes().to_vec());
    }
    let line = without_bom(&bytes).split(|b| *b == b'\n').next().unwrap_or_default();
    Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}

fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

fn is_wrong_password(error: &ErrorStack) -> bool {
    error.errors().iter().any(|e| e.reason() == Some("INCORRECT_PASSWORD"))
}

fn detail(error: &ErrorStack) -> String {
    let reason = error.errors().iter().find_map(|e| e.reason());
    reason.unwrap_or("unknown reason").to_lowercase().replace('_', " ")
}

//! `GET /api/v1/certificates`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use boring::{
    asn1::{Asn1Time, Asn1TimeRef},
    nid::Nid,
    x509::X509NameRef,
};
use serde::Serialize;

use crate::{admin::view, site};

const DAY: i64 = 24 * 60 * 60;

/// `GET /api/v1/certificates`.
#[derive(Debug, Serialize)]
pub struct Certificates {
    /// Version of this shape.
    pub version: u32,
    /// Every certificate, the one that ends first before the others.
    pub certificates: Vec<CertificateRow>,
}

/// One certificate shown to clients.
#[derive(Debug, Serialize)]
pub struct CertificateRow {
    /// DNS names it covers.
    pub names: Vec<String>,
    /// Common name of who issued it; empty if it has none.
    pub issuer: String,
    /// RFC 3339, UTC.
    pub not_before: String,
    /// RFC 3339, UTC.
    pub not_after: String,
    /// Whole days until `not_after`; negative: it is over.
    pub days_left: i64,
    /// `rsa` or `ecdsa`.
    pub key: &'static str,
    /// Whether it answers names that no other covers.
    pub default: bool,
    /// Where it is configured.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
}

impl Certificates {
    pub(crate) fn of(site: &site::Site, now: SystemTime) -> Self {
        let rows = site.certificates.iter().enumerate();
        let rows = rows.filter_map(|(n, it)| row(it, n == site.default_certificate, now));
        let mut certificates: Vec<_> = rows.collect();
        certificates.sort_by(|a, b| a.not_after.cmp(&b.not_after));
        Self { version: view::VERSION, certificates }
    }
}

fn row(it: &site::Certificate, default: bool, now: SystemTime) -> Option<CertificateRow> {
    let leaf = it.chain.first()?;
    let (after, before) = (unix(leaf.not_after())?, unix(leaf.not_before())?);
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs().cast_signed();
    Some(CertificateRow {
        names: it.names.clone(),
        issuer: common_name(leaf.issuer_name()),
        not_before: view::time(moment(before)),
        not_after: view::time(moment(after)),
        days_left: (after - now).div_euclid(DAY),
        key: if it.ecdsa { "ecdsa" } else { "rsa" },
        default,
        file: it.place.file.clone(),
        line: it.place.line,
    })
}

/// Seconds since 1970.
fn unix(time: &Asn1TimeRef) -> Option<i64> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(since.days) * DAY + i64::from(since.secs))
}

fn moment(unix: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or(0))
}

fn common_name(name: &X509NameRef) -> String {
    let mut entries = name.entries_by_nid(Nid::COMMONNAME);
    let first = entries.next().and_then(|entry| entry.data().as_utf8().ok());
    first.map(|text| text.to_string()).unwrap_or_default()
}

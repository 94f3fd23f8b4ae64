//! Affinity cookies: how a cookie names a server.
//!
//! A keyed digest of the server's name: it says nothing about names inside, is the same on every
//! Frontgate with the same certificate, and in every farm that has the server, so that `/owa` and
//! `/ecp` agree. What ARR issued is understood as well, so that moving from it loses no session.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use boring::{hash::hmac_sha256, sha::sha256};
use http::{HeaderMap, HeaderValue, header};

use super::server::Server;
use crate::site::{Address, Affinity, AffinityKey};

/// Keys that are still read after the certificate changed.
const KEPT_KEYS: usize = 4;

/// Bytes of the digest in a cookie.
const LENGTH: usize = 16;

/// The cookies of one farm.
pub(crate) struct Cookies {
    name: Arc<str>,
    /// From every value that is understood to the server's number and whether we would issue it.
    known: HashMap<String, (u64, bool)>,
    /// What is issued: by the server's number, for TLS clients and for plain ones.
    issued: HashMap<u64, [HeaderValue; 2]>,
}

/// The server that a cookie names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) server: u64,
    /// Issued under the present key; otherwise the client needs a new one.
    pub(crate) current: bool,
}

/// Keys that cookies of this process were issued with, the present one first.
#[derive(Default)]
pub(crate) struct Keys(VecDeque<AffinityKey>);

impl Keys {
    /// The present key; earlier ones stay readable, so that a renewed certificate moves nobody.
    pub(crate) fn follow(&mut self, key: AffinityKey) {
        if self.0.front() != Some(&key) {
            self.0.retain(|old| *old != key);
            self.0.push_front(key);
            self.0.truncate(KEPT_KEYS);
        }
    }
}

impl Cookies {
    /// Those of a farm with affinity by cookie.
    pub(crate) fn new(affinity: &Affinity, keys: &Keys, servers: &[Arc<Server>]) -> Option<Self> {
        let Affinity::Cookie(name) = affinity else { return None };
        let mut known = HashMap::new();
        let mut issued = HashMap::new();
        for server in servers {
            let spec = server.spec();
            for (age, key) in keys.0.iter().enumerate() {
                let Some(value) = value(key, server.name()) else { continue };
                if age == 0 {
                    issued.extend(set_cookie(name, &value).map(|lines| (server.id(), lines)));
                }
                known.entry(value).or_insert((server.id(), age == 0));
            }
            let address = match &spec.address {
                Address::Name(name) => name.to_string(),
                Address::Ip(ip) => ip.to_string(),
            };
            // SECURITY: while these are honoured, names can be tried: a right one leads to the same
            // server every time. So only under ARR's own name. Test: only_arrs_cookie_is_arrs
            if !name.eq_ignore_ascii_case("ARRAffinity") {
                continue;
            }
            for host in [&*address, &**server.name()] {
                for value in issued_by_arr(host) {
                    known.entry(value).or_insert((server.id(), false));
                }
            }
        }
        Some(Self { name: name.clone(), known, issued })
    }

    /// The servers that a request's cookies name: there may be several, of other paths or domains.
    /// Values that nobody issued, and servers that are gone, name none.
    pub(crate) fn read<'h>(&'h self, headers: &'h HeaderMap) -> impl Iterator<Item = Named> + 'h {
        let lines = headers.get_all(header::COOKIE).iter();
        let pairs = lines.flat_map(|line| line.as_bytes().split(|b| *b == b';'));
        pairs.filter_map(|pair| {
            let pair = std::str::from_utf8(pair.trim_ascii()).ok()?;
            let (name, value) = pair.split_once('=')?;
            let value = value.trim_matches('"');
            let wanted = name == &*self.name && value.len() <= 2 * 32;
            let found = wanted.then(|| self.known.get(&value.to_ascii_lowercase())).flatten()?;
            Some(Named { server: found.0, current: found.1 })
        })
    }

    /// The `Set-Cookie` line that keeps a client at a server.
    pub(crate) fn issue(&self, server: &Server, https: bool) -> Option<&HeaderValue> {
        let [secure, plain] = self.issued.get(&server.id())?;
        Some(if https { secure } else { plain })
    }
}

fn value(key: &AffinityKey, server: &str) -> Option<String> {
    let digest = hmac_sha256(&key.0, server.to_lowercase().as_bytes()).ok()?;
    Some(hex(digest.get(..LENGTH)?))
}

/// A cookie of the browser session for every path of the host. `SameSite=None`: Office Web Apps
/// and meeting pages live in frames of other sites; browsers want `Secure` with it (RFC 6265bis).
///
/// COMPAT: Lync 2010 clients read `MS-WSMAN` by script, so that one is not HttpOnly.
/// Test: ms_wsman_is_as_lync_2010_wants_it
fn set_cookie(name: &str, value: &str) -> Option<[HeaderValue; 2]> {
    let http_only = if name.eq_ignore_ascii_case("MS-WSMAN") { "" } else { "; HttpOnly" };
    let plain = format!("{name}={value}; Path=/{http_only}");
    let secure = format!("{plain}; Secure; SameSite=None");
    Some([HeaderValue::from_str(&secure).ok()?, HeaderValue::from_str(&plain).ok()?])
}

/// What ARR 3 put into `ARRAffinity`: SHA-256 of the host name, lower case, in UTF-16; the same
/// in UTF-8 for other programs that read it so. In lower case, as all values are compared.
fn issued_by_arr(host: &str) -> [String; 2] {
    let host = host.to_lowercase();
    let wide: Vec<u8> = host.encode_utf16().flat_map(u16::to_le_bytes).collect();
    [hex(&sha256(&wide)), hex(&sha256(host.as_bytes()))]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::server, *};

    const KEY: AffinityKey = AffinityKey([1; 32]);

    fn cookies(name: &str, keys: &[AffinityKey], servers: &[Arc<Server>]) -> Cookies {
        let mut kept = Keys::default();
        keys.iter().for_each(|key| kept.follow(*key));
        Cookies::new(&Affinity::Cookie(name.into()), &kept, servers).unwrap()
    }

    fn read(cookies: &Cookies, lines: &[&str]) -> Option<Named> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
        }
        cookies.read(&headers).next()
    }

    fn issued(cookies: &Cookies, server: &Server, https: bool) -> String {
        cookies.issue(server, https).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_issued_is_read_and_says_nothing() {
        let servers = [server("lyncfe01.contoso.local"), server("lyncfe02.contoso.local")];
        let cookies = cookies("ARRAffinity", &[KEY], &servers);
        let line = issued(&cookies, &servers[1], true);
        assert!(line.ends_with("; Path=/; HttpOnly; Secure; SameSite=None"), "{line}");
        assert!(!line.contains("lync") && !line.contains("contoso"));
        let pair = line.split(';').next().unwrap();
        let named = Some(Named { server: servers[1].id(), current: true });
        assert_eq!(read(&cookies, &[pair]), named);
        assert_eq!(read(&cookies, &["a=b; x=y", &format!("c=d;{pair} ; e=f")]), named);
        let plain = issued(&cookies, &servers[1], false);
        assert!(plain.ends_with("; Path=/; HttpOnly"), "{plain}");
    }

    #[test]
    fn ms_wsman_is_as_lync_2010_wants_it() {
        let servers = [server("fe01")];
        let line = issued(&cookies("MS-WSMAN", &[KEY], &servers), &servers[0], true);
        assert!(line.starts_with("MS-WSMAN="));
        for unwanted in ["HttpOnly", "Expires", "Max-Age"] {
            assert!(!line.contains(unwanted), "{line}");
        }
    }

    #[test]
    fn every_frontgate_with_the_key_issues_the_same_and_no_other() {
        let (one, two) = ([server("fe01")], [server("FE01")]);
        let line = issued(&cookies("a", &[KEY], &one), &one[0], true);
        assert_eq!(issued(&cookies("a", &[KEY], &two), &two[0], true), line);
        let other = cookies("a", &[AffinityKey([2; 32])], &two);
        assert_ne!(issued(&other, &two[0], true), line);
        assert_eq!(read(&other, &[line.split(';').next().unwrap()]), None);
    }

    #[test]
    fn a_renewed_certificate_moves_nobody() {
        let servers = [server("fe01")];
        let before = issued(&cookies("a", &[KEY], &servers), &servers[0], true);
        let after = cookies("a", &[KEY, AffinityKey([2; 32])], &servers);
        let named = read(&after, &[before.split(';').next().unwrap()]);
        assert_eq!(named, Some(Named { server: servers[0].id(), current: false }));
    }

    #[test]
    fn arrs_own_values_are_honoured() {
        // printf lyncfe01.contoso.local | iconv -t UTF-16LE | sha256sum
        let arr = "D8638A0FBCDF0EAAAD6103B1470644D8594DC3EEF8A8B273AC0007178F0FAFDB";
        let servers = [server("LyncFE01.contoso.local"), server("fe02")];
        let cookies = cookies("ARRAffinity", &[KEY], &servers);
        let named = Some(Named { server: servers[0].id(), current: false });
        assert_eq!(read(&cookies, &[&format!("ARRAffinity={arr}")]), named);
        assert_eq!(read(&cookies, &[&format!("ARRAffinity={}", arr.to_lowercase())]), named);
    }

    #[test]
    fn only_arrs_cookie_is_arrs() {
        let servers = [server("fe01")];
        let [wide, narrow] = issued_by_arr("fe01");
        let cookies = cookies("sticky", &[KEY], &servers);
        for value in [wide, narrow] {
            assert_eq!(read(&cookies, &[&format!("sticky={value}")]), None);
        }
    }

    #[test]
    fn what_nobody_issued_names_no_server() {
        let servers = [server("fe01")];
        let cookies = cookies("ARRAffinity", &[KEY], &servers);
        let good = issued(&cookies, &servers[0], true);
        let good = good.split(';').next().unwrap();
        let forged = format!("ARRAffinity={}", "0".repeat(32));
        let long = format!("ARRAffinity={}", "a".repeat(5000));
        for wrong in [forged.as_str(), &long, "ARRAffinity=", "ARRAffinity", "ARRAffinity=fe01"] {
            assert_eq!(read(&cookies, &[wrong]), None, "{wrong}");
            // Somebody's rubbish does not hide the good one behind it.
            assert!(read(&cookies, &[&format!("{wrong}; {good}")]).is_some(), "{wrong}");
        }
        assert_eq!(read(&cookies, &[&good.replace("ARRAffinity", "arraffinity")]), None);
    }
}

//! All the ways in which a server may understand a path.
//!
//! IIS, http.sys, ASP.NET and Windows each tidy a path in their own way before they look at it, so
//! `/%61dmin`, `/x/..\admin`, `/admin./` and `/(S(x))/admin` can all end at `/admin`. A rule is
//! therefore chosen on every reading, and where readings disagree the request is refused: it then
//! does not matter which of them the server would have taken.

use super::rewrite;

/// More readings than this are refused. A path that clients really send has one, rarely four.
pub const MAX_READINGS: usize = 64;

/// How many bytes all readings of a path may have together.
///
/// SECURITY: keeps a 16 KiB path made of tricks from costing 64 × 16 KiB of work many times over.
/// Test: a_path_made_of_tricks_is_cut_short
const MAX_BYTES: usize = 256 * 1024;

/// One step of tidying; `None` where it changes nothing.
type Rewrite = fn(&[u8]) -> Option<Vec<u8>>;

/// Every way to tidy a path, apart from decoding it.
const REWRITES: &[Rewrite] = &[
    rewrite::backslashes,
    rewrite::lookalikes,
    rewrite::parameters,
    rewrite::after_end,
    rewrite::double_slashes,
    rewrite::dot_segments,
    rewrite::trailing_dots,
    rewrite::trailing_spaces,
    rewrite::cookieless_segments,
    rewrite::cookieless_text,
];

/// The distinct readings of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readings<'a> {
    /// One: the path as sent, in any letter case.
    Plain(&'a [u8]),
    /// All of them, lower case, the one nearest to the client's bytes first.
    Several(Vec<Vec<u8>>),
    /// More than anybody needs; treated as ambiguous.
    TooMany,
}

/// Finds every reading of `path` (without query, as sent).
///
/// They are the closure of the path under decoding (at most twice) and all the rewrites, so every
/// order and every subset of them is covered. The raw reading has those escapes decoded that
/// have no other spelling (space and bytes outside ASCII), so that a rule for `/größe` matches.
pub fn readings(path: &[u8]) -> Readings<'_> {
    if path.is_empty() {
        return Readings::Plain(b"/");
    }
    if is_plain(path) {
        return Readings::Plain(path);
    }
    let mut found = Found { all: Vec::new(), bytes: 0 };
    match found.fill(path) {
        Some(()) => Readings::Several(found.all),
        None => Readings::TooMany,
    }
}

impl Readings<'_> {
    /// Each reading; `None` if there are too many.
    pub fn iter(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let (one, several) = match self {
            Self::Plain(path) => (Some(*path), [].as_slice()),
            Self::Several(all) => (None, all.as_slice()),
            Self::TooMany => return None,
        };
        Some(one.into_iter().chain(several.iter().map(Vec::as_slice)))
    }
}

/// Whether no rewrite and no decoding can change `path`. Must hold for nearly all traffic: such a
/// path is routed without a copy.
fn is_plain(path: &[u8]) -> bool {
    let mut last = 0;
    for &byte in path {
        let plain = match byte {
            b'/' => last != b'/' && last != b'.',
            b'.' => last != b'/',
            b'%' | b'\\' | b';' | b':' | b'(' | b'?' | b'#' => false,
            _ => byte.is_ascii_graphic(),
        };
        if !plain {
            return false;
        }
        last = byte;
    }
    last != b'.' && path.first() == Some(&b'/')
}

struct Found {
    all: Vec<Vec<u8>>,
    bytes: usize,
}

impl Found {
    fn fill(&mut self, path: &[u8]) -> Option<()> {
        self.add(rewrite::decode_necessary(path))?;
        self.close_over(0)?;
        let once = self.decode(0)?;
        self.close_over(once)?;
        let twice = self.decode(once)?;
        self.close_over(twice)
    }

    /// Adds one reading, in lower case and with its leading slash. `None` when it is one too many.
    fn add(&mut self, reading: Vec<u8>) -> Option<()> {
        let mut reading = rewrite::lower_case(reading);
        if reading.first() != Some(&b'/') {
            reading.insert(0, b'/');
        }
        self.bytes += reading.len();
        if self.bytes > MAX_BYTES {
            return None;
        }
        if !self.all.contains(&reading) {
            if self.all.len() == MAX_READINGS {
                return None;
            }
            self.all.push(reading);
        }
        Some(())
    }

    /// Applies the rewrites to everything from `begin`, and to what comes of it.
    fn close_over(&mut self, begin: usize) -> Option<()> {
        let mut at = begin;
        while let Some(reading) = self.all.get(at).cloned() {
            for rewritten in REWRITES.iter().filter_map(|rewrite| rewrite(&reading)) {
                self.add(rewritten)?;
            }
            at += 1;
        }
        Some(())
    }

    /// Adds what the readings from `begin` on decode to: with `%uXXXX` and, for a server that
    /// does not know it, without. Gives the place of the first new one.
    fn decode(&mut self, begin: usize) -> Option<usize> {
        let end = self.all.len();
        for at in begin..end {
            let reading = self.all.get(at)?.clone();
            for unicode in [false, true] {
                if let Some(decoded) = rewrite::decode(&reading, unicode) {
                    self.add(decoded)?;
                }
            }
        }
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(path: &str) -> Vec<String> {
        let readings = readings(path.as_bytes());
        let iter = readings.iter().expect("not too many");
        iter.map(|r| String::from_utf8_lossy(r).to_ascii_lowercase()).collect()
    }

    fn has(path: &str, reading: &str) -> bool {
        all(path).iter().any(|r| r == reading)
    }

    #[test]
    fn what_clients_send_has_one_reading() {
        for path in [
            "/",
            "/owa/",
            "/EWS/Exchange.asmx",
            "/Autodiscover/AutodiscoverService.svc/root/user",
            "/meet/anna.k/AB12CD-_~",
            "/Microsoft-Server-ActiveSync",
            "/rpc/rpcproxy.dll",
            "/owa/14.1.438.0/scripts/a+b@c=d,e!$&'*",
        ] {
            assert_eq!(readings(path.as_bytes()), Readings::Plain(path.as_bytes()));
        }
        assert_eq!(readings(b""), Readings::Plain(b"/"));
        assert_eq!(all("/my%20files/%E2%82%AC"), ["/my files/€"]);
        assert_eq!(all("/.well-known/x"), ["/.well-known/x"]);
        assert_eq!(all("/Gr%C3%96%C3%9Fe"), ["/größe"]);
    }

    #[test]
    fn every_spelling_of_admin_is_read_as_admin() {
        for path in [
            "/%61dmin",
            "/%2561dmin",
            "/%u0061dmin",
            "/%25u0061dmin",
            "/%U0041dmin",
            "//admin",
            "/./admin",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x/..%2fadmin",
            "/x/..%5Cadmin",
            "/\\admin",
            "/admin.",
            "/admin%20",
            "/admin.%20.",
            "/admin;x=y",
            "/admin::$DATA",
            "/(S(abc))/admin",
            "/ad(A(x)F(y))min",
            "/(S(x))admin",
            "/admin%00.html",
            "/admin%3fx",
            "/admin%23",
            "/x/y/..%252f..%252fadmin",
            "/../admin",
            "/%c1%a1dmin",
            "/\u{ff41}dmin",
            "/%uff41dmin",
            "/x\u{2215}..\u{ff0f}admin",
            "/adm\u{131}n",
            "/x/.. /admin",
            "/;/admin",
            "/x/..;/admin",
            "/%2e/%5cadmin",
            "/x//../..//admin",
        ] {
            assert!(has(path, "/admin"), "{path} is only {:?}", all(path));
        }
    }

    #[test]
    fn the_order_of_steps_does_not_matter() {
        assert!(has("/a//../admin", "/admin"));
        assert!(has("/a//../admin", "/a/admin"));
        assert!(has("/a;%2f..%2fadmin", "/admin"));
        assert!(has("/a;%2f..%2fadmin", "/a"));
    }

    #[test]
    fn cookieless_sessions_are_seen_through() {
        assert!(has("/web/pro/(S(X))tected/x.aspx", "/web/protected/x.aspx"));
        assert!(has("/(S(x))/b/(S(y)A(z))in", "/bin"));
        assert!(has("/a/(S(x))/b", "/a/b"));
        assert_eq!(all("/a/(1)/b()"), ["/a/(1)/b()"]);
    }

    #[test]
    fn dots_and_spaces_at_the_end_are_dropped_together_or_apart() {
        assert!(has("/a.%20/b", "/a/b"));
        assert!(has("/a.%20/b", "/a./b"));
        assert!(has("/a.%20/b", "/a. /b"));
    }

    #[test]
    fn wrong_escapes_stay() {
        assert_eq!(all("/a%zz%4"), ["/a%zz%4"]);
        assert!(has("/%%36%31", "/a"));
        assert!(has("/%ud83d", "/\u{fffd}"));
    }

    #[test]
    fn decoding_happens_twice_not_more() {
        assert!(!has("/%25252561dmin", "/admin"));
        assert!(has("/%252561dmin", "/%61dmin"));
    }

    #[test]
    fn a_path_made_of_tricks_is_cut_short() {
        let trick = "/a/..%2f;x/%2561/.%20/\\b./(S(x))c%00";
        for times in [1, 20, 400] {
            assert!(readings(trick.repeat(times).as_bytes()) == Readings::TooMany);
        }
        let few = "/%2561;./".repeat(10);
        assert!(matches!(readings(few.as_bytes()), Readings::Several(_)));
        let few_but_long = "/%2561;./".repeat(1800);
        assert!(readings(few_but_long.as_bytes()) == Readings::TooMany);
    }

    fn tricky_path() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "[a-zA-Z0-9]{1,3}",
            proptest::sample::select(vec![
                "/", "//", "\\", ".", "..", "%2e", "%2f", "%5c", "%25", "%u002f", ";", ":", " ",
                "%20", "(S(x))", "(", ")", "%00", "?", "\u{ff0e}", "%c0%af", "%", "\u{212a}",
            ])
            .prop_map(str::to_owned),
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(path in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = readings(&path);
        }

        #[test]
        fn readings_are_distinct_lower_case_and_stable(path in tricky_path()) {
            let Some(found) = readings(path.as_bytes()).iter().map(|all| {
                all.map(<[u8]>::to_vec).collect::<Vec<_>>()
            }) else { return Ok(()) };
            for (at, reading) in found.iter().enumerate() {
                prop_assert_eq!(reading.first(), Some(&b'/'));
                prop_assert!(!found[..at].contains(reading));
                // A rewrite of a reading is a reading: nothing new can come of them.
                for rewrite in REWRITES {
                    if let Some(mut again) = rewrite(reading).map(rewrite::lower_case) {
                        if again.first() != Some(&b'/') { again.insert(0, b'/'); }
                        prop_assert!(found.iter().any(|r| r.eq_ignore_ascii_case(&again)));
                    }
                }
            }
        }

        #[test]
        fn letter_case_changes_no_reading(path in tricky_path()) {
            prop_assert_eq!(
                readings(path.to_ascii_uppercase().as_bytes()).iter().map(lowered),
                readings(path.to_ascii_lowercase().as_bytes()).iter().map(lowered)
            );
        }

        #[test]
        fn a_plain_path_is_left_alone_by_every_rewrite(path in "/[!-~]{0,12}") {
            if is_plain(path.as_bytes()) {
                let lower = rewrite::lower_case(path.clone().into_bytes());
                for rewrite in REWRITES {
                    prop_assert_eq!(rewrite(&lower), None);
                }
                prop_assert_eq!(rewrite::decode(&lower, true), None);
            }
        }
    }

    fn lowered<'a>(all: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        all.map(<[u8]>::to_ascii_lowercase).collect()
    }
}

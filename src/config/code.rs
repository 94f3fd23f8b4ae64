//! The table of finding codes.
//!
//! A code is stable: it never changes its meaning and is never used again for another one.
//! `docs/reference/findings.md` is generated from this table.

use std::fmt::Write as _;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// Legal but unwise; refused by `--strict` only.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `E012` or `W003`; the letter tells the severity.
    pub id: &'static str,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// Why it matters and what to do.
    pub text: &'static str,
}

impl Code {
    /// Error or warning, from the letter.
    pub fn severity(&self) -> Severity {
        if self.id.starts_with('E') { Severity::Error } else { Severity::Warning }
    }
}

macro_rules! codes {
    ($($name:ident $id:literal $title:literal $text:literal;)*) => {
        $(#[doc = $title] pub const $name: &Code =
            &Code { id: $id, title: $title, text: $text };)*
        /// Every code, in order.
        pub const ALL: &[&Code] = &[$($name),*];
    };
}

codes! {
    FILE_UNREADABLE "E001" "file cannot be read"
        "A configuration file is missing, may not be read, is too large or is not UTF-8 text.";
    SYNTAX "E002" "not valid YAML"
        "The file cannot be parsed from this place on, or is not one document of a sane size. Only spaces indent; a text that holds `: ` or starts with `*`, `&`, `!`, `{`, `[` or `@` needs quotes. Findings behind this place show up once it is mended.";
    INCLUDE "E003" "include does not work"
        "A pattern of `include` is malformed, names a file that does not exist, or reaches a file a second time.";
    ENVIRONMENT "E004" "environment variable cannot be inserted"
        "`${NAME}` takes an environment variable that must be set. Write `$${` for a literal `${`.";
    UNKNOWN_KEY "E005" "unknown key"
        "No such setting exists at this place. A misspelt key would otherwise be a setting that silently does nothing.";
    DUPLICATE_KEY "E006" "key set twice"
        "The same key stands twice in one block, or in two included files. Keep one.";
    MISSING_KEY "E007" "required key is missing"
        "A setting without a default is not there.";
    EMPTY_VALUE "E008" "key without a value"
        "The key is there but nothing follows it. Give it a value or delete the line to get the default.";
    WRONG_TYPE "E009" "wrong kind of value"
        "A text, a list or a block stands where another one is expected.";
    UNKNOWN_VALUE "E010" "unknown value"
        "The setting takes one of a few words, and this is none of them.";
    NOT_AVAILABLE "E011" "not available yet"
        "The setting belongs to the configuration format, but this version does not act on it. It is refused so that nobody relies on a protection that is not there.";
    UNKNOWN_FARM "E012" "no such farm"
        "A publish rule or a `same_as` names a farm that `farms` does not define.";
    DUPLICATE_FARM "E013" "farm defined twice"
        "Two farms carry the same name, perhaps in two included files. Rename one or move its servers into the other.";
    EMPTY_FARM "E014" "farm without servers"
        "A farm needs at least one server.";
    DUPLICATE_SERVER "E015" "server listed twice"
        "Two servers of a farm have the same name. The name (default: the address) tells them apart in `drain`, logs and metrics.";
    EQUAL_RULES "E016" "two equal rules"
        "Two publish rules without `when` take the same host, path and scheme on a common listener, so one of them could never be used.";
    UNKNOWN_LISTENER "E017" "no such listener"
        "A publish rule is limited to a listener that `listeners` does not define.";
    EQUAL_LISTENERS "E018" "listeners collide"
        "Two sockets want the same address and port, or two listeners have the same name.";
    NO_CERTIFICATE "E019" "TLS listener without a certificate"
        "A listener with `tls` needs at least one entry under `certificates`.";
    DURATION "E020" "bad duration"
        "Durations carry a unit: `200ms`, `30s`, `15m`, `1h 30m`, `2d`; at most a year.";
    SIZE "E021" "bad size"
        "Sizes carry a unit: `512B`, `64KiB`, `64MiB`, `2GiB` (powers of 1024) or `64kB`, `64MB`, `2GB` (powers of 1000).";
    PORT "E022" "bad port"
        "A port is a number from 1 to 65535.";
    HOST "E023" "bad host name or pattern"
        "A host is `meet.contoso.com`, `meet.*` (any of `domains`) or `*.contoso.com`; without scheme, port and path.";
    PATH "E024" "bad path"
        "A path starts with `/` and is written as it looks when decoded: `/meet` takes it and everything under it, `=/meet` only itself.";
    CIDR "E025" "bad network"
        "A network is an address with a prefix length, such as `10.0.0.0/8` or `2001:db8::/32`, or one address.";
    STATUS "E026" "bad status"
        "Status codes are numbers and ranges from 100 to 599: `200-399` or `200,401`.";
    ADDRESS "E027" "bad address to listen on"
        "An address to listen on is an IP address with a port: `0.0.0.0:443`, `[::]:443`.";
    PERCENTAGE "E028" "bad percentage"
        "A percentage is a number from 0 to 100 with the sign: `50%`.";
    RANGE "E029" "number out of range"
        "The value is not a whole number or is outside what the setting can mean.";
    SERVER_ADDRESS "E030" "bad server address"
        "A server is a DNS name or an IP address, without scheme and port; ports stand under `ports`.";
    SERVER_NAME "E031" "no name to verify the server by"
        "With `verify: full` the certificate of a server is compared with a name. An IP address has none: set `tls: { name: … }` in the farm.";
    EXCLUSIVE "E032" "settings that exclude each other"
        "Several settings of which only one may be there are set, or none of them.";
    NOTHING_THERE "E033" "empty list"
        "A list that needs at least one entry has none.";
    URL "E034" "bad redirect target"
        "A redirect leads to `https://host/path`, `http://host/path` or a path on the same host, percent-encoded.";
    HEADER "E035" "bad header name"
        "A header name consists of letters, digits and hyphens.";
    NAME "E036" "bad name"
        "Names of farms, servers and listeners stand in commands, logs and metrics: no spaces, slashes or control characters.";
    SAME_AS "E038" "farm takes its servers from itself"
        "`same_as` takes over the servers of another farm. Followed from farm to farm it comes back to where it began, so nobody says which servers are meant.";
    TOO_MANY_SERVERS "E039" "too many servers"
        "All farms together have more than 100000 servers, those that `same_as` brings counted in each farm. Each of them is probed and keeps a state of its own.";
    CERTIFICATE_FILE "E040" "certificate file cannot be used"
        "A certificate, key, password or CA file is missing, unreadable, or does not hold what it should: PEM text for `cert`, `key` and `ca`, PKCS#12 for `pfx`.";
    CERTIFICATE_PASSWORD "E041" "wrong password"
        "The key or PFX file does not open with the password that was given. The first line of a password file counts, without its line end.";
    CERTIFICATE_KEY "E042" "key does not belong to the certificate"
        "The private key and the first certificate of the file are not a pair. The server's own certificate stands first, intermediates after it.";
    CERTIFICATE_DEFAULT "E043" "two default certificates"
        "Only one certificate can answer clients that ask for no known name.";
    LOG_FILE "E044" "log file cannot be written"
        "The path of a log leads to something that is not a file.";
    TOKEN_FILE "E050" "token file cannot be used"
        "The file of `admin.token_file` is missing or unreadable, or its first line is not a token of 16 to 1024 visible ASCII characters. `openssl rand -hex 32` makes a good one.";
    ADMIN_OPEN "E051" "admin side is open to the network"
        "An admin address that other machines can reach needs `token_file`, so that not everybody sees and changes what runs. Nothing encrypts that connection: keep it inside the management network.";
    REGEX "E060" "bad regular expression"
        "The expression after `matches` cannot be compiled. There is no look-ahead, look-behind or back-reference: what is left takes time in proportion to the text, whatever a stranger sends.";
    CONDITION "E061" "bad condition"
        "An entry of `when` has one subject (header, query, method, scheme, source, path, url, host) and at most one comparison (`is`, `matches`, `not`). The subject carries the value itself, `{ method: POST }`, or is empty in front of a comparison, `{ path: ~, matches: '^/x/(.*)' }`; `header` and `query` name what is compared. `Host` is no header here: `host` means it, however the client asked.";
    TEMPLATE "E062" "bad rewriting"
        "A new path, query, redirect target or header value refers to a capture that the rule does not have, or is not what it should be: a path starts with `/` and is written decoded, a query stands without `?`, and nothing but {HTTP_HOST} may stand in the host of a redirect.";
    HEADER_CHANGE "E063" "header cannot be changed"
        "Rules do not touch headers that frame messages (`Connection`, `Content-Length`, `Expect`, `Transfer-Encoding`, `Upgrade` …), `Host` (the farm's `host` does that), or those that sign in (`Authorization`, `WWW-Authenticate`): changed by hand they would mix up requests or identities. Values are one line.";
    PAGE "E064" "page cannot be used"
        "The file of a `respond` is missing, unreadable or larger than 1 MiB.";
    EVENT_COMMAND "E070" "command for events cannot be run"
        "The file of `events.command` is missing, not a file, or not executable. It is run without arguments and gets the event on standard input.";
    WEBHOOK "E071" "bad webhook"
        "`events.webhook` is a URL with https, or with http, without user name. With https the certificate is verified, so the host is a name and not an IP address.";
    TRACES "E072" "bad trace settings"
        "`traces.endpoint` is a URL with https, or with http, without user name; with https the certificate is verified, so the host is a name and not an IP address. `traces.headers` are one line each, and none that Frontgate writes itself (`Host`, `Content-Type`, `Content-Length` …).";
    UNCOVERED_HOST "W001" "no certificate covers a published host"
        "Clients of this name get the default certificate and a warning, or refuse to connect.";
    UNUSED_FARM "W002" "farm is not used"
        "No publish rule leads to this farm; it is probed all the same.";
    VERIFY_OFF "W003" "server certificates are not verified"
        "Anyone between Frontgate and the servers can read and change the traffic, passwords included. `verify: chain` with `ca` accepts any name but only your own authority.";
    SHORT_TIMEOUT "W004" "timeout too short for Lync"
        "Clients hold a request open for up to 30 minutes and the server stays silent meanwhile; under 60 s every one of them breaks and clients sign in again and again.";
    NO_DOMAINS "W005" "`name.*` without `domains`"
        "Without `domains`, `meet.*` takes every name that starts with `meet.`, also names that are not yours.";
    NO_WEIGHT "W006" "no server takes new clients"
        "Every server of the farm has weight 0.";
    UNREACHABLE_RULE "W007" "rule can never match"
        "Another rule or the listeners keep every request from it.";
    EXPIRED "W008" "certificate has expired"
        "Clients refuse it.";
    NOT_YET_VALID "W009" "certificate is not valid yet"
        "Clients refuse it. Is the clock right?";
    NO_EFFECT "W010" "setting without effect"
        "The setting is legal here but changes nothing.";
    DIAGNOSTICS_HIDDEN "W011" "header that clients need is hidden"
        "Lync clients read `X-Ms-diagnostics` to tell people what went wrong and to choose what to try next.";
    NOTHING_INCLUDED "W012" "include pattern matches no file"
        "The pattern is fine but finds nothing. An empty directory is no error, a misspelt one would look the same.";
    NAMELESS_CERTIFICATE "W013" "certificate without names"
        "It has neither a DNS name in its subject alternative names nor a common name, so only clients that match no other certificate get it, and they refuse it.";
    NO_LOG_DIRECTORY "W014" "directory of a log file is missing"
        "Frontgate makes the file but not its directory, and does not start without it.";
    EVERYBODY_TRUSTED "W015" "strangers are trusted as proxies"
        "Whoever comes from `trusted_proxies`, or from `from` of a listener's `proxy_protocol`, says who the client is, and with that whom limits, lists and logs are about. List the addresses of your own proxies and balancers only.";
    FOREIGN_HEALTH "W016" "protocol without a health of its own"
        "The path belongs to one protocol of Exchange, its farm to another one. Exchange takes each protocol of a server out of service on its own: requests then go on to a server that cannot answer them, or stay away from one that could.";
    NOTHING_KEPT "W017" "nothing survives a restart"
        "`state_dir` cannot be used, so servers that are drained or in maintenance take traffic again after a restart, and without `admin.token_file` commands cannot change anything. Frontgate runs all the same. `check` sees only that it is not a directory; whether it can be written is told at start.";
    COOKIE_SHARED "W018" "farms overwrite each other's affinity cookie"
        "Two farms of one host write a cookie of the same name and have no server in common, so each of them throws away what the other one wrote, and no client keeps its server. Use two names. Farms over the same servers (`same_as`) may share a name, and then a client is on the same server in all of them.";
    SCHEME_GAP "W019" "condition is not asked on plain http"
        "A `redirect` or `respond` with conditions is on https alone, the default, and another rule of the same host and path is on plain http too: there the conditions are not asked. A `deny` is on both by default.";
    PLAIN_WEBHOOK "W030" "events travel unencrypted"
        "The webhook is http and leads to another machine. Events tell names of servers, farms and administrators to anyone on the way.";
    PLAIN_TRACES "W031" "traces travel unencrypted"
        "`traces.endpoint` is http and leads to another machine. Spans tell clients, paths and servers to anyone on the way, and `traces.headers` what signs in to the collector.";
    HEADER_DIFFERS "W033" "server gets connections with and without PROXY header"
        "Two farms reach the same port of the same server, one with `forward: { proxy_protocol }` and one without. A port that expects the header refuses connections without it, and one that does not takes it for a malformed request.";
    HEADER_OPTIONAL "W034" "clients may choose their address"
        "With `required: false` a connection of the balancer may begin without a PROXY header. Where the balancer writes none, the first bytes are its client's, and a client that writes a header there is believed: it chooses the address that limits, lists and logs go by. It is safe only if the balancer writes the header in front of everything that clients send, and leaves it out of its own health checks alone. To change over, add a listener with another port, lead the balancer there with its header on, and then remove the old one.";
    HEADER_FOR_WINDOWS "W035" "Windows servers get a PROXY header"
        "The servers of presets `lync`, `exchange/…` and `owas` are Windows (http.sys, IIS), which does not read PROXY headers: it answers 400, or ends the TLS handshake. Who the client is stands in `X-Forwarded-For`, which their logs can show. A balancer between Frontgate and the servers may understand the header; then the warning can be passed over.";
}

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Findings\n\n\
         What `frontgate check`, a start and a reload may say about a configuration. Errors (E) \
         keep it from being used; warnings (W) do so only with `--strict`. Codes are stable.\n\n\
         <!-- Generated from src/config/code.rs; \
         `FRONTGATE_BLESS=1 cargo test --lib config::code` writes it. -->\n",
    );
    for code in ALL {
        // Writing into a String cannot fail.
        let _ = write!(page, "\n## {} {}\n\n{}\n", code.id, code.title, code.text);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut seen = HashSet::new();
        for code in ALL {
            assert!(seen.insert(code.id), "{} is used twice", code.id);
            let (letter, digits) = code.id.split_at(1);
            assert!(letter == "E" || letter == "W");
            assert!(digits.len() == 3 && digits.chars().all(|c| c.is_ascii_digit()));
            assert!(!code.title.is_empty() && code.text.ends_with('.') || code.text.ends_with('?'));
        }
    }

    #[test]
    fn the_reference_page_is_current() {
        crate::config::golden::check("docs/reference/findings.md", &reference());
    }
}

//! Reason codes: why Frontgate itself answered a request.
//!
//! They are stable: they appear in the access log, in the body of the answer and in the
//! documentation. A status can have several reasons, a reason has one status.

/// Why Frontgate answered instead of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable code, `snake_case`.
    pub code: &'static str,
    /// HTTP status of the answer.
    pub status: u16,
    /// One short sentence for people.
    pub text: &'static str,
}

impl Reason {
    /// The body of an answer that Frontgate makes itself: the sentence, then the code.
    pub fn body(&self) -> String {
        format!("{}\nreason: {}\n", self.text, self.code)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal $status:literal $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Reason =
            Reason { code: $code, status: $status, text: $text };)*
        /// Every reason, for the documentation and its test.
        pub const ALL: &[Reason] = &[$($name),*];
    };
}

reasons! {
    /// The path has readings that lead to different rules.
    AMBIGUOUS_PATH = "ambiguous_path" 400 "The path can be read in more than one way.";
    /// The header block is not well-formed HTTP/1.
    BAD_HEADER = "bad_header" 400 "The request header is malformed.";
    /// Host missing, repeated or malformed.
    BAD_HOST = "bad_host" 400 "The Host header is missing or malformed.";
    /// Content-Length and Transfer-Encoding contradict each other or are malformed.
    BAD_FRAMING = "bad_framing" 400 "The length of the request body is ambiguous.";
    /// The request line is not well-formed.
    BAD_REQUEST_LINE = "bad_request_line" 400 "The request line is malformed.";
    /// The client stopped inside its body.
    BODY_TIMEOUT = "body_timeout" 408 "The request body did not arrive in time.";
    /// The body is larger than the rule allows.
    BODY_TOO_LARGE = "body_too_large" 413 "The request body is too large.";
    /// The client closed its connection before the answer.
    CLIENT_LEFT = "client_left" 499 "The client closed the connection.";
    /// NTLM or Negotiate towards a farm with `connection_auth: off`.
    CONNECTION_AUTH_OFF = "connection_auth_off" 403 "This sign-in method is not available here.";
    /// Connecting to every server failed.
    CONNECT_FAILED = "connect_failed" 502 "The server could not be reached.";
    /// A server did not accept the connection in time.
    CONNECT_TIMEOUT = "connect_timeout" 504 "The server could not be reached in time.";
    /// The rule denies it, or the farm's `deny_paths` do.
    DENIED = "denied" 404 "Not found.";
    /// Plain HTTP to a name that is published on https only.
    HTTPS_ONLY = "https_only" 301 "Use https.";
    /// Header block larger than `limits.header_size`, or more fields than `limits.headers`.
    HEADER_TOO_LARGE = "header_too_large" 431 "The request header is too large.";
    /// The header did not arrive within `limits.header_timeout`.
    HEADER_TIMEOUT = "header_timeout" 408 "The request header did not arrive in time.";
    /// No rule publishes this host (TLS).
    HOST_NOT_PUBLISHED_TLS = "host_not_published" 421 "This name is not published here.";
    /// No rule publishes this host (plain).
    HOST_NOT_PUBLISHED = "host_not_published" 404 "This name is not published here.";
    /// An HTTP/2 request for a farm that binds sign-ins to connections.
    HTTP2_NOT_HERE = "http2_not_here" 421 "This name is not served over HTTP/2.";
    /// Something failed that should not have.
    INTERNAL = "internal" 500 "Internal error.";
    /// CONNECT or TRACE.
    METHOD_NOT_ALLOWED = "method_not_allowed" 405 "This method is not allowed.";
    /// No server of the farm is healthy and enabled.
    NO_SERVER = "no_server" 503 "No server is available.";
    /// The host is published, the path is not.
    PATH_NOT_PUBLISHED = "path_not_published" 404 "Not found.";
    /// A balancer's PROXY header is malformed, too long, cut off, or has a wrong checksum.
    PROXY_HEADER_MALFORMED = "proxy_header_malformed" 400 "The PROXY header is malformed.";
    /// A balancer's connection began without the PROXY header that its listener requires.
    PROXY_HEADER_MISSING = "proxy_header_missing" 400 "The PROXY header is missing.";
    /// A balancer's PROXY header did not arrive in time.
    PROXY_HEADER_TIMEOUT = "proxy_header_timeout" 408 "The PROXY header did not arrive in time.";
    /// Every server has as many requests as it may have, and so has the queue.
    QUEUE_FULL = "queue_full" 503 "All servers are busy.";
    /// Every server had as many requests as it may have for longer than the queue's `wait`.
    QUEUE_TIMEOUT = "queue_timeout" 503 "All servers were busy for too long.";
    /// A redirect rule.
    REDIRECTED = "redirected" 302 "Moved.";
    /// A `respond` rule.
    RESPONDED = "responded" 503 "This is not available now.";
    /// The server closed or reset the connection before its answer was complete.
    SERVER_CLOSED = "server_closed" 502 "The server closed the connection.";
    /// The server sent something that is not HTTP.
    SERVER_PROTOCOL = "server_protocol" 502 "The server's answer was not understood.";
    /// The server stayed silent longer than the timeout.
    SERVER_SILENT = "server_silent" 504 "The server did not answer in time.";
    /// TLS towards the server failed: certificate, name or protocol.
    SERVER_TLS = "server_tls" 502 "The server could not be reached securely.";
    /// A trusted proxy brought another client on a connection that a client signed in on.
    SHARED_CONNECTION = "shared_connection" 421 "This connection belongs to another client.";
    /// SNI and Host differ, and the certificate does not cover Host.
    SNI_MISMATCH = "sni_mismatch" 421 "This name is not served on this connection.";
    /// More pins than `limits.pins` or `limits.pins_per_source`.
    TOO_MANY_PINS = "too_many_pins" 503 "Too many signed-in connections.";
    /// The request target is longer than `limits.url`.
    URL_TOO_LONG = "url_too_long" 414 "The URL is too long.";
    /// HTTP version other than 1.0, 1.1 or 2.
    VERSION_NOT_SUPPORTED = "version_not_supported" 505 "This HTTP version is not supported.";
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn codes_are_snake_case_and_mean_one_thing() {
        for reason in ALL {
            assert!(reason.code.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '2'));
            assert!((300..600).contains(&reason.status));
            let texts = ALL.iter().filter(|r| r.code == reason.code).map(|r| r.text);
            assert!(texts.clone().all(|text| text == reason.text), "{}", reason.code);
        }
    }

    /// The page is generated: `FRONTGATE_BLESS=1` writes it anew.
    #[test]
    fn the_reference_page_is_current() {
        let mut page = String::from(
            "# Reason codes\n\nWhy Frontgate itself answered a request, or why an exchange broke: \
             the field `reason` of the\naccess log, and the last line of the answer's text. Codes \
             are stable. Generated from `src/reason.rs`.\n\n| code | status | meaning |\n|---|---|---|\n",
        );
        for reason in ALL {
            let _ = writeln!(page, "| `{}` | {} | {} |", reason.code, reason.status, reason.text);
        }
        page.push_str(
            "\n`https_only` is 308 for methods other than GET and HEAD; `redirected` and `responded` \
             have the status of their rule.\n499 stands in the log only: the client had left. So do the codes of `proxy_header_*`: such \
             connections\nare closed without an answer.\n",
        );
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/reasons.md");
        if std::env::var_os("FRONTGATE_BLESS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page, "run with FRONTGATE_BLESS=1");
    }
}

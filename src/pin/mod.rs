//! Connection-bound authentication (NTLM, Negotiate): which client connections share no server
//! connection.
//!
//! These schemes authenticate the TCP connection, so a server connection that carried one must
//! never serve another client (haproxy#581, CVE-2026-88007).

mod hold;
mod pins;

use std::sync::atomic::Ordering;

use http::{HeaderMap, HeaderValue, header};
use pingora::http::ResponseHeader;

pub use self::{
    hold::Holds,
    pins::{Limits, Pins, Place, UNPROVED},
};
use crate::{guard::headers::is_connection_auth, listen::Connection, site::ConnectionAuth};

/// What a request asks of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Any shared server connection will do.
    Shared,
    /// From now on this client connection has server connections of its own. `counted`: it signs
    /// in, or the farm wants it; an offer alone reserves nothing scarce.
    Pinned {
        /// Whether it takes a place among `limits.pins`.
        counted: bool,
    },
    /// The farm does not let it through.
    Refused,
}

/// Decides before the first forward.
///
/// SECURITY: leave the shared pool on the *request*; waiting for the 401 leaks the first
/// authenticated connection. Test: request_credentials_leave_the_shared_pool.
pub fn on_request(mode: ConnectionAuth, headers: &HeaderMap, pinned: bool) -> Verdict {
    let credentials =
        headers.get_all(header::AUTHORIZATION).iter().any(|v| is_connection_auth(v.as_bytes()));
    match mode {
        ConnectionAuth::Off if credentials => Verdict::Refused,
        ConnectionAuth::Off => Verdict::Shared,
        ConnectionAuth::Always => Verdict::Pinned { counted: true },
        ConnectionAuth::Auto if credentials => Verdict::Pinned { counted: true },
        ConnectionAuth::Auto if pinned => Verdict::Pinned { counted: false },
        ConnectionAuth::Auto => Verdict::Shared,
    }
}

/// Looks at an answer: an offer pins the client connection (`auto`), or is taken out (`off`).
///
/// # Errors
/// A value that was taken apart cannot be put together again.
pub fn on_response(
    mode: ConnectionAuth,
    response: &mut ResponseHeader,
    connection: &Connection,
) -> pingora::Result<()> {
    let offers = response.headers.get_all(header::WWW_AUTHENTICATE);
    if !offers.iter().any(|v| is_connection_auth(v.as_bytes())) {
        return Ok(());
    }
    match mode {
        ConnectionAuth::Auto => connection.pinned.store(true, Ordering::Relaxed),
        ConnectionAuth::Always => {}
        ConnectionAuth::Off => {
            let kept = without_connection_auth(&response.headers);
            response.remove_header(&header::WWW_AUTHENTICATE);
            for value in kept {
                response.append_header(header::WWW_AUTHENTICATE, value)?;
            }
        }
    }
    Ok(())
}

/// The `WWW-Authenticate` values that remain when connection-bound schemes are taken out, in
/// their order.
fn without_connection_auth(headers: &HeaderMap) -> Vec<HeaderValue> {
    let mut kept = Vec::new();
    for value in headers.get_all(header::WWW_AUTHENTICATE) {
        if !is_connection_auth(value.as_bytes()) {
            kept.push(value.clone());
            continue;
        }
        // Several challenges on one line: keep the others.
        let rest: Vec<&[u8]> = value
            .as_bytes()
            .split(|b| *b == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|challenge| !challenge.is_empty() && !is_connection_auth(challenge))
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(&rest.join(&b", "[..]))
            && !value.is_empty()
        {
            kept.push(value);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn request_credentials_leave_the_shared_pool() {
        for value in ["NTLM TlRM", "negotiate YII=", "NEGO2 x", "Kerberos y"] {
            let map = headers(header::AUTHORIZATION, &[value]);
            let pinned = Verdict::Pinned { counted: true };
            assert_eq!(on_request(ConnectionAuth::Auto, &map, false), pinned, "{value}");
            assert_eq!(on_request(ConnectionAuth::Off, &map, false), Verdict::Refused, "{value}");
        }
        let basic = headers(header::AUTHORIZATION, &["Basic TlRM"]);
        assert_eq!(on_request(ConnectionAuth::Auto, &basic, false), Verdict::Shared);
        let (offered, wanted) =
            (Verdict::Pinned { counted: false }, Verdict::Pinned { counted: true });
        assert_eq!(on_request(ConnectionAuth::Auto, &basic, true), offered);
        assert_eq!(on_request(ConnectionAuth::Always, &basic, false), wanted);
    }

    #[test]
    fn off_takes_only_the_bound_schemes_out_and_keeps_the_order() {
        let lines =
            ["Bearer trusted=\"a\"", "Negotiate", "NTLM, Basic realm=\"x\"", "MsRtcOAuth h"];
        let kept = without_connection_auth(&headers(header::WWW_AUTHENTICATE, &lines));
        assert_eq!(kept, ["Bearer trusted=\"a\"", "Basic realm=\"x\"", "MsRtcOAuth h"]);
    }
}
